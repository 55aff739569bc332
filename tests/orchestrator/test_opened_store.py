"""`orchestrator.open_store`, and the same with other tools, as the README shows it."""

from __future__ import annotations

import io
import math
import re
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import orchestrator
from orchestrator import open_store
from orchestrator.plan import expand
from orchestrator.results import stored_grid
from tests.orchestrator.rib import rib
from tests.stores import SUITE, counts, drawn_store
from workers.cell import Cell
from workers.errors import UserError
from workers.schemas import TABLES
from workers.store import Store

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
SECTION = README[README.index("## Reading the store") : README.index("## How the parts hang")]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.DOTALL)

GUIDE = (PROJECT / "docs" / "reading-results.md").read_text()


@pytest.fixture(scope="module")
def store(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return drawn_store(tmp_path_factory.mktemp("drawn") / "runs" / "quickstart", digits_root)


@pytest.fixture(scope="module")
def compacted(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("compacted") / "runs" / "quickstart"
    other = Store(str(shutil.copytree(store.uri, folder)))
    other.compact()
    return other


def cells_of(store: Store) -> list[Cell]:
    return list(expand(stored_grid(store)))


def percent(cell: Cell, name: str) -> float:
    """The accuracy that was drawn: severities first, then corruptions."""
    by_corruption: dict[str | None, list[float]] = {}
    for corruption, severity in SUITE.splits()[name]:
        drawn = counts(cell, f"{name}{corruption}{severity}")
        share = 100 * drawn["n_correct"] / drawn["n_total"]
        by_corruption.setdefault(corruption, []).append(share)
    means = [math.fsum(values) / len(values) for values in by_corruption.values()]
    return math.fsum(means) / len(means)


def clean_means(store: Store) -> dict[tuple[str, str], float]:
    values: dict[tuple[str, str], list[float]] = {}
    for cell in cells_of(store):
        values.setdefault((cell.model.name, cell.label), []).append(percent(cell, "val"))
    return {key: math.fsum(some) / len(some) for key, some in values.items()}


# ---------------------------------------------------------------------- the README


def answer_of(language: str, code: str) -> Any:
    if language == "sql":
        return duckdb.sql(code).df()
    if language == "sh":
        words = shlex.split(code)
        assert words[0] == "rib"
        with redirect_stdout(io.StringIO()) as printed:
            assert rib(*words[1:], "--format", "csv") == 0
        return pd.read_csv(io.StringIO(printed.getvalue()))
    namespace: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()):
        exec(code, namespace)  # noqa: S102 # our own README
    return namespace["answer"]


def as_dict(answer: Any) -> dict[tuple[str, str], float]:
    if isinstance(answer, pd.Series):
        return {(str(model), str(method)): value for (model, method), value in answer.items()}
    if not isinstance(answer, pd.DataFrame):
        answer = answer.to_pandas()
    number = answer.select_dtypes("number").columns[0]
    return dict(
        zip(zip(answer["model"], answer["method"], strict=True), answer[number], strict=True)
    )


@pytest.mark.parametrize("kind", ["store", "compacted"])
@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_what_the_readme_shows_is_what_it_gives(
    language: str,
    code: str,
    kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store: Store = request.getfixturevalue(kind)
    monkeypatch.chdir(Path(store.uri).parents[1])
    assert as_dict(answer_of(language, code)) == pytest.approx(clean_means(store), abs=1e-9)


def test_the_readme_shows_every_tool() -> None:
    shown = [code for _, code in BLOCKS]
    tools = ("open_store", "rib sql", "pandas", "accuracy/*.parquet'", "polars", "pyarrow")
    assert len(shown) == len(tools)
    for code, tool in zip(shown, tools, strict=True):
        assert tool in code


# ---------------------------------------------------------------------- frames


def test_accuracies_and_matrices(compacted: Store) -> None:
    opened = open_store(compacted.uri)
    cells = {(c.model.name, c.label, c.downstream): c for c in cells_of(compacted)}
    assert len(opened.accuracies) == 50 * 9
    matrix = opened.matrix("vit_digits", "soup")
    assert list(matrix.index) == list(SUITE.ood_names)
    assert list(matrix.columns) == ["val", *SUITE.ood_names]
    for downstream in matrix.index:
        for name in matrix.columns:
            cell = cells["vit_digits", "soup", downstream]
            assert matrix.loc[downstream, name] == pytest.approx(percent(cell, name))


def test_the_leaderboard_is_complete_and_ranked(store: Store) -> None:
    board = open_store(store.uri).leaderboard
    assert len(board) == 6
    assert board["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert board["mRI"].is_monotonic_decreasing
    best = board.iloc[0]
    cells = {(c.model.name, c.label, c.downstream): c for c in cells_of(store)}
    before = cells[best["model"], "pretrained", None]
    gains = [
        percent(cells[best["model"], best["method"], i], j) - percent(before, j)
        for i in SUITE.ood_names
        for j in SUITE.ood_names
        if i != j
    ]
    assert best["mRI"] == pytest.approx(math.fsum(gains) / len(gains))


def test_final_rows_and_curves(store: Store) -> None:
    opened = open_store(store.uri)
    assert len(opened.accuracy) == 50 * sum(len(pairs) for pairs in SUITE.splits().values())
    assert "epoch" not in opened.accuracy
    assert opened.curves["epoch"].tolist() == [1, 2]
    plain = opened.accuracy[opened.accuracy["severity"].isna()].iloc[0]
    assert plain["accuracy"] == pytest.approx(100 * plain["n_correct"] / plain["n_total"])
    assert opened.accuracy["severity"].dtype == "Int64"


def test_the_other_tables(store: Store) -> None:
    opened = open_store(store.uri)
    assert opened.attempts["state"].tolist() == ["done"] * 50
    assert len(opened.history) == 32 * 2
    assert opened.tuning.empty
    assert opened.distances.empty
    assert opened.history is opened.history  # read once
    some = opened.rows("attempts", ["cell_id", "seconds"])
    assert list(some.columns) == ["cell_id", "seconds"]
    assert repr(opened) == f"<store {store.uri}>"


def test_mistakes(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no store here"):
        open_store(str(tmp_path))
    with pytest.raises(UserError, match="there is no store here"):
        open_store(str(tmp_path / "nowhere"))
    opened = open_store(store.uri)
    with pytest.raises(UserError, match="did you mean 'vit_digits soup'"):
        opened.matrix("vit_digits", "soop")
    with pytest.raises(UserError, match="did you mean 'attempts'"):
        opened.rows("attemps")
    with pytest.raises(UserError, match="did you mean 'seconds'"):
        opened.rows("attempts", ["second"])


def test_damage_is_an_error_unless_it_may_be_skipped(store: Store, tmp_path: Path) -> None:
    other = Store(str(shutil.copytree(store.uri, tmp_path / "store")))
    other.storage.write("accuracy/bad.parquet", b"garbage")
    opened = open_store(other.uri)
    with pytest.raises(UserError, match=r"accuracy/bad\.parquet: is damaged"):
        _ = opened.accuracy
    with pytest.raises(UserError, match=r"accuracy/bad\.parquet"):
        _ = opened.leaderboard
    skipping = open_store(other.uri, skip_damaged=True)
    assert len(skipping.accuracy) == len(open_store(store.uri).accuracy)
    assert list(skipping.damage) == ["accuracy/bad.parquet"]


def test_a_store_without_a_grid_has_rows_and_no_leaderboard(tmp_path: Path, store: Store) -> None:
    other = Store(str(shutil.copytree(store.uri, tmp_path / "store")))
    other.storage.delete("grid.yaml")
    opened = open_store(other.uri)
    assert len(opened.attempts) == 50
    with pytest.raises(UserError, match=r"no grid\.yaml"):
        _ = opened.leaderboard


def test_the_api_has_what_it_says() -> None:
    for name in orchestrator.__all__:
        assert callable(getattr(orchestrator, name))
    with pytest.raises(AttributeError):
        _ = orchestrator.nothing


# ---------------------------------------------------------------------- the guide


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented(table: str) -> None:
    start = GUIDE.index(f"### {table}\n")
    listed = GUIDE[start:].split("\n### ")[0].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*?)(?: †)? \|", listed, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert names == TABLES[table].names
