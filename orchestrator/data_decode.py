"""Decoding every image of a data set once, in pieces, so that it can be interrupted.

A piece is up to 64 images of one split, in the set's order. What was found in it goes into a log, a
line per piece, as soon as it is known: a check that was interrupted, even by a power cut, goes on
where it was. A line holds for as long as its files have the names and sizes that they had.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.data_manifest import BadFile, Decoded, now, printable
from workers.datasets import Dataset
from workers.decode import decode
from workers.digests import file_digest
from workers.errors import DataError
from workers.storage import StorageError

PIECE = 64
"""Images in a piece; part of what a content digest is over."""

_STAT_THREADS = 16
_AHEAD = 256
"""Pieces that wait for a process: enough to keep all busy, few enough to hold in memory."""


class Piece(BaseModel):
    """What was found in a piece: a line of the log."""

    model_config = ConfigDict(frozen=True)

    split: str
    start: int
    images: int
    stamp: str
    """Over the names and sizes of the files."""
    content: str
    """Over their bytes."""
    bad_files: tuple[BadFile, ...] = ()
    at: datetime

    @property
    def key(self) -> tuple[str, int]:
        return self.split, self.start


@dataclass(frozen=True)
class Work:
    """A piece that is to be decoded."""

    split: str
    start: int
    root: Path
    folder: Path
    files: tuple[str, ...]
    border: int

    @property
    def key(self) -> tuple[str, int]:
        return self.split, self.start

    @property
    def paths(self) -> list[Path]:
        return [self.folder / name for name in self.files]


@dataclass(frozen=True)
class Progress:
    """How far the decoding of a data set is, in images."""

    dataset: str
    done: int
    total: int
    bad: int


Observer = Callable[[Progress], None]
Pieces = dict[tuple[str, int], Piece]


def pieces_of(dataset: Dataset, root: Path) -> Iterator[Work]:
    """Cut a data set into pieces, in its own order."""
    for split in dataset.splits:
        name = "" if split.corruption is None else f"{split.corruption}/{split.severity}"
        for start in range(0, len(split), PIECE):
            files = split.files[start : start + PIECE]
            yield Work(name, start, root, split.folder, files, dataset.border)


def standing(work: Sequence[Work], log: Path) -> Pieces:
    """Return what an earlier check found in pieces whose files are as they were then."""
    known = read_log(log)
    if not known:
        return {}
    with ThreadPoolExecutor(_STAT_THREADS) as pool:
        stamps = pool.map(stamp, work)
        pairs = ((known.get(one.key), now) for one, now in zip(work, stamps, strict=True))
        return {piece.key: piece for piece, now in pairs if piece and piece.stamp == now}


def decode_rest(
    dataset: str,
    work: Sequence[Work],
    found: Pieces,
    log: Path,
    pool: Executor,
    observe: Observer = lambda _: None,
) -> None:
    """Decode the pieces that are not in `found`, or had bad files; put them there and in the log.

    Raises:
        concurrent.futures.BrokenExecutor: when a process of the pool was killed. What was found
            until then is in the log.
        StorageError: when the log cannot be written.
    """
    rest = [one for one in work if one.key not in found or found[one.key].bad_files]
    total = sum(len(one.files) for one in work)
    done = total - sum(len(one.files) for one in rest)
    bad = 0
    observe(Progress(dataset, done, total, bad))
    with _appending(log) as write:
        for piece in _completed(pool, rest):
            write(piece)
            found[piece.key] = piece
            done += piece.images
            bad += len(piece.bad_files)
            observe(Progress(dataset, done, total, bad))


def summary(work: Sequence[Work], found: Pieces) -> Decoded | None:
    """Add up what is known of a data set's pieces; None when that is nothing."""
    pieces = [found[one.key] for one in work if one.key in found]
    if not pieces:
        return None
    content = None
    if len(pieces) == len(work):
        content = hashlib.sha256("".join(piece.content for piece in pieces).encode()).hexdigest()
    return Decoded(
        images=sum(piece.images for piece in pieces),
        bad_files=tuple(bad for piece in pieces for bad in piece.bad_files),
        content_digest=None if content is None else f"sha256:{content}",
        at=max(piece.at for piece in pieces),
    )


def decode_piece(work: Work) -> Piece:
    """Decode the images of a piece and digest their bytes."""
    content = hashlib.sha256()
    bad_files = []
    for path in work.paths:
        try:
            decode(path, work.border)
        except DataError as error:
            name = printable(str(path.relative_to(work.root)))
            reason = printable(error.problems[0].message.replace(str(path), path.name))
            bad_files.append(BadFile(file=name, reason=reason))
        content.update(_content(path).encode())
    return Piece(
        split=work.split,
        start=work.start,
        images=len(work.files),
        stamp=stamp(work),
        content=content.hexdigest(),
        bad_files=tuple(bad_files),
        at=now(),
    )


def stamp(work: Work) -> str:
    """Digest the names and sizes of a piece's files, without opening them."""
    lines = (f"{name}\t{_size(work.folder / name)}\n" for name in work.files)
    text = "".join(lines).encode(errors="surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nothing: a bad file, and so it stays
        return -1


def _content(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return "unreadable"


# ------------------------------------------------------------------------------ the log


def read_log(path: Path) -> Pieces:
    """Return the last line of every piece; a line that is not whole says nothing."""
    pieces: Pieces = {}
    try:
        lines = path.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return pieces
    for line in lines:
        try:
            piece = Piece.model_validate_json(line)
        except ValidationError:  # what wrote it was stopped in the middle
            continue
        pieces[piece.key] = piece
    return pieces


@contextmanager
def _appending(path: Path) -> Iterator[Callable[[Piece], None]]:
    """Open a log to write lines at its end, each of which is on its way before the next."""
    with _storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    with stream:
        before = b"\n" if stream.tell() else b""  # the last line may have no end

        def write(piece: Piece) -> None:
            nonlocal before
            with _storing(path):
                stream.write(before + piece.model_dump_json().encode() + b"\n")
                stream.flush()
            before = b""

        yield write


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


# ------------------------------------------------------------------------- the processes


@contextmanager
def decoders(n: int) -> Iterator[Executor]:
    """Start processes that decode; they end with this block, at once when it is interrupted.

    Processes, since with threads Python's own lock is in the way of small images.
    """
    others = multiprocessing.active_children()
    # Spawned, not forked: the progress bar has a thread of its own.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n, context, initializer=_end_with_parent)
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, not even while they are still importing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent process, and end when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _completed(pool: Executor, work: Iterable[Work]) -> Iterator[Piece]:
    """Yield pieces as they are done, with no more than a few of them waiting."""
    waiting = iter(work)
    running: set[Future[Piece]] = set()
    while True:
        with _ctrl_c_held_back():
            running |= {
                pool.submit(decode_piece, one) for one in islice(waiting, _AHEAD - len(running))
            }
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
