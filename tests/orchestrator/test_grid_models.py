"""Models as a grid names them: what decides their cells' identity, and what is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from timm.models import get_pretrained_cfg

from orchestrator.grid import Grid, load_grid, load_stored_grid
from orchestrator.plan import expand
from orchestrator.preflight import unfit_model
from workers.cell import Model
from workers.errors import UserError

TV2 = {
    "input_size": [3, 224, 224],
    "crop_pct": 0.965,
    "crop_mode": "center",
    "interpolation": "bilinear",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
"""The transform of resnet50.tv2_in1k's published accuracy."""


def grid_of(folder: Path, *models: Any, suite: str = "imagenet-rib") -> Grid:
    value = {
        "name": "small",
        "suite": suite,
        "data_root": str(folder),
        "models": list(models),
        "methods": ["ft"],
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(value))
    return load_grid(path)


def model_of(folder: Path, entry: Any) -> Model:
    (model,) = grid_of(folder, entry).models
    return model


def complaints(folder: Path, *models: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        grid_of(folder, *models)
    return [f"{problem.message} ({problem.hint})" for problem in caught.value.problems]


def ids(grid: Grid) -> list[str]:
    return [cell.cell_id for cell in expand(grid)]


# ------------------------------------------------------------------------------ identity


@pytest.mark.parametrize("name", ["resnet50.tv2_in1k", "resnet101.tv2_in1k"])
def test_the_whole_transform_is_part_of_the_identity(name: str, tmp_path: Path) -> None:
    model = model_of(tmp_path, name)
    assert model.identity()["transform"] == TV2
    squashed = model_of(tmp_path, {"name": name, "transform": {"crop_mode": "squash"}})
    assert squashed.identity()["transform"] == {**TV2, "crop_mode": "squash"}


def test_a_name_without_a_tag_means_the_tag_that_timm_gives_it_today(tmp_path: Path) -> None:
    config = get_pretrained_cfg("vit_base_patch16_224")
    assert config is not None
    full = f"vit_base_patch16_224.{config.tag}"
    model = model_of(tmp_path, "vit_base_patch16_224")
    assert (model.name, model.architecture) == ("vit_base_patch16_224", full)
    assert model.weights == f"timm:{full}"
    told = complaints(tmp_path, "vit_base_patch16_224", full)
    assert told == [f"{full!r} is the same as another model here ()"]


def test_another_timm_changes_cells_only_where_the_grid_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pretrained config that changes gives new cells; a store's grid keeps its own."""
    grid = grid_of(tmp_path, "resnet50.a1_in1k")
    text = grid.to_yaml()
    config = get_pretrained_cfg("resnet50.a1_in1k")
    assert config is not None
    config.interpolation = "bilinear"
    monkeypatch.setitem(
        sys.modules["timm.models._registry"]._model_pretrained_cfgs, "resnet50.a1_in1k", config
    )
    assert not set(ids(grid_of(tmp_path, "resnet50.a1_in1k"))) & set(ids(grid))
    assert ids(load_stored_grid(text, "store")) == ids(grid)


def test_which_entry_of_a_checkpoint_is_meant_is_part_of_the_identity(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "w.pth")
    entry = {"architecture": "test_resnet", "weights": str(tmp_path / "w.pth")}
    keys = ["state_dict", "state_dict_ema"]
    grid = grid_of(tmp_path, *({"name": key, "key": key, **entry} for key in keys))
    plain, averaged = grid.models
    assert plain.weights == averaged.weights
    assert plain.identity() != averaged.identity()
    again = load_stored_grid(grid.to_yaml(), "store")
    assert again.models == grid.models
    assert ids(again) == ids(grid)
    assert unfit_model(plain, grid.suite, tmp_path) == []


def test_published_weights_can_be_pinned_by_digest(tmp_path: Path) -> None:
    digest = "sha256:" + "ab" * 32
    model = model_of(tmp_path, {"name": "resnet18.tv_in1k", "digest": digest})
    assert (model.weights, model.file) == (digest, None)


@pytest.mark.parametrize("suite", ["digits-rib", "imagenet-rib"])
def test_a_suite_s_own_models_are_planned_without_torch(suite: str, tmp_path: Path) -> None:
    name = {"digits-rib": "resnet_digits", "imagenet-rib": "resnet50.tv2_in1k"}[suite]
    grid_of(tmp_path, name, suite=suite)
    code = (
        "import sys; from pathlib import Path; from orchestrator.grid import load_grid; "
        "load_grid(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "grid.yaml")], check=True)


# ------------------------------------------------------------------------------ refused


@pytest.mark.parametrize("argument", ["checkpoint_path", "pretrained", "pretrained_cfg_overlay"])
def test_arguments_that_would_load_other_weights(argument: str, tmp_path: Path) -> None:
    entry = {"name": "resnet18.tv_in1k", "arguments": {argument: "x"}}
    assert complaints(tmp_path, entry) == [
        f"the argument {argument!r} would load other weights than the grid names "
        "(a file goes under 'weights')"
    ]


def test_a_key_without_a_file(tmp_path: Path) -> None:
    told = complaints(tmp_path, {"name": "resnet18.tv_in1k", "key": "model"})
    assert told == ["'key' goes with 'weights', a file of your own ()"]


def test_an_architecture_with_a_tag_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    entry = {"name": "x", "architecture": "resnet18.tv_in1", "weights": str(tmp_path / "w.pth")}
    (told,) = complaints(tmp_path, entry)
    assert told.startswith("unknown architecture 'resnet18.tv_in1' (")


# ------------------------------------------------------------------------------ preflight


def problems(folder: Path, **entry: Any) -> list[str]:
    """Check a network, test_vit unless it is named, with a weights file that fits it."""
    path = folder / "w.pth"
    arguments = entry.get("arguments", {})
    architecture = entry.get("architecture", "test_vit")
    torch.save(timm.create_model(architecture, **arguments).state_dict(), path)
    whole = {"name": "mine", "architecture": architecture, "weights": str(path), **entry}
    grid = grid_of(folder, whole)
    return [str(p) for p in unfit_model(grid.models[0], grid.suite, folder)]


def test_a_transform_of_a_size_that_the_model_takes(tmp_path: Path) -> None:
    assert problems(tmp_path) == []
    small = {"input_size": [3, 64, 64]}
    assert problems(tmp_path, arguments={"img_size": 64}, transform=small) == []


def test_a_transform_of_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    small = {"img_size": 64, "depth": 1}
    (told,) = problems(tmp_path, architecture="vit_tiny_patch16_224", arguments=small)
    assert "vit_tiny_patch16_224 does not take images of 3 x 224 x 224: " in told
    assert "(input_size is part of 'transform')" in told


def test_images_have_three_channels(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, arguments={"in_chans": 1}, transform={"input_size": [1, 160, 160]})
    assert "its transform makes 1 channels, images have 3" in told


def test_published_weights_with_a_head_that_they_do_not_have(tmp_path: Path) -> None:
    entry = {"name": "test_vit.r160_in1k", "arguments": {"num_classes": 10}}
    grid = grid_of(tmp_path, {**entry, "transform": {}}, suite="digits-rib")
    told = [str(p) for p in unfit_model(grid.models[0], grid.suite, tmp_path)]
    assert len(told) == 2, "the head, and that the weights are not here"
    assert "its weights are published for 1000 classes, not 10" in told[0]
    assert "rib models fetch GRID" in told[1]
