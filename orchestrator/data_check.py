"""Is a suite's data all there? Every problem of every set, before any GPU is used.

Names are looked at first, which takes seconds: folders, numbers of images, classes, splits. Then,
if asked for, every image is decoded. What was found goes into the manifest beside the data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from orchestrator import data_manifest
from orchestrator.data_decode import Observer, Work, decode_rest, pieces_of, standing, summary
from orchestrator.data_manifest import Decoded, SetRecord, read_manifest, write_manifest
from workers.datasets import Dataset, read_folders
from workers.datasets.base import IMAGE_SUFFIXES
from workers.datasets.counts import (
    Counts,
    count_problems,
    counts_of,
    expected_counts,
    mapping_problems,
)
from workers.datasets.locate import places
from workers.errors import DataError, Problem, UserError, nearest
from workers.storage import StorageError
from workers.suites import DatasetSpec, Suite


class Verdict(StrEnum):
    """What a check says of a set."""

    GOOD = "good"
    MISSING = "missing"
    WRONG = "wrong"
    BAD_IMAGES = "bad images"


@dataclass(frozen=True)
class SetCheck:
    """What was found of one data set."""

    spec: DatasetSpec
    expected: Counts
    found: Counts | None
    """None when there is nothing at all; images only when its folders are wrong."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """What is otherwise than it was when it was last checked; not wrong in itself."""
    digest: str | None = None
    decoded: Decoded | None = None

    @property
    def verdict(self) -> Verdict:
        if self.found is None:
            return Verdict.MISSING
        if self.problems:
            return Verdict.WRONG
        if self.decoded is not None and self.decoded.bad_files:
            return Verdict.BAD_IMAGES
        return Verdict.GOOD


@dataclass(frozen=True)
class DataCheck:
    """What was found of a suite."""

    suite: Suite
    root: Path
    sets: tuple[SetCheck, ...]
    manifest: Path
    not_written: str = ""
    """Why there is no manifest, if there is none."""

    @property
    def ok(self) -> bool:
        return all(one.verdict is Verdict.GOOD for one in self.sets)


@dataclass(frozen=True)
class Decoding:
    """How to decode every image."""

    pool: Executor
    again: bool = False
    """Whether to decode anew what an earlier check decoded."""
    observe: Observer = field(default=lambda _: None)


def specs_of(suite: Suite, names: Sequence[str] | None = None) -> list[DatasetSpec]:
    """Return a suite's sets, or those asked for: ID, OOD, then the ID set for training.

    Raises:
        UserError: with every name that is none of them.
    """
    specs = [*suite.evaluation_sets.values()]
    if suite.id_train is not None:
        specs.append(suite.id_train)
    known = {spec.name: spec for spec in specs}
    problems = [
        Problem("--sets", f"{suite.name} has no set {name!r}", nearest(name, known))
        for name in names or ()
        if name not in known
    ]
    if problems:
        raise UserError(problems)
    return specs if names is None else [known[name] for name in dict.fromkeys(names)]


def check_data(
    suite: Suite,
    root: Path,
    specs: Sequence[DatasetSpec],
    manifest: Path | None = None,
    decoding: Decoding | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> DataCheck:
    """Look at data sets, and decode their images if asked to; write down what was found.

    Args:
        suite: that the sets belong to.
        root: the data root.
        specs: the sets.
        manifest: where to write it, if not below the root.
        decoding: how to decode; None for names only.
        tell: is told in words what is being done.

    Raises:
        UserError: when the root is not there, or the manifest cannot be read; or it cannot be
            written where it was asked for, or where decoding would keep what it has found.
        concurrent.futures.BrokenExecutor: when a process that decodes was killed.
    """
    if not root.is_dir():
        raise UserError([Problem("--root", f"there is no folder {root}")])
    books = _Books(suite, root, manifest or root / data_manifest.DEFAULT)
    checks: list[SetCheck] = []
    datasets: list[Dataset | None] = []
    for spec in specs:
        tell(f"looking at {spec.name}")
        dataset, check = look(suite, spec, root)
        checks.append(check if dataset is None else books.enter(dataset, check))
        datasets.append(dataset)
    not_written = books.try_to_write()
    if not_written and books.records and (manifest is not None or decoding is not None):
        raise UserError([Problem("", not_written)])
    if decoding is not None:
        for at, dataset in enumerate(datasets):
            if dataset is not None:
                checks[at] = books.decode(dataset, checks[at], decoding)
    return DataCheck(suite, root, tuple(checks), books.path, not_written)


def look(suite: Suite, spec: DatasetSpec, root: Path) -> tuple[Dataset | None, SetCheck]:
    """Look at the names of a data set's folders and files; return it too, if it can be read."""
    expected = expected_counts(spec, len(suite.space))
    try:
        dataset = read_folders(suite, spec, root)
    except DataError as error:
        problems = (*error.problems, *_problems_of_readable_splits(suite, spec, root))
        return None, SetCheck(spec, expected, _images_below(spec, root), problems)
    problems = (*mapping_problems(dataset), *count_problems(dataset))
    return dataset, SetCheck(spec, expected, counts_of(dataset), problems, digest=dataset.digest)


def _problems_of_readable_splits(suite: Suite, spec: DatasetSpec, root: Path) -> Iterator[Problem]:
    """Count the images of the splits that are there, where others are not."""
    if len(spec.splits) == 1:
        return
    n_images = None if spec.n_images is None else spec.n_images // len(spec.splits)
    for split in spec.splits:
        try:
            alone = replace(spec, splits=(split,), n_images=n_images)
            yield from count_problems(read_folders(suite, alone, root))
        except DataError:
            continue  # told already, with the whole set


def _images_below(spec: DatasetSpec, root: Path) -> Counts | None:
    """Count the images of a set whose folders are wrong; None when it is not there at all."""
    folders = places(spec, root)
    names = (name for folder in folders for _, _, files in os.walk(folder) for name in files)
    n_images = sum(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)
    return Counts(images=n_images) if folders else None


class _Books:
    """The manifest of a data root, and the logs of decoding beside it."""

    def __init__(self, suite: Suite, root: Path, path: Path) -> None:
        self.suite, self.root, self.path = suite, root, path
        self.before = read_manifest(path)
        self.records: dict[str, SetRecord] = {}

    def enter(self, dataset: Dataset, check: SetCheck) -> SetCheck:
        """Take a set that was looked at into the manifest; say how it differs from before."""
        before = self.before.record(self.suite.name, dataset.spec.name)
        work = self._pieces(dataset)
        decoded = summary(work, standing(work, self._log(dataset)))
        notes = _changes(before, check, decoded)
        return self._record(dataset, replace(check, notes=notes, decoded=decoded))

    def decode(self, dataset: Dataset, check: SetCheck, decoding: Decoding) -> SetCheck:
        """Decode what is not known to decode, and enter what was found, however it ends."""
        work, log = self._pieces(dataset), self._log(dataset)
        if decoding.again:
            log.unlink(missing_ok=True)
        found = standing(work, log)
        try:
            decode_rest(dataset.spec.name, work, found, log, decoding.pool, decoding.observe)
        finally:
            decoded = summary(work, found)
            notes = (*check.notes, *_changed_bytes(check.decoded, decoded))
            done = self._record(dataset, replace(check, notes=notes, decoded=decoded))
            self._write()
        return done

    def try_to_write(self) -> str:
        """Write the manifest; return why it could not be, if so. None is made for no data."""
        if not self.records:
            return "no set can be read"
        try:
            self._write()
        except StorageError as error:
            return f"{error} (name a place with --manifest PATH)"
        return ""

    def _write(self) -> None:
        """Write what was found into the manifest as it is by now: others may check other sets."""
        manifest = read_manifest(self.path)
        for name, record in self.records.items():
            manifest = manifest.with_record(self.suite.name, name, record)
        write_manifest(self.path, manifest)

    def _record(self, dataset: Dataset, check: SetCheck) -> SetCheck:
        counts = counts_of(dataset)
        record = SetRecord(
            suite_version=self.suite.version,
            digest=dataset.digest,
            **vars(counts),
            problems=tuple(self._told(problem) for problem in check.problems),
            decoded=check.decoded,
            at=data_manifest.now(),
            rib_version=data_manifest.rib_version(),
        )
        self.records[dataset.spec.name] = record
        return check

    def _told(self, problem: Problem) -> str:
        return f"{problem.where}: {problem.message}".removeprefix(f"{self.root}{os.sep}")

    def _pieces(self, dataset: Dataset) -> list[Work]:
        return list(pieces_of(dataset, self.root))

    def _log(self, dataset: Dataset) -> Path:
        name = f"{self.suite.name}.{dataset.spec.name}.jsonl"
        return self.path.with_suffix(".decoded") / name


def _changes(before: SetRecord | None, check: SetCheck, decoded: Decoded | None) -> tuple[str, ...]:
    """Say what is otherwise than when the manifest was written."""
    if before is None:
        return ()
    if before.digest != check.digest:
        return (
            f"names or labels are others than on {before.at:%Y-%m-%d}, when the digest was "
            f"{before.digest}: rows made then are of other data",
        )
    if before.decoded is None:
        return ()
    n = before.decoded.images - (0 if decoded is None else decoded.images)
    when = f"{before.decoded.at:%Y-%m-%d}"
    return (f"files changed size since they were decoded on {when}",) if n > 0 else ()


def _changed_bytes(before: Decoded | None, after: Decoded | None) -> tuple[str, ...]:
    if before is None or after is None or None in (before.content_digest, after.content_digest):
        return ()
    if before.content_digest == after.content_digest:
        return ()
    when = f"{before.at:%Y-%m-%d}"
    return (f"files have the same names and sizes as on {when}, and other contents",)
