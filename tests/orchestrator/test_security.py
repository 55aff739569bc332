"""What docs/security.md promises of secrets, files that could run, and names that are paths.

Tokens and open clusters are in `tests/orchestrator/cluster/test_tokens.py`, weights files that
would run code in `tests/workers/models/test_weights.py`.
"""

import os
import pickle
from pathlib import Path

import pytest
import torch

from orchestrator.grid import load_grid
from tests.cells import row
from tests.embedded import SUITE
from workers.errors import UserError
from workers.models import DamagedStateError, unpack_state
from workers.shared import SharedWork
from workers.storage import Storage
from workers.store import Store
from workers.training_state import TrainingStates, is_whole

SECRET = "hunter2/x+y"

GRID = """
name: {name}
suite: digits-rib
data_root: /data
store: {store}
models: [resnet_digits]
methods: [{{method: ft, name: "{method}"}}]
"""


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


# ---------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://AKIA:{SECRET}@bucket/prefix",
        f"s3://{SECRET}@bucket/prefix",
        f"abfss://:{SECRET}@account/container",
        f"s3://bucket/prefix?access_key=AKIA&secret_key={SECRET}",
        f"s3://bucket/prefix?region=x&session_token={SECRET}",
        f"abfs://account/container?sig={SECRET}",
        f"hdfs://me:{SECRET}@host/x",
    ],
)
def test_a_store_s_uri_with_credentials_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(UserError, match="its URI has credentials in it") as caught:
        Store(uri)
    assert SECRET not in str(caught.value)
    assert SECRET.split("/")[0] not in str(caught.value)
    assert "AKIA" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/prefix?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1",
        "file:///tmp/x",
        "/a/plain@path:1",
    ],
)
def test_a_uri_without_credentials_is_taken(uri: str) -> None:
    assert Storage(uri).uri == uri


# ---------------------------------------------------------------------- nothing that is read runs


def test_a_pickle_in_the_place_of_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    payload = pickle.dumps(Payload(tmp_path / "ran"))
    with pytest.raises(DamagedStateError):
        unpack_state(payload)
    torch.save({"weight": Payload(tmp_path / "ran")}, tmp_path / "zip")
    with pytest.raises(DamagedStateError):
        unpack_state((tmp_path / "zip").read_bytes())
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_the_place_of_a_training_state_does_not_run(tmp_path: Path) -> None:
    import hashlib

    store = Store(str(tmp_path / "store"))
    payload = pickle.dumps(Payload(tmp_path / "ran"))
    name = f"training.00001.{hashlib.sha256(payload).hexdigest()[:16]}.safetensors"
    assert is_whole(name, payload), "by its name it is a whole state"
    store.save_artifact("cell", name, payload)
    assert TrainingStates(store, "cell").latest() is None
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_the_place_of_shared_work_does_not_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    work = SharedWork(store)
    made = work.get("features", {"key": 1}, lambda: {"x": torch.ones(2)})
    (path,) = (tmp_path / "store" / "shared").iterdir()
    path.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    from workers import shared

    shared._KEPT._states.clear()
    again = work.get("features", {"key": 1}, lambda: {"x": torch.ones(2)})
    assert torch.equal(made["x"], again["x"])
    assert not (tmp_path / "ran").exists()


def test_a_grid_is_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(f"name: !!python/object/apply:os.mkdir ['{tmp_path}/ran']\n")
    with pytest.raises(UserError, match="only plain values are allowed in a grid"):
        load_grid(path)
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------------- names and paths

ESCAPES = ["../x", "a/../../x", "/etc/x", "..", "x\0y"]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_leads_out_of_a_store(tmp_path: Path, name: str) -> None:
    storage = Storage(str(tmp_path / "store"))
    for act in (
        lambda: storage.write(name, b"x"),
        lambda: storage.read(name),
        lambda: storage.delete(name),
        lambda: storage.exists(name),
        lambda: storage.move("a", name),
        lambda: storage.move(name, "a"),
        lambda: storage.names(name),
    ):
        with pytest.raises(ValueError, match="leads out of the store"):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "x\0y"])
def test_no_cell_set_or_search_is_written_outside(tmp_path: Path, name: str) -> None:
    store = Store(str(tmp_path / "store"))
    for act in (
        lambda: store.commit_accuracy("c", f"/{name}", [row("c")]),
        lambda: store.commit_history(name, []),
        lambda: store.save_artifact(name, "model.safetensors", b""),
        lambda: store.commit_trial({"search": name, "trial": 1}),
    ):
        with pytest.raises(ValueError, match="leads out of the store"):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/x", "x y", "", "é", "x" * 129, ".hidden"])
def test_names_in_grids_are_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.format(store="/stores/x", name=repr(name), method="m"))
    with pytest.raises(UserError, match=r"grid\.yaml:"):
        load_grid(path)


def test_names_of_sets_are_names() -> None:
    for name in SUITE.evaluation_sets:
        assert name == Path(name).name
