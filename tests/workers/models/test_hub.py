"""Published weights: fetched once from a real server, then loaded with no network at all."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from timm.models import PretrainedCfg

from tests.workers.models.hub_server import Hub, serving
from workers.cell import Model
from workers.errors import DataError
from workers.models import (
    UnreachableError,
    check_weights,
    load_pretrained,
    pack_state,
    source_of,
    state_of,
    weights_digest,
)
from workers.models import hub as module

NAME = "test_resnet.r160_in1k"
REPO = f"timm/{NAME}"
MODEL = Model(NAME, NAME, f"timm:{NAME}")
NOWHERE = Path("/nowhere")


def published(seed: int = 0) -> tuple[dict[str, torch.Tensor], bytes]:
    """Weights as the hub would have them: with the head of 1000 classes."""
    torch.manual_seed(seed)
    state = state_of(timm.create_model("test_resnet"))
    return state, pack_state(state)


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_ENDPOINT does when huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub that answers."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    point_to("http://127.0.0.1:9", monkeypatch)
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as running:
        point_to(running.address, monkeypatch)
        yield running


def problem_of(model: Model = MODEL, kind: type[DataError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        source_of(model).fetch()
    assert type(caught.value) is kind
    (problem,) = caught.value.problems
    return str(problem)


def test_fetched_weights_are_loaded_bit_for_bit_and_without_the_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, data = published()
    hub.repos[REPO] = {"model.safetensors": data}
    path = source_of(MODEL).fetch()
    assert path.read_bytes() == data
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    module = load_pretrained(MODEL, NOWHERE)
    assert not module.training
    assert module.state_dict().keys() == state.keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert check_weights(MODEL, NOWHERE) == []
    assert weights_digest(MODEL, NOWHERE) == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert hub.asked == []


def test_a_repository_without_safetensors(hub: Hub, tmp_path: Path) -> None:
    state, _ = published()
    torch.save(state, tmp_path / "w.bin")
    hub.repos[REPO] = {"pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    assert source_of(MODEL).cached() is None
    assert source_of(MODEL).fetch().name == "pytorch_model.bin"
    found = load_pretrained(MODEL, NOWHERE).state_dict()
    assert torch.equal(found["fc.weight"], state["fc.weight"])


def test_weights_that_are_not_here_name_the_cache_and_the_command(hub: Hub, cache: Path) -> None:
    hub.repos[REPO] = {"model.safetensors": published()[1]}
    with pytest.raises(DataError) as caught:
        load_pretrained(MODEL, NOWHERE)
    (problem,) = caught.value.problems
    assert check_weights(MODEL, NOWHERE) == [problem]
    told = str(problem)
    for what in (f"models entry '{NAME}'", REPO, str(cache), "rib models fetch GRID", "HF_HOME"):
        assert what in told
    assert hub.asked == [], "a worker does not ask the hub"


# ------------------------------------------------------------------------- what can go wrong


def test_no_network_is_told_at_once() -> None:
    started = time.monotonic()
    told = problem_of(kind=UnreachableError)
    assert time.monotonic() - started < module.TIMEOUT_S
    assert told.startswith(f"{REPO}: cannot be fetched from http://127.0.0.1:9: ")
    assert "docs/models.md" in told


def test_offline_mode_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in problem_of(kind=UnreachableError)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (403, "GatedRepo", DataError, "its owner gives access on request only"),
        (401, "RepoNotFound", DataError, "has no such repository"),
        (404, "EntryNotFound", DataError, "no model.safetensors or pytorch_model.bin of it"),
        (418, "", DataError, "answers with status 418"),
        (429, "", UnreachableError, "answers with status 429"),
        (503, "", UnreachableError, "answers with status 503"),
    ],
)
def test_what_the_hub_refuses_is_told(
    status: int, code: str, kind: type[DataError], says: str, hub: Hub
) -> None:
    hub.refuses[REPO] = (status, code)
    assert says in problem_of(kind=kind)


def test_a_cache_that_cannot_be_written_is_not_taken_for_the_network(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO] = {"model.safetensors": published()[1]}
    cache.write_text("a file where the cache should be")
    assert "cannot be kept: [Errno 20] Not a directory" in problem_of()


def test_a_damaged_copy_is_found_and_fetched_again(hub: Hub) -> None:
    data = published()[1]
    hub.repos[REPO] = {"model.safetensors": data}
    blob = source_of(MODEL).fetch().resolve()
    flipped = bytearray(data)
    flipped[-1] ^= 1
    blob.write_bytes(flipped)
    (problem,) = check_weights(MODEL, NOWHERE)
    assert str(problem).startswith(f"{blob}: this copy is damaged")
    with pytest.raises(DataError, match="damaged"):
        load_pretrained(MODEL, NOWHERE)
    blob.unlink()
    source_of(MODEL).fetch()
    assert check_weights(MODEL, NOWHERE) == []


def test_a_model_can_be_pinned_to_the_weights_it_had(hub: Hub) -> None:
    digests = []
    for seed in (0, 1):
        hub.repos[REPO] = {"model.safetensors": published(seed)[1]}
        source_of(MODEL).fetch()
        digests.append(weights_digest(MODEL, NOWHERE))
    pinned = replace(MODEL, weights=digests[1])
    load_pretrained(pinned, NOWHERE)
    with pytest.raises(DataError, match="these are the weights"):
        load_pretrained(replace(MODEL, weights=digests[0]), NOWHERE)


def test_a_head_of_another_size_would_be_random_and_is_refused(hub: Hub) -> None:
    hub.repos[REPO] = {"model.safetensors": published()[1]}
    source_of(MODEL).fetch()
    with pytest.raises(DataError, match="published for 1000 classes, not 10") as caught:
        load_pretrained(replace(MODEL, arguments={"num_classes": 10}), NOWHERE)
    assert "random numbers" in str(caught.value)


def test_arguments_for_another_network_are_refused(hub: Hub) -> None:
    hub.repos[REPO] = {"model.safetensors": published()[1]}
    source_of(MODEL).fetch()
    with pytest.raises(DataError, match=r"does not load into test_resnet.*layers"):
        load_pretrained(replace(MODEL, arguments={"layers": [1, 1, 1, 2]}), NOWHERE)


# ------------------------------------------------------------------------------ where they are


def test_where_timm_s_weights_are_published() -> None:
    source: Any = source_of(MODEL)
    assert (source.repo, source.revision) == (REPO, None)
    assert source.names == ("model.safetensors", "pytorch_model.bin")
    untagged: Any = source_of(Model("m", "test_resnet", "timm:x"))
    assert untagged == source
    legacy: Any = source_of(Model("m", "legacy_seresnet18.in1k", "timm:x"))
    assert legacy.server == "github.com"
    assert legacy.name == "seresnet18-4bb0ce65.pth"
    with pytest.raises(DataError, match="Invalid pretrained tag"):
        source_of(Model("m", "test_resnet.nonsense", "timm:x"))
    with pytest.raises(DataError, match="timm has no weights for"):
        source_of(Model("m", "coatnet_0_224", "timm:x"))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({}, ("model.safetensors", "pytorch_model.bin")),
        ({"hf_hub_filename": "x.bin"}, ("x.safetensors", "x.bin")),
        ({"hf_hub_filename": "x.safetensors"}, ("x.safetensors",)),
        (
            {"hf_hub_filename": "open_clip_pytorch_model.bin"},
            ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
        ),
    ],
)
def test_the_files_are_those_that_timm_looks_for(
    config: dict[str, str], names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = PretrainedCfg(hf_hub_id="org/repo@v1", **config)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "get_pretrained_cfg", lambda _: own)
    source: Any = source_of(MODEL)
    assert (source.repo, source.revision, source.names) == ("org/repo", "v1", names)


def test_weights_at_an_address_of_their_own(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, _ = published()
    torch.save(state, tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    name = f"resnet-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    hub.repos["files"] = {name: data}
    own = PretrainedCfg(url=f"{hub.address}/files/resolve/main/{name}")
    monkeypatch.setattr(module, "get_pretrained_cfg", lambda _: own)
    source = source_of(MODEL)
    assert source.cached() is None
    assert source.fetch() == tmp_path / "torch" / "checkpoints" / name == source.cached()
    found = load_pretrained(MODEL, NOWHERE).state_dict()
    assert torch.equal(found["fc.weight"], state["fc.weight"])
    hub.repos["files"] = {name.replace("-", "-0"): data}
    bad = PretrainedCfg(url=f"{hub.address}/files/resolve/main/{name.replace('-', '-0')}")
    monkeypatch.setattr(module, "get_pretrained_cfg", lambda _: bad)
    assert "invalid hash value" in problem_of()
