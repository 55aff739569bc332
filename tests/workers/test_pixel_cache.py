"""Images kept on disk: the same pixels as without, whatever happens to the files."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.embedded import cell_of, embedded_model
from tests.imagenet_archives import photo
from tests.workers.test_images import TRANSFORM, dataset
from workers import images as images_module
from workers import pixel_cache
from workers.datasets.base import Dataset
from workers.images import ImageSource, Transform
from workers.job import Job, Site
from workers.pixel_cache import IDLE_S, PixelCache
from workers.run import execute
from workers.store import CHECKPOINT, Store

N_IMAGES = 9
SLOT = 20 + 3 * 16 * 16
ROOM = 1 << 20


@pytest.fixture(autouse=True)
def keep_none_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "CACHE_BYTES", 0)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What has been decoded in this process."""
    seen: list[Path] = []
    real = images_module.decode

    def counted(path: Path, border: int = 0) -> Image.Image:
        seen.append(path)
        return real(path, border)

    monkeypatch.setattr(images_module, "decode", counted)
    return seen


def pixels(data: Dataset, cache: PixelCache | None, **options: Any) -> torch.Tensor:
    """All images of a data set, uint8 [9, 3, 16, 16]."""
    transform = options.pop("transform", TRANSFORM)
    source = ImageSource(data, transform, cache=cache, **options)
    return torch.cat([b.pixels for b in source.batches(torch.arange(len(source)), 4)])


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pixels"))


@pytest.mark.parametrize("border", [0, 2])
def test_images_are_decoded_once_and_are_the_same(
    tmp_path: Path, border: int, decoded: list[Path]
) -> None:
    data, cache = dataset(tmp_path / "data", border), PixelCache(tmp_path / "cache", ROOM)
    expected = pixels(data, None)
    decoded.clear()
    assert torch.equal(pixels(data, cache), expected)
    assert len(decoded) == N_IMAGES
    for _ in range(2):
        assert torch.equal(pixels(data, cache), expected)
    assert torch.equal(pixels(data, cache, splits=[data.splits[1]]), expected[5:])
    assert len(decoded) == N_IMAGES


@pytest.mark.slow
def test_loader_processes_fill_it_and_read_it(tmp_path: Path, decoded: list[Path]) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    expected = pixels(data, None)
    assert torch.equal(pixels(data, cache, loader_workers=2), expected)
    decoded.clear()
    assert torch.equal(pixels(data, cache), expected)
    assert not decoded


def test_what_decides_the_pixels_tells_files_apart(tmp_path: Path) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    closer = Transform((3, 16, 16), 0.5, "bicubic", (0.5,) * 3, (0.5,) * 3)
    variants: list[tuple[Dataset, Transform]] = [
        (data, TRANSFORM),
        (data, closer),
        (dataset(tmp_path / "data", border=3), TRANSFORM),
        (dataset(tmp_path / "other"), TRANSFORM),
    ]
    for _ in range(2):
        for shown, transform in variants:
            found = pixels(shown, cache, transform=transform)
            assert torch.equal(found, pixels(shown, None, transform=transform))
    assert len(files(tmp_path / "cache")) == 2 * len(variants)


def test_models_that_differ_in_how_they_normalise_share_pixels(
    tmp_path: Path, decoded: list[Path]
) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    pixels(data, cache)
    decoded.clear()
    other = Transform((3, 16, 16), 0.9, "bicubic", (0.1,) * 3, (0.2,) * 3)
    pixels(data, cache, transform=other)
    assert not decoded


def test_another_library_version_makes_files_of_its_own(
    tmp_path: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    pixels(data, cache)
    decoded.clear()
    monkeypatch.setattr(pixel_cache, "version_of", lambda name: f"{name} of tomorrow")
    pixels(data, cache)
    assert len(decoded) == N_IMAGES


# ------------------------------------------------------------------- what may happen to the files


def replace_by_another(path: Path) -> None:
    """As `tar` and `rsync -t` do: with the size and the modification time that the file had."""
    before = path.stat()
    whole = path.read_bytes()
    for seed in range(1000, 3000):
        Image.fromarray(photo(30, 40, seed=seed)).save(path)
        if path.stat().st_size <= before.st_size:
            break
    path.write_bytes(path.read_bytes().ljust(len(whole), b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.read_bytes() != whole


def test_an_image_that_was_replaced_is_decoded_again(tmp_path: Path, decoded: list[Path]) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    before = pixels(data, cache)
    changed = data.splits[0].folder / data.splits[0].files[2]
    replace_by_another(changed)
    expected = pixels(data, None)
    assert not torch.equal(expected[2], before[2])
    decoded.clear()
    assert torch.equal(pixels(data, cache), expected)
    assert decoded == [changed]


@settings(max_examples=60, deadline=None)
@given(
    where=st.integers(0, 5 * SLOT - 1),
    byte=st.integers(0, 255),
    cut=st.one_of(st.none(), st.integers(0, 5 * SLOT)),
)
def test_damaged_and_shortened_files_give_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, where: int, byte: int, cut: int | None
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    data, cache = dataset(folder / "data"), PixelCache(folder / "cache", ROOM)
    expected = pixels(data, cache)
    (file,) = [path for path in files(folder / "cache") if path.stat().st_size == 5 * SLOT]
    with file.open("r+b") as damaged:
        damaged.seek(where)
        damaged.write(bytes([byte]))
        if cut is not None:
            damaged.truncate(cut)
    for _ in range(2):  # the second time it has been mended
        assert torch.equal(pixels(data, cache), expected)
    assert file.stat().st_size == 5 * SLOT


def test_a_bad_image_is_named_each_time_and_never_kept(tmp_path: Path) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    bad = tmp_path / "data" / "2" / "1.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:100])
    for _ in range(2):
        with pytest.raises(images_module.DataError, match=r"2/1\.png"):
            pixels(data, cache)
    bad.write_bytes(whole)
    assert torch.equal(pixels(data, cache), pixels(data, None))


def _fill(start: Any, data: Dataset, cache: PixelCache, found: Any) -> None:
    images_module.CACHE_BYTES = 0
    start.wait()
    found.put(pixels(data, cache).numpy())


@pytest.mark.slow
def test_processes_at_once(tmp_path: Path) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    expected = pixels(data, None)
    spawn = multiprocessing.get_context("spawn")
    start, found = spawn.Event(), spawn.Queue()
    others = [spawn.Process(target=_fill, args=(start, data, cache, found)) for _ in range(3)]
    for other in others:
        other.start()
    start.set()
    for _ in others:
        assert torch.equal(torch.from_numpy(found.get(timeout=120)), expected)
    for other in others:
        other.join(60)
    assert torch.equal(pixels(data, cache), expected)


# ----------------------------------------------------------------------------------- its size


def test_it_stays_within_its_bounds(tmp_path: Path, decoded: list[Path]) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", 5 * SLOT)
    expected = pixels(data, None)
    decoded.clear()
    for _ in range(2):
        assert torch.equal(pixels(data, cache), expected)
    assert [file.stat().st_size for file in files(tmp_path / "cache")] == [5 * SLOT]
    assert len(decoded) == 5 + 4 + 4  # the second split found no room


def test_files_that_nobody_uses_make_room_the_oldest_first(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path / "cache", 20 * SLOT)
    first, second, third = (dataset(tmp_path / name) for name in "abc")
    pixels(first, cache)
    firsts = files(tmp_path / "cache")
    pixels(second, cache)
    seconds = [file for file in files(tmp_path / "cache") if file not in firsts]
    for age, group in ((2, firsts), (3, seconds)):
        for file in group:
            os.utime(file, (0, file.stat().st_mtime - age * IDLE_S))
    pixels(first, cache)  # is in use again
    pixels(third, cache)
    kept = files(tmp_path / "cache")
    assert set(firsts) <= set(kept)
    assert not set(seconds) & set(kept)
    assert len(kept) == 4


def test_a_disk_that_would_become_full_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    monkeypatch.setattr(pixel_cache, "LEFT_FREE", 1 << 60)
    assert torch.equal(pixels(data, cache), pixels(data, None))
    assert not files(tmp_path / "cache")


def a_file(folder: Path) -> None:
    folder.write_text("no folder")


def no_locks(folder: Path) -> None:
    (folder / "lock").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [a_file, no_locks])
def test_a_folder_that_cannot_be_used_is_told_of_once(
    tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)
    spoil(tmp_path / "cache")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(pixels(data, cache), pixels(data, None))
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path / "cache") in said


def test_a_full_disk_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data, cache = dataset(tmp_path / "data"), PixelCache(tmp_path / "cache", ROOM)

    def full(*arguments: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(pixels(data, cache), pixels(data, None))
    assert len(caplog.records) == 1


# --------------------------------------------------------------------------------- whole cells

TIMES = {"started_at", "finished_at"}


@pytest.mark.slow
def test_cells_get_the_same_rows_with_and_without(digits_root: Path, tmp_path: Path) -> None:
    """Cold and warm, trained and scored from the disk: rows, losses and weights to the bit."""
    cell = cell_of("ft", embedded_model("resnet_digits", digits_root))
    kept = {"image_cache": str(tmp_path / "cache"), "image_cache_bytes": 1 << 30}
    rows, weights = [], []
    for name, options in (("without", {}), ("cold", kept), ("warm", kept)):
        site = Site(str(tmp_path / name), str(digits_root), **options)  # type: ignore[arg-type]
        outcome = execute(Job(cell, ("val", "a", "c")), site)
        assert outcome.error is None, outcome.traceback
        found = Store(site.store).scan("accuracy").table.to_pylist()
        key = ("eval_dataset", "corruption", "severity")
        found.sort(key=lambda row: [str(row[name]) for name in key])
        rows.append([{k: v for k, v in row.items() if k not in TIMES} for row in found])
        weights.append(Store(site.store).read_artifact(cell.cell_id, CHECKPOINT))
    assert len(files(tmp_path / "cache")) == len(rows[0])
    assert rows[0] == rows[1] == rows[2]
    assert weights[0] == weights[1] == weights[2]
