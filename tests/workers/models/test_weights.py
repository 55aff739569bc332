"""Weights files: what is understood is loaded bit for bit, everything else refused by name."""

import argparse
import hashlib
import json
import os
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from workers.cell import Model
from workers.errors import DataError
from workers.models import State, examine, load_pretrained, state_of

N_CLASSES = 7


def network(seed: int = 0, n_classes: int = N_CLASSES) -> nn.Module:
    """A test_resnet with no number in it that another one has."""
    torch.manual_seed(seed)
    module: nn.Module = timm.create_model("test_resnet", num_classes=n_classes)
    for tensor in module.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape) if tensor.is_floating_point() else seed + 3)
    return module


def prefixed(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def model_of(path: Path, key: str | None = None) -> Model:
    """Describe a weights file as a grid would."""
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" if path.is_file() else "x"
    arguments = {"num_classes": N_CLASSES}
    return Model("mine", "test_resnet", digest, arguments=arguments, file=str(path), key=key)


def loaded(path: Path, key: str | None = None) -> State:
    return load_pretrained(model_of(path, key), Path("/nowhere")).state_dict()


def refusal(path: Path, key: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_pretrained(model_of(path, key), Path("/nowhere"))
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    assert "models entry 'mine'" in problem.hint
    return str(problem)


def check_equal(found: State, expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


# ------------------------------------------------------------------------------ understood

Wrap = Callable[[State, State], Any]
"""(the weights, other weights) -> what is saved."""

UNDERSTOOD: dict[str, tuple[Wrap, str | None, list[str]]] = {
    "a plain state dict": (lambda s, _: s, None, []),
    "an ordered one": (lambda s, _: OrderedDict(s), None, []),
    "DistributedDataParallel's prefix": (
        lambda s, _: prefixed("module.", s),
        None,
        ["the prefix 'module.' is taken off"],
    ),
    "torch.compile's prefix": (
        lambda s, _: prefixed("_orig_mod.", s),
        None,
        ["the prefix '_orig_mod.' is taken off"],
    ),
    "Lightning's checkpoint": (
        lambda s, _: {"epoch": 3, "state_dict": prefixed("model.", s), "loops": {}},
        None,
        ["the entry 'state_dict' is read", "the prefix 'model.' is taken off"],
    ),
    "prefixes upon prefixes": (
        lambda s, _: {"model": prefixed("module._orig_mod.model.", s)},
        None,
        ["the entry 'model' is read", "the prefix 'module._orig_mod.model.' is taken off"],
    ),
    "timm's checkpoint, with its command line": (
        lambda s, _: {
            "epoch": 3,
            "arch": "test_resnet",
            "state_dict": s,
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
            "args": argparse.Namespace(lr=0.1, model="test_resnet"),
            "metric": 71.5,
        },
        None,
        ["the entry 'state_dict' is read"],
    ),
    "only the moving average": (
        lambda s, _: {"model_ema": s, "epoch": 3},
        None,
        ["the entry 'model_ema' is read"],
    ),
    "one of two, by its key": (
        lambda s, other: {"state_dict": other, "state_dict_ema": s},
        "state_dict_ema",
        ["the entry 'state_dict_ema' is read"],
    ),
    "the other one": (
        lambda s, other: {"state_dict": s, "state_dict_ema": other},
        "state_dict",
        ["the entry 'state_dict' is read"],
    ),
    "an entry of any name": (
        lambda s, other: {"student": other, "teacher": prefixed("module.", s)},
        "teacher",
        ["the entry 'teacher' is read", "the prefix 'module.' is taken off"],
    ),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_is_understood_is_loaded_bit_for_bit(case: str, zipped: bool, tmp_path: Path) -> None:
    wrap, key, notes = UNDERSTOOD[case]
    state, other = network().state_dict(), network(seed=1).state_dict()
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(wrap(state, other), path, _use_new_zipfile_serialization=zipped)
    check_equal(loaded(path, key), state)
    assert list(examine(model_of(path, key), tmp_path).notes) == notes


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod."])
def test_safetensors_with_and_without_a_prefix(prefix: str, tmp_path: Path) -> None:
    state = network().state_dict()
    save_file(prefixed(prefix, state), tmp_path / "w.safetensors")
    check_equal(loaded(tmp_path / "w.safetensors"), state)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w"])
def test_the_content_says_what_a_file_is(name: str, tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save(state, tmp_path / name)
    check_equal(loaded(tmp_path / name), state)
    save_file(state, tmp_path / name)
    check_equal(loaded(tmp_path / name), state)


def test_safetensors_that_begin_like_a_pickle(tmp_path: Path) -> None:
    """The file begins with its header's length: 0x10280 is written as pickle's protocol 2 is."""
    state, path = network().state_dict(), tmp_path / "w.bin"
    save_file(state, path, metadata={"padding": ""})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    save_file(state, path, metadata={"padding": "x" * (0x10280 - length)})
    assert path.read_bytes()[:2] == b"\x80\x02"
    check_equal(loaded(path), state)


def test_half_precision_is_widened_exactly(tmp_path: Path) -> None:
    state = {n: t.half() if t.is_floating_point() else t for n, t in network().state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    found = loaded(tmp_path / "w.safetensors")
    assert found["conv1.0.weight"].dtype == torch.float32
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor.to(found[name].dtype))


def test_a_loaded_model_does_not_depend_on_its_file_any_more(tmp_path: Path) -> None:
    state = state_of(network())
    for name in ("w.safetensors", "w.pth"):
        path = tmp_path / name
        save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
        found = loaded(path)
        path.write_bytes(bytes(path.stat().st_size))  # in place: a map of the file would change
        check_equal(found, state)


def test_a_name_that_only_looks_like_a_prefix_is_kept(tmp_path: Path) -> None:
    """Nothing is taken off a state dict that has any of the architecture's names."""
    state = network().state_dict() | {"module.stranger": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pth")
    assert "module.stranger is not in the architecture" in refusal(tmp_path / "w.pth")


# ------------------------------------------------------------------------------ refused


class Runs:
    """Unpickling it runs a program."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_that_would_run_code_is_refused_unrun(zipped: bool, tmp_path: Path) -> None:
    mark, path = tmp_path / "was-run", tmp_path / "w.pth"
    content = {"state_dict": network().state_dict(), "extra": Runs(f"touch {mark}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    told = refusal(path)
    assert f"it would run code when it is loaded: it needs {os.system.__module__}.system" in told
    assert "convert it to safetensors" in told
    assert not mark.exists()


def test_every_thing_that_a_checkpoint_needs_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": network().state_dict(), "best": np.float64(3)}, tmp_path / "w.pth")
    told = refusal(tmp_path / "w.pth")
    assert "numpy.dtype" in told
    assert "multiarray.scalar" in told


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "w.pth")
    assert "needs collections.OrderedDict" not in (told := refusal(tmp_path / "w.pth"))
    assert "timm.models.resnet.ResNet" in told


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # of its deprecation, in torch
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    assert "it needs the program of a TorchScript archive" in refusal(tmp_path / "w.pt")


STATE = network().state_dict()
AMBIGUOUS = {"epoch": 1, "state_dict": STATE, "state_dict_ema": STATE}

REFUSED: dict[str, tuple[Any, str | None, list[str]]] = {
    "two state dicts": (
        AMBIGUOUS,
        None,
        [
            "holds 2 state dicts: state_dict, state_dict_ema",
            "choose one in the grid, such as key: state_dict",
        ],
    ),
    "a key that is not there": (
        AMBIGUOUS,
        "model_ema",
        ["no entry 'model_ema' of it is a state dict", "it has state_dict, state_dict_ema"],
    ),
    "a key that holds something else": (AMBIGUOUS, "epoch", ["no entry 'epoch' of it is a state"]),
    "a key for what is not wrapped": (STATE, "state_dict", ["it has no entry 'state_dict'"]),
    "a list": ([1, 2], None, ["holds a list, not tensors by name"]),
    "nothing": ({}, None, ["no entry of it is a state dict of tensors: it holds nothing"]),
    "no tensors": (
        {"epoch": 3, "state_dict": {}},
        None,
        ["no entry of it is a state dict of tensors: it holds epoch, state_dict"],
    ),
    "another head": (
        network(n_classes=9).state_dict(),
        None,
        [
            "does not fit test_resnet: fc.weight has shape [9, 96], the architecture has [7, 96]; "
            "fc.bias has shape [9], the architecture has [7]: "
            "its head is for 9 classes, the model's for 7",
        ],
    ),
    "no head": (
        {name: tensor for name, tensor in STATE.items() if not name.startswith("fc.")},
        None,
        ["fc.weight is missing; fc.bias is missing"],
    ),
    "another architecture": (
        {"net": timm.create_model("test_vit").state_dict()},
        None,
        ["conv1.0.weight is missing", "are these another model's weights?"],
    ),
    "a prefix of some names only": (
        prefixed("module.", STATE) | {"fc.weight": STATE["fc.weight"]},
        None,
        ["conv1.0.weight is missing", "more"],
    ),
    "an unknown prefix": (prefixed("backbone.", STATE), None, ["no name is the architecture's"]),
    "integers for weights": (
        STATE | {"fc.bias": torch.zeros(N_CLASSES, dtype=torch.int8)},
        None,
        ["fc.bias is torch.int8, the architecture has torch.float32"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    content, key, says = REFUSED[case]
    torch.save(content, tmp_path / "w.pth")
    told = refusal(tmp_path / "w.pth", key)
    for text in says:
        assert text in told


def damaged(data: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"no weights at all, but long enough to look at",
        "a half": data[: len(data) // 2],
        "zeros": bytes(len(data)),
        "a zip's beginning": b"PK\x03\x04" * 100,
        "a pickle's beginning": b"\x80\x02rubbish",
    }


@pytest.mark.parametrize("kind", damaged(b""))
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_files_are_named(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    save_file(STATE, path) if path.suffix == ".safetensors" else torch.save(STATE, path)
    path.write_bytes(damaged(path.read_bytes())[kind])
    assert "cannot be read as " in refusal(path)


def test_a_plain_pickle_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": [1, 2]}))
    assert "cannot be read as a PyTorch checkpoint" in refusal(tmp_path / "w.pkl")


def test_a_numpy_archive_is_no_checkpoint(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    assert "cannot be read as a PyTorch checkpoint" in refusal(tmp_path / "w.npz")


def test_a_safetensors_header_that_promises_too_much(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (tmp_path / "w.bin").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    assert "cannot be read as safetensors" in refusal(tmp_path / "w.bin")
