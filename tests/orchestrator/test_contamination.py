"""Accuracies of images whose sources were tuned on are marked in every table."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from orchestrator.contamination import MARK, Contamination
from orchestrator.remarks import Remarks
from orchestrator.report import frames, tables
from orchestrator.set_names import IMAGENET_RIB
from tests.orchestrator.rib import rib
from tests.orchestrator.test_tables import POSTER, lines, matrix_of, squeezed
from workers.suites import DatasetSpec, suites

ID = "imagenet-1k"
MADE = ("imagenet-cartoon", "imagenet-drawing", "imagenet-c")
PAIRS = {(d, j) for d in MADE for j in (ID, *MADE) if d != j}
"""By the issue: ID accuracy after tuning on C, Cartoon or Drawing, and those among each other."""

LIKE_IMAGENET_RIB = replace(
    suites()["digits-rib"],
    id=DatasetSpec(ID, ""),
    ood=tuple(
        DatasetSpec(name, "", derived_from=ID if name in MADE else None)
        for name in IMAGENET_RIB.ood
    ),
)
CONTAMINATION = Contamination.of(LIKE_IMAGENET_RIB)
Capture = pytest.CaptureFixture[str]


def test_exactly_the_derived_sets_contaminate_each_other_and_the_id_set() -> None:
    names = IMAGENET_RIB.names
    marked = {(d, j) for d in names for j in names if CONTAMINATION.mark(d, [j])}
    assert marked == PAIRS
    assert {tuple(pair.split(" -> ")) for pair in CONTAMINATION.pairs} == PAIRS
    assert CONTAMINATION.mark(None, names) == "", "a baseline was tuned on nothing"


def test_the_embedded_suite_is_marked_like_the_benchmark() -> None:
    of = Contamination.of(suites()["digits-rib"])
    assert dict(of.shared) == {
        "cartoon": ("val", "drawing", "c"),
        "drawing": ("val", "cartoon", "c"),
        "c": ("val", "cartoon", "drawing"),
    }


def test_a_set_that_others_are_made_from_contaminates_them() -> None:
    suite = replace(
        suites()["digits-rib"],
        ood=(DatasetSpec("a", ""), DatasetSpec("a-drawn", "", derived_from="a")),
    )
    shared = Contamination.of(suite).shared
    assert shared == {"a": ("a-drawn",), "a-drawn": ("a",)}


def test_a_suite_without_derived_sets_has_nothing_to_say() -> None:
    of = Contamination.of(replace(suites()["digits-rib"], ood=(DatasetSpec("a", ""),)))
    assert (of.notes(), of.pairs, of.mark_mean(["a", "val"])) == ([], [], "")


@pytest.fixture(scope="module")
def poster() -> pd.DataFrame:
    from orchestrator.accuracy_tables import read_accuracies

    return read_accuracies(POSTER)


REMARKS = Remarks(contamination=CONTAMINATION)


def marked_in_markdown(text: str) -> tuple[set[tuple[str, str]], set[str]]:
    """Return the marked accuracies of a matrix in Markdown, and the rows whose RI is marked."""
    header, _, *rows = [line.strip("| ").split(" | ") for line in text.split("\n\n")[0].split("\n")]
    found = {
        (row[0], header[k]) for row in rows for k, cell in enumerate(row) if cell.endswith(MARK)
    }
    values = {pair for pair in found if pair[1] != "RI"}
    return values, {row for row, column in found - values}


def test_every_contaminated_value_of_a_matrix_is_marked(poster: pd.DataFrame) -> None:
    text = tables.matrix_markdown(matrix_of(poster, "ft"), REMARKS)
    values, improvements = marked_in_markdown(text)
    assert values == PAIRS
    assert improvements == set(MADE)
    (note,) = (line for line in text.splitlines() if line.startswith(f"- {MARK} contaminated: "))
    assert all(name in note for name in (ID, *MADE))
    assert "RI and mRI include such values, as the paper defines them" in note


def test_the_matrix_of_a_terminal_has_the_same_marks(poster: pd.DataFrame) -> None:
    table = tables.matrix_table(matrix_of(poster, "ft"), "ft", REMARKS)
    text = [squeezed(line) for line in lines(table)]
    rows = {line.split(" ")[0]: line for line in text if re.search(r"[+-]\d\.\d\d†?$", line)}
    assert {name: line.count(MARK) for name, line in rows.items()} == dict.fromkeys(
        ("v2", "a", "r", "sketch", "objectnet"), 0
    ) | dict.fromkeys(("cartoon", "drawing", "c"), 3 + 1)


def test_the_marked_columns_of_a_leaderboard(poster: pd.DataFrame) -> None:
    from orchestrator.leaderboard import leaderboard

    board = leaderboard(poster, IMAGENET_RIB)
    header = tables.leaderboard_markdown(board, IMAGENET_RIB, REMARKS).split("\n")[0]
    marked = {name.removesuffix(MARK) for name in header.split(" | ") if name.endswith(MARK)}
    assert marked == {"mRI", "OOD", "ID", "ID drop", *(f"RI {name}" for name in MADE)}
    text = lines(tables.leaderboard_table(board, IMAGENET_RIB, "", REMARKS))
    shown = squeezed(next(line for line in text if "mRI" in line))
    assert shown == "# method mRI† v2 a r sketch objectnet cartoon† drawing† c† ID† drop†"
    numbers = [line.split() for line in text if re.search(r"\d\.\d$", line)]
    assert [float(row[2]) for row in numbers] == [4.79, 2.21], "RI stays the paper's"


def test_programs_are_told_which_cells_are_contaminated(poster: pd.DataFrame) -> None:
    from orchestrator.leaderboard import leaderboard

    board = frames.leaderboard_frame(leaderboard(poster, IMAGENET_RIB), REMARKS)
    for row in csv.DictReader(io.StringIO(frames.to_csv(board))):
        cells = row["contaminated_cells"].split("; ")
        assert {tuple(cell.split(" -> ")) for cell in cells} == PAIRS
    for record in json.loads(frames.to_json(board)):
        assert {tuple(cell.split(" -> ")) for cell in record["contaminated_cells"]} == PAIRS
    frame = frames.matrix_frame(matrix_of(poster, "ft"), REMARKS)
    for row in json.loads(frames.to_json(frame)):
        assert {(row["downstream"], name) for name in row["contaminated"]} == {
            pair for pair in PAIRS if pair[0] == row["downstream"]
        }
    by_csv = {row["downstream"]: row for row in csv.DictReader(io.StringIO(frames.to_csv(frame)))}
    assert by_csv["imagenet-c"]["contaminated"] == f"{ID}; imagenet-cartoon; imagenet-drawing"
    assert by_csv["imagenet-v2"]["contaminated"] == by_csv[""]["contaminated"] == ""


def test_a_published_table_of_a_suite_that_is_known_by_its_sets(
    tmp_path: Path, capsys: Capture
) -> None:
    sets = ("val", *suites()["digits-rib"].ood_names)
    rows = [
        ("pretrained", "", name, 50.0) for name in sets
    ] + [("ft", d, name, 60.0) for d in sets[1:] for name in sets]  # fmt: skip
    columns = ["method", "downstream", "eval_dataset", "accuracy_percent"]
    path = tmp_path / "digits.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    assert rib("matrix", path, "--format", "md") == 0
    values, _ = marked_in_markdown(capsys.readouterr().out.split("\n\n", 1)[1])
    derived = ("cartoon", "drawing", "c")
    assert values == {(d, j) for d in derived for j in ("val", *derived) if d != j}
    assert rib("report", path) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{MARK} contaminated: a model tuned on one of val, cartoon, drawing, c has seen" in out


def test_a_table_of_sets_that_nobody_knows_has_no_marks(tmp_path: Path, capsys: Capture) -> None:
    table = pd.read_csv(POSTER).replace({"imagenet-c": "my-corruptions"})
    path = tmp_path / "mine.csv"
    table.to_csv(path, index=False)
    assert rib("report", path, "--id", ID) == 0
    assert MARK not in capsys.readouterr().out
