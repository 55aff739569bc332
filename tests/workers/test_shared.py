"""What cells share is computed once, from whatever cell, and changes no number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.embedded import FAST, bench_of, cell_of, made
from workers import shared
from workers.cell import Cell, Model
from workers.models import State
from workers.shared import SharedWork
from workers.store import Store


class Work:
    """Some tensors, and how often they were computed."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> State:
        self.times += 1
        return {"x": torch.arange(6.0) / 7, "n": torch.tensor(3)}


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_everything(monkeypatch)


def forget_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep nothing in this process, as if it had just started."""
    monkeypatch.setattr(shared, "_KEPT", shared._Kept())


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def files(store: Store) -> list[Path]:
    return sorted(Path(store.uri, "shared").glob("*"))


def assert_is_work(state: State) -> None:
    expected = Work()()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


# ---------------------------------------------------------------------------- the pieces


def test_a_piece_is_computed_once_per_key_and_kind(store: Store, work: Work) -> None:
    for _ in range(3):
        assert_is_work(SharedWork(store).get("features", {"a": 1, "b": [2]}, work))
    assert work.times == 1
    assert_is_work(SharedWork(store).get("features", {"b": [2], "a": 1}, work))  # in any order
    assert work.times == 1
    for what, key in [("features", {"a": 2, "b": [2]}), ("logits", {"a": 1, "b": [2]})]:
        assert_is_work(SharedWork(store).get(what, key, work))
    assert work.times == 3
    assert len(files(store)) == 3


def test_another_process_reads_it_from_the_store(
    store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    SharedWork(store).get("features", {"a": 1}, work)
    forget_everything(monkeypatch)
    assert_is_work(SharedWork(Store(store.uri)).get("features", {"a": 1}, work))
    assert work.times == 1


def test_another_store_has_pieces_of_its_own(store: Store, work: Work, tmp_path: Path) -> None:
    other = Store(str(tmp_path / "other"))
    for each in (store, other):
        SharedWork(each).get("features", {"a": 1}, work)
    assert work.times == 2
    assert len(files(store)) == len(files(other)) == 1


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_a_file_cut_short_is_made_again(
    store: Store, work: Work, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    SharedWork(store).get("features", {"a": 1}, work)
    (file,) = files(store)
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    forget_everything(monkeypatch)
    assert_is_work(SharedWork(store).get("features", {"a": 1}, work))
    assert work.times == 2
    assert file.read_bytes() == whole
    assert store.storage.names("damaged") == [f"shared.{file.name}"]


def test_a_bit_that_fell_over_is_noticed(
    store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    SharedWork(store).get("features", {"a": 1}, work)
    (file,) = files(store)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    forget_everything(monkeypatch)
    assert_is_work(SharedWork(store).get("features", {"a": 1}, work))
    assert work.times == 2


def test_what_is_too_large_is_not_stored(
    store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 6 * 4 + 8
    monkeypatch.setattr(shared, "STORED_BYTES", size - 1)
    assert_is_work(SharedWork(store).get("features", {"a": 1}, work))
    assert files(store) == []
    SharedWork(store).get("features", {"a": 1}, work)  # this process has it all the same
    assert work.times == 1
    monkeypatch.setattr(shared, "STORED_BYTES", size)
    SharedWork(store).get("features", {"a": 2}, work)
    assert len(files(store)) == 1


def test_a_process_keeps_what_was_used_last(
    store: Store, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "STORED_BYTES", 0)  # what is not kept has to be computed again
    monkeypatch.setattr(shared, "KEPT_BYTES", 2 * (6 * 4 + 8))
    pieces = SharedWork(store)
    for number in (1, 2, 1, 3):
        pieces.get("features", {"a": number}, work)
    assert work.times == 3
    pieces.get("features", {"a": 1}, work)
    assert work.times == 3
    pieces.get("features", {"a": 2}, work)  # 3 pushed it out
    assert work.times == 4


# ---------------------------------------------------------------------------- in cells

SHARED = {
    "lp": "features",
    "feature-distill": "features",
    "lwf": "logits",
    "ewc": "fisher",
}
"""Methods with what they share, which is computed from one model and set."""


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("model", ["resnet", "vit"])
def test_found_or_computed_gives_the_same_bits(
    name: str,
    model: str,
    request: pytest.FixtureRequest,
    digits_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One cell alone; one after another seed's cell, in the process; one from the store alone."""
    settings = {"fisher_samples": 40} if name == "ewc" else {}
    cell = cell_of(name, request.getfixturevalue(model), **settings)
    stores = [tmp_path / kind for kind in ("alone", "in the process", "from the store")]

    made(cell, digits_root, stores[0])
    (file,) = files(Store(str(stores[0])))
    assert file.name.startswith(f"{SHARED[name]}-")

    forget_everything(monkeypatch)
    for other in (replace(cell, seed=1), cell):
        made(other, digits_root, stores[1])
    (again,) = files(Store(str(stores[1])))
    assert again.name == file.name
    assert again.read_bytes() == file.read_bytes()

    forget_everything(monkeypatch)
    stores[2].joinpath("shared").mkdir(parents=True)
    stores[2].joinpath("shared", file.name).write_bytes(file.read_bytes())
    stamp = stores[2].joinpath("shared", file.name).stat().st_mtime_ns
    made(cell, digits_root, stores[2])
    assert stores[2].joinpath("shared", file.name).stat().st_mtime_ns == stamp  # not made again

    first, *others = (weights(store, cell) for store in stores)
    for other in others:
        assert all(torch.equal(other[key], tensor) for key, tensor in first.items())


def weights(store: Path, cell: Cell) -> State:
    return load_file(store / "artifacts" / cell.cell_id / "model.safetensors")


def test_what_decides_a_piece_is_in_its_key(
    resnet: Model, digits_root: Path, tmp_path: Path, work: Work
) -> None:
    """Seed, recipe and method do not decide it; model, transform, set and threads do."""
    cell = cell_of("lp", resnet)
    same = [
        cell,
        replace(cell, seed=1),
        replace(cell, recipe=FAST.model_copy(update={"lr": 1.0}).model_dump(mode="json")),
        cell_of("lwf", resnet),
    ]
    for one in same:
        bench_of(one, digits_root, tmp_path).shared("features", {}, work)
    assert work.times == 1
    cropped = replace(resnet, transform={**resnet.transform, "crop_pct": 0.9})
    for other in (cell_of("lp", cropped), cell_of("lp", resnet, downstream="v2")):
        bench_of(other, digits_root, tmp_path).shared("features", {}, work)
    assert work.times == 3
    # Both are drawings of the same images, under the same names and so with the same digest.
    for drawn in ("cartoon", "drawing"):
        bench_of(cell_of("lp", resnet, downstream=drawn), digits_root, tmp_path).shared(
            "features", {}, work
        )
    assert work.times == 5
    bench = bench_of(cell, digits_root, tmp_path)
    bench.site = replace(bench.site, threads=2)
    bench.shared("features", {}, work)
    assert work.times == 6


def test_gpus_of_one_kind_share_and_others_do_not(
    digits_root: Path, tmp_path: Path, resnet: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, work = bench_of(cell_of("lp", resnet), digits_root, tmp_path), Work()
    computed = []
    for gpu in ("GPU-1 NVIDIA H100", "GPU-2 NVIDIA H100", "GPU-3 NVIDIA A100", ""):
        forget_everything(monkeypatch)
        monkeypatch.setattr("workers.provenance.gpu_in_use", lambda gpu=gpu: gpu)
        bench.shared("test", {}, work)
        computed.append(work.times)
    assert computed == [1, 1, 2, 3]
