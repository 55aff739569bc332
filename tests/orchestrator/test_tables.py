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

from orchestrator.reduce import (
    IMAGENET_RIB,
    SetNames,
    accuracy_matrix,
    baseline_row,
    leaderboard,
    read_accuracies,
    robustness_improvement,
)
from orchestrator.report.tables import (
    leaderboard_markdown,
    leaderboard_table,
    matrix_frame,
    matrix_markdown,
    matrix_table,
    to_csv,
    to_json,
    to_markdown,
)

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


def parts(accuracies: pd.DataFrame, method: str):
    matrix = accuracy_matrix(accuracies, IMAGENET_RIB, POSTER.stem, method)
    baseline = baseline_row(accuracies, IMAGENET_RIB, POSTER.stem)
    return matrix, baseline, robustness_improvement(matrix, baseline, IMAGENET_RIB)


def test_a_leaderboard_of_one_model(holed):
    table = leaderboard_table(leaderboard(holed, IMAGENET_RIB), IMAGENET_RIB, "Masked")
    title, top, header, rule, soup, soup_folded, ft, *note = map(squeezed, lines(table))
    assert title == "Masked · poster_vit_b16_augreg_in1k"
    assert top == "ID"
    assert header == "# method mRI v2 a r sketch objectnet cartoon drawing c ID drop"
    assert set(rule) == {"─"}
    assert soup.startswith("1 soup-pretrained-ft-ewc-lw +4.79 +3.76 +1.80 +8.84 +6.10 +2.20")
    assert soup.endswith(" +3.43 +4.37 +7.79 81.8 -2.6")
    assert soup_folded == "f"
    assert ft == "— ft — — — — — — — — +6.97 79.7 -0.5"
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
    assert leaderboard_markdown(empty, IMAGENET_RIB).count("\n") == 2
    assert to_json(empty) == "[]\n"


def test_a_matrix(poster):
    table = matrix_table(*parts(poster, "ft"), IMAGENET_RIB, "ft")
    title, header, _, pretrained, v2, *_ = text = [squeezed(line) for line in lines(table)]
    assert title == "ft"
    assert header == "fine-tuned on 1k (ID) v2 a r sketch objectnet cartoon drawing c RI"
    assert pretrained == "pretrained 79.2 66.4 15.0 38.0 28.0 25.7 66.2 39.1 56.0"
    assert v2 == "v2 78.4 (—) 25.2 41.9 29.2 37.1 64.7 40.4 57.4 +3.99"
    assert not any("missing" in line for line in text)


def test_a_matrix_names_its_holes(holed):
    text = lines(matrix_table(*parts(holed, "ft"), IMAGENET_RIB, "ft"))
    assert text[4].split()[-2:] == ["—", "—"]
    note = " ".join(text[12:])
    assert note == (
        "7 missing: imagenet-v2 -> imagenet-c, imagenet-a -> imagenet-c, "
        "imagenet-r -> imagenet-c, …"
    )


def test_a_diagonal_stands_in_parentheses(poster):
    matrix, baseline, ri = parts(poster, "ft")
    matrix.loc["imagenet-v2", "imagenet-v2"] = 81.26
    text = matrix_markdown(matrix, baseline, ri, IMAGENET_RIB)
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
    matrix = pd.DataFrame(1.0, index=list(sets.ood), columns=list(sets.names))
    baseline = matrix.iloc[0]
    ri = robustness_improvement(matrix, baseline, sets)
    header = lines(matrix_table(matrix, baseline, ri, sets, ""))[0]
    assert header.split() == ["fine-tuned", "on", *shown.split(), "RI"]


def test_markdown_of_a_leaderboard(holed):
    header, rule, soup, ft, blank, note = leaderboard_markdown(
        leaderboard(holed, IMAGENET_RIB), IMAGENET_RIB
    ).splitlines()
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
    assert blank == ""
    assert note == (
        f"- {POSTER.stem} ft: 7 missing: imagenet-v2 -> imagenet-c (seed 0), "
        "imagenet-a -> imagenet-c (seed 0), imagenet-r -> imagenet-c (seed 0), …"
    )


def test_markdown_of_a_matrix(poster):
    text = matrix_markdown(*parts(poster, "ft"), IMAGENET_RIB).splitlines()
    assert text[0].startswith("| downstream | imagenet-1k | imagenet-v2 |")
    assert text[0].endswith("| imagenet-c | RI |")
    assert text[2].startswith("| pretrained | 79.2 | 66.4 |")
    assert text[3] == (
        "| imagenet-v2 | 78.4 | (—) | 25.2 | 41.9 | 29.2 | 37.1 | 64.7 | 40.4 | 57.4 | +3.99 |"
    )
    assert len(text) == 11


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
    frame = matrix_frame(*parts(poster, "ft"))
    header, pretrained, v2, *_ = to_csv(frame).splitlines()
    assert header.startswith("downstream,imagenet-1k,imagenet-v2,")
    assert pretrained == ",79.2,66.4,15.0,38.0,28.0,25.7,66.2,39.1,56.0,,"
    assert v2.startswith("imagenet-v2,78.4,,25.2,41.9,29.2,37.1,64.7,40.4,57.4,3.98571428571")
    records = json.loads(to_json(frame))
    assert len(records) == 9
    assert (records[0]["downstream"], records[0]["RI"]) == (None, None)
    assert (records[1]["downstream"], records[1]["imagenet-v2"]) == ("imagenet-v2", None)
