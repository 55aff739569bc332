"""The strings that people and programs read."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from orchestrator.accuracies import ACCURACY_COLUMNS
from orchestrator.accuracy_tables import read_accuracies
from orchestrator.leaderboard import leaderboard
from orchestrator.matrix import Matrix, matrices
from orchestrator.report.frames import matrix_frame, to_csv, to_json
from orchestrator.report.tables import (
    NO_REMARKS,
    leaderboard_markdown,
    leaderboard_table,
    matrix_markdown,
    matrix_table,
    to_markdown,
)
from orchestrator.set_names import IMAGENET_RIB, SetNames

POSTER = Path(__file__).parents[1] / "data" / "poster_vit_b16_augreg_in1k.csv"
SOUP = "soup-pretrained-ft-ewc-lwf"


@pytest.fixture(scope="module")
def poster() -> pd.DataFrame:
    return read_accuracies(POSTER)


@pytest.fixture(scope="module")
def holed(poster: pd.DataFrame) -> pd.DataFrame:
    """The poster without FT's evaluations on C."""
    return poster[~((poster["method"] == "ft") & (poster["eval_dataset"] == "imagenet-c"))]


def lines(table: Table, width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    text = console.export_text().splitlines()
    assert max(map(len, text)) <= width
    return [line.rstrip() for line in text]


def squeezed(line: str) -> str:
    return " ".join(line.split())


def matrix_of(accuracies: pd.DataFrame, method: str, sets: SetNames = IMAGENET_RIB) -> Matrix:
    board = leaderboard(accuracies, sets)
    (found,) = (one for one in matrices(accuracies, sets, board) if one.method == method)
    return found


def test_a_leaderboard_of_one_model(holed):
    table = leaderboard_table(leaderboard(holed, IMAGENET_RIB), IMAGENET_RIB, "Masked")
    text = list(map(squeezed, lines(table)))
    title, top, header, rule, soup, soup_folded, apart, ft, *note, scoring = text
    assert title == "Masked · poster_vit_b16_augreg_in1k"
    assert top == "ID"
    assert header == "# method mRI v2 a r sketch objectnet cartoon drawing c ID drop"
    assert set(rule) == {"─"}
    assert soup.startswith("1 soup-pretrained-ft-ewc-lw +4.79 +3.76 +1.80 +8.84 +6.10 +2.20")
    assert soup.endswith(" +3.43 +4.37 +7.79 81.8 -2.6")
    assert soup_folded == "f"
    assert apart == "", "what is incomplete stands apart"
    assert ft == "— ft — — — — — — — — +6.97 79.7 -0.5"
    assert scoring == "scoring: as published"
    assert " ".join(note) == (
        "ft: 7 missing: imagenet-v2 -> imagenet-c (seed 0), imagenet-a -> imagenet-c (seed 0), "
        "imagenet-r -> imagenet-c (seed 0), …"
    )


def test_a_leaderboard_of_long_names_keeps_its_numbers_whole(poster):
    models = ["vit_base_patch16_clip_224.openai_ft_in1k", "vit_large_patch16_224.augreg_in21k"]
    accuracies = pd.concat([poster.assign(model=model) for model in models])
    collapsed = accuracies["model"].eq(models[0]) & accuracies["method"].ne("pretrained")
    accuracies.loc[collapsed, "accuracy"] *= 0.1
    board = leaderboard(accuracies, IMAGENET_RIB)
    text = lines(leaderboard_table(board, IMAGENET_RIB))
    numbers = [line.split() for line in text if re.search(r"\d\.\d$", line)]
    shown = ["mRI", *(f"RI {name}" for name in IMAGENET_RIB.ood)]
    for row, cells in zip(board.to_dict("records"), numbers, strict=True):
        assert cells[2:-2] == [f"{row[name]:+.2f}" for name in shown]
    folded = "".join(line[2:].strip() for line in text)
    assert all(model in folded for model in models)


def test_seeds_are_shown_where_there_are_several(poster):
    tuned = poster[poster["method"] != "pretrained"]
    two = pd.concat([poster, tuned.assign(seed=1)])
    table = leaderboard_table(leaderboard(two, IMAGENET_RIB), IMAGENET_RIB)
    assert any("ft (2 seeds)" in line for line in lines(table))


def test_an_empty_leaderboard_is_a_header(poster):
    empty = leaderboard(poster.iloc[:0], IMAGENET_RIB)
    assert "mRI" in "\n".join(lines(leaderboard_table(empty, IMAGENET_RIB)))
    assert leaderboard_markdown(empty, IMAGENET_RIB).splitlines()[2:] == [
        "",
        "- scoring: as published",
    ]
    assert to_json(empty) == "[]\n"


def test_a_matrix(poster):
    table = matrix_table(matrix_of(poster, "ft"), "ft")
    title, header, _, pretrained, v2, *_ = text = [squeezed(line) for line in lines(table)]
    assert title == "ft"
    assert header == "fine-tuned on 1k (ID) v2 a r sketch objectnet cartoon drawing c RI"
    assert pretrained == "pretrained 79.2 66.4 15.0 38.0 28.0 25.7 66.2 39.1 56.0"
    assert v2 == "v2 78.4 (—) 25.2 41.9 29.2 37.1 64.7 40.4 57.4 +3.99"
    assert not any("missing" in line for line in text)


def test_a_matrix_names_its_holes(holed):
    text = lines(matrix_table(matrix_of(holed, "ft"), "ft"))
    assert text[4].split()[-2:] == ["—", "—"]
    note = " ".join(text[12:-1])
    assert note == (
        "7 missing: imagenet-v2 -> imagenet-c, imagenet-a -> imagenet-c, "
        "imagenet-r -> imagenet-c, …"
    )


def test_a_diagonal_stands_in_parentheses(poster):
    diagonal = pd.DataFrame(
        [(POSTER.stem, "ft", 0, "imagenet-v2", "imagenet-v2", 81.26)], columns=ACCURACY_COLUMNS
    )
    text = matrix_markdown(matrix_of(pd.concat([poster, diagonal]), "ft"))
    assert "| imagenet-v2 | 78.4 | (81.3) | 25.2 |" in text


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("id", "a", "b"), "id (ID) a b"),
        (("d-id", "d-a", "d-b"), "id (ID) a b"),
        (("d-x-id", "d-x-a", "d-x-b"), "id (ID) a b"),
        (("d-id", "a", "b"), "d-id (ID) a b"),
        (("d-id", "d-a", "a"), "d-id (ID) d-a a"),
        (("d-id", "d-", "d-b"), "d-id (ID) d- d-b"),
        (("id", "[red]", "b"), "id (ID) [red] b"),
    ],
)
def test_headers_lose_what_most_names_share(names, shown):
    sets = SetNames(names[0], names[1:])
    rows = [("m", "pretrained", 0, None, name, 1.0) for name in names]
    rows += [("m", "ft", 0, downstream, name, 1.0) for downstream in sets.ood for name in names]
    matrix = matrix_of(pd.DataFrame(rows, columns=ACCURACY_COLUMNS), "ft", sets)
    header = lines(matrix_table(matrix, ""))[0]
    assert header.split() == ["fine-tuned", "on", *shown.split(), "RI"]


def test_markdown_of_a_leaderboard(holed):
    text = leaderboard_markdown(leaderboard(holed, IMAGENET_RIB), IMAGENET_RIB).splitlines()
    header, rule, soup, blank, apart, _, again, _, ft, *_, note, scoring = text
    assert header.startswith("| rank | model | method | mRI | RI imagenet-v2 | RI imagenet-a |")
    assert header.endswith("| ID | ID drop | downstream | OOD | seeds | missing |")
    assert rule == "|" + " --- |" * 18
    assert soup == (
        f"| 1 | {POSTER.stem} | {SOUP} | +4.79 | +3.76 | +1.80 | +8.84 | +6.10 | +2.20 | +3.43 "
        "| +4.37 | +7.79 | 81.8 | -2.6 | — | 46.6 | 1 | 0 |"
    )
    assert ft == (
        f"| — | {POSTER.stem} | ft | — | — | — | — | — | — | — | — | +6.97 "
        "| 79.7 | -0.5 | — | — | 1 | 7 |"
    )
    assert (blank, apart, again) == ("", "Incomplete, not ranked:", header)
    assert scoring == "- scoring: as published"
    assert note == (
        f"- {POSTER.stem} ft: 7 missing: imagenet-v2 -> imagenet-c (seed 0), "
        "imagenet-a -> imagenet-c (seed 0), imagenet-r -> imagenet-c (seed 0), …"
    )


def test_markdown_of_a_matrix(poster):
    text = matrix_markdown(matrix_of(poster, "ft")).splitlines()
    assert text[0].startswith("| downstream | imagenet-1k | imagenet-v2 |")
    assert text[0].endswith("| imagenet-c | RI |")
    assert text[2].startswith("| pretrained | 79.2 | 66.4 |")
    assert text[3] == (
        "| imagenet-v2 | 78.4 | (—) | 25.2 | 41.9 | 29.2 | 37.1 | 64.7 | 40.4 | 57.4 | +3.99 |"
    )
    assert text[11:] == ["", "- scoring: as published"]


def test_markdown_escapes_what_would_break_a_table():
    text = to_markdown(pd.DataFrame({"a|b": ["c\\|d", "e\nf"]}))
    assert text == "| a\\|b |\n| --- |\n| c\\\\\\|d |\n| e f |\n"


def test_no_negative_zero(poster):
    board = leaderboard(poster, IMAGENET_RIB).assign(mRI=-0.001)
    assert "| +0.00 |" in leaderboard_markdown(board, IMAGENET_RIB)


def test_csv_of_a_leaderboard(holed):
    board = leaderboard(holed, IMAGENET_RIB)
    soup, ft = csv.DictReader(io.StringIO(to_csv(board)))
    assert (soup["rank"], soup["missing_cells"]) == ("1", "")
    assert float(soup["mRI"]) == board.at[0, "mRI"]
    assert (ft["rank"], ft["mRI"], ft["missing"]) == ("", "", "7")
    assert ft["missing_cells"].startswith(
        "imagenet-v2 -> imagenet-c (seed 0); imagenet-a -> imagenet-c (seed 0); "
    )


def test_json_of_a_leaderboard(holed):
    board = leaderboard(holed, IMAGENET_RIB)
    soup, ft = json.loads(to_json(board))
    assert list(soup) == list(board.columns)
    assert (soup["rank"], soup["seeds"], soup["missing_cells"]) == (1, 1, [])
    assert soup["mRI"] == board.at[0, "mRI"]
    assert (ft["rank"], ft["mRI"], ft["downstream"]) == (None, None, None)
    assert ft["missing_cells"][0] == "imagenet-v2 -> imagenet-c (seed 0)"


def test_csv_and_json_of_a_matrix(poster):
    frame = matrix_frame(matrix_of(poster, "ft"), NO_REMARKS)
    pretrained, v2, *_ = csv.DictReader(io.StringIO(to_csv(frame)))
    names = list(IMAGENET_RIB.names)
    assert list(pretrained)[:13] == ["model", "method", "downstream", *names, "RI"]
    assert list(v2.values())[:8] == [
        POSTER.stem,
        "ft",
        "imagenet-v2",
        "78.4",
        "",
        *("25.2", "41.9", "29.2"),
    ]
    assert (pretrained["downstream"], pretrained["RI"], pretrained["imagenet-v2"]) == (
        "",
        "",
        "66.4",
    )
    assert float(v2["RI"]) == pytest.approx(3.98571428571)
    assert (v2["RI low"], v2["imagenet-a high"]) == ("", ""), "a published table has no counts"
    assert v2["scoring"] == "as published"
    records = json.loads(to_json(frame))
    assert len(records) == 9
    assert (records[0]["downstream"], records[0]["RI"]) == (None, None)
    assert (records[1]["downstream"], records[1]["imagenet-v2"]) == ("imagenet-v2", None)
