"""What failed, what is tried again and what only after `rib retry`, as a user meets it."""

import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from orchestrator.holder import Holder
from orchestrator.lease import Lease, Times
from tests.orchestrator.rib import rib
from workers.storage import Storage

Capture = pytest.CaptureFixture[str]

GRID = """
name: failing
suite: digits-rib
data_root: {root}
store: {store}
models: [resnet_digits]
downstream: [a]
methods: [ft, lwf, {{method: soup, members: [pretrained, ft, lwf]}}]
evaluate: [v2]
recipe: {{lr: 1.0e+30, warmup_steps: 0, epochs: 1, batch_size: 32, precision: fp32}}
"""


@pytest.fixture(scope="module")
def original(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a grid two of whose cells have diverged, which blocks a third."""
    folder = tmp_path_factory.mktemp("failing")
    (folder / "grid.yaml").write_text(GRID.format(root=digits_root, store=folder / "store"))
    assert rib("run", folder / "grid.yaml", "--executor", "inline") == 1
    return folder / "store"


@pytest.fixture
def failed(original: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(original, tmp_path / "store"))


def one_line(capsys: Capture) -> str:
    return " ".join(capsys.readouterr().err.split())


def states(store: Path, capsys: Capture) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    rib("status", store, "--json")
    return {cell["method"]: cell for cell in json.loads(capsys.readouterr().out)}


def n_tries(store: Path) -> int:
    return len(list((store / "attempts").iterdir()))


def test_what_stands_failed_is_not_tried_again(
    original: Path, failed: Path, capsys: Capture
) -> None:
    before = n_tries(failed)
    grid = original.parent / "grid.yaml"
    for command in (["run", grid, "--store", failed], ["resume", failed]):
        assert rib(*command, "--executor", "inline") == 1
        said = one_line(capsys)
        assert "nothing left to try" in said
        assert (
            f"2 cells stand as failed and block 1 others; to try them again: rib retry {failed}"
            in said
        )
    assert n_tries(failed) == before == 3


def test_status_says_where_to_look_and_what_to_type(failed: Path, capsys: Capture) -> None:
    found = states(failed, capsys)
    ft = found["ft"]
    assert (ft["state"], ft["error_kind"], ft["is_lasting"]) == ("diverged", "diverged", True)
    assert (ft["attempts"], ft["host"]) == (1, os.uname().nodename)
    log = Path(str(ft["log"])).read_text()
    assert "DivergedError: the training loss of epoch 1 is" in log
    assert ", 1 parts a batch, 0 loader workers" in log
    assert shlex.split(str(ft["repeat"])) == [
        *("rib", "resume", str(failed), "--only", f"cell={ft['cell_id']}"),
        *("--executor", "inline", "--debug"),
    ]
    assert found["pretrained"]["repeat"] is found["soup"]["repeat"] is None
    assert rib("status", failed) == 1
    lines = capsys.readouterr().out.splitlines()
    for text in (f"    log: {ft['log']}", f"    look into it: {ft['repeat']}"):
        assert text in lines, "whole, to be copied"
    assert f"tried again only after rib retry {failed}: 2" in lines


def test_the_command_repeats_that_cell_alone_under_a_debugger(
    failed: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ft = states(failed, capsys)["ft"]
    typed = "p 'epoch is', epoch\nq\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert rib(*shlex.split(str(ft["repeat"]))[1:]) == 1
    printed = capsys.readouterr()
    assert "1 of 1 cells to run" in printed.err
    assert "-> raise DivergedError" in printed.out
    assert "('epoch is', 1)" in printed.out
    assert "tried once" in printed.err
    again = states(failed, capsys)["ft"]
    assert (again["attempts"], again["log"]) == (2, ft["log"]), "a debugger leaves no log"
    assert n_tries(failed) == 4


def test_what_is_wrong_with_retry_is_said_at_once(failed: Path, capsys: Capture) -> None:
    assert rib("retry", failed, "--kind", "divergd", "--only", "method=fft,cell=zz,sed=1") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "rib: --kind: no failure is of kind 'divergd' (did you mean 'diverged'?)",
        "rib: --only: the grid has no method 'fft' (did you mean 'ft'?)",
    ]
    assert said[2].startswith("rib: --only: the grid has no cell 'zz' (")
    assert said[3] == "rib: --only: unknown key 'sed' (did you mean 'seed'?)"
    assert rib("retry", failed / "nowhere") == 2
    assert "there is no store here" in capsys.readouterr().err
    assert not (failed / "cleared").exists()


def test_retry_clears_nothing_that_was_not_meant(failed: Path, capsys: Capture) -> None:
    assert rib("retry", failed, "--kind", "bug") == 0
    assert rib("retry", failed, "--only", "method=soup") == 0
    assert capsys.readouterr().out == "nothing to clear: no such cell has failed\n" * 2
    assert not (failed / "cleared").exists()


@pytest.fixture
def driven(failed: Path) -> Iterator[None]:
    lease = Lease(Storage(str(failed)), Times(heartbeat_s=0.1))
    lease.acquire()
    yield
    lease.release()


def test_retry_is_refused_while_somebody_drives(
    failed: Path, capsys: Capture, driven: None
) -> None:
    assert rib("retry", failed) == 2
    assert f"it is driven by {Holder.here().user} on" in capsys.readouterr().err
    assert not (failed / "cleared").exists()


def test_retry_clears_a_failure_and_says_what_is_next(failed: Path, capsys: Capture) -> None:
    ft = states(failed, capsys)["ft"]
    beginning = str(ft["cell_id"])[:6]
    assert rib("retry", failed, "--only", f"cell={beginning}", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    [cleared] = said["cleared"]
    seen = (cleared["cell_id"], cleared["error_kind"], cleared["attempts"])
    assert seen == (ft["cell_id"], "diverged", 1)
    assert said["next"] == f"rib resume {failed}"
    [row] = pd.read_parquet(failed / "cleared").to_dict("records")
    assert (row["cell_id"], row["attempt"], row["error_kind"]) == (ft["cell_id"], 1, "diverged")
    assert row["cleared_by"].endswith(f" on {os.uname().nodename}")
    found = states(failed, capsys)
    assert {name: cell["state"] for name, cell in found.items()} == {
        "pretrained": "done",
        "ft": "waiting",
        "lwf": "diverged",
        "soup": "blocked",
    }
    assert n_tries(failed) == 3, "the history stays"
    assert not list((failed / "driver").iterdir())


def test_what_was_cleared_is_tried_afresh_and_the_rest_is_not(
    failed: Path, capsys: Capture
) -> None:
    assert rib("retry", failed, "--only", "method=ft") == 0
    capsys.readouterr()
    assert rib("resume", failed, "--executor", "inline") == 1
    said = one_line(capsys)
    assert "1 of 4 cells to run" in said
    assert "2 cells stand as failed and block 1 others" in said
    assert n_tries(failed) == 4
    assert rib("retry", failed) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(
        r"2 failures are cleared:\n(  \w{16}  resnet_digits (ft|lwf) on a .*: diverged\n){2}"
        rf"to try them again: rib resume {failed}\n",
        out,
    )
    assert rib("verify", failed) == 0


def test_a_debugger_needs_the_cells_in_this_process(failed: Path, capsys: Capture) -> None:
    assert rib("resume", failed, "--debug") == 2
    said = "rib: --debug: cells are debugged in this process (add --executor inline)\n"
    assert capsys.readouterr().err == said


def test_a_cell_is_named_by_the_beginning_of_its_id(failed: Path, capsys: Capture) -> None:
    ids = [str(cell["cell_id"]) for cell in states(failed, capsys).values()]
    grid = failed / "grid.yaml"
    assert rib("plan", grid, "--only", f"cell={ids[1]},cell={ids[2][:9]}", "--json") == 0
    todo = json.loads(capsys.readouterr().out)["todo"]
    assert [cell["cell_id"] for cell in todo] == ids[1:3], "no baseline comes along"
    assert rib("plan", grid, "--only", f"cell={ids[1]},method=lwf", "--json") == 0
    assert json.loads(capsys.readouterr().out)["todo"] == []
    assert rib("plan", grid, "--only", "cell=") == 2
    assert "4 cells begin with ''" in capsys.readouterr().err
