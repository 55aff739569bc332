"""Finding a data set's folder: under any of its names, in any case, and never by a guess."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workers.datasets.locate import by_name, locate, unwrap
from workers.errors import DataError
from workers.suites import DatasetSpec

SPEC = DatasetSpec("imagenet-1k", "imagenet/val", aliases=("ILSVRC2012/val", "val"))
PLAIN = DatasetSpec("a", "imagenet-a")


def folders(root: Path, *places: str) -> None:
    for place in places:
        (root / place).mkdir(parents=True)


def refusal(spec: DatasetSpec, root: Path) -> str:
    with pytest.raises(DataError) as caught:
        locate(spec, root)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    "place", ["imagenet/val", "ImageNet/val", "IMAGENET/VAL", "ilsvrc2012/Val", "val", "Val"]
)
def test_every_name_is_found_in_any_case(tmp_path: Path, place: str) -> None:
    folders(tmp_path, place, "imagenet-a", "other")
    assert locate(SPEC, tmp_path) == tmp_path / place


def test_what_is_not_there_is_said_with_every_name(tmp_path: Path) -> None:
    folders(tmp_path, "imagenet/train", "valley")
    told = refusal(SPEC, tmp_path)
    assert told == (
        f"{tmp_path}/imagenet/val: there is no such folder "
        f"(nor is there ILSVRC2012/val, val in {tmp_path})"
    )
    assert refusal(PLAIN, tmp_path) == f"{tmp_path}/imagenet-a: there is no such folder"


def test_a_root_that_is_not_there_is_like_a_missing_set(tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(SPEC, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "places", [("imagenet/val", "val"), ("imagenet/val", "ImageNet/val"), ("VAL", "val")]
)
def test_two_places_are_an_error_that_names_both(tmp_path: Path, places: tuple[str, str]) -> None:
    folders(tmp_path, *places)
    told = refusal(SPEC, tmp_path)
    assert told.startswith("imagenet-1k could be any of ")
    assert all(str(tmp_path / place) in told for place in places)
    assert told.endswith("(move or rename all but one)")


def test_a_file_of_the_name_is_no_place(tmp_path: Path) -> None:
    folders(tmp_path, "imagenet/val")
    (tmp_path / "val").touch()
    assert locate(SPEC, tmp_path) == tmp_path / "imagenet" / "val"


def test_a_link_to_the_other_place_is_the_same_place(tmp_path: Path) -> None:
    folders(tmp_path, "imagenet/val")
    (tmp_path / "val").symlink_to(tmp_path / "imagenet" / "val")
    assert locate(SPEC, tmp_path) == tmp_path / "imagenet" / "val"


def test_a_place_that_holds_another_is_not_meant(tmp_path: Path) -> None:
    spec = DatasetSpec("v2", "v2/matched", aliases=("v2",))
    folders(tmp_path, "v2/matched", "v2/top-images")
    assert locate(spec, tmp_path) == tmp_path / "v2" / "matched"
    shutil.rmtree(tmp_path / "v2" / "matched")
    assert locate(spec, tmp_path) == tmp_path / "v2"


def test_hidden_folders_are_no_places(tmp_path: Path) -> None:
    folders(tmp_path, "val", "imagenet/.val")
    assert locate(SPEC, tmp_path) == tmp_path / "val"


# ---------------------------------------------------------------------------- unwrapping


@pytest.mark.parametrize("inside", [".", "imagenet-r", "imagenet-r/val", "x/y/z"])
def test_folders_that_hold_nothing_else_are_gone_through(tmp_path: Path, inside: str) -> None:
    folders(tmp_path, f"{inside}/n01", f"{inside}/n02")
    assert unwrap(tmp_path, ["n01", "n02"]) == tmp_path / inside


def test_what_archivers_leave_does_not_count(tmp_path: Path) -> None:
    folders(tmp_path, "set/n01", "set/n02", "__MACOSX", ".cache")
    (tmp_path / "README.txt").touch()
    assert unwrap(tmp_path, ["n01", "n02"]) == tmp_path / "set"


@pytest.mark.parametrize("only", ["n01", "N01"])
def test_a_set_s_own_folder_is_not_gone_into_even_if_it_is_the_last(
    tmp_path: Path, only: str
) -> None:
    folders(tmp_path, f"{only}/deeper")
    assert unwrap(tmp_path, ["n01", "n02"]) == tmp_path


def test_of_two_folders_none_is_chosen(tmp_path: Path) -> None:
    folders(tmp_path, "train/n01", "val/n01")
    assert unwrap(tmp_path, ["n01"]) == tmp_path


# ---------------------------------------------------------------------------- by name


def test_names_are_matched_in_any_case(tmp_path: Path) -> None:
    folders(tmp_path, "Images", "mappings", "extra")
    found = by_name(tmp_path, ["images", "mappings", "labels"])
    assert found == {"images": tmp_path / "Images", "mappings": tmp_path / "mappings"}


def test_two_that_differ_in_case_are_an_error(tmp_path: Path) -> None:
    folders(tmp_path, "Images", "images", "x", "X")
    with pytest.raises(DataError, match=r"images could be any of .*Images.*images") as caught:
        by_name(tmp_path, ["images"])
    assert len(caught.value.problems) == 1  # what nobody asked for may be there twice
