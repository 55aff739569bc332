"""What the predictions of a store's cells say: other masks, classes, calibration, agreement.

Files are read one after another: a file of ImageNet-C has some millions of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd
import pyarrow as pa

from orchestrator.accuracies import CELL
from orchestrator.compare import choose_two
from orchestrator.grid import Grid
from orchestrator.masks import Mask, parse_mask
from orchestrator.plan import Only, expand, is_chosen
from orchestrator.predictions import IMAGE, read_predictions, target_classes
from orchestrator.rescore import (
    NEEDED,
    Rescored,
    UnansweredError,
    agreement,
    calibration,
    calibration_error,
    per_class,
    per_split,
    rescore,
)
from orchestrator.sides import Name
from workers.cell import BASELINE, Cell
from workers.errors import Problem, UserError, nearest
from workers.store import Store

Kept = tuple[Cell, str]
"""A cell, and an evaluation set of which its predictions are kept."""

_WHICH = [*CELL, "eval_dataset"]


def kept_of(
    store: Store, grid: Grid, sets: Sequence[str] = (), only: Only | None = None
) -> list[Kept]:
    """List what is kept of a grid's cells.

    Args:
        store: that keeps it.
        grid: whose cells are meant.
        sets: the evaluation sets that are meant; all of which anything is kept, if none is named.
        only: which cells are meant; all if not given.

    Raises:
        UserError: when there is no such set, or nothing of one is kept.
    """
    kept = store.kept_predictions()
    found = [
        (cell, name)
        for cell in expand(grid)
        if is_chosen(cell, only or {})
        for name in grid.suite.evaluation_sets
        if name in kept.get(cell.cell_id, ())
    ]
    there = list(dict.fromkeys(name for _, name in found))
    if not found:
        hint = "name sets in the grid's `predictions`, and run it"
        problem = Problem(f"store {store.uri}", "no predictions of such cells are kept", hint)
        raise UserError([problem])
    problems = [
        Problem("--set", _why_not(name, grid), nearest(name, there))
        for name in sets
        if name not in there
    ]
    if problems:
        raise UserError(problems)
    return [(cell, name) for cell, name in found if not sets or name in sets]


def _why_not(name: str, grid: Grid) -> str:
    if name not in grid.suite.evaluation_sets:
        return f"there is no set {name!r}"
    return f"no predictions on {name!r} are kept of such cells"


def mask_of(text: str, grid: Grid, store: Store) -> Mask:
    """Find out which classes are meant; see `orchestrator.masks.parse_mask`.

    Raises:
        UserError: when that is not known.
    """

    def classes_seen(name: str) -> Sequence[int]:
        kept = store.kept_predictions()
        cell_id = next((one for one, sets in kept.items() if name in sets), None)
        if cell_id is None:
            return ()
        seen: list[int] = target_classes(
            read_predictions(store, cell_id, name, ["targets"])
        ).tolist()
        return seen

    return parse_mask(text, grid.suite, classes_seen)


def rescored(
    store: Store, grid: Grid, kept: Sequence[Kept], mask: Mask, by: str = "cell"
) -> pd.DataFrame:
    """Score cells anew.

    Args:
        store: that keeps their predictions.
        grid: that they are of.
        kept: which of them; see `kept_of`.
        mask: the classes that a prediction may be.
        by: of BY, what there is a row for.

    Returns:
        model, method, seed, downstream and eval_dataset, and what BY says.

    Raises:
        UserError: when what was kept does not say it for every image, or cannot be read.
    """
    found, problems = [], []
    for cell, name in kept:
        table = read_predictions(store, cell.cell_id, name, NEEDED)
        try:
            scored = rescore(table, mask, grid.suite)
        except UnansweredError as error:
            hint = "keep more of them: top_classes"
            problems.append(Problem(f"{cell} on {name}", str(error), hint))
            continue
        rows = BY[by](table, scored)
        which = (cell.model.name, cell.label, cell.seed, cell.downstream, name)
        for place, (column, value) in enumerate(zip(_WHICH, which, strict=True)):
            rows.insert(place, column, pd.Series([value] * len(rows), rows.index, dtype=object))
        found.append(rows)
    if problems:
        raise UserError(problems)
    return pd.concat(found, ignore_index=True)


def _by_cell(table: pa.Table, scored: Rescored) -> pd.DataFrame:
    """Return one row: the mean over the severities of each corruption, then over corruptions."""
    splits = _by_split(table, scored)
    by_corruption = splits.groupby("corruption", dropna=False)["accuracy_percent"].mean()
    is_whole = len(splits) == table.group_by(IMAGE[:2]).aggregate([]).num_rows
    error = None
    if scored.confidence is not None:
        error = 100 * calibration_error(scored.confidence, scored.correct)
    row = {
        "accuracy_percent": by_corruption.mean() if is_whole else float("nan"),
        "n_correct": scored.n_correct,
        "n_total": scored.n_total,
        "calibration_error": error,
    }
    return pd.DataFrame([row]).astype({"calibration_error": "float64"})


def _by_split(table: pa.Table, scored: Rescored) -> pd.DataFrame:
    return _with_percents(per_split(table, scored))


def _by_class(table: pa.Table, scored: Rescored) -> pd.DataFrame:
    return _with_percents(per_class(table, scored).sort_values("label"))


def _with_percents(counts: pd.DataFrame) -> pd.DataFrame:
    return counts.assign(accuracy_percent=100 * counts["n_correct"] / counts["n_total"])


def _by_confidence(table: pa.Table, scored: Rescored) -> pd.DataFrame:  # noqa: ARG001
    if scored.confidence is None:
        hint = "the set's own, or all"
        raise UserError([Problem("--mask", "probabilities among other classes are not kept", hint)])
    return calibration(scored.confidence, scored.correct)


BY: Mapping[str, Callable[[pa.Table, Rescored], pd.DataFrame]] = {
    "cell": _by_cell,
    "split": _by_split,
    "class": _by_class,
    "confidence": _by_confidence,
}
"""What there can be a row for, of each cell and set.

- `cell`: accuracy_percent, n_correct, n_total and calibration_error, in points (15 bins, all splits
  together; missing where the probabilities among the mask's classes are not kept). `rib report`
  takes such a table.
- `split`: corruption, severity, n_correct, n_total, accuracy_percent
- `class`: label, n_correct, n_total, accuracy_percent; all splits together
- `confidence`: low, high, n, confidence, accuracy of each bin
"""


def agreements(
    store: Store,
    grid: Grid,
    names: Sequence[str],
    sets: Sequence[str] = (),
    downstream: str | None = None,
) -> pd.DataFrame:
    """Say how far two entries predict the same of the same images.

    Args:
        store: that keeps their predictions.
        grid: that they are of.
        names: two entries, "model:method" or a part that no other has, as in `rib compare`.
        sets: the evaluation sets that are meant; all of which both are kept, if none is named.
        downstream: look at what was fine-tuned on this set alone.

    Returns:
        downstream, seed, eval_dataset, images, agreement (percent of them of which both predict one
        class) and kappa (Cohen's; missing where both say one class of all images): a row per pair
        of cells of the same downstream set and seed, and set. A baseline goes with every cell.

    Raises:
        UserError: when a name fits none or several, no pair is kept, or one of other images.
    """
    kept = kept_of(store, grid, sets)
    known = list(dict.fromkeys(_entry(cell) for cell in expand(grid)))
    first, second = choose_two(known, names, downstream, grid.suite.ood_names)
    rows = [
        {
            "downstream": other.downstream or one.downstream,
            "seed": other.seed if one.is_baseline else one.seed,
            "eval_dataset": name,
            **_agreement(store, one, other, name),
        }
        for one, other, name in _pairs(kept, first, second)
        if downstream in (None, one.downstream, other.downstream)
    ]
    if not rows:
        message = f"predictions of {':'.join(first)} and {':'.join(second)} on one set are not kept"
        raise UserError([Problem(f"store {store.uri}", message)])
    return pd.DataFrame(rows)


def _entry(cell: Cell) -> Name:
    return cell.model.name, BASELINE if cell.is_baseline else cell.label


def _pairs(kept: Sequence[Kept], first: Name, second: Name) -> Iterator[tuple[Cell, Cell, str]]:
    for one, name in kept:
        if _entry(one) != first:
            continue
        for other, other_name in kept:
            is_pair = (one.downstream, one.seed) == (other.downstream, other.seed)
            if (_entry(other), other_name) == (second, name) and (
                is_pair or one.is_baseline or other.is_baseline
            ):
                yield one, other, name


def _agreement(store: Store, one: Cell, other: Cell, name: str) -> dict[str, float | None]:
    order = [(column, "ascending") for column in IMAGE]
    tables = [
        read_predictions(store, cell.cell_id, name, [*IMAGE, "top1"]).sort_by(order)
        for cell in (one, other)
    ]
    if not tables[0].select(IMAGE).equals(tables[1].select(IMAGE)):
        message = f"{one} and {other} were scored on different images of {name}"
        raise UserError([Problem(f"store {store.uri}", message)])
    found = agreement(*(table["top1"].to_numpy() for table in tables))
    return {"images": found.n_images, "agreement": 100 * found.share, "kappa": found.kappa}
