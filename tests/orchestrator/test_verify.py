"""`rib verify` on a store that a real grid filled, and on the same with one thing wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.orchestrator.rib import rib
from workers.compaction import packed
from workers.schemas import ACCURACY
from workers.store import CHECKPOINT, Store
from workers.tables import merged_name

GRID = """
name: verified
suite: digits-rib
data_root: {root}
models: [resnet_digits]
downstream: [a]
methods: [ft, {{method: soup, members: [pretrained, ft]}}]
evaluate: [v2, a, r]
recipe: {{warmup_steps: 1, epochs: 1, batch_size: 64, precision: fp32}}
"""


@pytest.fixture(scope="module")
def filled(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    grid = folder / "grid.yaml"
    grid.write_text(GRID.format(root=digits_root))
    assert rib("run", grid, "--store", folder / "store", "--executor", "inline") in (0, 1)
    return folder / "store"


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "store")
    return tmp_path / "store"


def found_in(store: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    code = rib("verify", store, "--json", *options)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if found["ok"] else 1)
    return found


def first_rows(store: Path) -> Path:
    return sorted((store / "accuracy").glob("*.parquet"))[0]


def first_checkpoint(store: Path) -> Path:
    return sorted((store / "artifacts").glob(f"*/{CHECKPOINT}"))[0]


def test_a_sound_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = found_in(store, capsys)
    assert (found["faults"], found["notes"]) == ([], [])
    # 3 cells x (v2, a, r), of which two have checkpoints
    assert pq.read_table(store / "accuracy").num_rows == 3 * 3
    assert found["n_checkpoints"] == 2
    assert rib("verify", store, "--quick") == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert "all well" in printed.out


def test_what_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rib("verify", tmp_path) == 2
    assert "there is no store here" in capsys.readouterr().err


def changed(column: str, value: Any) -> Callable[[Path], Path]:
    """Replace the first row's value."""

    def change(store: Path) -> Path:
        path = first_rows(store)
        rows = pq.read_table(path).to_pylist()
        rows[0][column] = value
        pq.write_table(pa.Table.from_pylist(rows, schema=ACCURACY), path)
        return path

    return change


def cut_rows(store: Path) -> Path:
    path = first_rows(store)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def renamed(store: Path) -> Path:
    return first_rows(store).rename(store / "accuracy" / "0123456789abcdef.parquet")


def doubled(store: Path) -> Path:
    path = first_rows(store)
    one = pq.read_table(path).to_pylist()[0]
    late = path.with_name(f"{path.stem}.{one['eval_dataset']}.parquet")
    one |= {"n_correct": one["n_correct"] - 1, "attempt": 7}
    pq.write_table(pa.Table.from_pylist([one], schema=ACCURACY), late)
    return late


def cut_checkpoint(store: Path) -> Path:
    path = first_checkpoint(store)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def flipped_checkpoint(store: Path) -> Path:
    path = first_checkpoint(store)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def infinite_checkpoint(store: Path) -> Path:
    path = first_checkpoint(store)
    state = load_file(path)
    name = next(n for n, t in state.items() if t.is_floating_point())
    state[name] = torch.full_like(state[name], float("inf"))
    save_file(state, path)
    return path


def bad_state(store: Path) -> Path:
    path = first_checkpoint(store).with_name("training.00001.0123456789abcdef.safetensors")
    path.write_bytes(b"not what the name says")
    return path


WRONG: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "cut rows": (cut_rows, "file", "cut short"),
    "another name": (renamed, "file", "other keys"),
    "two values": (doubled, "key", "contradicts"),
    "another set's seed": (changed("seed", 5), "key", "differ in seed"),
    "another suite": (changed("suite_version", "0"), "key", "another suite"),
    "a set that is not there": (changed("eval_dataset", "v3"), "key", "no evaluation set 'v3'"),
    "a split that is not there": (changed("severity", 9), "key", "no such split"),
    "more right than there are": (changed("n_correct", 10**6), "count", "n_correct is not in"),
    "less than none": (changed("n_correct_unmasked", -1), "count", "n_correct_unmasked"),
    "nothing scored": (changed("n_total", 0), "count", "n_total is not above 0"),
    "more scored than there are": (changed("n_expected", 1), "count", "above n_expected"),
    "not as many as published": (changed("n_expected", 10**6), "count", "n_expected is not"),
    "an infinite loss": (changed("loss", float("inf")), "count", "loss"),
    "a cut checkpoint": (cut_checkpoint, "checkpoint", "cut short"),
    "a changed checkpoint": (flipped_checkpoint, "checkpoint", "sha256 differs"),
    "an infinite checkpoint": (infinite_checkpoint, "checkpoint", "is not finite"),
    "a bad training state": (bad_state, "checkpoint", "not that of its name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(store: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, kind, message = WRONG[case]
    name = str(spoil(store).relative_to(store))
    faults = found_in(store, capsys)["faults"]
    assert any(f["kind"] == kind and f["where"] == name and message in f["message"] for f in faults)
    assert rib("verify", store) == 1
    assert Path(name).stem[:16] in capsys.readouterr().out
    # Set aside, it is out of the way, and the store sound, if not complete.
    found_in(store, capsys, "--set-aside")
    after = found_in(store, capsys)
    assert after["ok"]
    assert any("damaged/" in note for note in after["notes"])


@pytest.mark.parametrize(
    ("column", "name"), [("dataset_digest", None), ("weights_digest", "resnet_digits")]
)
def test_mixed_digests(
    store: Path, column: str, name: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(column, "other")(store)
    (fault,) = found_in(store, capsys)["faults"]
    assert fault["kind"] == "digest"
    assert "1 rows of other" in fault["message"]
    assert name in (None, fault["where"])


def test_a_cut_checkpoint_is_seen_without_reading_it(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cut_checkpoint(store)
    (fault,) = found_in(store, capsys, "--quick")["faults"]
    assert fault["where"] == str(path.relative_to(store))
    assert "instead of" in fault["message"]


def test_what_the_next_run_sees_to_is_a_note(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_rows(store).unlink()
    opened = Store(str(store))
    attempt = {"cell_id": "0" * 16, "attempt": 1, "state": "running", "host": "gone"}
    opened.commit_attempt(attempt)
    (store / "accuracy" / ".x.parquet.0123.tmp").write_bytes(b"half")
    found = found_in(store, capsys)
    assert found["ok"]
    for part in ("1 cells of its grid", "1 tries say that they run", "1 files of writes that died"):
        assert any(part in note for note in found["notes"]), found["notes"]


def test_of_a_merged_file_only_the_cell_that_is_wrong_is_set_aside(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rib("compact", store) == 0
    (path,) = (store / "accuracy").iterdir()
    assert found_in(store, capsys)["ok"]
    rows = pq.read_table(path).to_pylist()
    wrong = rows[0]["cell_id"]
    rows[0]["n_correct"] = 10**6
    path.unlink()
    data = packed(pa.Table.from_pylist(rows, schema=ACCURACY))
    path = store / merged_name("accuracy", data)
    path.write_bytes(data)
    (fault,) = found_in(store, capsys, "--set-aside")["faults"]
    assert fault["where"] == f"accuracy/{path.name}"
    assert fault["cells"] == [wrong]
    assert found_in(store, capsys)["ok"]
    left = Store(str(store)).scan("accuracy").table
    expected = [row for row in rows if row["cell_id"] != wrong]
    assert left.num_rows == len(expected) > 0
    assert set(left["cell_id"].to_pylist()) == {row["cell_id"] for row in expected}
    # The next run makes that cell's rows anew, and no other's.
    assert rib("resume", store, "--executor", "inline") == 0
    assert "1 of 3 cells to run" in capsys.readouterr().err
    assert found_in(store, capsys)["ok"]
    assert Store(str(store)).scan("accuracy").table.num_rows == len(rows)
    assert rib("compact", store) == 0
    assert rib("resume", store, "--executor", "inline") == 0
    assert "nothing left to do" in capsys.readouterr().err
