"""Rows of epochs: curves are made of them, and nothing else is."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from orchestrator import open_store
from orchestrator.compare import compare
from orchestrator.curves import COLUMNS, curves_of, of_one_part, read_curves, summed_up
from orchestrator.plan import expand, make_plan
from orchestrator.report_data import gather
from orchestrator.results import read_results, set_names, stored_grid, verdicts_of
from orchestrator.scoring import Scoring
from orchestrator.sql import query
from orchestrator.status import cell_states
from tests.stores import SUITE, counts, drawn_store
from workers.cell import Cell
from workers.curve import Curve, part_of
from workers.errors import UserError
from workers.rows import describe
from workers.store import Store

FRACTION = 0.25
ID = SUITE.id.name


@pytest.fixture(scope="module")
def plain(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store without a row of any epoch but the few that `drawn_store` has."""
    return drawn_store(tmp_path_factory.mktemp("plain") / "store", digits_root)


@pytest.fixture(scope="module")
def curved(plain: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same with curves of every trained cell, whose values are far from the final ones."""
    folder = tmp_path_factory.mktemp("curved") / "store"
    store = Store(str(shutil.copytree(plain.uri, folder)))
    for cell in trained(store):
        add_curve(store, cell, fraction=FRACTION)
        add_curve(store, cell, fraction=1.0, epochs=(2,))
    store.sweep()
    return store


def trained(store: Store) -> list[Cell]:
    return [cell for cell in expand(stored_grid(store)) if cell.recipe is not None]


def add_curve(
    store: Store, cell: Cell, fraction: float, epochs: tuple[int, ...] = (0, 1, 2), seed: int = 0
) -> None:
    for epoch in epochs:
        for name in SUITE.splits():
            rows = list(rows_of(cell, name, epoch, fraction, seed))
            store.commit_accuracy(cell.cell_id, part_of(name, epoch), rows)
        store.seal(cell.cell_id, [part_of(name, epoch) for name in SUITE.splits()])


def rows_of(
    cell: Cell, name: str, epoch: int, fraction: float, seed: int = 0
) -> Iterator[dict[str, Any]]:
    part = {"epoch": epoch, "subset_fraction": fraction, "subset_seed": seed}
    for corruption, severity in SUITE.splits()[name]:
        split = {"eval_dataset": name, "corruption": corruption, "severity": severity}
        drawn = counts(cell, f"{name}{corruption}{severity}{epoch}{fraction}{seed}")
        yield describe(cell) | split | part | drawn


def percent(cell: Cell, name: str, epoch: int, fraction: float = FRACTION) -> float:
    """The accuracy that was drawn: severities first, then corruptions."""
    by_corruption: dict[str | None, list[float]] = {}
    for row in rows_of(cell, name, epoch, fraction):
        share = 100 * row["n_correct"] / row["n_total"]
        by_corruption.setdefault(row["corruption"], []).append(share)
    means = [math.fsum(shares) / len(shares) for shares in by_corruption.values()]
    return math.fsum(means) / len(means)


# ---------------------------------------------------------------------- final numbers stay


def test_no_number_but_those_of_curves_knows_of_epochs(plain: Store, curved: Store) -> None:
    one, other = (read_results(store.uri) for store in (plain, curved))
    pd.testing.assert_frame_equal(one.accuracies, other.accuracies, check_exact=True)
    pd.testing.assert_frame_equal(one.leaderboard(), other.leaderboard(), check_exact=True)
    for mine, theirs in zip(one.matrices(), other.matrices(), strict=True):
        assert (mine.model, mine.method) == (theirs.model, theirs.method)
        assert (mine.accuracy == theirs.accuracy).all()
    assert one.n_short == other.n_short
    names = "vit_digits:ft", "vit_digits:lwf"
    assert compare(one, *names).by_set == compare(other, *names).by_set
    assert compare(one, *names).overall == compare(other, *names).overall
    verdicts = [verdicts_of(store, stored_grid(store)) for store in (plain, curved)]
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("view", ["accuracies", "final"])
def test_sql_of_finished_cells_knows_of_no_epoch(view: str, plain: Store, curved: Store) -> None:
    asked = f"select * from {view} order by cell_id, eval_dataset, n_correct, n_total, loss"
    asked = asked if view == "final" else asked.removesuffix(", loss")
    tables = [query(store, asked).table.to_pandas() for store in (plain, curved)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-12)


def test_a_frame_is_of_finished_cells_or_of_epochs(plain: Store, curved: Store) -> None:
    one, other = open_store(plain.uri), open_store(curved.uri)
    order = ["cell_id", "eval_dataset", "corruption", "severity"]
    frames = [opened.accuracy.sort_values(order, ignore_index=True) for opened in (one, other)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    n_splits = sum(map(len, SUITE.splits().values()))
    n_added = len(trained(curved)) * n_splits * (3 + 1)
    assert len(other.curves) == len(one.curves) + n_added
    assert other.curves["epoch"].notna().all()


@pytest.mark.parametrize("fraction", [FRACTION, 1.0])
def test_epochs_make_no_cell_done_even_with_all_images_at_the_last(
    fraction: float, digits_root: Path, tmp_path: Path
) -> None:
    source = drawn_store(tmp_path / "source", digits_root)
    store = Store(str(tmp_path / "store"))
    store.create(SUITE.name, SUITE.version)
    store.write_grid(source.read_grid())
    for cell in trained(store):
        add_curve(store, cell, fraction)
    store.sweep()
    grid = stored_grid(store)
    plan = make_plan(grid, store.committed())
    assert plan.todo == set(plan.nodes)
    assert all(node.missing == node.wanted for node in plan.nodes.values())
    states = cell_states(plan, store.scan("attempts").table.to_pandas(), may_run=False)
    assert set(states["state"]) == {"waiting"}
    results = read_results(store.uri)
    assert results.accuracies.empty
    assert results.leaderboard()["mRI"].isna().all()
    assert (results.leaderboard()["missing"] > 0).all()


def test_compaction_and_a_second_seal_lose_no_row_of_either(curved: Store, tmp_path: Path) -> None:
    store = Store(str(shutil.copytree(curved.uri, tmp_path / "store")))
    before = store.scan("accuracy").table
    store.compact()
    after = store.scan("accuracy").table
    keys = [(name, "ascending") for name in before.column_names[:11]]
    keys += [("subset_fraction", "ascending")]
    assert before.sort_by(keys).equals(after.sort_by(keys))


def test_a_store_from_before_there_were_curves_reads_as_it_did(
    digits_root: Path, tmp_path: Path
) -> None:
    store = drawn_store(tmp_path / "store", digits_root)
    before = read_results(store.uri)
    added = ["subset_fraction", "subset_seed", "subset_digest"]
    for name in list(store.storage.walk("accuracy")):
        table = pq.read_table(Path(store.uri, name))
        old = table.filter(pc.is_null(table["epoch"])).drop_columns(added)
        pq.write_table(old, Path(store.uri, name), store_schema=False)
    old, plan = read_results(store.uri), make_plan(stored_grid(store), store.committed())
    pd.testing.assert_frame_equal(old.leaderboard(), before.leaderboard(), check_exact=True)
    assert all(not node.missing for node in plan.nodes.values())
    cell = trained(store)[0]
    add_curve(store, cell, FRACTION)  # sealed together with rows that lack the columns
    store.compact()
    pd.testing.assert_frame_equal(
        read_results(store.uri).leaderboard(), before.leaderboard(), check_exact=True
    )
    assert set(read_curves(store, stored_grid(store))["epoch"]) == {0, 1, 2}


# ---------------------------------------------------------------------- what curves are


def test_a_curve_has_the_means_that_the_counts_give(curved: Store) -> None:
    grid = stored_grid(curved)
    found = read_curves(curved, grid)
    assert list(found.columns) == COLUMNS
    by_key = found.set_index(
        ["model", "method", "downstream", "eval_dataset", "epoch", "subset_fraction"]
    )
    assert by_key.index.is_unique
    for cell in trained(curved):
        for name in SUITE.splits():
            for epoch in (0, 1, 2):
                key = (cell.model.name, cell.label, cell.downstream, name, epoch, FRACTION)
                assert by_key.loc[key, "accuracy"] == pytest.approx(percent(cell, name, epoch))


def test_the_scoring_is_the_one_that_is_asked_for(curved: Store) -> None:
    grid, cell = stored_grid(curved), trained(curved)[0]
    found = read_curves(curved, grid, Scoring(frozenset({"a"})))
    is_meant = (found["model"] == cell.model.name) & (found["method"] == cell.label)
    is_meant &= (found["downstream"] == cell.downstream) & (found["epoch"] == 1)
    values = found[is_meant & (found["subset_fraction"] == FRACTION)].set_index("eval_dataset")
    (row,) = rows_of(cell, "a", 1, FRACTION)
    assert values.loc["a", "accuracy"] == pytest.approx(
        100 * row["n_correct_unmasked"] / row["n_total"]
    )
    assert values.loc["v2", "accuracy"] == pytest.approx(percent(cell, "v2", 1))


def test_a_set_that_lacks_a_split_has_no_value_at_that_epoch(curved: Store) -> None:
    cell = trained(curved)[0]
    rows = pd.DataFrame([row for e in (0, 1) for row in rows_of(cell, "c", e, FRACTION)])
    splits = SUITE.splits()
    whole = curves_of(rows, {cell.cell_id: cell}, splits)
    assert whole["epoch"].tolist() == [0, 1]
    gone = rows.index[rows["epoch"] == 1][0]
    assert curves_of(rows.drop(gone), {cell.cell_id: cell}, splits)["epoch"].tolist() == [0]


def test_epochs_of_different_copies_are_refused(curved: Store) -> None:
    cell = trained(curved)[0]
    rows = pd.DataFrame([row for e in (0, 1) for row in rows_of(cell, "v2", e, FRACTION)])
    rows.loc[1, "dataset_digest"] = "another"
    with pytest.raises(UserError, match="different copies"):
        curves_of(rows, {cell.cell_id: cell}, SUITE.splits())
    allowed = curves_of(rows, {cell.cell_id: cell}, SUITE.splits(), mixed_data=True)
    assert len(allowed) == 2


def test_parts_of_a_set_are_never_joined_into_one_curve(curved: Store) -> None:
    found = read_curves(curved, stored_grid(curved))
    asked = of_one_part(found, Curve(("v2",), fraction=FRACTION))
    assert set(asked["subset_fraction"]) == {FRACTION}
    largest = of_one_part(found, None)
    assert set(largest["subset_fraction"]) == {1.0}
    other = of_one_part(found, Curve(("v2",), fraction=0.5))
    assert set(other["subset_fraction"]) == {0.5}
    unknown = of_one_part(found, Curve(("v2",), fraction=FRACTION, seed=7))
    assert set(unknown["subset_fraction"]) == {1.0}


# ---------------------------------------------------------------------- the three lines


def small(values: dict[tuple[int, int, str], float], downstream: str = "a") -> pd.DataFrame:
    """Curves of one entry: (seed, epoch, set) -> percent."""
    rows = [
        ("m", "ft", seed, downstream, name, epoch, 1.0, 0, value, 10)
        for (seed, epoch, name), value in values.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_downstream_id_and_the_mean_of_the_other_sets() -> None:
    sets = set_names(SUITE)
    values = {(0, 1, ID): 90.0, (0, 1, "v2"): 80.0, (0, 1, "a"): 10.0, (0, 1, "r"): 40.0}
    (row,) = summed_up(small(values), sets).to_dict("records")
    assert (row["tuned"], row["id"], row["ood"]) == (10.0, 90.0, 60.0)
    assert row["seeds"] == 1


def test_a_missing_value_is_a_gap_and_no_shorter_mean() -> None:
    sets = set_names(SUITE)
    values = {
        (seed, epoch, name): float(10 * seed + epoch)
        for seed in (0, 1)
        for epoch in (0, 1)
        for name in (ID, "v2", "a", "r")
    }
    whole = summed_up(small(values), sets).set_index("epoch")
    assert whole.loc[1, ["tuned", "id", "ood"]].tolist() == [6.0, 6.0, 6.0]
    assert whole["seeds"].tolist() == [2, 2]
    del values[1, 1, "r"]
    found = summed_up(small(values), sets).set_index("epoch")
    assert math.isnan(found.loc[1, "ood"])
    assert found.loc[1, ["tuned", "id"]].tolist() == [6.0, 6.0]
    assert found.loc[0, "ood"] == 5.0


def test_sets_that_no_curve_has_are_no_line() -> None:
    found = summed_up(small({(0, 0, "v2"): 50.0, (0, 1, "v2"): 60.0}), set_names(SUITE))
    assert found["ood"].tolist() == [50.0, 60.0]
    assert found[["tuned", "id"]].isna().all(axis=None)


def test_a_report_gathers_the_curves_of_one_part(curved: Store) -> None:
    data = gather(curved.uri)
    assert data.run is not None
    summary = data.run.curves
    cells = {(c.model.name, c.label, c.downstream): c for c in trained(curved)}
    assert len(summary) == len(cells)  # the whole images were only scored after epoch 2
    row = summary.iloc[0]
    cell = cells[row["model"], row["method"], row["downstream"]]
    assert row["id"] == pytest.approx(percent(cell, ID, 2, 1.0))
    assert row["tuned"] == pytest.approx(percent(cell, str(cell.downstream), 2, 1.0))
    others = [percent(cell, n, 2, 1.0) for n in SUITE.ood_names if n != cell.downstream]
    assert row["ood"] == pytest.approx(math.fsum(others) / len(others))
