"""The weights of a grid's models on this machine: which are there, and fetching the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from orchestrator.grid import Grid
from workers.cell import Model
from workers.digests import file_digest
from workers.errors import DataError

FILE = "file"
"""The source of weights that are a file of the user's or the suite's."""


class State(StrEnum):
    """How the weights of a model stand on this machine."""

    PRESENT = "present"
    """A weights file, which nothing has to be fetched for."""
    CACHED = "cached"
    """Published weights, a copy of which is here."""
    FETCHED = "fetched"
    MISSING = "missing"
    FAILED = "failed"
    UNFIT = "unfit"
    """It is there, and does not fit."""


@dataclass(frozen=True)
class ModelFile:
    """The weights of one model."""

    model: str
    source: str
    """The hub's repository, an address, or `file`."""
    state: State
    path: str | None = None
    size: int | None = None
    """In bytes."""
    digest: str | None = None
    """`sha256:<hex>` of the file."""
    note: str = ""
    """How it is understood, or what is wrong."""

    @property
    def ok(self) -> bool:
        return self.state not in (State.MISSING, State.FAILED, State.UNFIT)

    @property
    def to_fetch(self) -> bool:
        """Whether fetching could bring it here."""
        return self.state is State.MISSING and self.source != FILE


def list_models(grid: Grid) -> Iterator[ModelFile]:
    """Yield how the weights of each model stand. Asks no network."""
    for model in grid.models:
        yield _look(model, grid.data_root)


def fetch_models(grid: Grid, tell: Callable[[str], None] = lambda _: None) -> Iterator[ModelFile]:
    """Fetch published weights that are not on this machine, and yield how each model stands.

    A server that does not answer is asked once, not for every model.
    """
    silent: dict[str, str] = {}
    for number, model in enumerate(grid.models, start=1):
        found = _look(model, grid.data_root)
        if found.to_fetch:
            tell(f"fetching {found.source} ({number} of {len(grid.models)})")
            found = _fetch(found, model, grid.data_root, silent)
        yield found


def _fetch(found: ModelFile, model: Model, root: Path, silent: dict[str, str]) -> ModelFile:
    """Fetch a model's weights; `silent` says what came of asking servers that do not answer."""
    from workers.models import UnreachableError, source_of

    source = source_of(model)
    if source.server in silent:
        return replace(found, state=State.FAILED, note=silent[source.server])
    try:
        source.fetch()
    except DataError as error:
        note = _told(error)
        if isinstance(error, UnreachableError):
            silent[source.server] = note
        return replace(found, state=State.FAILED, note=note)
    found = _look(model, root)
    return replace(found, state=State.FETCHED) if found.ok else found


def _look(model: Model, root: Path) -> ModelFile:
    """Find a model's weights on this machine and see whether they fit."""
    from workers.models import check_weights, examine, source_of, weights_path

    try:
        source = FILE if model.file is not None else str(source_of(model))
    except DataError as error:
        return ModelFile(model.name, model.architecture, State.FAILED, note=_told(error))
    try:
        path = weights_path(model, root)
    except DataError as error:
        return ModelFile(model.name, source, State.MISSING, note=_told(error))
    state = State.PRESENT if model.file is not None else State.CACHED
    size, digest = path.stat().st_size, file_digest(path)
    found = ModelFile(model.name, source, state, str(path), size, digest)
    if problems := check_weights(model, root):
        return replace(found, state=State.UNFIT, note="; ".join(map(str, problems)))
    if model.file is None:
        return found
    return replace(found, note=", ".join(examine(model, root).notes))


def _told(error: DataError) -> str:
    return "; ".join(str(problem) for problem in error.problems)
