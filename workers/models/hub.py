"""Published weights: where timm says they are, this machine's copy of them, and fetching that.

Cells never ask the network. They load the copy that `rib models fetch` has put into the Hugging
Face cache (or, for the few models that are published elsewhere, into torch's), where timm itself
would look. So a thousand workers put no load on the hub, and a node without a network is as good
as any other.
"""

from __future__ import annotations

import errno
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from timm.models import PretrainedCfg, get_pretrained_cfg

from workers.cell import Model
from workers.errors import DataError, Problem

SAFE_NAMES = {
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}
"""The safetensors file that stands beside a PyTorch file on the hub, by timm's convention."""

TIMEOUT_S = 10.0
"""How long a server may be silent before it counts as out of reach."""


class UnreachableError(DataError):
    """A server does not answer: the next file on it need not be asked for."""


class Source(Protocol):
    """Where the weights of a model are published, and where this machine keeps its copy."""

    @property
    def server(self) -> str:
        """Who is asked for them."""

    @property
    def folder(self) -> Path:
        """The folder that copies lie below."""

    @property
    def moved_by(self) -> str:
        """The environment variable that moves the cache."""

    def cached(self) -> Path | None:
        """Return this machine's copy without asking the network, None when there is none."""

    def fetch(self) -> Path:
        """Download the weights into the cache.

        Raises:
            UnreachableError: when the server does not answer.
            DataError: when it does, and the file still does not come.
        """


@dataclass(frozen=True)
class HubSource:
    """Weights in a repository of the Hugging Face hub."""

    repo: str
    revision: str | None
    names: tuple[str, ...]
    """Files that hold the weights; the first that is there counts."""

    def __str__(self) -> str:
        return self.repo

    @property
    def server(self) -> str:
        return constants.ENDPOINT

    @property
    def folder(self) -> Path:
        return Path(constants.HF_HUB_CACHE)

    @property
    def moved_by(self) -> str:
        return "HF_HOME"

    def cached(self) -> Path | None:
        for name in self.names:
            found = try_to_load_from_cache(self.repo, name, revision=self.revision)
            if isinstance(found, str):
                return Path(found)
        return None

    def fetch(self) -> Path:
        with _explained(self.repo, self.server):
            for name in self.names:
                url = hf_hub_url(self.repo, name, revision=self.revision)
                try:
                    # One question, not repeated: the download itself would ask on for minutes.
                    get_hf_file_metadata(url, token=get_token(), timeout=TIMEOUT_S)
                except EntryNotFoundError:
                    continue
                return Path(hf_hub_download(self.repo, name, revision=self.revision))
        raise DataError([Problem(self.repo, f"the hub has no {' or '.join(self.names)} of it")])


@dataclass(frozen=True)
class UrlSource:
    """Weights at an address of their own, which a few models of timm have."""

    url: str
    name: str

    def __str__(self) -> str:
        return self.url

    @property
    def server(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def folder(self) -> Path:
        return Path(torch.hub.get_dir()) / "checkpoints"

    @property
    def moved_by(self) -> str:
        return "TORCH_HOME"

    def cached(self) -> Path | None:
        path = self.folder / self.name
        return path if path.is_file() else None

    def fetch(self) -> Path:
        # Most names end in the first digits of the file's SHA-256.
        found = re.search(r"-([0-9a-f]{8,})\.", self.name)
        with _explained(self.url, self.server), _timeout(TIMEOUT_S):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / self.name
            prefix = found.group(1) if found else None
            torch.hub.download_url_to_file(self.url, str(path), prefix, sys.stderr.isatty())
            return path


@contextmanager
def _explained(where: str, server: str) -> Iterator[None]:
    """Turn what goes wrong on the network or the disk into a problem."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        message = "HF_HUB_OFFLINE is set, so the hub is not asked"
        raise UnreachableError([Problem(where, message, "unset it to fetch")]) from error
    except GatedRepoError as error:
        message = "its owner gives access on request only"
        hint = "ask for it on the hub's page, then log in there or set HF_TOKEN"
        raise DataError([Problem(where, message, hint)]) from error
    except RepositoryNotFoundError as error:
        raise DataError([Problem(where, f"{server} has no such repository")]) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        kind = UnreachableError if status == 429 or status >= 500 else DataError
        raise kind([Problem(where, f"{server} answers with status {status}")]) from error
    except (MemoryError, DataError):
        raise
    except Exception as error:  # its HTTP library and what that raises change between versions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if _is_local(error):
            raise DataError([Problem(where, f"cannot be kept: {reason}")]) from error
        message = f"cannot be fetched from {server}: {reason}"
        if isinstance(error, RuntimeError):  # it came, but with another digest than it should have
            raise DataError([Problem(where, message)]) from error
        hint = "fetch on a machine with a network, and carry the cache: see docs/models.md"
        raise UnreachableError([Problem(where, message, hint)]) from error


def _is_local(error: Exception) -> bool:
    """Tell a full disk or a cache that cannot be written from a network that is down."""
    if not isinstance(error, OSError) or error.errno is None:
        return False
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Bound the waiting of torch's downloader, which sets no limit itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def source_of(model: Model) -> Source:
    """Return where timm's weights of a model are published.

    Raises:
        DataError: when there are none, or timm does not know the tag.
    """
    where = f"models entry {model.name!r}"
    try:
        config = get_pretrained_cfg(model.architecture) or PretrainedCfg()
    except RuntimeError as error:
        raise DataError([Problem(where, f"{error} (timm {timm.__version__})")]) from error
    if config.hf_hub_id:
        repo, _, revision = config.hf_hub_id.partition("@")
        return HubSource(repo, revision or None, _names(config.hf_hub_filename))
    if config.url:
        url, name = (
            (config.url, Path(urlsplit(config.url).path).name)
            if isinstance(config.url, str)
            else config.url
        )
        return UrlSource(url, name)
    raise DataError([Problem(where, f"timm has no weights for {model.architecture}")])


def _names(filename: str | None) -> tuple[str, ...]:
    """Return the files that timm would look for, in its order: safetensors before pickles."""
    plain = filename or "pytorch_model.bin"
    if not plain.endswith(".bin"):
        return (plain,)
    return SAFE_NAMES.get(plain, f"{plain.removesuffix('.bin')}.safetensors"), plain


def missing(model: Model, source: Source) -> Problem:
    """Say that this machine has no copy of a model's weights, and how it gets one."""
    message = f"its weights {source} are not in {source.folder}"
    hint = f"where there is a network: rib models fetch GRID; {source.moved_by} moves the cache"
    return Problem(f"models entry {model.name!r}", message, hint)
