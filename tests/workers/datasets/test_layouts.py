"""Reading folders: a class goes by its name, and what is missing or broken is said by name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from workers.datasets import Dataset, layouts, read_dataset
from workers.errors import DataError
from workers.labels import LabelSpace
from workers.suites import DatasetSpec, Suite

IDS = ("n09", "n02", "n05", "n00", "n11", "n03", "n07", "n01", "n10", "n04", "n08", "n06")
"""Twelve classes whose label order is not that of their names."""
SPACE = LabelSpace(IDS)


def read(spec: DatasetSpec, root: Path) -> Dataset:
    suite = Suite("s", "1", SPACE, spec, ())
    return read_dataset(suite, spec, root)


def put(folder: Path, names: Iterable[str], images: int = 1) -> None:
    """Make class folders with empty image files: the layouts do not decode them."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(images):
            (folder / name / f"{name}_{i}.JPEG").touch()


def problems(spec: DatasetSpec, root: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(spec, root)
    return [str(problem) for problem in caught.value.problems]


def right_labels(dataset: Dataset, split: int = 0) -> dict[str, tuple[int, ...]]:
    """File -> the label-space indices that are right for it."""
    part = dataset.splits[split]
    return {
        name: dataset.classes.targets[label]
        for name, label in zip(part.files, part.labels, strict=True)
    }


def test_the_layouts_of_the_benchmark_are_there() -> None:
    assert {"class_folders", "index_folders", "corruption_folders", "objectnet"} <= set(layouts())


# ---------------------------------------------------------------------------- index folders

V2 = DatasetSpec("v2", "v2", "index_folders")


def test_folder_10_is_label_10_and_not_the_third_one(tmp_path: Path) -> None:
    put(tmp_path / "v2", map(str, range(12)), images=2)
    found = right_labels(read(V2, tmp_path))
    assert found == {f"{k}/{k}_{i}.JPEG": (k,) for k in range(12) for i in range(2)}
    assert found["10/10_0.JPEG"] == (10,)
    assert found["2/2_0.JPEG"] == (2,)
    assert read(V2, tmp_path).classes.classes == IDS


def test_index_folders_missing_and_extra_are_named(tmp_path: Path) -> None:
    put(tmp_path / "v2", [*map(str, range(10)), "12", "02"])
    found = problems(V2, tmp_path)
    assert len(found) == 3
    assert any("v2/12: is no class" in text for text in found)
    assert any("v2/02: is no class" in text for text in found)
    assert any("2 class folders are missing: 10, 11" in text for text in found)


# ---------------------------------------------------------------------------- class folders

WHOLE = DatasetSpec("val", "val")
SUBSET = DatasetSpec("a", "a", classes=("n07", "n05", "n11"))


def test_a_class_goes_by_its_id_and_never_by_its_place(tmp_path: Path) -> None:
    put(tmp_path / "val", IDS)
    found = right_labels(read(WHOLE, tmp_path))
    assert found == {f"{name}/{name}_0.JPEG": (k,) for k, name in enumerate(IDS)}
    assert found["n00/n00_0.JPEG"] == (3,)  # the first folder, but the fourth label


def test_a_subset_keeps_the_label_space_s_indices(tmp_path: Path) -> None:
    put(tmp_path / "a", ["n05", "n07", "n11"], images=3)
    dataset = read(SUBSET, tmp_path)
    found = right_labels(dataset)
    by_id = {"n05": 2, "n07": 6, "n11": 4}
    assert found == {f"{n}/{n}_{i}.JPEG": (k,) for n, k in by_id.items() for i in range(3)}
    assert dataset.classes.columns == (2, 4, 6)
    assert dataset.classes.is_masked
    assert dataset.classes.is_one_to_one
    for name, label in zip(dataset.splits[0].files, dataset.splits[0].labels, strict=True):
        assert dataset.classes.classes[label] == name.split("/")[0]


def test_class_folders_missing_and_extra_are_named_all_at_once(tmp_path: Path) -> None:
    put(tmp_path / "a", ["n05", "n00", "stray"])
    found = problems(SUBSET, tmp_path)
    assert len(found) == 3
    assert any("a/n00: is no class of this data set" in text for text in found)
    assert any("a/stray: is no class of this data set" in text for text in found)
    assert any("2 class folders are missing: n07, n11" in text for text in found)


def test_many_missing_folders_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "val", IDS[:4])
    (found,) = problems(WHOLE, tmp_path)
    assert "8 class folders are missing: n01, n03, n04, n06, n07, ..." in found


def test_folders_without_an_image_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a", ["n05"])
    put(tmp_path / "a", ["n07", "n11"], images=0)
    (tmp_path / "a" / "n07" / "notes.txt").touch()
    (tmp_path / "a" / "n11" / ".hidden.jpg").touch()
    found = sorted(problems(SUBSET, tmp_path))
    assert len(found) == 2
    assert "a/n07: has no image in it" in found[0]
    assert "a/n11: has no image in it" in found[1]


def test_no_folder_at_all_is_named(tmp_path: Path) -> None:
    for spec in (WHOLE, V2, DatasetSpec("o", "o", "objectnet")):
        assert str(tmp_path / spec.folder) in problems(spec, tmp_path)[0]


@pytest.mark.parametrize("there", [11, 13])
def test_another_number_of_images_is_an_error(tmp_path: Path, there: int) -> None:
    put(tmp_path / "val", IDS)
    spec = DatasetSpec("val", "val", n_images=12)
    assert len(read(spec, tmp_path)) == 12
    if there == 11:
        # One class keeps an image, so that only the count can tell.
        (tmp_path / "val" / "n00" / "more.jpg").touch()
        spec = DatasetSpec("val", "val", n_images=14)
    else:
        (tmp_path / "val" / "n00" / "more.jpg").touch()
    (found,) = problems(spec, tmp_path)
    assert f"13 images, {spec.n_images} expected" in found


def test_only_images_count_and_their_order_is_fixed(tmp_path: Path) -> None:
    for name in ("n05", "n07", "n11"):
        (tmp_path / "a" / name).mkdir(parents=True)
        for file in ("b.jpg", "a.PNG", "c.JPEG", "README.md", ".x.jpg", "d.txt"):
            (tmp_path / "a" / name / file).touch()
    (tmp_path / "a" / ".ipynb_checkpoints").mkdir()
    dataset = read(SUBSET, tmp_path)
    assert dataset.splits[0].files == (
        *(f"n05/{name}" for name in ("a.PNG", "b.jpg", "c.JPEG")),
        *(f"n11/{name}" for name in ("a.PNG", "b.jpg", "c.JPEG")),
        *(f"n07/{name}" for name in ("a.PNG", "b.jpg", "c.JPEG")),
    )
    assert dataset.splits[0].labels == (0, 0, 0, 1, 1, 1, 2, 2, 2)


def test_the_digest_tells_files_and_labels_apart(tmp_path: Path) -> None:
    put(tmp_path / "a", ["n05", "n07", "n11"])
    put(tmp_path / "elsewhere" / "a", ["n05", "n07", "n11"])
    first = read(SUBSET, tmp_path).digest
    assert read(SUBSET, tmp_path / "elsewhere").digest == first
    (tmp_path / "elsewhere" / "a" / "n05" / "n05_0.JPEG").rename(
        tmp_path / "elsewhere" / "a" / "n07" / "n05_0.JPEG"
    )
    (tmp_path / "elsewhere" / "a" / "n05" / "x.JPEG").touch()
    assert read(SUBSET, tmp_path / "elsewhere").digest != first


# ---------------------------------------------------------------------------- corruptions

SPLITS = (("fog", 1), ("fog", 2), ("blur", 1), ("blur", 2))
C = DatasetSpec("c", "c", "corruption_folders", splits=SPLITS)


def put_corruptions(root: Path) -> None:
    for corruption, severity in SPLITS:
        put(root / "c" / corruption / str(severity), IDS)


def test_every_split_is_read_by_itself(tmp_path: Path) -> None:
    put_corruptions(tmp_path)
    dataset = read(C, tmp_path)
    assert tuple((s.corruption, s.severity) for s in dataset.splits) == SPLITS
    for number, (corruption, severity) in enumerate(SPLITS):
        assert dataset.splits[number].folder == tmp_path / "c" / corruption / str(severity)
        found = right_labels(dataset, number)
        assert found == {f"{name}/{name}_0.JPEG": (k,) for k, name in enumerate(IDS)}
    assert len(dataset) == 48


def test_a_missing_split_is_an_error_and_not_a_shorter_mean(tmp_path: Path) -> None:
    put_corruptions(tmp_path)
    (tmp_path / "c" / "fog" / "2").rename(tmp_path / "c" / "fog" / "3")
    (tmp_path / "c" / "blur").rename(tmp_path / "c" / "blurred")
    found = problems(C, tmp_path)
    missing = {str(tmp_path / "c" / place) for place in ("fog/2", "blur/1", "blur/2")}
    assert {text.split(": ")[0] for text in found} == missing


def test_a_split_that_lacks_a_class_is_an_error(tmp_path: Path) -> None:
    put_corruptions(tmp_path)
    (tmp_path / "c" / "blur" / "2" / "n05" / "n05_0.JPEG").unlink()
    (tmp_path / "c" / "blur" / "2" / "n05").rmdir()
    (found,) = problems(C, tmp_path)
    assert "c/blur/2" in found
    assert "n05" in found


# ---------------------------------------------------------------------------- objectnet

OBJECTNET = DatasetSpec("o", "o", "objectnet", n_classes=2, n_indices=4, options={"border": 2})
FOLDER_LABELS = {"air_freshener": "Air freshener", "chair": "Chair", "mug": "Mug", "lamp": "Lamp"}
NAMES = ["kit fox, Vulpes", "coffee mug", "folding chair", "rocking chair, rocker", "barber chair"]
NAMES += [f"thing {line}" for line in range(5, 12)]
LINES = {"0": 4, "1": 2, "2": 1, "3": 0, "4": 3} | {str(k): k for k in range(5, 12)}
"""PyTorch index -> line of NAMES: 0 barber, 1 folding, 2 mug, 3 fox, 4 rocking."""
CLASSES = {"Chair": "folding chair; rocking chair, rocker; barber chair", "Mug": "coffee mug"}


def put_objectnet(
    root: Path,
    folder_labels: object = FOLDER_LABELS,
    classes: object = CLASSES,
    lines: object = LINES,
    names: list[str] | None = None,
) -> None:
    put(root / "o" / "images", FOLDER_LABELS, images=2)
    mappings = root / "o" / "mappings"
    mappings.mkdir()
    for name, value in [
        ("folder_to_objectnet_label", folder_labels),
        ("objectnet_to_imagenet_1k", classes),
        ("pytorch_to_imagenet_2012_id", lines),
    ]:
        (mappings / f"{name}.json").write_text(json.dumps(value))
    text = "\n".join(NAMES if names is None else names) + "\n"
    (mappings / "imagenet_to_label_2012_v2").write_text(text)


def test_objectnet_s_files_map_a_folder_to_every_right_index(tmp_path: Path) -> None:
    put_objectnet(tmp_path)
    dataset = read(OBJECTNET, tmp_path)
    assert right_labels(dataset) == {
        "chair/chair_0.JPEG": (0, 1, 4),
        "chair/chair_1.JPEG": (0, 1, 4),
        "mug/mug_0.JPEG": (2,),
        "mug/mug_1.JPEG": (2,),
    }
    assert dataset.classes.columns == (0, 1, 2, 4)
    assert not dataset.classes.is_one_to_one
    assert set(dataset.ignored) == {"air_freshener", "lamp"}
    assert dataset.border == 2
    assert len(dataset) == 4


def test_objectnet_s_class_folder_missing_or_not_in_the_mapping(tmp_path: Path) -> None:
    put_objectnet(tmp_path)
    images = tmp_path / "o" / "images"
    (images / "mug").rename(images / "mugs")
    found = problems(OBJECTNET, tmp_path)
    assert len(found) == 2
    assert any("images/mugs" in text and "did you mean 'mug'?" in text for text in found)
    assert any("images/mug: this class folder is missing" in text for text in found)


def test_an_ignored_folder_may_be_absent(tmp_path: Path) -> None:
    put_objectnet(tmp_path)
    for file in (tmp_path / "o" / "images" / "lamp").iterdir():
        file.unlink()
    (tmp_path / "o" / "images" / "lamp").rmdir()
    assert read(OBJECTNET, tmp_path).ignored == ("air_freshener",)


def test_a_mapping_that_does_not_lead_all_the_way_is_an_error(tmp_path: Path) -> None:
    wrong = {**CLASSES, "Mug": "cofee mug", "Sofa": "barber chair"}
    put_objectnet(tmp_path, classes=wrong)
    found = problems(OBJECTNET, tmp_path)
    assert len(found) == 2
    assert any("'Mug' maps to 'cofee mug'" in text for text in found)
    assert any("'Sofa' is the label of no folder" in text for text in found)


def test_a_mapping_beyond_the_label_list_is_an_error(tmp_path: Path) -> None:
    put_objectnet(tmp_path, lines={**LINES, "2": 12})
    (found,) = problems(OBJECTNET, tmp_path)
    assert "pytorch_to_imagenet_2012_id.json: should give each of the 12 lines" in found


@pytest.mark.parametrize(
    "lines",
    [
        {k: v for k, v in LINES.items() if k != "7"},
        {**LINES, "12": 12},
        {**{k: v for k, v in LINES.items() if k != "7"}, "77": 7},
    ],
)
def test_a_label_index_without_a_line_is_an_error(tmp_path: Path, lines: dict[str, int]) -> None:
    put_objectnet(tmp_path, lines=lines)
    (found,) = problems(OBJECTNET, tmp_path)
    assert "should number the label indices from 0 to 11" in found


def test_two_label_indices_on_one_line_are_an_error(tmp_path: Path) -> None:
    put_objectnet(tmp_path, lines={**LINES, "3": 1})
    (found,) = problems(OBJECTNET, tmp_path)
    assert "should give each of the 12 lines" in found


def test_a_label_of_two_folders_is_an_error(tmp_path: Path) -> None:
    put_objectnet(tmp_path, folder_labels={**FOLDER_LABELS, "lamp": "Mug"})
    (found,) = problems(OBJECTNET, tmp_path)
    assert "folder_to_objectnet_label.json: 'Mug' is the label of 2 folders" in found


def test_lines_of_another_order_are_found_out_by_the_label_space_s_names(tmp_path: Path) -> None:
    """Chair and Mug would both be mapped, and wrongly: a shifted list looks like any other."""
    names = tuple(NAMES[line] for _, line in sorted((int(k), v) for k, v in LINES.items()))
    suite = Suite("s", "1", LabelSpace(IDS, names), OBJECTNET, ())
    put_objectnet(tmp_path)
    assert len(read_dataset(suite, OBJECTNET, tmp_path)) == 4
    shifted = {k: (line + 1) % 12 for k, line in LINES.items()}
    (tmp_path / "o" / "mappings" / "pytorch_to_imagenet_2012_id.json").write_text(
        json.dumps(shifted)
    )
    with pytest.raises(DataError) as caught:
        read_dataset(suite, OBJECTNET, tmp_path)
    assert len(caught.value.problems) == 4
    assert "'Mug' maps to 'coffee mug', index 3, which is 'kit fox, Vulpes'" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("folder_to_objectnet_label.json", None, "cannot be read"),
        ("imagenet_to_label_2012_v2", None, "cannot be read"),
        ("objectnet_to_imagenet_1k.json", "{", "Invalid JSON"),
        ("pytorch_to_imagenet_2012_id.json", "[1, 2]", "should be an object"),
    ],
)
def test_a_mapping_file_missing_or_broken_is_named(
    tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    put_objectnet(tmp_path)
    path = tmp_path / "o" / "mappings" / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    (found,) = problems(OBJECTNET, tmp_path)
    assert str(path) in found
    assert message in found


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("pytorch_to_imagenet_2012_id.json", {"zero": 4}),
        ("pytorch_to_imagenet_2012_id.json", {"0": [4]}),
        ("objectnet_to_imagenet_1k.json", {"Mug": ["coffee mug"]}),
        ("folder_to_objectnet_label.json", {"mug": ["Mug"]}),
    ],
)
def test_a_mapping_file_of_another_shape_is_named(tmp_path: Path, file: str, value: object) -> None:
    put_objectnet(tmp_path)
    (tmp_path / "o" / "mappings" / file).write_text(json.dumps(value))
    assert file in problems(OBJECTNET, tmp_path)[0]


def test_a_class_name_that_stands_for_two_labels_is_an_error(tmp_path: Path) -> None:
    """ImageNet has two cranes: a name that is listed twice does not say which index is right."""
    put_objectnet(tmp_path, names=["coffee mug", *NAMES[1:]])
    assert "coffee mug" in problems(OBJECTNET, tmp_path)[0]
