"""A data set whose licence forbids tuning: nothing starts until the user says that they know."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.orchestrator.rib import rib
from workers.store import Store
from workers.suites import Clause, suites

CLAUSE = Clause("no-tuning", "its makers say so")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give digits-rib's set `a` a licence that forbids tuning on it."""
    suite = suites()["digits-rib"]
    ood = tuple(replace(s, no_tuning=CLAUSE) if s.name == "a" else s for s in suite.ood)
    monkeypatch.setattr("workers.suites._ADOPTED", {"digits-rib": replace(suite, ood=ood)})


@pytest.fixture
def write(tmp_path: Path, digits_root: Path) -> Iterator[Any]:
    def write(**keys: Any) -> Path:
        value = {
            "name": "g",
            "suite": "digits-rib",
            "data_root": str(digits_root),
            "store": str(tmp_path / "store"),
            "models": ["resnet_digits"],
            "downstream": ["v2", "a"],
            "methods": ["ft"],
            "evaluate": ["a"],
            "recipe": {"warmup_steps": 1, "epochs": 1, "precision": "fp32"},
            **keys,
        }
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump(value))
        return path

    return write


def run(*arguments: object) -> int:
    return rib("run", *arguments, "--executor", "inline")


def refusal(capsys: Capture) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_nothing_starts_and_nothing_is_written(write: Any, tmp_path: Path, capsys: Capture) -> None:
    assert run(write()) == 2
    assert refusal(capsys) == (
        "rib: acknowledge: 1 cell is to be tuned on a, against no-tuning: its makers say so (to go "
        "on, add to the grid: acknowledge: [no-tuning], or to the command: --acknowledge no-tuning)"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["grid.yaml"]


def test_not_even_the_suite_s_data_is_made(write: Any, tmp_path: Path) -> None:
    assert run(write(data_root=str(tmp_path / "data"))) == 2
    assert not (tmp_path / "data").exists()


def test_a_soup_counts_through_its_members(write: Any, capsys: Capture) -> None:
    grid = write(
        downstream=["a"], methods=[{"method": "soup", "members": ["pretrained", "ft", "l2sp"]}]
    )
    assert run(grid) == 2
    assert "2 cells are to be tuned on a" in refusal(capsys)
    assert rib("plan", grid, "--json") == 0
    cells = json.loads(capsys.readouterr().out)["todo"]
    assert {cell["method"]: cell["clause"] for cell in cells} == {
        "pretrained": None,
        "ft": "no-tuning",
        "l2sp": "no-tuning",
        "soup": None,
    }


def test_evaluating_on_it_needs_no_acknowledgement(write: Any, capsys: Capture) -> None:
    assert run(write(downstream=["v2"])) == 0


def test_only_the_cells_that_are_asked_for_count(
    write: Any, tmp_path: Path, capsys: Capture
) -> None:
    """And a store that was filled so is refused, with what to do, when all of it is asked for."""
    grid = write()
    assert run(grid, "--only", "downstream=v2") == 0
    capsys.readouterr()
    store = tmp_path / "store"
    assert rib("resume", store, "--executor", "inline") == 2
    assert "acknowledge: [no-tuning]" in refusal(capsys)
    assert rib("resume", store, "--executor", "inline", "--acknowledge", "no-tuning") == 0
    # Once it is trained, nothing more is tuned: scoring it again needs no leave.
    tuned = next(p for p in (store / "accuracy").iterdir() if _tuned_on_a(p))
    tuned.unlink()
    assert run(grid) == 0


def _tuned_on_a(path: Path) -> bool:
    import pandas as pd

    return bool((pd.read_parquet(path)["downstream"] == "a").any())


@pytest.mark.parametrize("by", ["grid", "command"])
def test_it_is_kept_in_the_store_so_that_resuming_works(
    by: str, write: Any, tmp_path: Path, capsys: Capture
) -> None:
    store = tmp_path / "store"
    if by == "grid":
        assert run(write(acknowledge=["no-tuning"])) == 0
    else:
        assert run(write(), "--acknowledge", "no-tuning") == 0
    assert yaml.safe_load(Store(str(store)).read_grid())["acknowledge"] == ["no-tuning"]
    for folder in ("accuracy", "artifacts"):
        for path in (store / folder).rglob("*"):
            if path.is_file():
                path.unlink()
    capsys.readouterr()
    assert rib("resume", store, "--executor", "inline") == 0
    assert "3 of 3 cells to run" in refusal(capsys)


def test_a_clause_that_there_is_not(write: Any, capsys: Capture) -> None:
    grid = write(acknowledge=["no-tunning", "no-tuning", "no-tuning"])
    assert run(grid) == 2
    said = capsys.readouterr().err.replace(str(grid), "grid.yaml").splitlines()
    assert [line.split(" ", 2)[2] for line in said] == [
        "acknowledge[0]: unknown licence clause 'no-tunning' (did you mean 'no-tuning'?)",
        "acknowledge[2]: 'no-tuning' is there twice",
    ]
    assert run(write(), "--acknowledge", "no-tun", "--acknowledge", "notuning") == 2
    assert refusal(capsys).count("rib: --acknowledge: unknown licence clause") == 2


def test_a_suite_whose_sets_may_all_be_tuned_on(
    write: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.undo()
    assert run(write(), "--acknowledge", "objectnet-no-tuning-clause") == 2
    assert "no set of digits-rib has one" in refusal(capsys)


def test_the_plan_marks_what_it_comes_up_against(write: Any, capsys: Capture) -> None:
    assert rib("plan", write()) == 0
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if line.split()[1:2] == ["ft"])
    assert row.split()[2:5] == ["2", "0", "2‡"]
    said = " ".join(out.split())
    assert "‡ 1 cell is to be tuned on a, against no-tuning: its makers say so." in said
    assert "rib run starts nothing" in said
    assert "acknowledge: [no-tuning]" in said
    assert rib("plan", write(acknowledge=["no-tuning"])) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "its makers say so. Acknowledged." in said
    assert "starts nothing" not in said


def test_objectnet_s_clause_is_in_the_benchmark_and_not_in_the_embedded_suite() -> None:
    suite = suites()["imagenet-rib"]
    clauses = {s.name: s.no_tuning.name for s in suite.evaluation_sets.values() if s.no_tuning}
    assert clauses == {"objectnet": "objectnet-no-tuning-clause"}
