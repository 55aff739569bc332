"""`rib report`, `rib matrix` and `rib compare` on a store: every format says the same numbers."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from orchestrator.grid import load_grid, with_digests
from orchestrator.plan import expand
from tests.orchestrator.rib import rib
from tests.orchestrator.test_tables import POSTER
from workers.rows import describe
from workers.schemas import PREDICTIONS
from workers.store import Store

Capture = pytest.CaptureFixture[str]

TEXTS = ["table", "md", "csv", "json", "latex"]
SETS = ("val", "v2", "a", "r", "sketch", "objectnet", "cartoon", "drawing", "c")


@pytest.fixture(scope="module")
def store(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole grid of two methods and two seeds, with counts drawn in place of training."""
    folder = tmp_path_factory.mktemp("formats")
    value = {
        "name": "small",
        "suite": "digits-rib",
        "data_root": str(digits_root),
        "store": str(folder / "store"),
        "models": ["resnet_digits"],
        "downstream": "all",
        "methods": ["ft", "lp"],
        "seeds": [0, 1],
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(value))
    grid = with_digests(load_grid(folder / "grid.yaml"))
    made = Store(grid.store)
    made.create(grid.suite.name, grid.suite.version)
    made.write_grid(grid.to_yaml())
    for cell in expand(grid):
        generator = np.random.default_rng(zlib.crc32(cell.cell_id.encode()))
        share = {"pretrained": 0.5, "ft": 0.6, "lp": 0.3}[cell.label]
        for name, splits in grid.suite.splits().items():
            rows = [
                {
                    **describe(cell),
                    "eval_dataset": name,
                    "corruption": corruption,
                    "severity": severity,
                    "n_correct": (right := int(generator.binomial(200, share))),
                    # Over all classes half as many are right, where a set has only some.
                    "n_correct_unmasked": right // 2 if name in ("a", "r", "objectnet") else right,
                    "n_total": 200,
                    "n_expected": 200,
                }
                for corruption, severity in splits
            ]
            made.commit_accuracy(cell.cell_id, name, rows)
    return folder / "store"


def printed(capsys: Capture, *arguments: object, code: int = 0) -> str:
    assert rib(*arguments) == code
    return capsys.readouterr().out


def frame(capsys: Capture, *arguments: object) -> pd.DataFrame:
    text = printed(capsys, *arguments, "--format", "csv")
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


@pytest.mark.parametrize("command", ["report", "matrix"])
def test_every_format_has_the_numbers_and_says_how_they_were_scored(
    command: str, store: Path, capsys: Capture
) -> None:
    board = frame(capsys, "report", store)
    mri = {f"{value:+.2f}" for value in board["mRI"]}
    for form in TEXTS:
        text = " ".join(printed(capsys, command, store, "--format", form).split())
        if form in ("csv", "json"):
            assert "masked" in text
        else:
            assert "scoring: each set over its own classes" in text
            assert all(number.replace("-", "$-$") in text or number in text for number in mri)
        for said in ("no published value", "scoring"):
            assert said in text, form
        assert "contaminated" in text


def test_csv_json_and_parquet_have_the_same_columns_and_values(
    store: Path, tmp_path: Path, capsys: Capture
) -> None:
    for command in ("report", "matrix"):
        out = tmp_path / f"{command}.parquet"
        assert printed(capsys, command, store, "--format", "parquet", "--out", out) == ""
        binary = pq.read_table(out).to_pylist()
        text = printed(capsys, command, store, "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [list(row) for row in binary] == [list(row) for row in rows]
        for row, read in zip(rows, binary, strict=True):
            for name, value in read.items():
                if isinstance(value, float):
                    assert value == float(row[name])
                elif isinstance(value, list):
                    assert "; ".join(value) == row[name]
                else:
                    assert ("" if value is None else str(value)) == row[name]
    records = json.loads(printed(capsys, "report", store, "--json"))
    (tmp_path / "board.json").write_text(json.dumps(records))
    board = pq.read_table(tmp_path / "report.parquet").to_pylist()
    assert records == board


def test_a_published_table_comes_out_as_parquet_too(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "poster.parquet"
    assert printed(capsys, "report", POSTER, "--format", "parquet", "--out", out) == ""
    schema = pq.read_schema(out)
    assert str(schema.field("missing_cells").type).startswith("list<")
    assert {str(schema.field(name).type) for name in ("mRI low", "mRI sd")} == {"double"}
    assert pq.read_table(out)["interval"].to_pylist() == [None, None]


def test_parquet_needs_a_file(store: Path, capsys: Capture) -> None:
    for command in ("report", "matrix"):
        assert rib(command, store, "--format", "parquet") == 2
        printed = capsys.readouterr()
        assert printed.err == "rib: --format parquet: is no text (name a file with --out)\n"
        assert printed.out == ""
    nowhere = store / "none" / "x"
    assert rib("report", store, "--format", "parquet", "--out", nowhere) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("form", TEXTS)
def test_a_matrix_is_written_to_a_file(
    form: str, store: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "matrix"
    assert printed(capsys, "matrix", store, "--format", form, "--out", out) == ""
    assert out.read_text() == printed(capsys, "matrix", store, "--format", form)


def test_intervals_deviations_and_ranges_of_ranks_are_shown(store: Path, capsys: Capture) -> None:
    board = frame(capsys, "report", store)
    assert board["method"].tolist() == ["ft", "lp"]
    assert board[["rank low", "rank high"]].to_numpy().tolist() == [[1, 1], [2, 2]]
    lines = [line.split() for line in printed(capsys, "report", store).splitlines()]
    row = next(k for k, line in enumerate(lines) if line[:4] == ["1", "ft", "(2", "seeds)"])
    half = max(board["mRI"] - board["mRI low"])
    assert lines[row + 1][0].startswith("±")
    assert float(lines[row + 1][0][1:]) == pytest.approx(half, abs=0.2)
    assert lines[row + 2][0] == f"σ{board.at[0, 'mRI sd']:.2f}"
    text = " ".join(" ".join(line) for line in lines)
    assert "± 95% interval over images, from counts: too wide rather than too narrow" in text
    assert "σ standard deviation over seeds" in text


def test_scoring_is_chosen_by_set(store: Path, capsys: Capture) -> None:
    masked = frame(capsys, "report", store)
    some = frame(capsys, "report", store, "--unmasked", "objectnet")
    every = frame(capsys, "report", store, "--unmasked", "all")
    assert masked["scoring"].unique().tolist() == ["masked"]
    assert some["scoring"].unique().tolist() == ["unmasked: objectnet"]
    assert every["scoring"].unique().tolist() == ["unmasked"]
    assert (some["mRI"] != masked["mRI"]).all()
    assert (some["ID"] == masked["ID"]).all()
    matrices = [
        frame(capsys, "matrix", store, *arguments)
        for arguments in ((), ("--unmasked", "objectnet"), ("--unmasked", "a", "--unmasked", "r"))
    ]
    differs = [(one[list(SETS)] != matrices[0][list(SETS)]).any() for one in matrices]
    assert [list(one.index[one]) for one in differs] == [[], ["objectnet"], ["a", "r"]]
    for form in ("table", "md", "latex"):
        text = printed(capsys, "report", store, "--unmasked", "objectnet", "--format", form)
        assert "scoring: objectnet over all classes of the label space" in text


def test_a_set_that_is_not_there_cannot_be_unmasked(store: Path, capsys: Capture) -> None:
    for command in (("report", store), ("matrix", store), ("compare", store, "ft", "lp")):
        assert rib(*command, "--unmasked", "objctnet", "--unmasked", "sketsh") == 2
        assert capsys.readouterr().err == (
            "rib: --unmasked: there is no set 'objctnet' (did you mean 'objectnet'?)\n"
            "rib: --unmasked: there is no set 'sketsh' (did you mean 'sketch'?)\n"
        )
    assert rib("report", POSTER, "--unmasked", "objectnet") == 2
    assert "a table has the accuracies as they were scored" in capsys.readouterr().err


def test_counts_that_cannot_be_are_no_traceback(
    store: Path, tmp_path: Path, capsys: Capture
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(store, broken)
    path = sorted((broken / "accuracy").iterdir())[0]
    table = pq.read_table(path)
    place = table.schema.get_field_index("n_correct")
    table = table.set_column(place, "n_correct", pq.read_table(path)["n_total"])
    table = table.set_column(table.schema.get_field_index("n_total"), "n_total", [[0] * len(table)])
    pq.write_table(table.cast(pq.read_schema(path)), path)
    assert rib("report", broken) == 2
    error = capsys.readouterr().err
    assert "impossible counts" in error
    assert error.endswith("(rib verify)\n")


def test_two_entries_are_compared(store: Path, capsys: Capture) -> None:
    text = printed(capsys, "compare", store, "ft", "lp")
    assert text.startswith("resnet_digits:ft (A) against resnet_digits:lp (B)")
    assert "unpaired: predictions of both are not kept" in text
    record = json.loads(printed(capsys, "compare", store, "ft", "lp", "--json"))
    board = frame(capsys, "report", store).set_index("method")
    assert record["overall"]["first"] == pytest.approx(board.at["ft", "mRI"])
    assert record["overall"]["difference"] == pytest.approx(
        board.at["ft", "mRI"] - board.at["lp", "mRI"]
    )
    assert record["overall"]["p"] < 0.001
    assert [one["what"] for one in record["by_set"]] == list(SETS)
    assert (record["scoring"], record["canary"]) == (
        "masked",
        {"resnet_digits": "no published value"},
    )
    assert [one["contaminated"] for one in record["by_set"]] == [
        name in ("val", "cartoon", "drawing", "c") for name in SETS
    ]


def test_mistakes_in_a_comparison_are_told_at_once(store: Path, capsys: Capture) -> None:
    assert rib("compare", store, "resnet", "lpp", "--downstream", "sketsh") == 2
    assert capsys.readouterr().err == (
        "rib: resnet: fits more than one entry (which of resnet_digits:pretrained, "
        "resnet_digits:ft, resnet_digits:lp?)\n"
        "rib: lpp: is no entry of this store (allowed: resnet_digits:ft, resnet_digits:lp, "
        "resnet_digits:pretrained)\n"
        "rib: --downstream: there is no set 'sketsh' (did you mean 'sketch'?)\n"
    )


def test_every_column_is_documented(store: Path, capsys: Capture) -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    table = page[page.index("### The leaderboard's columns") : page.index("### The matrix's")]
    listed = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    numbers = ["mRI", "ID", "ID drop", "downstream", "OOD", *(f"RI {name}" for name in SETS[1:])]
    documented = set(numbers)
    for name in listed:
        spelt = [name.replace("<number>", number) for number in numbers]
        documented |= {one.replace("<set>", other) for one in spelt for other in SETS[1:]}
    assert set(frame(capsys, "report", store).columns) == documented


# What predictions change


@pytest.fixture(scope="module")
def predicted(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store with a file of predictions for each cell and set, as its counts say."""
    folder = tmp_path_factory.mktemp("predicted") / "store"
    shutil.copytree(store, folder)

    def none(value: object) -> object:
        return None if pd.isna(value) else value

    rows = pq.read_table(folder / "accuracy").to_pandas()
    (folder / "predictions").mkdir()
    for (cell_id, name), splits in rows.groupby(["cell_id", "eval_dataset"]):
        images = [
            {
                "cell_id": cell_id,
                "eval_dataset": name,
                "corruption": none(row["corruption"]),
                "severity": none(row["severity"]),
                # Easy images come first: what one gets right, the better ones do too.
                "image": f"k/{n:03}.{name}",
                "correct": n < row["n_correct"],
                "correct_unmasked": n < row["n_correct_unmasked"],
            }
            for row in splits.to_dict("records")
            for n in range(200)
        ]
        path = folder / "predictions" / f"{cell_id}.{name}.parquet"
        pq.write_table(pa.Table.from_pylist(images, PREDICTIONS), path, store_schema=False)
    return folder


@pytest.mark.parametrize("scoring", [[], ["--unmasked", "objectnet"]], ids=["masked", "unmasked"])
def test_predictions_make_intervals_narrower(
    scoring: list[str], predicted: Path, capsys: Capture
) -> None:
    paired = frame(capsys, "report", predicted, *scoring)
    counts = frame(capsys, "report", predicted, "--counts", *scoring)
    assert paired["interval"].tolist() == ["paired", "paired"]
    assert counts["interval"].tolist() == ["counts", "counts"]
    assert (paired["mRI"] == counts["mRI"]).all()
    assert (paired["mRI low"] > counts["mRI low"]).all()
    assert (paired["RI c high"] < counts["RI c high"]).all()
    assert (paired["ID low"] == counts["ID low"]).all()


def test_every_format_says_that_intervals_are_paired(predicted: Path, capsys: Capture) -> None:
    for form in ("table", "md", "latex"):
        text = " ".join(printed(capsys, "report", predicted, "--format", form).split())
        text = text.replace("\\%", "%")
        assert "95% interval over images, of mRI and RI by a paired bootstrap" in text


def test_a_comparison_is_paired_where_predictions_are_kept(
    predicted: Path, capsys: Capture
) -> None:
    arguments = ("compare", predicted, "ft", "lp")
    record = json.loads(printed(capsys, *arguments, "--json"))
    tests = {one["test"] for one in (*record["by_set"], record["overall"])}
    assert tests == {"paired bootstrap"}
    assert [one["images"] for one in record["by_set"]] == [200] * 9
    assert record["overall"]["images"] == 6 * 200, "cartoon, drawing and c show the same images"
    record = json.loads(printed(capsys, *arguments, "--counts", "--json"))
    assert {one["test"] for one in record["by_set"]} == {"unpaired z"}


def test_predictions_of_other_rows_are_refused(
    predicted: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "store"
    shutil.copytree(predicted, other)
    path = next(one for one in sorted((other / "predictions").iterdir()) if ".v2." in one.name)
    table = pq.read_table(path)
    place = table.schema.get_field_index("correct")
    pq.write_table(table.set_column(place, "correct", [pa.array([True] * len(table))]), path)
    assert rib("report", other) == 2
    assert "its predictions say something else than its rows" in capsys.readouterr().err
    assert rib("report", other, "--counts") == 0
    path.write_bytes(path.read_bytes()[:-20])
    capsys.readouterr()
    assert rib("report", other) == 2
    assert "cut short" in capsys.readouterr().err
