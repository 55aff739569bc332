"""LaTeX: what a paper can take as it is, and no name that breaks it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from orchestrator.accuracy_tables import read_accuracies
from orchestrator.contamination import Contamination
from orchestrator.leaderboard import leaderboard
from orchestrator.matrix import Matrix, matrices
from orchestrator.remarks import Remarks
from orchestrator.report.latex import escape, leaderboard_latex, matrices_latex
from orchestrator.set_names import IMAGENET_RIB
from tests.orchestrator.answers import SETS, world
from tests.orchestrator.test_tables import POSTER, SOUP
from workers.suites import suites

REMARKS = Remarks(contamination=Contamination.of(suites()["imagenet-rib"]))
ODD = 'a_b & 50% #1 {x} $y$ ~z^2 \\n <|> "q" a->b † ± σ · —'


@pytest.fixture(scope="module")
def poster() -> pd.DataFrame:
    return read_accuracies(POSTER)


@pytest.fixture(scope="module")
def both(poster: pd.DataFrame) -> list[Matrix]:
    return list(matrices(poster, IMAGENET_RIB, leaderboard(poster, IMAGENET_RIB)))


def rows_of(text: str) -> list[list[str]]:
    """The cells of every row of a table."""
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    return [
        [cell.strip() for cell in line.removesuffix("\\\\").split(" & ")]
        for line in body.splitlines()
        if line.endswith("\\\\")
    ]


def plain(cell: str) -> str:
    """A cell without colour and weight."""
    inner = re.sub(r"\\textcolor\{ribdrop\}\{(.*)\}", r"\1", cell)
    return re.sub(r"\\textbf\{(.*)\}", r"\1", inner).replace("$-$", "-")


def test_every_sign_that_means_something_is_escaped():
    assert escape("a_b&50%#{}$") == "a\\_b\\&50\\%\\#\\{\\}\\$"
    assert escape("~^\\") == "\\textasciitilde{}\\textasciicircum{}\\textbackslash{}"
    assert escape("a -> b †") == "a $\\rightarrow$ b $^\\dagger$"


def test_a_table_has_the_papers_shape(both):
    rows = rows_of(matrices_latex(both, REMARKS))
    head, before, *body = rows
    ood = ["v2", "a", "r", "sketch", "objectnet", "cartoon", "drawing", "c"]
    assert head == ["Method", "Downstream", "1k (ID)", *ood, "RI"]
    assert before[:5] == ["Pretrained", "--", "79.2", "66.4", "15.0"]
    assert len(body) == 2 * 8
    assert {len(row) for row in rows} == {12}
    assert [row[1] for row in body[:8]] == head[3:11]
    assert [body[0][0], body[8][0]] == ["ft", SOUP]
    assert body[1][0] == "mRI +2.21"
    for k, row in enumerate(body):
        dashes = [n for n, cell in enumerate(row) if cell == "--"]
        assert dashes == [3 + k % 8], "the diagonal"


def test_every_number_is_the_matrix_s(both):
    _, _, *body = rows_of(matrices_latex(both, Remarks()))
    for one, rows in zip(both, (body[:8], body[8:]), strict=True):
        for i, row in enumerate(rows):
            shown = [plain(cell) for cell in row[2:]]
            expected = [f"{value:.1f}" for value in one.accuracy[i]]
            expected[1 + i] = "--"
            ri = one.numbers[f"RI {IMAGENET_RIB.ood[i]}"]
            assert shown == [*expected, f"{ri:+.2f}"]


def test_drops_are_coloured_and_the_best_are_bold(both):
    _, _, *body = rows_of(matrices_latex(both, Remarks()))
    ft, soup = both
    for i in range(8):
        for k in range(9):
            if k == 1 + i:
                continue
            cells = body[i][2 + k], body[8 + i][2 + k]
            values = ft.accuracy[i, k], soup.accuracy[i, k]
            for cell, value in zip(cells, values, strict=True):
                assert ("ribdrop" in cell) == (value < ft.baseline[k])
                assert ("textbf" in cell) == (value == max(values))


def test_one_method_alone_is_not_the_best(both):
    assert "textbf" not in matrices_latex(both[:1], REMARKS)


def test_contaminated_values_are_marked(both):
    _, _, *body = rows_of(matrices_latex(both[:1], REMARKS))
    marked = {row[1]: sum(cell.endswith("$^\\dagger$") for cell in row) for row in body}
    assert marked == dict.fromkeys(("v2", "a", "r", "sketch", "objectnet"), 0) | dict.fromkeys(
        ("cartoon", "drawing", "c"), 4
    )
    text = matrices_latex(both[:1], REMARKS)
    assert "contaminated: a model tuned on one of imagenet-1k" in text
    assert "scoring: as published" in text


def test_what_is_missing_is_no_dash(poster):
    hole = poster["method"].eq("ft") & poster["eval_dataset"].eq("imagenet-c")
    board = leaderboard(poster[~hole], IMAGENET_RIB)
    found = list(matrices(poster[~hole], IMAGENET_RIB, board))
    _, _, *body = rows_of(matrices_latex(found, REMARKS))
    assert [row[10] for row in body[:7]] == ["n/a"] * 7
    assert body[0][-1] == "n/a"
    text = leaderboard_latex(board, IMAGENET_RIB, REMARKS)
    assert text.count("\\midrule") == 2, "what is incomplete stands apart"
    assert rows_of(text)[-1][0] == "--"
    assert "7 missing: imagenet-v2 $\\rightarrow$ imagenet-c (seed 0)" in text


def test_a_leaderboard(poster):
    board = leaderboard(poster, IMAGENET_RIB)
    head, soup, ft = rows_of(leaderboard_latex(board, IMAGENET_RIB, REMARKS))
    assert head[:5] == ["\\#", "Method", "Model", "mRI$^\\dagger$", "v2"]
    model = POSTER.stem.replace("_", "\\_")
    assert [plain(cell) for cell in soup[:5]] == ["1", SOUP, model, "+4.79", "+3.76"]
    assert plain(ft[5]) == "-2.97"
    assert "ribdrop" in ft[5]
    assert plain(ft[-1]) == "-0.5"
    assert "ribdrop" not in ft[-1], "a drop below 0 is a gain"


def test_intervals_and_deviations_stand_beside_mri():
    made = world({("m", "ft"): 0.1, ("m", "lp"): 0.0}, seeds=(0, 1))
    board = leaderboard(made.accuracies, SETS)
    cell = rows_of(leaderboard_latex(board, SETS, Remarks(scoring="masked")))[1][3]
    assert re.fullmatch(
        r"\+[\d.]+ \{\\scriptsize \$\\pm\$[\d.]+\} \{\\scriptsize \$\\sigma\$[\d.]+\}", cell
    )


def braces(text: str) -> int:
    """How deep braces are open at the end; never below 0."""
    depth = 0
    for sign in re.sub(r"\\[{}\\]", "", text):
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    return depth


def odd_report() -> str:
    made = world({(ODD, ODD): 0.1, (ODD, "lp"): 0.05})
    board = leaderboard(made.accuracies, SETS)
    found = list(matrices(made.accuracies, SETS, board))
    remarks = Remarks(scoring=f"unmasked: {ODD}")
    return leaderboard_latex(board, SETS, remarks) + matrices_latex(found, remarks)


def test_odd_names_break_nothing():
    text = odd_report()
    assert braces(text) == 0
    for environment in ("table*", "tabular", "flushleft"):
        counts = [text.count(f"\\{what}{{{environment}}}") for what in ("begin", "end")]
        assert counts == [2, 2]
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[#%_^~]", code.replace("$^\\dagger$", ""))
    for row in rows_of(text):
        assert len(row) == 3 + 4 + 2, row


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here")
def test_latex_takes_it(tmp_path: Path):
    lines = ["\\documentclass{article}", "\\usepackage{booktabs,xcolor}", "\\begin{document}"]
    document = "\n".join([*lines, odd_report(), "\\end{document}"])
    (tmp_path / "report.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
