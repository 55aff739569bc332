"""`rib data check`: nothing that is missing, wrong or broken goes unseen, and no work is lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.data_check import (
    DataCheck,
    Decoding,
    SetCheck,
    Verdict,
    check_data,
    specs_of,
)
from orchestrator.data_decode import PIECE, Piece, Progress, Work, decode_piece, read_log
from orchestrator.data_manifest import DEFAULT, BadFile, SetRecord, read_manifest
from orchestrator.extensions import find_suite
from orchestrator.report.checks import check_record
from tests.imagenet_archives import BROKEN, ODD, PUBLISHED_COUNTS, Archives, miniature
from tests.orchestrator.rib import rib
from workers.datasets import read_dataset
from workers.errors import UserError
from workers.suites import Suite, suites

DIGITS = suites()["digits-rib"]
SIZES = {
    "val": (200, 10, 10, 1),
    "v2": (150, 10, 10, 1),
    "a": (84, 6, 6, 1),
    "r": (484, 7, 7, 1),
    "sketch": (186, 10, 10, 1),
    "objectnet": (156, 7, 9, 1),
    "cartoon": (200, 10, 10, 1),
    "drawing": (200, 10, 10, 1),
    "c": (4000, 10, 10, 40),
    "train": (900, 10, 10, 1),
}
"""Images, classes, label indices and splits of digits-rib, as its own documentation has them."""


SOME = ("val", "digits-a", "digits-r", "sketch", "objectnet-1.0")


@pytest.fixture
def root(digits_root: Path, tmp_path: Path) -> Path:
    """Five sets in hard links: unlink a file before writing it."""
    return linked(digits_root, tmp_path / "data", SOME)


@pytest.fixture
def whole(digits_root: Path, tmp_path: Path) -> Path:
    """The whole suite in hard links: unlink a file before writing it."""
    names = [path.name for path in digits_root.iterdir() if not path.name.startswith(".")]
    return linked(digits_root, tmp_path / "data", names)


def linked(source: Path, target: Path, names: Sequence[str]) -> Path:
    for name in names:
        shutil.copytree(source / name, target / name, copy_function=os.link)
    return target


def rewrite(path: Path, data: bytes) -> None:
    """Replace a file that may be a hard link."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def check(root: Path, *names: str, suite: Suite = DIGITS, **options: Any) -> DataCheck:
    return check_data(suite, root, specs_of(suite, names or None), **options)


def by_name(found: DataCheck) -> dict[str, SetCheck]:
    return {one.spec.name: one for one in found.sets}


def told(one: SetCheck, root: Path) -> list[str]:
    return [f"{p.where}: {p.message}".removeprefix(f"{root}/") for p in one.problems]


# --------------------------------------------------------------------------------- names


def test_a_whole_suite_is_good_and_every_set_has_its_numbers(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rib("data", "check", "digits-rib", "--root", whole, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    sizes = {}
    for one in record["sets"]:
        assert one["expected"] == one["found"], one["set"]
        sizes[one["set"]] = tuple(
            one["found"][k] for k in ("images", "classes", "indices", "splits")
        )
    assert sizes == SIZES
    assert record["ok"]
    assert {one["verdict"] for one in record["sets"]} == {"good"}


def test_everything_that_is_wrong_is_told_at_once(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    min((whole / "val" / "d0").iterdir()).unlink()
    shutil.copy(min((whole / "sketch" / "d1").iterdir()), whole / "sketch" / "d1" / "one-more.png")
    shutil.rmtree(whole / "digits-r")
    (whole / "digits-a" / "d3").rename(whole / "digits-a" / "dd3")
    shutil.rmtree(whole / "digits-c" / "fog" / "3")
    min((whole / "digits-c" / "fog" / "4" / "d0").iterdir()).unlink()
    for image in (whole / "digits-cartoon" / "d9").iterdir():
        image.unlink()
    assert rib("data", "check", "digits-rib", "--root", whole) == 1
    printed = capsys.readouterr().out
    found = by_name(check(whole))
    assert {name: told(one, whole) for name, one in found.items() if one.problems} == {
        "val": ["val: 199 images, 200 expected"],
        "a": [
            "digits-a/dd3: is no class of this data set",
            "digits-a: 1 class folders are missing: d3",
        ],
        "r": ["digits-r: there is no such folder"],
        "sketch": ["sketch: 187 images, 186 expected"],
        "cartoon": ["digits-cartoon/d9: has no image in it"],
        "c": ["digits-c/fog/3: there is no such folder", "digits-c/fog/4: 99 images, 100 expected"],
    }
    verdicts = {name: one.verdict for name, one in found.items()}
    assert verdicts == dict.fromkeys(SIZES, Verdict.GOOD) | {
        "val": Verdict.WRONG,
        "a": Verdict.WRONG,
        "r": Verdict.MISSING,
        "sketch": Verdict.WRONG,
        "cartoon": Verdict.WRONG,
        "c": Verdict.WRONG,
    }
    assert printed.count("good") == 4 + 1, "four sets, and the line that counts them"
    for part in ("unpack it to", "a download was cut short", "take out what was added", "nothing"):
        assert part in printed


def test_sets_that_are_named_are_looked_at_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "digits-r")
    assert rib("data", "check", "digits-rib", "--root", root, "--sets", "a, val,a", "--json") == 0
    assert [one["set"] for one in json.loads(capsys.readouterr().out)["sets"]] == ["a", "val"]
    assert set(read_manifest(root / DEFAULT).suites["digits-rib"]) == {"a", "val"}
    assert rib("data", "check", "digits-rib", "--root", root, "--sets", "sketch") == 0
    assert set(read_manifest(root / DEFAULT).suites["digits-rib"]) == {"a", "val", "sketch"}


@pytest.mark.parametrize(
    ("arguments", "complaints"),
    [
        (["digit-rib", "--root", "."], ["unknown suite 'digit-rib' (did you mean 'digits-rib'?)"]),
        (["digits-rib", "--root", "gone"], ["--root: there is no folder gone"]),
        (
            ["digits-rib", "--root", ".", "--sets", "vall,x"],
            ["no set 'vall' (did you mean 'val'?)", "no set 'x' (allowed: a, c, cartoon,"],
        ),
        (["digits-rib", "--root", ".", "--again"], ["--again: is about decoding (add --decode)"]),
    ],
    ids=["suite", "root", "sets", "again"],
)
def test_bad_arguments_are_refused(
    arguments: list[str],
    complaints: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rib("data", "check", *arguments) == 2
    said = capsys.readouterr().err
    assert all(complaint in said for complaint in complaints)
    assert not any(tmp_path.iterdir())


def test_numbers_that_nobody_published_are_not_known(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.cli.printing import print_table
    from orchestrator.report.checks import check_tables

    suite = replace(DIGITS, id=replace(DIGITS.id, n_images=None))
    min((root / "val" / "d0").iterdir()).unlink()
    found = check(root, "val", suite=suite)
    assert found.ok
    (table,) = check_tables(found)
    print_table(table)
    printed = capsys.readouterr().out
    assert "images not known" in printed
    assert "199 images" in printed


def test_a_mapping_that_does_not_lead_to_every_class_is_wrong(root: Path) -> None:
    by_spec = {
        spec.name: replace(spec, n_classes=8, n_indices=10) if spec.name == "objectnet" else spec
        for spec in DIGITS.ood
    }
    found = check(root, "objectnet", suite=replace(DIGITS, ood=tuple(by_spec.values())))
    assert told(found.sets[0], root) == [
        "objectnet-1.0/images: 7 classes, 8 expected",
        "objectnet-1.0/images: 9 label indices that they map to, 10 expected",
    ]


def test_splits_are_counted_one_by_one_unless_their_sum_was_accepted(whole: Path) -> None:
    lost = min((whole / "digits-c" / "fog" / "1" / "d0").iterdir())
    lost.rename(whole / "digits-c" / "fog" / "2" / "d0" / "from-fog-1.png")
    (one,) = check(whole, "c").sets
    assert told(one, whole) == [
        "digits-c/fog/1: 99 images, 100 expected",
        "digits-c/fog/2: 101 images, 100 expected",
    ]
    assert check(whole, "c", suite=DIGITS.with_images({"c": 4000})).ok
    (one,) = check(whole, "c", suite=DIGITS.with_images({"c": 3999})).sets
    assert told(one, whole) == ["digits-c: 4000 images, 3999 expected"]


# ------------------------------------------------------------------------------ manifest


def record_of(root: Path, name: str) -> SetRecord:
    record = read_manifest(root / DEFAULT).record("digits-rib", name)
    assert record is not None
    return record


def test_the_manifest_says_what_was_seen_of_every_set(whole: Path) -> None:
    shutil.rmtree(whole / "digits-r")
    min((whole / "val" / "d0").iterdir()).unlink()
    check(whole)
    manifest = json.loads((whole / DEFAULT).read_text())["suites"]["digits-rib"]
    assert set(manifest) == set(SIZES) - {"r"}, "nothing is known of what is not there"
    assert manifest["val"]["problems"] == ["val: 199 images, 200 expected"]
    assert (
        manifest["objectnet"].items()
        >= {
            "suite_version": "1",
            "digest": read_dataset(DIGITS, DIGITS.dataset("objectnet"), whole).digest,
            "images": 156,
            "classes": 7,
            "indices": 9,
            "splits": 1,
            "problems": [],
            "decoded": None,
        }.items()
    )


def test_a_change_of_names_or_labels_is_noted(root: Path) -> None:
    check(root, "a")
    before = record_of(root, "a").digest
    (one,) = check(root, "a").sets
    assert one.notes == ()
    moved = min((root / "digits-a" / "d1").iterdir())
    moved.rename(root / "digits-a" / "d3" / moved.name)
    (one,) = check(root, "a").sets
    assert one.verdict is Verdict.GOOD, "as many images and classes as there should be"
    assert len(one.notes) == 1
    assert before in one.notes[0]
    assert record_of(root, "a").digest == one.digest != before
    assert check(root, "a").sets[0].notes == ()


def test_nothing_is_written_into_a_root_without_any_set(tmp_path: Path) -> None:
    """A suite that can be made is made in an empty folder: it has to stay empty."""
    found = check(tmp_path)
    assert not found.ok
    assert check_record(found)["manifest"] is None
    assert not any(tmp_path.iterdir())


def test_a_root_that_cannot_be_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / ".rib").write_text("in the way of the folder")
    arguments = ["data", "check", "digits-rib", "--root", root, "--sets", "a"]
    assert rib(*arguments) == 0, "the data are good"
    assert "rib: no manifest: cannot write manifest.json" in capsys.readouterr().err
    assert rib(*arguments, "--decode") == 2, "what decoding finds would be lost"
    assert "name a place with --manifest PATH" in capsys.readouterr().err
    assert rib(*arguments, "--manifest", root / ".rib" / "mine.json") == 2
    elsewhere = tmp_path / "kept" / "digits.json"
    assert rib(*arguments, "--manifest", elsewhere) == 0
    assert set(read_manifest(elsewhere).suites["digits-rib"]) == {"a"}


@pytest.mark.parametrize("text", ["", "{}}", '{"version": 2}', '{"suites": {"s": {"a": {}}}}'])
def test_a_manifest_that_cannot_be_read_is_not_overwritten(
    text: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / DEFAULT
    path.parent.mkdir()
    path.write_text(text)
    assert rib("data", "check", "digits-rib", "--root", root, "--sets", "a") == 2
    assert f"rib: {path}: cannot be read as a manifest" in capsys.readouterr().err
    assert path.read_text() == text


def test_records_of_two_suites_and_of_sets_that_were_not_looked_at_stay(root: Path) -> None:
    check(root, "val", "a")
    check(root, "val", suite=replace(DIGITS, name="mine", version="7"))
    manifest = read_manifest(root / DEFAULT)
    assert set(manifest.suites["digits-rib"]) == {"val", "a"}
    mine = manifest.record("mine", "val")
    assert mine is not None
    assert mine.suite_version == "7"


# ------------------------------------------------------------------------------ decoding


class Pool(ThreadPoolExecutor):
    """Decodes in this process, and remembers which pieces it was given."""

    def __init__(self, until: int | None = None) -> None:
        super().__init__(2)
        self.given: list[Work] = []
        self.until = until

    def submit(self, function: Callable[..., Any], /, *work: Any, **_: Any) -> Future[Any]:
        assert function is decode_piece
        if self.until is not None and len(self.given) >= self.until:
            raise KeyboardInterrupt
        self.given.extend(work)
        return super().submit(function, *work)


def decode(root: Path, *names: str, again: bool = False, until: int | None = None) -> Any:
    """Check with decoding; return what was found and the pieces that were decoded."""
    pool = Pool(until)
    with pool:
        return check(root, *names, decoding=Decoding(pool, again)), pool.given


def files_of(root: Path, name: str) -> list[Path]:
    dataset = read_dataset(DIGITS, DIGITS.dataset(name), root)
    return [split.folder / file for split in dataset.splits for file in split.files]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_files_are_listed_and_odd_ones_are_not(root: Path) -> None:
    files = files_of(root, "r")
    for path, data in zip(files[60:], ODD.values(), strict=False):
        rewrite(path, data)
    bad = files[10 : 10 + len(BROKEN)]
    for path, data in zip(bad, BROKEN.values(), strict=True):
        rewrite(path, data)
    found, _ = decode(root, "r")
    (one,) = found.sets
    assert one.verdict is Verdict.BAD_IMAGES
    assert not found.ok
    assert one.decoded.images == 484
    assert [bad.file for bad in one.decoded.bad_files] == [str(p.relative_to(root)) for p in bad]
    assert all("does not decode" in bad.reason for bad in one.decoded.bad_files)
    assert record_of(root, "r").decoded == one.decoded
    (record,) = check_record(found)["sets"]
    assert len(record["decoded"]["bad_files"]) == len(BROKEN)


def test_an_image_that_is_all_border_is_bad_where_there_is_a_border(root: Path) -> None:
    from PIL import Image

    for name in ("objectnet", "sketch"):
        path = files_of(root, name)[3]
        path.unlink()
        Image.new("RGB", (4, 4)).save(path, "PNG")
    found, _ = decode(root, "objectnet", "sketch")
    checks = by_name(found)
    assert [bad.reason for bad in checks["objectnet"].decoded.bad_files] == [  # type: ignore[union-attr]
        "this image of 4 x 4 is all border: 2 px a side"
    ]
    assert checks["sketch"].verdict is Verdict.GOOD


def test_the_content_digest_is_over_the_bytes_of_pieces_in_order(whole: Path) -> None:
    found, given = decode(whole, "sketch", "c")
    for one in found.sets:
        files = files_of(whole, one.spec.name)
        size = len(files) // len(one.spec.splits)
        pieces = ""
        for split in range(0, len(files), size):
            for start in range(split, split + size, PIECE):
                end = min(start + PIECE, split + size)
                digests = (hashlib.sha256(p.read_bytes()).hexdigest() for p in files[start:end])
                text = "".join(f"sha256:{digest}" for digest in digests)
                pieces += hashlib.sha256(text.encode()).hexdigest()
        expected = hashlib.sha256(pieces.encode()).hexdigest()
        assert one.decoded.content_digest == f"sha256:{expected}"
    assert len(given) == 3 + 40 * 2, "186 images, and 100 in each of 40 splits, by 64"


def test_what_was_decoded_is_not_decoded_again_unless_asked_for(root: Path) -> None:
    first, given = decode(root, "a", "sketch")
    assert len(given) == 2 + 3
    second, given = decode(root, "a", "sketch")
    assert given == []
    assert [one.decoded for one in second.sets] == [one.decoded for one in first.sets]
    names_only = check(root, "a", "sketch")
    assert [one.decoded for one in names_only.sets] == [one.decoded for one in first.sets]
    assert record_of(root, "a").is_decoded
    _, given = decode(root, "a", again=True)
    assert len(given) == 2


@pytest.mark.parametrize("until", [1, 4, 7])
def test_an_interrupted_check_goes_on_where_it_was(root: Path, until: int) -> None:
    """Pieces that were under way when it was interrupted may be decoded twice, others not."""
    uninterrupted, _ = decode(root, "r")
    shutil.rmtree(root / ".rib")
    with pytest.raises(KeyboardInterrupt):
        decode(root, "r", until=until)
    log = root / ".rib" / "manifest.decoded" / "digits-rib.r.jsonl"
    kept = set(read_log(log))
    record = record_of(root, "r")
    assert not record.is_decoded
    assert (record.decoded.images if record.decoded else 0) <= 64 * until
    resumed, given = decode(root, "r")
    assert {work.key for work in given} == {("", at) for at in range(0, 484, 64)} - kept
    assert replace_time(resumed.sets[0]) == replace_time(uninterrupted.sets[0])
    assert record_of(root, "r").is_decoded


def replace_time(one: SetCheck) -> Any:
    assert one.decoded is not None
    return one.decoded.model_dump(exclude={"at"})


def test_a_log_that_was_cut_short_costs_one_piece(root: Path) -> None:
    whole, _ = decode(root, "r")
    log = root / ".rib" / "manifest.decoded" / "digits-rib.r.jsonl"
    data = log.read_bytes()
    log.write_bytes(data[:-40])
    assert len(read_log(log)) == 7
    names_only = check(root, "r").sets[0].decoded
    assert names_only is not None
    assert names_only.content_digest is None
    assert names_only.images in (484 - 64, 484 - 36)
    mended, given = decode(root, "r")
    assert len(given) == 1
    assert replace_time(mended.sets[0]) == replace_time(whole.sets[0])
    assert decode(root, "r")[1] == [], "the line after the broken one is readable"


def test_bad_images_are_tried_again_and_nothing_else(root: Path) -> None:
    files = files_of(root, "r")
    good = files[100].read_bytes()
    rewrite(files[100], good[: len(good) // 2])
    found, _ = decode(root, "r")
    assert found.sets[0].verdict is Verdict.BAD_IMAGES
    assert check(root, "r").sets[0].verdict is Verdict.BAD_IMAGES, "known without decoding"
    rewrite(files[100], good)
    found, given = decode(root, "r")
    assert [work.key for work in given] == [("", 64)]
    assert found.sets[0].verdict is Verdict.GOOD


def test_a_file_that_was_cut_short_afterwards_is_noticed_by_its_size(root: Path) -> None:
    decode(root, "r")
    path = files_of(root, "r")[70]
    data = path.read_bytes()
    rewrite(path, data[: len(data) // 2])
    (one,) = check(root, "r").sets
    assert one.decoded is not None
    assert one.decoded.images == 484 - 64
    assert one.decoded.content_digest is None
    assert len(one.notes) == 1
    assert "changed size" in one.notes[0]
    assert not record_of(root, "r").is_decoded
    found, given = decode(root, "r")
    assert [work.key for work in given] == [("", 64)]
    assert [bad.file for bad in found.sets[0].decoded.bad_files] == [str(path.relative_to(root))]


def test_other_bytes_of_the_same_size_are_seen_when_all_is_decoded_again(root: Path) -> None:
    before, _ = decode(root, "r")
    files = files_of(root, "r")
    sizes = {path.stat().st_size: path for path in files}
    twin = next(path for path in files if sizes[path.stat().st_size] != path)
    other = sizes[twin.stat().st_size]
    data = other.read_bytes()
    assert data != twin.read_bytes()
    rewrite(twin, data)
    unseen, given = decode(root, "r")
    assert given == []
    assert unseen.sets[0].decoded == before.sets[0].decoded
    seen, _ = decode(root, "r", again=True)
    assert seen.sets[0].decoded.content_digest != before.sets[0].decoded.content_digest
    assert [note for note in seen.sets[0].notes if "other contents" in note]
    assert decode(root, "r", again=True)[0].sets[0].notes == ()


def test_a_name_that_is_not_utf8_is_told_with_escapes(root: Path) -> None:
    folder = os.fsencode(root / "digits-a" / "d1")
    with open(folder + b"/\xff\xfe.png", "wb") as file:  # noqa: PTH123 (a path of bytes)
        file.write(b"no image")
    found, _ = decode(root, "a")
    (bad,) = found.sets[0].decoded.bad_files
    assert bad.file == r"digits-a/d1/\udcff\udcfe.png"
    assert record_of(root, "a").decoded == found.sets[0].decoded


def test_checks_of_other_sets_at_the_same_time_keep_each_other_s_records(root: Path) -> None:
    def meanwhile(progress: Progress) -> None:
        if progress.done == 0:
            check(root, "a")

    with Pool() as pool:
        check(root, "r", decoding=Decoding(pool, observe=meanwhile))
    assert record_of(root, "r").is_decoded
    assert record_of(root, "a").decoded is None


def test_a_log_that_cannot_be_written_ends_a_check_with_a_word(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = root / ".rib" / "manifest.decoded" / "digits-rib.a.jsonl"
    log.parent.mkdir(parents=True)
    log.symlink_to("no/such/folder")
    arguments = ["data", "check", "digits-rib", "--root", root, "--sets", "a", "--decode"]
    assert rib(*arguments, "--cpus", "1") == 1
    assert f"rib: cannot write {log}: No such file or directory" in capsys.readouterr().err


def test_progress_counts_images_and_begins_with_what_is_known(root: Path) -> None:
    rewrite(files_of(root, "r")[0], b"no image")
    seen: list[Progress] = []
    with Pool() as pool:
        check(root, "r", decoding=Decoding(pool, observe=seen.append))
        assert seen[0] == Progress("r", 0, 484, 0)
        assert seen[-1] == Progress("r", 484, 484, 1)
        assert sorted(one.done for one in seen) == [one.done for one in seen]
        seen.clear()
        check(root, "r", decoding=Decoding(pool, observe=seen.append))
    assert seen == [Progress("r", 420, 484, 0), Progress("r", 484, 484, 1)]


def test_a_piece_survives_json() -> None:
    bad = BadFile(file="a/b.png", reason='"quoted" \n and broken')
    piece = Piece.model_validate(
        {
            "split": "fog/3",
            "start": 64,
            "images": 64,
            "stamp": "s",
            "content": "c",
            "bad_files": [bad],
            "at": "2026-01-02T03:04:05Z",
        }
    )
    line = piece.model_dump_json()
    assert "\n" not in line
    assert Piece.model_validate_json(line) == piece


# --------------------------------------------------------------------------- imagenet-rib


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet-RIB's nine sets in miniature. Read-only."""
    root = tmp_path_factory.mktemp("imagenet")
    Archives(root).all()
    return root


@pytest.mark.slow
def test_imagenet_rib_s_archives_are_whole(archives: Path, tmp_path: Path) -> None:
    found = check(archives, suite=miniature(), manifest=tmp_path / "manifest.json")
    assert found.ok
    sizes = {one.spec.name: one.found for one in found.sets}
    assert {name: (n.classes, n.indices, n.splits) for name, n in sizes.items() if n} == {
        "imagenet-1k": (1000, 1000, 1),
        "imagenet-v2": (1000, 1000, 1),
        "imagenet-a": (200, 200, 1),
        "imagenet-r": (200, 200, 1),
        "imagenet-sketch": (1000, 1000, 1),
        "objectnet": (113, 125, 1),
        "imagenet-cartoon": (1000, 1000, 1),
        "imagenet-drawing": (1000, 1000, 1),
        "imagenet-c": (1000, 1000, 75),
    }


@pytest.mark.slow
def test_against_the_published_numbers_miniatures_are_short_in_every_set_and_split(
    archives: Path, tmp_path: Path
) -> None:
    suite = find_suite("imagenet-rib")
    found = by_name(check(archives, suite=suite, manifest=tmp_path / "manifest.json"))
    expected = {name: one.expected.images for name, one in found.items()}
    assert expected == PUBLISHED_COUNTS
    assert {one.verdict for one in found.values()} == {Verdict.WRONG}
    assert len(found["imagenet-c"].problems) == 75


def test_a_set_in_two_places_is_wrong_and_not_missing(tmp_path: Path) -> None:
    archives = Archives(tmp_path)
    archives.a()
    archives.a("imageneta")
    (one,) = check(tmp_path, "imagenet-a", suite=miniature()).sets
    assert one.verdict is Verdict.WRONG
    assert "could be any of" in one.problems[0].message


def test_a_refusal_names_every_unknown_set() -> None:
    with pytest.raises(UserError) as raised:
        specs_of(DIGITS, ["val", "x", "y"])
    assert len(raised.value.problems) == 2
