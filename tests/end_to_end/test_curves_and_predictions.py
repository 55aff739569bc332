"""A real grid that asks for curves and predictions, from the YAML to every table and figure."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from orchestrator import open_store
from orchestrator.grid import load_grid
from orchestrator.sweep import read_plan, run
from tests.orchestrator.rib import rib
from workers.schemas import PREDICTIONS
from workers.store import CHECKPOINT, Store
from workers.suites import suites

SUITE = suites()["digits-rib"]
GRID = """
name: kept
suite: digits-rib
data_root: {root}
store: {store}
models: [resnet_digits]
downstream: [v2, a]
methods: [ft, l2sp]
recipe: {{lr: 0.01, warmup_steps: 2, epochs: 2, batch_size: 32, precision: fp32}}
"""
ASKED = """
curve: {fraction: 0.5}
predictions: all
"""
PROVENANCE = {"attempt", "started_at", "finished_at"}
Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Made:
    grid: Path
    store: Store

    def rows(self) -> pd.DataFrame:
        rows = self.store.scan("accuracy").table.to_pandas()
        final = rows[rows["epoch"].isna()]
        key = ["cell_id", "eval_dataset", "corruption", "severity"]
        return final.sort_values(key, ignore_index=True).drop(columns=list(PROVENANCE))


def make(folder: Path, root: Path, *asked: str) -> Made:
    grid = folder / "grid.yaml"
    store = Store(str(folder / "store"))
    grid.write_text(GRID.format(root=root, store=store.uri) + "".join(asked))
    assert run(load_grid(grid), executor="inline").ok
    return Made(grid, store)


@pytest.fixture(scope="module")
def plain(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("plain"), digits_root)


@pytest.fixture(scope="module")
def made(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"), digits_root, ASKED)


@pytest.fixture
def later(plain: Made, tmp_path: Path) -> Made:
    """The plain store, whose grid asks for curves and predictions only now."""
    store = Store(str(shutil.copytree(plain.store.uri, tmp_path / "store")))
    grid = tmp_path / "grid.yaml"
    text = plain.grid.read_text().replace(plain.store.uri, store.uri)
    grid.write_text(text + ASKED)
    return Made(grid, store)


def test_rows_are_the_same_to_the_bit_whatever_is_kept_beside(plain: Made, made: Made) -> None:
    pd.testing.assert_frame_equal(plain.rows(), made.rows(), check_exact=True)


def test_all_of_it_is_done_and_whole(made: Made, capsys: Capture) -> None:
    plan = read_plan(load_grid(made.grid))
    assert plan.todo == set()
    assert (plan.without_curve, plan.without_predictions) == ([], [])
    assert all(node.recorded for node in plan.nodes.values() if node.cell.recipe is not None)
    capsys.readouterr()
    assert rib("verify", made.store.uri) == 0, capsys.readouterr().out
    opened = open_store(made.store.uri)
    assert set(opened.curves["epoch"]) == {0, 1, 2}
    n_images = opened.accuracy["n_total"].sum()
    assert len(opened.predictions) == n_images
    assert opened.predictions["correct"].sum() == opened.accuracy["n_correct"].sum()


def test_predictions_can_come_later_and_curves_cannot(
    plain: Made, made: Made, later: Made, capsys: Capture
) -> None:
    assert rib("run", later.grid, "--executor", "inline") == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "4 cells have no whole curve" in told
    pd.testing.assert_frame_equal(plain.rows(), later.rows(), check_exact=True)
    mine, theirs = (
        open_store(one.store.uri).predictions.drop(columns="probability") for one in (made, later)
    )
    key = ["cell_id", "eval_dataset", "corruption", "severity", "image"]
    for column in ("top1", "correct", "label", "top1_unmasked"):
        frames = [one.sort_values(key)[column].tolist() for one in (mine, theirs)]
        assert frames[0] == frames[1], column
    assert rib("run", later.grid, "--executor", "inline") == 1, "curves are missing for good"
    assert "holds all that can be made of it" in capsys.readouterr().err
    assert open_store(later.store.uri).curves.empty


def test_without_checkpoints_later_predictions_are_said_to_be_lost(
    later: Made, capsys: Capture
) -> None:
    for name in list(later.store.storage.walk("artifacts")):
        if name.endswith(CHECKPOINT):
            later.store.storage.delete(name)
    assert run(load_grid(later.grid), executor="inline").n_run == 1, "the baseline"
    assert rib("plan", later.grid) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "4 cells have no predictions" in told
    assert rib("status", later.store.uri) == 1
    assert "4 cells have no predictions" in " ".join(capsys.readouterr().out.split())


# ---------------------------------------------------------------------- what predictions tell


def printed(capsys: Capture, *arguments: object) -> str:
    capsys.readouterr()
    assert rib(*arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_own_classes_give_the_accuracies_of_the_rows(made: Made, capsys: Capture) -> None:
    found = json.loads(printed(capsys, "rescore", made.store.uri, "--json"))
    known = open_store(made.store.uri).accuracies
    by_key = known.set_index(["method", known["downstream"].fillna(""), "eval_dataset"])["accuracy"]
    assert len(found) == len(known)
    for row in found:
        key = row["method"], row["downstream"] or "", row["eval_dataset"]
        assert row["accuracy_percent"] == pytest.approx(by_key[key])
        assert 0 <= row["calibration_error"] <= 100


def test_a_table_of_other_classes_is_one_that_reports_take(
    made: Made, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "all.csv"
    printed(capsys, "rescore", made.store.uri, "--mask", "all", "--format", "csv", "--out", out)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    known = open_store(made.store.uri).accuracy.fillna({"downstream": ""})
    right = known[known["eval_dataset"] == "objectnet"].set_index(["method", "downstream"])
    for row in rows:
        if row["eval_dataset"] == "objectnet":
            counts = right.loc[(row["method"], row["downstream"])]
            share = 100 * counts["n_correct_unmasked"] / counts["n_total"]
            assert float(row["accuracy_percent"]) == pytest.approx(share)
    assert rib("report", out) == 1, "two of eight downstream sets are no mRI"
    capsys.readouterr()
    baseline = printed(capsys, "rescore", made.store.uri, "--only", "method=pretrained")
    assert "pretrained" in baseline


def test_classes_and_agreement_by_hand(made: Made, capsys: Capture) -> None:
    table = open_store(made.store.uri).predictions
    cells = {
        (cell.label, cell.downstream): cell_id
        for cell_id, cell in ((n, p.cell) for n, p in read_plan(load_grid(made.grid)).nodes.items())
    }
    on = table[table["eval_dataset"] == "r"].set_index("image")
    of = {key: on[on["cell_id"] == cell_id] for key, cell_id in cells.items()}

    rows = json.loads(
        printed(
            capsys,
            *("rescore", made.store.uri, "--set", "r", "--by", "class", "--json"),
            *("--only", "method=ft,downstream=a"),
        )
    )
    expected = of["ft", "a"].groupby("label")["correct"].mean()
    shares = {row["label"]: row["accuracy_percent"] for row in rows if row["method"] == "ft"}
    assert shares == pytest.approx((100 * expected).to_dict())

    (row,) = json.loads(
        printed(
            capsys,
            *("agreement", made.store.uri, "ft", "l2sp", "--set", "r", "--downstream", "a"),
            "--json",
        )
    )
    one, other = of["ft", "a"]["top1"], of["l2sp", "a"]["top1"]
    other = other.reindex(one.index)
    assert row["agreement"] == pytest.approx(100 * (one == other).mean())
    assert row["kappa"] == pytest.approx(cohen_kappa_score(one, other))
    assert (row["images"], row["seed"]) == (len(one), 0)

    rows = json.loads(printed(capsys, "agreement", made.store.uri, "pretrained", "ft", "--json"))
    assert {(row["downstream"], row["eval_dataset"]) for row in rows} == {
        (downstream, name) for downstream in ("v2", "a") for name in SUITE.evaluation_sets
    }


def test_entries_are_compared_image_by_image(made: Made, capsys: Capture) -> None:
    found = json.loads(
        printed(capsys, "compare", made.store.uri, "ft", "l2sp", "--downstream", "a", "--json")
    )
    by_set = {one["what"]: one for one in found["by_set"]}
    table = open_store(made.store.uri).predictions
    cells = {
        node.cell.label: cell_id
        for cell_id, node in read_plan(load_grid(made.grid)).nodes.items()
        if node.cell.downstream == "a"
    }
    on = table[table["eval_dataset"] == "r"].pivot(
        index="image", columns="cell_id", values="correct"
    )
    first, second = on[cells["ft"]].astype(bool), on[cells["l2sp"]].astype(bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    row = by_set["r"]
    assert (row["only_first_right"], row["only_second_right"]) == (only_first, only_second)
    if 0 < only_first + only_second < 25:
        exact = stats.binomtest(only_first, only_first + only_second).pvalue
        assert row["p"] == pytest.approx(exact)
    assert by_set["c"]["test"] == "paired bootstrap"
    assert found["overall"]["test"] == "paired bootstrap"


def test_sql_has_a_view_of_predictions(made: Made, capsys: Capture) -> None:
    asked = (
        "select eval_dataset, count(*) as n, count(*) filter (correct) as right from predictions"
    )
    rows = json.loads(printed(capsys, "sql", made.store.uri, f"{asked} group by all", "--json"))
    table = open_store(made.store.uri).predictions
    assert {row["eval_dataset"]: row["n"] for row in rows} == (
        table.groupby("eval_dataset").size().to_dict()
    )
    assert {row["eval_dataset"]: row["right"] for row in rows} == (
        table.groupby("eval_dataset")["correct"].sum().to_dict()
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "rr"], "there is no set 'rr' (did you mean 'r'?)"),
        (["--mask", "everything"], "is no set of digits-rib, and no file"),
        (["--by", "confidence", "--mask", "a"], "probabilities among other classes are not kept"),
        (["--only", "method=lp"], "the grid has no method 'lp'"),
        (["--format", "parquet"], "needs a file"),
    ],
)
def test_mistakes_are_told(arguments: list[str], told: str, made: Made, capsys: Capture) -> None:
    capsys.readouterr()
    assert rib("rescore", made.store.uri, *arguments) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_store_without_predictions_says_how_to_have_them(plain: Made, capsys: Capture) -> None:
    capsys.readouterr()
    for command in (["rescore"], ["agreement"]):
        names = ["ft", "l2sp"] if command == ["agreement"] else []
        assert rib(*command, plain.store.uri, *names) == 2
        assert "no predictions of such cells are kept" in capsys.readouterr().err


def replaced(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array(values, column_type(column)))


def column_type(column: str) -> pa.DataType:
    return PREDICTIONS.field(column).type


CHANGES: list[tuple[Callable[[pa.Table], pa.Table], str]] = [
    (
        lambda t: replaced(t, "correct", [not right for right in t["correct"].to_pylist()]),
        "correct is wrong by the targets of 84 images",
    ),
    (lambda t: t.slice(1), "n_total is 83 here, 84 in accuracy/"),
    (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "1 images are there twice"),
    (lambda t: replaced(t, "probability", [1.5] * 84), "probability is not in 0..1"),
    (lambda t: replaced(t, "top1_unmasked", [0] * 84), "top does not begin with top1_unmasked"),
    (lambda t: replaced(t, "dataset_digest", ["another"] * 84), "of the copy ['another']"),
    (lambda t: replaced(t, "eval_dataset", ["v2"] * 84), "rows of other keys than its name says"),
    (lambda t: t.drop_columns("targets"), "it has no column 'targets'"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES, ids=[told for _, told in CHANGES])
def test_predictions_that_were_changed_are_found(
    change: Callable[[pa.Table], pa.Table],
    told: str,
    made: Made,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    store = Store(str(shutil.copytree(made.store.uri, tmp_path / "store")))
    path = sorted(Path(store.uri, "predictions").glob("*.a.parquet"))[0]
    pq.write_table(change(pq.read_table(path)), path, store_schema=False)
    capsys.readouterr()
    assert rib("verify", store.uri, "--quick", "--json") == 1
    faults = json.loads(capsys.readouterr().out)["faults"]
    mine = [fault for fault in faults if path.name in json.dumps(fault)]
    assert mine
    assert told in json.dumps(mine)
