"""The command line: what it prints where, its exit codes, and what it does without importing."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from orchestrator.driver import Driver, Summary
from tests.orchestrator.rib import rib

PROJECT = Path(__file__).resolve().parents[2]
POSTER = Path(__file__).resolve().parents[1] / "data" / "poster_vit_b16_augreg_in1k.csv"
HEAVY = {"torch", "timm", "ray", "torchvision", "sklearn"}
Capture = pytest.CaptureFixture[str]


def imported_by(*arguments: object) -> tuple[int, str, set[str]]:
    """Run a command line in a process of its own; return its exit code, output and imports."""
    command = [sys.executable, "-X", "importtime", "-m", "orchestrator", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    modules = {line.rsplit("|", 1)[1].strip() for line in lines}
    assert "orchestrator" in modules
    return done.returncode, done.stdout, modules


def write_grid(folder: Path, root: Path, source: str = "smoke", **keys: object) -> Path:
    """Write one of the project's grids with another data root, and other keys."""
    value = yaml.safe_load((PROJECT / "grids" / f"{source}.yaml").read_text())
    path = folder / f"{source}.yaml"
    path.write_text(yaml.safe_dump({**value, "data_root": str(root), **keys}, sort_keys=False))
    return path


# ------------------------------------------------------------------------------ help


@pytest.mark.parametrize(
    "arguments", [(), ("plan",), ("run",), ("report",), ("data", "make")], ids=" ".join
)
def test_help_is_quick(arguments: tuple[str, ...]) -> None:
    code, out, modules = imported_by(*arguments, "--help")
    assert code == 0
    assert "Usage" in out
    assert not modules & {*HEAVY, "pandas", "pyarrow", "numpy"}


def test_every_command_says_what_it_does(capsys: Capture) -> None:
    assert rib("--help") == 0
    listed = capsys.readouterr().out
    for command in ("plan", "run", "resume", "status", "matrix", "report"):
        assert command in listed
        assert rib(command, "--help") == 0
        assert "Exit" in capsys.readouterr().out or command in ("plan", "run", "resume")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["plan"], "GRID"),
        (["frobnicate"], "frobnicate"),
        (["report", "x", "--frmat", "md"], "--format"),
        (["report", "x", "--format", "pdf"], "pdf"),
        (["run", "x", "--executor", "slurm"], "inline"),
        (["run", "x", "--cpus", "0"], "--cpus"),
    ],
)
def test_a_command_line_that_is_none(arguments: list[str], what: str, capsys: Capture) -> None:
    assert rib(*arguments) == 2
    printed = capsys.readouterr()
    assert what in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


# ------------------------------------------------------------------------------ plan


def test_the_plan_of_the_quickstart(digits_root: Path, tmp_path: Path, capsys: Capture) -> None:
    grid = write_grid(tmp_path, digits_root, "quickstart", store=str(tmp_path / "store"))
    assert rib("plan", grid) == 0
    table = capsys.readouterr().out
    assert "66 cells (0 prerequisites), 48 edges; 0 done, 66 to run" in table
    rows = [line.split() for line in table.splitlines() if line.strip().startswith("vit_digits")]
    assert [row[1:5] for row in rows] == [
        ["pretrained", "1", "0", "1"],
        *([method, "8", "0", "8"] for method in ("ft", "l2sp", "lwf", "soup")),
    ]
    assert str(tmp_path / "store") in table.replace("\n", "")
    assert not (tmp_path / "store").exists()


def test_the_plan_as_json(
    digits_root: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where nobody has run the grid into its own store yet
    assert rib("plan", write_grid(tmp_path, digits_root, "quickstart"), "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    numbers = ("cells", "edges", "prerequisites", "done", "to_run")
    assert [plan[key] for key in numbers] == [66, 48, 0, 0, 66]
    assert plan["suite"] == "digits-rib version 1"
    assert plan["data_is_made"] is True
    assert plan["store"] == "runs/quickstart"
    ids = [cell["cell_id"] for cell in plan["todo"]]
    assert len(set(ids)) == 66
    soups = [cell for cell in plan["todo"] if cell["method"] == "soup"]
    assert len(soups) == 16
    for cell in soups:
        before = ids[: ids.index(cell["cell_id"])]
        assert len(cell["made_from"]) == 3, "its fourth member is the baseline, a file"
        assert set(cell["made_from"]) <= set(before), "parents stand before children"
    # Every cell is scored on the same images, every trained one sees its set three times.
    assert plan["evaluation_images"] == 66 * 5660
    assert plan["training_images"] == 2 * 3 * 3 * (5660 - 200)


def test_members_that_the_grid_does_not_name_are_prerequisites(
    digits_root: Path, tmp_path: Path, capsys: Capture
) -> None:
    grid = write_grid(tmp_path, digits_root, methods=["ft", "soup"])
    assert rib("plan", grid) == 0
    table = capsys.readouterr().out
    for method in ("ewc", "lwf"):
        (line,) = (line for line in table.splitlines() if method in line)
        assert f"{method} (prerequisite)" in line
        assert line.split()[-2] == "0", "trained, not evaluated"
    assert "9 cells (4 prerequisites), 6 edges" in table
    assert rib("plan", grid, "--json") == 0
    cells = json.loads(capsys.readouterr().out)["todo"]
    assert {cell["method"] for cell in cells if cell["prerequisite"]} == {"ewc", "lwf"}
    assert all(cell["train"] and not cell["evaluate"] for cell in cells if cell["prerequisite"])


def test_planning_some_of_a_grid(digits_root: Path, tmp_path: Path, capsys: Capture) -> None:
    grid = write_grid(tmp_path, digits_root)
    for only, methods in (
        ("method=ft", ["pretrained", "ft", "ft"]),
        ("method=ft,downstream=a", ["pretrained", "ft"]),
        ("downstream=v2,downstream=a,method=lwf", ["pretrained", "lwf", "lwf"]),
        ("method=pretrained", ["pretrained"]),
        (" method = soup , downstream = a ", ["pretrained", "ft", "lwf", "soup"]),
    ):
        assert rib("plan", grid, "--json", "--only", only) == 0
        planned = json.loads(capsys.readouterr().out)["todo"]
        assert [cell["method"] for cell in planned] == methods, only


def test_planning_before_the_data_is_made(tmp_path: Path, capsys: Capture) -> None:
    assert rib("plan", write_grid(tmp_path, tmp_path / "unmade")) == 0
    assert "is not made yet" in capsys.readouterr().out
    assert not (tmp_path / "unmade").exists()


def test_planning_imports_neither_torch_nor_ray(digits_root: Path, tmp_path: Path) -> None:
    code, _, modules = imported_by("plan", write_grid(tmp_path, digits_root))
    assert code == 0
    assert not modules & HEAVY


# ------------------------------------------------------------------------------ report


def test_the_poster_s_numbers(capsys: Capture) -> None:
    assert rib("report", POSTER) == 0
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines() if line[:1] in ("1", "2")]
    assert [row[2] for row in rows] == ["+4.79", "+2.21"]
    ft = ["+3.99", "-2.97", "+3.87", "+5.40", "-2.67", "+1.60", "+1.50", "+6.97"]
    assert rows[1][1] == "ft"
    assert rows[1][3:11] == ft
    assert printed.err == ""


def test_the_poster_s_numbers_in_every_format(capsys: Capture) -> None:
    assert rib("report", POSTER, "--format", "md") == 0
    markdown = capsys.readouterr().out
    assert markdown.startswith("| rank | model |")
    assert "| soup-pretrained-ft-ewc-lwf | +4.79 |" in markdown
    assert "| ft | +2.21 |" in markdown

    assert rib("report", POSTER, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert [float(row["mRI"]) for row in rows] == pytest.approx([4.785714286, 2.210714286])

    for arguments in (["--format", "json"], ["--json"], ["--json", "--format", "csv"]):
        assert rib("report", POSTER, *arguments) == 0
        records = json.loads(capsys.readouterr().out)
        assert [record["mRI"] for record in records] == pytest.approx([4.785714286, 2.210714286])
        assert records[0]["missing_cells"] == []
        assert records[0]["downstream"] is None, "the poster leaves the diagonal out"


@pytest.mark.parametrize("form", ["table", "md", "csv", "json"])
def test_a_report_is_written_to_a_file(form: str, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "report"
    assert rib("report", POSTER, "--format", form, "--out", out) == 0
    assert capsys.readouterr().out == ""
    assert rib("report", POSTER, "--format", form) == 0
    assert out.read_text() == capsys.readouterr().out


def test_a_report_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    for form in ("table", "json"):
        assert rib("report", POSTER, "--format", form, "--out", tmp_path / "none" / "x") == 2
        told = capsys.readouterr().err
        assert told == f"rib: --out: cannot write {tmp_path}/none/x: No such file or directory\n"


def test_a_table_with_a_hole_has_no_mri_and_says_what_is_missing(
    tmp_path: Path, capsys: Capture
) -> None:
    table = pd.read_csv(POSTER)
    hole = (
        (table["method"] == "ft")
        & (table["downstream"] == "imagenet-r")
        & (table["eval_dataset"] == "imagenet-a")
    )
    assert hole.sum() == 1
    path = tmp_path / "poster.csv"
    table[~hole].to_csv(path, index=False)
    assert rib("report", path) == 1
    out = capsys.readouterr().out
    assert "ft: 1 missing: imagenet-r -> imagenet-a" in out
    assert "+4.79" in out, "the other entry is complete"
    assert "+2.21" not in out
    assert rib("report", path, "--json") == 1
    complete, holed = json.loads(capsys.readouterr().out)
    assert (complete["rank"], complete["missing"]) == (1, 0)
    assert (holed["rank"], holed["mRI"], holed["RI imagenet-r"]) == (None, None, None)
    assert holed["missing_cells"] == ["imagenet-r -> imagenet-a (seed 0)"]
    assert rib("matrix", path, "--method", "ft") == 1
    assert "1 missing: imagenet-r -> imagenet-a" in capsys.readouterr().out
    assert rib("matrix", path, "--method", "soup-pretrained-ft-ewc-lwf") == 0


def test_a_parquet_file_is_reported_like_the_csv_that_it_is_of(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / f"{POSTER.stem}.parquet"
    pd.read_csv(POSTER).to_parquet(path)
    assert rib("report", POSTER, "--json") == 0
    expected = json.loads(capsys.readouterr().out)
    assert rib("report", path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == expected


# ------------------------------------------------------------------------------ matrix


def test_the_matrix_of_the_poster(capsys: Capture) -> None:
    assert rib("matrix", POSTER, "--method", "ft") == 0, "the diagonal is no hole"
    out = capsys.readouterr().out
    assert "ft: mRI +2.21" in out
    assert "missing" not in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line[:1].islower()}
    assert rows["pretrained"][:3] == ["79.2", "66.4", "15.0"]
    assert rows["v2"][:3] == ["78.4", "(—)", "25.2"]
    assert rows["v2"][-1] == "+3.99"
    assert "soup" not in out


def test_the_matrices_of_the_poster_in_every_format(capsys: Capture) -> None:
    assert rib("matrix", POSTER, "--json") == 0
    ft, soup = json.loads(capsys.readouterr().out)
    assert (ft["method"], soup["method"]) == ("ft", "soup-pretrained-ft-ewc-lwf")
    assert (ft["missing"], soup["missing"]) == ([], [])
    assert [ft["mRI"], soup["mRI"]] == pytest.approx([2.210714286, 4.785714286])
    assert [row["downstream"] for row in ft["rows"]][:3] == [None, "imagenet-v2", "imagenet-a"]
    assert ft["rows"][1]["imagenet-v2"] is None

    assert rib("matrix", POSTER, "--format", "csv") == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert len(frame) == 2 * 9
    assert list(frame.columns[:4]) == ["model", "method", "downstream", "imagenet-1k"]

    assert rib("matrix", POSTER, "--format", "md") == 0
    out = capsys.readouterr().out
    assert out.count("### ") == 2
    assert out.count("\n| imagenet-sketch | ") == 2


def test_a_matrix_that_is_not_there(capsys: Capture) -> None:
    assert rib("matrix", POSTER, "--method", "fft", "--model", "resnet") == 2
    told = capsys.readouterr().err
    assert "rib: --method: there is no 'fft' here (did you mean 'ft'?)" in told
    assert "rib: --model: there is no 'resnet' here" in told


# ------------------------------------------------------------------------------ run, status


@dataclass(frozen=True)
class Done:
    """The smoke grid, run once for all the tests that only look at its store."""

    grid: Path
    store: Path
    code: int
    out: str
    err: str

    def copy(self, folder: Path) -> Path:
        """Copy the store, for a test that changes it."""
        return Path(shutil.copytree(self.store, folder / "copy"))


@pytest.fixture(scope="module")
def done(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("smoke")
    grid, store = write_grid(folder, digits_root), folder / "store"
    command = ["run", str(grid), "--store", str(store), "--executor", "inline"]
    run = subprocess.run(
        [sys.executable, "-m", "orchestrator", *command],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    return Done(grid, store, run.returncode, run.stdout, run.stderr)


def test_a_grid_is_run_end_to_end(done: Done) -> None:
    assert done.code == 0, done.err
    assert "7 of 7 cells to run" in done.err
    assert "[7/7] done" in done.err
    assert f"7 cells done; results in {done.store}" in done.err
    assert "mRI" in done.out
    assert "mRI" not in done.err
    rows = pd.read_parquet(done.store / "accuracy")
    assert len(rows) == 7 * 3
    assert rows.groupby(["model", "method"]).size().to_dict() == {
        ("resnet_digits", "pretrained"): 3,
        ("resnet_digits", "ft"): 6,
        ("resnet_digits", "lwf"): 6,
        ("resnet_digits", "soup"): 6,
    }
    assert set(rows["n_total"]) == {200, 150, 84}
    baseline = rows[rows["method"] == "pretrained"].set_index("eval_dataset")
    assert baseline.at["val", "n_correct"] / 200 > 0.95
    attempts = pd.read_parquet(done.store / "attempts")
    assert attempts["state"].tolist() == ["done"] * 7


def test_running_it_again_does_nothing(done: Done) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.store.rglob("*")}
    code, out, modules = imported_by("run", done.grid, "--store", done.store)
    assert code == 0
    assert not modules & HEAVY, "Ray is not even imported"
    assert out == done.out, "the same leaderboard"
    assert {path: path.stat().st_mtime_ns for path in done.store.rglob("*")} == before


def test_what_is_said_when_nothing_is_left(done: Done, capsys: Capture) -> None:
    for command in (["run", done.grid, "--store", done.store], ["resume", done.store]):
        assert rib(*command) == 0
        assert f"nothing left to do: {done.store} holds all of it" in one_line(capsys)


def one_line(capsys: Capture) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_the_plan_of_what_is_done(done: Done, capsys: Capture) -> None:
    assert rib("plan", done.grid, "--store", done.store) == 0
    assert "7 done, 0 to run" in capsys.readouterr().out


def test_the_status_of_what_is_done(done: Done, capsys: Capture) -> None:
    assert rib("status", done.store) == 0
    printed = capsys.readouterr()
    assert "smoke in" in printed.out
    assert "failures" not in printed.out
    assert printed.err == ""
    assert rib("status", done.store, "--json") == 0
    cells = json.loads(capsys.readouterr().out)
    assert [cell["state"] for cell in cells] == ["done"] * 7
    assert [cell["missing"] for cell in cells] == [[]] * 7


def test_the_report_of_a_grid_that_does_not_ask_for_every_set(done: Done, capsys: Capture) -> None:
    assert rib("report", done.store) == 1, "mRI needs all eight sets"
    out = capsys.readouterr().out
    assert out == done.out
    assert "missing" in out
    assert rib("report", done.store, "--json") == 1
    entries = json.loads(capsys.readouterr().out)
    assert {entry["method"] for entry in entries} == {"ft", "lwf", "soup"}
    for entry in entries:
        assert entry["mRI"] is None
        assert "pretrained -> sketch" in entry["missing_cells"]
    assert rib("matrix", done.store, "--method", "ft") == 1


def test_status_when_something_is_missing(done: Done, tmp_path: Path, capsys: Capture) -> None:
    store = done.copy(tmp_path)
    rows = pd.read_parquet(store / "accuracy")
    gone = rows[(rows["method"] == "lwf") & (rows["downstream"] == "a")]["cell_id"].iloc[0]
    (store / "accuracy" / f"{gone}.parquet").unlink()
    assert rib("status", store, "--json") == 1
    cells = {cell["cell_id"]: cell for cell in json.loads(capsys.readouterr().out)}
    assert [id_ for id_, cell in cells.items() if cell["state"] != "done"] == [gone]
    assert cells[gone]["state"] == "waiting"
    assert cells[gone]["missing"] == ["val", "v2", "a"]
    assert rib("plan", done.grid, "--store", store) == 0
    assert "6 done, 1 to run" in capsys.readouterr().out
    # It is scored again from the checkpoint that is there; the rows come back as they were.
    assert rib("resume", store, "--executor", "inline") == 0
    assert "1 of 7 cells to run" in capsys.readouterr().err
    again = pd.read_parquet(store / "accuracy")
    key = ["cell_id", "eval_dataset"]
    columns = [*key, "n_correct", "n_total", "loss"]
    pd.testing.assert_frame_equal(
        again[columns].sort_values(key, ignore_index=True),
        rows[columns].sort_values(key, ignore_index=True),
    )


def test_a_damaged_file_counts_as_missing_and_is_named(
    done: Done, tmp_path: Path, capsys: Capture
) -> None:
    store = done.copy(tmp_path)
    damaged = min((store / "accuracy").glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert rib("status", store) == 1
    assert f"{damaged.name} is damaged" in one_line(capsys)
    assert rib("report", store) == 2
    assert f"rib: accuracy/{damaged.name}: this file is damaged (run the grid" in one_line(capsys)
    assert rib("resume", store, "--executor", "inline") == 0
    capsys.readouterr()
    assert rib("status", store) == 0


def test_rows_that_are_damaged_while_the_grid_runs_are_unfinished(
    done: Done, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = done.copy(tmp_path)
    damaged, missing = sorted((store / "accuracy").glob("*.parquet"))[:2]
    missing.unlink()
    drive = Driver.run

    def drive_and_damage(driver: Driver) -> Summary:
        summary = drive(driver)
        damaged.write_bytes(damaged.read_bytes()[:100])
        return summary

    monkeypatch.setattr(Driver, "run", drive_and_damage)
    assert rib("resume", store, "--executor", "inline") == 1
    said = one_line(capsys)
    assert f"0 failed, 0 blocked, 1 unfinished; see: rib status {store}" in said
    assert f"accuracy/{damaged.name}: this file is damaged (run the grid again" in said


def test_running_some_of_a_grid(digits_root: Path, tmp_path: Path, capsys: Capture) -> None:
    grid = write_grid(tmp_path, digits_root, store=str(tmp_path / "store"))
    some = ["--executor", "inline", "--only", "method=ft,downstream=a"]
    assert rib("run", grid, *some, "--json") == 0
    printed = capsys.readouterr()
    assert "2 of 2 cells to run" in printed.err
    assert {entry["method"] for entry in json.loads(printed.out)} == {"ft", "lwf", "soup"}
    assert rib("status", tmp_path / "store", "--json") == 1
    cells = json.loads(capsys.readouterr().out)
    assert sorted(cell["state"] for cell in cells) == ["done"] * 2 + ["waiting"] * 5
    assert rib("run", grid, *some) == 0
    assert "nothing left to do" in capsys.readouterr().err


def test_a_cell_that_diverges_is_told_and_stops_no_other(
    digits_root: Path, tmp_path: Path, capsys: Capture
) -> None:
    recipe = {"lr": 1e30, "warmup_steps": 0, "epochs": 1, "batch_size": 32, "precision": "fp32"}
    store = tmp_path / "store"
    grid = write_grid(tmp_path, digits_root, recipe=recipe, store=str(store), downstream=["a"])
    assert rib("run", grid, "--executor", "inline") == 1
    assert f"2 failed, 1 blocked; see: rib status {store}" in one_line(capsys)
    assert rib("status", store) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "failures" in out
    assert "diverged" in out
    assert rib("status", store, "--json") == 1
    states = {cell["method"]: cell for cell in json.loads(capsys.readouterr().out)}
    assert {method: cell["state"] for method, cell in states.items()} == {
        "pretrained": "done",
        "ft": "diverged",
        "lwf": "diverged",
        "soup": "blocked",
    }
    blockers = {states["ft"]["cell_id"], states["lwf"]["cell_id"]}
    assert states["soup"]["blocked_by"] in blockers
