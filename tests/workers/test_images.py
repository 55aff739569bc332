"""Transforms and batches: timm's own arithmetic, cached or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.config import resolve_data_config

from tests.imagenet_archives import photo
from workers import images as images_module
from workers.cell import Model
from workers.datasets.base import Dataset, Split
from workers.errors import DataError
from workers.images import Batch, ImageSource, Transform
from workers.labels import ClassMap
from workers.models import transform_of
from workers.suites.base import DatasetSpec

# ---------------------------------------------------------------------------- transforms


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(50, 70), (70, 50), (32, 32), (20, 90)])
def test_pixels_and_normalise_are_timm_s_evaluation_pipeline(
    interpolation: str, crop_pct: float, shape: tuple[int, int]
) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    transform = Transform((3, 32, 32), crop_pct, interpolation, mean, std)
    timm_s = create_transform(
        (3, 32, 32),
        is_training=False,
        interpolation=interpolation,
        mean=mean,
        std=std,
        crop_pct=crop_pct,
    )
    picture = Image.fromarray(photo(*shape))
    pixels = transform.pixels()(picture)
    assert pixels.dtype == torch.uint8
    found, expected = transform.normalise(pixels[None])[0], timm_s(picture)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet", "resnet18.tv_in1k"])
def test_a_model_s_transform_is_the_one_that_timm_gives_it(architecture: str) -> None:
    module = timm.create_model(architecture)
    transform = transform_of(Model("m", architecture, "timm:x"), module)
    timm_s = create_transform(**resolve_data_config({}, model=module))
    picture = Image.fromarray(photo(250, 300))
    found = transform.normalise(transform.pixels()(picture)[None])[0]
    torch.testing.assert_close(found, timm_s(picture), rtol=1e-5, atol=1e-6)


def test_a_model_that_squashes_instead_of_cropping(monkeypatch: pytest.MonkeyPatch) -> None:
    module = timm.create_model("test_resnet")
    monkeypatch.setitem(module.pretrained_cfg, "crop_mode", "squash")  # as convnext_*_384 have
    transform = transform_of(Model("m", "test_resnet", "timm:x"), module)
    timm_s = create_transform(**resolve_data_config({}, model=module))
    picture = Image.fromarray(photo(250, 400))
    found = transform.normalise(transform.pixels()(picture)[None])[0]
    torch.testing.assert_close(found, timm_s(picture), rtol=1e-5, atol=1e-6)


def test_a_model_s_transform_can_be_overridden() -> None:
    override = {"input_size": [3, 32, 32], "crop_pct": 1.0, "mean": [0.5, 0.5, 0.5]}
    model = Model("m", "test_resnet", "timm:x", transform=override)
    transform = transform_of(model, timm.create_model("test_resnet"))
    assert transform.input_size == (3, 32, 32)
    assert transform.crop_pct == 1.0
    assert transform.mean == (0.5, 0.5, 0.5)
    plain = transform_of(Model("m", "test_resnet", "timm:x"), timm.create_model("test_resnet"))
    assert transform.std == plain.std
    assert transform.digest != plain.digest


def test_normalise_by_hand() -> None:
    transform = Transform((3, 1, 1), 1.0, "bicubic", (0.5, 0.0, 0.2), (0.5, 1.0, 0.4))
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    assert transform.normalise(pixels).flatten().tolist() == pytest.approx([-1.0, 1.0, 0.0])
    assert pixels.flatten().tolist() == [0, 255, 51]


# ---------------------------------------------------------------------------- batches

CLASSES = ClassMap(("x", "y"), ((0,), (1,)), 2)
TRANSFORM = Transform((3, 16, 16), 0.9, "bicubic", (0.5,) * 3, (0.5,) * 3)


def dataset(folder: Path, border: int = 0) -> Dataset:
    """Two splits of five and four pictures of several sizes."""
    splits = []
    for severity, n in ((1, 5), (2, 4)):
        place = folder / str(severity)
        place.mkdir(parents=True, exist_ok=True)
        files = tuple(f"{i}.png" for i in range(n))
        for i, name in enumerate(files):
            Image.fromarray(photo(30 + 3 * i, 40, seed=10 * severity + i)).save(place / name)
        splits.append(Split(place, files, tuple(i % 2 for i in range(n)), "fog", severity))
    return Dataset(DatasetSpec("d", "d"), CLASSES, tuple(splits), border=border)


def collect(source: ImageSource, order: torch.Tensor, size: int) -> list[Batch]:
    return list(source.batches(order, size))


@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("size", [2, 4, 100])
def test_cached_and_streamed_batches_are_the_images_themselves(
    tmp_path: Path, border: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(tmp_path, border)
    order = torch.tensor([8, 0, 5, 4, 3, 7, 1, 2, 6])
    cached = collect(ImageSource(data, TRANSFORM), order, size)
    monkeypatch.setattr(images_module, "CACHE_BYTES", 0)
    monkeypatch.setattr(images_module._CACHE, "get", None)  # must not be asked
    streamed = collect(ImageSource(data, TRANSFORM), order, size)
    timm_s = create_transform(
        (3, 16, 16), is_training=False, interpolation="bicubic", crop_pct=0.9, normalize=False
    )
    paths = [split.folder / name for split in data.splits for name in split.files]
    labels = [label for split in data.splits for label in split.labels]
    for batches in (cached, streamed):
        assert torch.cat([b.indices for b in batches]).tolist() == order.tolist()
        assert torch.cat([b.labels for b in batches]).tolist() == [labels[i] for i in order]
        for batch in batches:
            assert batch.pixels.dtype == torch.uint8
            for pixels, index in zip(batch.pixels, batch.indices.tolist(), strict=True):
                picture = photo_at(paths[index], border)
                assert torch.equal(pixels, timm_s(picture))
    assert [len(b.labels) for b in cached] == [len(b.labels) for b in streamed]


def photo_at(path: Path, border: int) -> Image.Image:
    with Image.open(path) as image:
        whole = np.asarray(image.convert("RGB"))
    return Image.fromarray(whole[border : len(whole) - border, border : whole.shape[1] - border])


def test_a_source_of_one_split_holds_that_split(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    whole, second = ImageSource(data, TRANSFORM), ImageSource(data, TRANSFORM, [data.splits[1]])
    assert (len(whole), len(second)) == (9, 4)
    (part,) = collect(second, torch.arange(4), 10)
    (all_of_it,) = collect(whole, torch.arange(9), 10)
    assert torch.equal(part.pixels, all_of_it.pixels[5:])
    assert torch.equal(part.labels, all_of_it.labels[5:])


def test_the_cache_tells_transforms_apart_and_drops_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    real = ImageSource.decode_all

    def counted(source: ImageSource) -> torch.Tensor:
        decoded.append(source.key[0])
        return real(source)

    monkeypatch.setattr(ImageSource, "decode_all", counted)
    monkeypatch.setattr(images_module, "_CACHE", images_module._PixelCache())
    monkeypatch.setattr(images_module, "CACHE_BYTES", 2 * 9 * 3 * 16 * 16)
    one, two, three = (dataset(tmp_path / name) for name in "abc")
    other = Transform((3, 16, 16), 0.5, "bicubic", (0.5,) * 3, (0.5,) * 3)

    def first(data: Dataset, transform: Transform) -> torch.Tensor:
        return collect(ImageSource(data, transform), torch.arange(9), 9)[0].pixels

    assert torch.equal(first(one, TRANSFORM), first(one, TRANSFORM))
    assert len(decoded) == 1
    assert not torch.equal(first(one, other), first(one, TRANSFORM))
    assert len(decoded) == 2
    first(two, TRANSFORM)  # the third: `other` was used longest ago
    first(one, TRANSFORM)
    assert len(decoded) == 3
    first(three, TRANSFORM)  # two goes
    first(two, TRANSFORM)
    assert len(decoded) == 5


@pytest.mark.parametrize("cache", [0, 1 << 30])
def test_a_bad_image_among_good_ones_is_named(
    tmp_path: Path, cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "CACHE_BYTES", cache)
    data = dataset(tmp_path)
    bad = tmp_path / "2" / "1.png"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(DataError, match=r"2/1\.png"):
        collect(ImageSource(data, TRANSFORM), torch.arange(9), 4)


@pytest.mark.slow
def test_loader_processes_deliver_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "CACHE_BYTES", 0)
    data = dataset(tmp_path)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    plain = collect(ImageSource(data, TRANSFORM), order, 4)
    parallel = collect(ImageSource(data, TRANSFORM, loader_workers=1), order, 4)
    for a, b in zip(plain, parallel, strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.indices, b.indices)


SCRIPT = """
import torch
from workers.images import load_in_parts

print("the script begins")
pixels = list(torch.arange(8 * 3 * 2 * 2, dtype=torch.uint8).reshape(8, 3, 2, 2))
for _ in range(2):
    for part in load_in_parts(pixels, [torch.arange(0, 5), torch.arange(5, 8)], 1):
        print(part.sum().item())
print(__file__)
"""


@pytest.mark.slow
def test_a_loader_process_does_not_run_the_program_that_starts_it(tmp_path: Path) -> None:
    """A user's script need not be written with `if __name__ == "__main__"`."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    sums = [str(sum(range(60))), str(sum(range(60, 96)))]
    assert done.stdout.split("\n") == ["the script begins", *sums, *sums, str(path), ""]


@pytest.mark.parametrize("loader_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_decoding_does_not_touch_the_generator_that_dropout_draws_from(
    tmp_path: Path, loader_workers: int
) -> None:
    source = ImageSource(dataset(tmp_path), TRANSFORM, loader_workers=loader_workers)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    source.decode_all()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_a_bad_image_in_a_loader_process_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "CACHE_BYTES", 0)
    data = dataset(tmp_path)
    bad = tmp_path / "2" / "1.png"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(DataError, match=r"2/1\.png"):
        collect(ImageSource(data, TRANSFORM, loader_workers=1), torch.arange(9), 4)
