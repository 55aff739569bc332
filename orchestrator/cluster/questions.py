"""What is asked on a machine before a cell runs there, and what it answers. Knows no Ray.

A machine is asked whether it has the same data and weights as the others, at whatever place, and
whether it sees the same store.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.apart import apart
from workers.cell import Model
from workers.datasets import read_dataset
from workers.errors import DataError, UserError
from workers.paths import place_here
from workers.storage import TEMPORARY, Storage, StorageError
from workers.suites import Suite

LOOK_S = 5.0
"""How long what another machine wrote may take to show."""


@dataclass(frozen=True)
class Question:
    """What a machine is asked."""

    suite: Suite
    accept_images: Mapping[str, int]
    data_root: str
    """As each machine fills it in."""
    datasets: tuple[str, ...]
    models: tuple[Model, ...]
    store: str
    probe: str = ""
    """Names what is written to the store by way of trial; empty: the store is only looked at."""
    counts_gpus: bool = False


@dataclass(frozen=True)
class Answer:
    """What a machine answers: digests, and in words what is wrong."""

    datasets: Mapping[str, str] = field(default_factory=dict)
    """Data set -> its digest."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Model -> the digest of its weights file."""
    data_faults: tuple[str, ...] = ()
    weight_faults: tuple[str, ...] = ()
    store_fault: str = ""
    gpus: int | None = None
    """How many PyTorch sees; None when that was not asked."""


def answer(question: Question, machine: str) -> Answer:
    """Answer on this machine, which is called `machine` in the names of what it writes."""
    digests, data_faults = read_datasets(question)
    weights, weight_faults = read_weights(question)
    return Answer(
        datasets=digests,
        weights=weights,
        data_faults=tuple(data_faults),
        weight_faults=tuple(weight_faults),
        store_fault=try_store(question.store, question.probe, machine),
        # Apart: a process that has looked for GPUs keeps seeing those that it saw.
        gpus=apart(count_gpus) if question.counts_gpus else None,
    )


def read_datasets(question: Question) -> tuple[dict[str, str], list[str]]:
    """Return the digests of the data sets here, and what is wrong with others."""
    digests: dict[str, str] = {}
    if not question.datasets:
        return digests, []
    try:
        root = place_here(question.data_root)
    except DataError as error:
        return digests, [problem.message for problem in error.problems]
    if not root.is_dir():
        return digests, [f"there is no folder {root}"]
    suite = question.suite.with_images(question.accept_images)
    faults = []
    for name in question.datasets:
        try:
            found = read_dataset(suite, suite.dataset(name), root, accept_counts=True)
            digests[name] = found.digest
        except DataError as error:
            faults += [f"{name}: {problem}" for problem in error.problems]
    return digests, faults


def read_weights(question: Question) -> tuple[dict[str, str], list[str]]:
    """Return the digests of the weights files here, and what is wrong with others."""
    digests: dict[str, str] = {}
    if not question.models:
        return digests, []
    from workers.models import weights_digest

    faults = []
    for model in question.models:
        try:
            root = place_here(question.data_root)
            digests[model.name] = weights_digest(model, root)
        except DataError as error:
            faults += [f"{model.name}: {problem.message}" for problem in error.problems]
    return digests, faults


def count_gpus() -> int:
    """Return how many GPUs PyTorch sees on this machine."""
    import torch

    return torch.cuda.device_count()


# ------------------------------------------------------------------------------ the store


def probe_name(probe: str, machine: str) -> str:
    """Return what a machine writes into the store by way of trial.

    It ends as the temporary files do that a driver clears away, should nobody else.
    """
    return f"probe-{probe}.{machine}{TEMPORARY}"


DRIVER = "driver"


def try_store(uri: str, probe: str, machine: str) -> str:
    """See whether this machine sees the driver's store and can write to it; say what is wrong.

    What it writes shows the driver that it is the same store. Nothing is written before the
    driver's own probe was seen, and so nothing to a folder that only has the same name here.
    """
    try:
        storage = Storage(uri)
        if not probe:
            return "" if storage.exists("store.json") else "it does not see the store"
        expected = probe.encode()
        if not _appears(storage, probe_name(probe, DRIVER), expected):
            return "it does not see what the driver writes there"
        storage.write(probe_name(probe, machine), expected)
    except (StorageError, UserError, OSError) as error:
        return str(error)
    return ""


def _appears(storage: Storage, name: str, expected: bytes) -> bool:
    deadline = time.monotonic() + LOOK_S
    while True:
        try:
            return storage.read(name) == expected
        except FileNotFoundError:
            if time.monotonic() > deadline:
                return False
        time.sleep(0.2)


class Probe:
    """The driver's end of trying a store from several machines; leaves nothing behind."""

    def __init__(self, uri: str, probe: str) -> None:
        self.storage, self.probe = Storage(uri), probe
        self._made: list[Path] = []

    def __enter__(self) -> Probe:
        if self.storage.is_local:
            place = Path(self.storage.path(""))
            self._made = [p for p in (place, *place.parents) if not p.exists()]
        self.storage.write(probe_name(self.probe, DRIVER), self.probe.encode())
        return self

    def sees(self, machine: str) -> bool:
        """Whether what a machine says it has written is here."""
        return _appears(self.storage, probe_name(self.probe, machine), self.probe.encode())

    def __exit__(self, *_: object) -> None:
        for name in self.storage.names("", TEMPORARY):
            if name.startswith(probe_name(self.probe, "").removesuffix(TEMPORARY)):
                self.storage.delete(name)
        for folder in self._made:  # the innermost first
            if any(folder.iterdir()):
                return
            folder.rmdir()
