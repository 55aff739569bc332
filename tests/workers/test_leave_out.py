"""Leaving out what does not decode: nothing in its place, and a count of what is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.imagenet_archives import BROKEN, TRANSFORM, photo
from workers.datasets.base import Dataset, Split
from workers.errors import DataError
from workers.images import ImageSource
from workers.labels import ClassMap
from workers.leave_out import without_undecodable
from workers.suites import DatasetSpec

CLASSES = ClassMap(("x", "y", "z"), ((0,), (1,), (2,)), 3)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two splits of six images; in the first one `1` and `4` are broken."""
    splits = []
    for severity in (1, 2):
        folder = tmp_path / str(severity)
        folder.mkdir()
        files = tuple(f"{number}.png" for number in range(6))
        for number, name in enumerate(files):
            Image.fromarray(photo(20, 20, seed=6 * severity + number)).save(folder / name)
        splits.append(Split(folder, files, (0, 0, 1, 1, 2, 2), "fog", severity))
    (tmp_path / "1" / "1.png").write_bytes(BROKEN["truncated.png"])
    (tmp_path / "1" / "4.png").write_bytes(b"")
    return Dataset(DatasetSpec("d", "d"), CLASSES, tuple(splits))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_other_images_stay_with_their_labels(dataset: Dataset, threads: int) -> None:
    found = without_undecodable(dataset, threads)
    assert found.splits[0].files == ("0.png", "2.png", "3.png", "5.png")
    assert found.splits[0].labels == (0, 1, 1, 2)
    assert (len(found.splits[0]), found.splits[0].n_expected) == (4, 6)
    assert found.splits[1] == dataset.splits[1]
    assert (len(found.splits[1]), found.splits[1].n_expected) == (6, 6)
    assert len(found) == 10
    assert found.classes == dataset.classes


def test_pixels_are_those_of_the_other_images(dataset: Dataset, tmp_path: Path) -> None:
    found = without_undecodable(dataset)
    source = ImageSource(found, TRANSFORM)
    (batch,) = source.batches(torch.arange(len(source)), 20)
    (second,) = ImageSource(dataset, TRANSFORM, [dataset.splits[1]]).batches(torch.arange(6), 20)
    assert torch.equal(batch.pixels[4:], second.pixels)
    kept = [TRANSFORM.pixels()(Image.open(tmp_path / "1" / f"{n}.png")) for n in (0, 2, 3, 5)]
    assert torch.equal(batch.pixels[:4], torch.stack(kept))
    assert batch.labels.tolist() == [0, 1, 1, 2, 0, 0, 1, 1, 2, 2]


def test_a_set_that_lacks_images_has_another_digest(dataset: Dataset, tmp_path: Path) -> None:
    """Rows on it are rows on other images, and are not to be mixed with those on all of them."""
    assert without_undecodable(dataset).digest != dataset.digest
    for name in ("1.png", "4.png"):
        Image.fromarray(photo(20, 20)).save(tmp_path / "1" / name)
    whole = without_undecodable(dataset)
    assert whole.digest == dataset.digest
    assert [split.n_left_out for split in whole.splits] == [0, 0]


def test_a_split_of_which_nothing_is_left_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    for path in (tmp_path / "2").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="2: no image in it decodes"):
        without_undecodable(dataset)
