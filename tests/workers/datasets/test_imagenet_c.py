"""ImageNet-C as its archives unpack: 75 folders, all of them or none, in little memory."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

from tests.imagenet_archives import GROUP_OF, Archives, problems, read
from workers.datasets.base import Listings, Split, share_listing


def test_c_has_75_splits_in_the_suite_s_order(root: Path) -> None:
    dataset = read(root, "imagenet-c")
    assert tuple((s.corruption, s.severity) for s in dataset.splits) == dataset.spec.splits
    for split in dataset.splits:
        assert split.folder == root / "imagenet-c" / str(split.corruption) / str(split.severity)
        assert len(split) == 1000


def test_c_may_lie_in_its_archives_groups_and_in_capitals(root: Path, tmp_path: Path) -> None:
    folder = Archives(tmp_path).c(groups=True)
    assert {path.name for path in folder.iterdir()} == {"blur", "digital", "noise", "weather"}
    (folder / "blur").rename(folder / "Blur")
    (folder / "weather" / "fog").rename(folder / "weather" / "Fog")
    dataset = read(tmp_path, "imagenet-c")
    assert dataset.digest == read(root, "imagenet-c").digest
    assert dataset.ignored == ()
    for split in dataset.splits:
        group = GROUP_OF[str(split.corruption)]
        assert split.folder.parent.parent.name.lower() == group


def test_c_s_extra_corruptions_are_set_aside(tmp_path: Path) -> None:
    folder = Archives(tmp_path).c(groups=True)
    for extra in ("gaussian_blur", "saturate"):
        (folder / "extra" / extra / "1").mkdir(parents=True)
    (folder / "speckle_noise").mkdir()
    dataset = read(tmp_path, "imagenet-c")
    assert dataset.ignored == ("speckle_noise", "extra/gaussian_blur", "extra/saturate")
    assert len(dataset.splits) == 75


def test_every_missing_folder_of_c_is_named(tmp_path: Path) -> None:
    folder = Archives(tmp_path).c()
    (folder / "fog" / "5").unlink()
    (folder / "fog" / "6").symlink_to("nowhere")
    shutil.rmtree(folder / "snow")
    told = problems(tmp_path, "imagenet-c")
    missing = ["fog/5", *(f"snow/{severity}" for severity in range(1, 6))]
    assert sorted(told) == sorted(f"{folder}/{name}: there is no such folder" for name in missing)


def test_only_one_of_c_s_archives_says_what_else_there_is(tmp_path: Path) -> None:
    folder = Archives(tmp_path).c(groups=True)
    for group in ("digital", "noise", "weather"):
        shutil.rmtree(folder / group)
    told = problems(tmp_path, "imagenet-c")
    assert len(told) == 11 * 5
    assert f"{folder}/frost/1: there is no such folder" in told


def test_a_corruption_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = Archives(tmp_path).c()
    (folder / "blur" / "zoom_blur").mkdir(parents=True)
    (told,) = problems(tmp_path, "imagenet-c")
    assert "zoom_blur could be any of" in told
    assert f"{folder}/blur/zoom_blur" in told


def test_a_class_that_one_split_lacks_is_named(tmp_path: Path) -> None:
    archives = Archives(tmp_path)
    archives.c()
    shutil.rmtree(archives.split("snow", 2) / "n01440764")
    (told,) = problems(tmp_path, "imagenet-c")
    assert told == f"{tmp_path}/imagenet-c/snow/2: 1 class folders are missing: n01440764"


def test_the_75_splits_hold_their_names_once(root: Path) -> None:
    dataset = read(root, "imagenet-c")
    assert len({id(split.files) for split in dataset.splits}) == 1
    assert len({id(split.labels) for split in dataset.splits}) == 1


def test_a_split_of_full_size_adds_no_memory() -> None:
    def full(severity: int) -> Split:
        files = tuple(f"n01440764/ILSVRC2012_val_{k:08d}.JPEG" for k in range(50_000))
        return Split(Path("c"), files, (0,) * 50_000, "fog", severity)

    listings: Listings = {}
    kept = [share_listing(full(1), listings)]
    tracemalloc.start()
    kept += [share_listing(full(severity), listings) for severity in range(2, 6)]
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [split.severity for split in kept] == [1, 2, 3, 4, 5]
    assert grown < 100_000  # of 5 MB for each
