"""What `rib data check` has found out about data sets, kept beside them: `.rib/manifest.json`.

Two digests say which data a record is about.

- `digest` is that of `workers.datasets.Dataset`, as rows of accuracies carry it: over the names and
  labels of all files. It is cheap, since it opens none of them, and it changes when files are
  added, lost, renamed or moved to another class.
- `content_digest` is over the bytes of all files. It takes reading every one of them, so it is
  there once all have been decoded. Two copies of a set with the same content digest are the same.

Between them stand the sizes of files. They take no reading either, so that a file which was cut
short or replaced after it had been decoded is noticed (see `orchestrator.data_decode`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.errors import Problem, UserError
from workers.provenance import version_of
from workers.storage import Storage

DEFAULT = Path(".rib") / "manifest.json"
"""Where a manifest lies below the data root, unless said otherwise."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class BadFile(_Part):
    """An image that does not decode."""

    file: str
    """Relative to the data root."""
    reason: str


class Decoded(_Part):
    """How far the images of a data set have been decoded, as they lie there now."""

    images: int
    """How many, bad ones included."""
    bad_files: tuple[BadFile, ...] = ()
    content_digest: str | None = None
    """Over the bytes of all files; null until every one has been read."""
    at: datetime
    """When the last of them was."""


class SetRecord(_Part):
    """One data set as it was when it was last looked at."""

    suite_version: str
    digest: str
    """Over file names and labels, as rows carry it."""
    images: int
    classes: int
    indices: int
    """Label-space indices that the classes map to."""
    splits: int
    problems: tuple[str, ...] = ()
    """What was not as published."""
    decoded: Decoded | None = None
    """Null when only names were looked at."""
    at: datetime
    rib_version: str

    @property
    def is_decoded(self) -> bool:
        """Whether every image has been decoded, even if some were bad."""
        return self.decoded is not None and self.decoded.images == self.images


class Manifest(_Part):
    """Every record of a data root."""

    version: Literal[1] = 1
    suites: dict[str, dict[str, SetRecord]] = Field(default_factory=dict)
    """Suite -> data set -> record."""

    def record(self, suite: str, name: str) -> SetRecord | None:
        """Return what is known of a data set."""
        return self.suites.get(suite, {}).get(name)

    def with_record(self, suite: str, name: str, record: SetRecord) -> Manifest:
        """Return the manifest with one record put in or replaced."""
        records = {**self.suites.get(suite, {}), name: record}
        return self.model_copy(update={"suites": {**self.suites, suite: records}})


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; an empty one when there is none.

    Raises:
        UserError: when what is there cannot be read.
    """
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Manifest()
    except (OSError, ValidationError) as error:
        hint = "delete it and run rib data check again"
        message = f"cannot be read as a manifest: {_first_line(error)}"
        raise UserError([Problem(str(path), message, hint)]) from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest, whole or not at all.

    Raises:
        StorageError: when it cannot be written; what was there is then still there.
    """
    data = manifest.model_dump_json(indent=2).encode() + b"\n"
    Storage(str(path.parent)).write(path.name, data)


def now() -> datetime:
    """Return the time for a record, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def rib_version() -> str:
    """Return the version of this project."""
    return version_of("rib-orchestrator")


def printable(name: str) -> str:
    """Return a file's name as JSON takes it: bytes that are not UTF-8 as escapes."""
    return name.encode(errors="backslashreplace").decode()


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return ".".join([*map(str, fault["loc"]), ""]).rstrip(".") + f" {fault['msg']}".rstrip()
    return str(error)
