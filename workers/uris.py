"""Refusing URIs that carry secrets: a store's URI is shown, logged and written down."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from workers.errors import Problem, UserError

_SECRET = re.compile(r"key|secret|token|password|passwd|credential|signature|^sig$|^sas$", re.I)
"""Names of query parameters whose values are, or may be, secrets."""

HINT = "put them into the environment or the usual files (AWS_ACCESS_KEY_ID, ~/.aws/credentials)"


def check_uri(uri: str) -> None:
    """Check that a URI has no credentials in it.

    Raises:
        UserError: when it has; the message does not show them.
    """
    if "://" not in uri:
        return
    head, _, query = uri.partition("?")
    user = head.partition("://")[2].rpartition("@")[0]  # a secret may have a slash in it
    # A user's name alone is no secret (hdfs://me@host); S3's is half of one.
    has_user = ":" in user or (user and head.startswith("s3"))
    named = [name for name, _ in parse_qsl(query, keep_blank_values=True) if _SECRET.search(name)]
    if not has_user and not named:
        return
    what = "user and password" if has_user else ", ".join(named)
    problem = Problem(f"store {redacted(uri)}", f"its URI has credentials in it: {what}", HINT)
    raise UserError([problem])


def redacted(uri: str) -> str:
    """Return a URI without what stands before its host, and without its query."""
    scheme, _, rest = uri.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
