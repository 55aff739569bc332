"""`rib verify`: whether everything in a store is whole, fits together, and can be right.

Reads only. A fault is what makes a number wrong or lost; a note is what the next run sees to.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from orchestrator.checkpoint_check import checkpoint_fault
from orchestrator.grid import Grid
from orchestrator.lease import current_driver
from orchestrator.mixtures import mixtures
from orchestrator.plan import expand, make_plan
from orchestrator.prediction_check import check_predictions
from orchestrator.results import stored_grid
from workers.committed import sets_by_cell
from workers.errors import UserError
from workers.repeats import REPLACED, VALUES
from workers.schemas import KEYS, TABLES
from workers.storage import TEMPORARY
from workers.store import CHECKPOINT, Committed, Store
from workers.suites import Suite
from workers.tables import FILE, is_merged

READERS = 4
"""Checkpoints that are looked at together: each is in memory whole."""

_COUNTS = ["n_correct", "n_correct_unmasked", "n_total", "n_expected"]
_DIGESTS = ["dataset_digest", "weights_digest"]
_SAME_IN_A_CELL = ["suite", "suite_version", "downstream", "seed", "hyperparameters", "recipe"]
_COLUMNS = VALUES | {"accuracy": ["model", *_SAME_IN_A_CELL, *VALUES["accuracy"], "subset_digest"]}
"""Of each table, what is looked at beside its keys."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong."""

    kind: str
    """`file`, `key`, `count`, `digest` or `checkpoint`."""
    where: str
    """A file of the store; for a digest, the evaluation set or model."""
    message: str
    cells: tuple[str, ...] = ()
    """Whose rows are wrong, where not the file as a whole is."""


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what was found."""

    store: str
    n_files: int
    n_rows: int
    n_checkpoints: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def files(self) -> list[str]:
        """The files that faults are in."""
        return sorted({fault.where for fault in self.faults if fault.kind != "digest"})

    @property
    def cells(self) -> dict[str, set[str]]:
        """The cells that faults are in, of files that have sound ones beside them."""
        found: dict[str, set[str]] = {}
        for fault in self.faults:
            if is_merged(fault.where) and fault.cells:
                found.setdefault(fault.where, set()).update(fault.cells)
        return found


def verify(store: Store, quick: bool = False) -> Verification:
    """Check every file, key, count, digest and checkpoint of a store.

    Args:
        store: to look at.
        quick: look at checkpoints' headers and sizes only, not at their tensors.

    Raises:
        UserError: when there is no store, or a later version wrote it.
        StorageError: when it cannot be read.
    """
    about = store.about()
    names = list(store.storage.walk(""))
    faults: list[Fault] = []
    rows: dict[str, pd.DataFrame] = {}
    for table in _COLUMNS:
        reading = store.read_files(table, [*KEYS[table], *_COLUMNS[table]])
        faults += [Fault("file", name, why) for name, why in reading.damage.items()]
        rows[table] = reading.table.to_pandas()
        rows[table][FILE] = rows[table][FILE].str.removeprefix(store.storage.path(""))
        rows[table][FILE] = rows[table][FILE].str.lstrip("/")
        faults += contradictions(rows[table], table)
    grid, grid_faults = _grid_of(store, names)
    faults += grid_faults
    accuracy = rows["accuracy"]
    faults += impossible_counts(accuracy)
    faults += disagreements(accuracy, about["suite"], about["suite_version"])
    if grid is not None:
        faults += unexpected_splits(accuracy, grid.suite)
        faults += foreign_cells(accuracy, grid)
    faults += unlike_subsets(accuracy)
    kept = check_predictions(store, accuracy)
    faults += [Fault(*found) for found in kept.faults]
    sets = accuracy["eval_dataset"].dropna().unique()
    faults += [Fault("digest", p.where, p.message) for p in mixtures(_final(accuracy), sets)]
    tensors = [name for name in names if _holds_tensors(name)]
    faults += _tensor_faults(store, tensors, quick)
    return Verification(
        store=store.uri,
        n_files=len(names),
        n_rows=sum(map(len, rows.values())) + kept.n_rows,
        n_checkpoints=sum(name.endswith(f"/{CHECKPOINT}") for name in tensors),
        faults=tuple(faults),
        notes=tuple(_notes(store, grid, rows, names)),
    )


def contradictions(rows: pd.DataFrame, table: str) -> Iterator[Fault]:
    """Say which keys are there twice with different values, unless a later row replaces an earlier.

    Args:
        rows: of a table, with FILE.
        table: its name.
    """
    if table in REPLACED:
        return
    key = KEYS[table]
    distinct = rows.drop_duplicates([*key, *VALUES[table]])
    clashes = distinct[distinct.duplicated(key, keep=False)]
    yield from _by_file("key", clashes, "contradicts other rows of {}")


def impossible_counts(rows: pd.DataFrame) -> Iterator[Fault]:
    """Say which rows of the accuracy table cannot be counts of images."""
    total, expected = rows["n_total"], rows["n_expected"]
    wrong = {
        "n_total is not above 0": ~(total > 0),
        "n_correct is not in 0..n_total": ~rows["n_correct"].between(0, total),
        "n_correct_unmasked is not in 0..n_total": rows["n_correct_unmasked"].notna()
        & ~rows["n_correct_unmasked"].between(0, total),
        "n_total is above n_expected": expected.notna() & (total > expected),
        "loss is negative or infinite": rows["loss"].notna()
        & ~rows["loss"].between(0, float("inf"), inclusive="left"),
    }
    for what, mask in wrong.items():
        yield from _by_file("count", rows[mask], f"{what}: {{}}")


def unexpected_splits(rows: pd.DataFrame, suite: Suite) -> Iterator[Fault]:
    """Say which rows are of no split of a suite, or of other numbers of images than it has."""
    for name, group in rows.groupby("eval_dataset"):
        spec = suite.evaluation_sets.get(str(name))
        if spec is None:
            yield from _by_file("key", group, f"{suite.name} has no evaluation set {name!r}")
            continue
        split = group[["corruption", "severity"]].astype(object)
        pairs = split.where(split.notna(), None).itertuples(index=False, name=None)
        known = pd.Series([pair in set(spec.splits) for pair in pairs], group.index)
        yield from _by_file("key", group[~known], "no such split: {}")
        if spec.n_images is None or not spec.is_even:
            continue
        n_images = spec.n_images // len(spec.splits)
        is_whole = known & group["epoch"].isna() & group["n_expected"].notna()
        other = group[is_whole & (group["n_expected"] != n_images)]
        what = f"n_expected is not the {n_images} images that a split of {name} has: {{}}"
        yield from _by_file("count", other, what)


def disagreements(rows: pd.DataFrame, suite: str, version: str) -> Iterator[Fault]:
    """Say which cells have rows that cannot be of one cell, or are of another suite."""
    filled = rows[["cell_id", *_SAME_IN_A_CELL, FILE]].astype(object).fillna("")
    unlike = filled.groupby("cell_id")[_SAME_IN_A_CELL].nunique().gt(1)
    for cell_id, columns in unlike[unlike.any(axis=1)].iterrows():
        differing = ", ".join(columns.index[columns])
        own = filled[filled["cell_id"] == cell_id]
        yield from _by_file("key", own, f"rows of cell {cell_id} differ in {differing}")
    strange = ~filled["suite"].isin(["", suite]) | ~filled["suite_version"].isin(["", version])
    what = f"rows of another suite than {suite} version {version}"
    yield from _by_file("key", filled[strange], what)


def unlike_subsets(rows: pd.DataFrame) -> Iterator[Fault]:
    """Say which sets have epochs' rows of different images, though of one part of one copy."""
    part = ["eval_dataset", "dataset_digest", "subset_fraction", "subset_seed"]
    epochs = rows[rows["epoch"].notna()]
    for key, group in epochs.groupby(part):
        if group["subset_digest"].nunique(dropna=False) > 1:
            name, _, fraction, _ = key
            message = f"epochs were scored on different parts of {fraction:g} of its images"
            yield Fault("digest", str(name), message)


def foreign_cells(rows: pd.DataFrame, grid: Grid) -> Iterator[Fault]:
    """Say which rows of a grid's cells say that they are of another set or seed."""
    cells = {cell.cell_id: (cell.downstream or "", cell.seed) for cell in expand(grid)}
    own = rows[rows["cell_id"].isin(list(cells))]
    said = zip(own["cell_id"], own["downstream"].fillna(""), own["seed"], strict=True)
    is_foreign = pd.Series(
        [cells[one] != tuple(what) for one, *what in said], own.index, dtype=bool
    )
    what = "its rows name another downstream set or seed than the cell has"
    yield from _by_file("key", own[is_foreign], what)


def _by_file(kind: str, rows: pd.DataFrame, message: str) -> Iterator[Fault]:
    """Say of each file with some wrong rows what is wrong; `{}` stands for the rows' keys."""
    for file, some in rows.groupby(FILE):
        keys = _keys(some) if "{}" in message else ""
        cells = tuple(sorted(set(some["cell_id"])))
        yield Fault(kind, str(file), message.replace("{}", keys), cells)


def _final(rows: pd.DataFrame) -> pd.DataFrame:
    """Take finished cells' rows, each combination of digests once per cell."""
    final = rows[rows["epoch"].isna()]
    return final.drop_duplicates(["cell_id", "model", "eval_dataset", *_DIGESTS])


def _keys(rows: pd.DataFrame) -> str:
    """Name the first key of some rows, and how many more there are."""
    key = [name for name in KEYS["accuracy"] if name in rows]
    first = rows[key].iloc[0].dropna()
    text = " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in first.items())
    return text if len(rows) == 1 else f"{text} and {len(rows) - 1} more"


def _grid_of(store: Store, names: list[str]) -> tuple[Grid | None, list[Fault]]:
    if "grid.yaml" not in names:
        return None, []
    try:
        return stored_grid(store), []
    except UserError as error:
        return None, [Fault("file", "grid.yaml", str(problem)) for problem in error.problems]


def _holds_tensors(name: str) -> bool:
    return name.startswith(("artifacts/", "shared/")) and name.endswith(".safetensors")


def _tensor_faults(store: Store, names: list[str], quick: bool) -> list[Fault]:
    with ThreadPoolExecutor(READERS) as readers:
        whys = readers.map(lambda name: checkpoint_fault(store, name, quick), names)
        return [Fault("checkpoint", n, why) for n, why in zip(names, whys, strict=True) if why]


def _notes(
    store: Store, grid: Grid | None, rows: dict[str, pd.DataFrame], names: list[str]
) -> Iterator[str]:
    accuracy, attempts = rows["accuracy"], rows["attempts"]
    if grid is None:
        yield "it has no grid that can be read, so nobody knows which cells should be there"
    else:
        committed = _committed(accuracy, names)
        todo = len(make_plan(grid, committed).todo)
        if todo:
            yield f"{todo} cells of its grid have something to do: see rib status"
    running = int((attempts["state"] == "running").sum())
    if running and not current_driver(store.storage).may_run:
        yield f"{running} tries say that they run, and nobody drives: the next run ends them"
    repeated = int(accuracy.duplicated(KEYS["accuracy"]).sum())
    if repeated:
        yield f"{repeated} rows are there twice: the next run merges their files"
    died = sum(name.endswith(TEMPORARY) for name in names)
    if died:
        yield f"{died} files of writes that died: the next run removes them"
    aside = sum(name.startswith("damaged/") for name in names)
    if aside:
        yield f"{aside} files were set aside in damaged/; nothing reads them"


def _committed(accuracy: pd.DataFrame, names: list[str]) -> Committed:
    """Return what a plan has to know of a store that was read already."""
    columns = pa.schema([TABLES["accuracy"].field(name) for name in KEYS["accuracy"]])
    rows = pa.Table.from_pandas(accuracy[columns.names], schema=columns, preserve_index=False)
    checkpoints = {name.split("/")[1] for name in names if name.endswith(f"/{CHECKPOINT}")}
    files = (name.removeprefix("predictions/") for name in names if name.startswith("predictions/"))
    return Committed.of(rows, checkpoints, predictions=sets_by_cell(files))
