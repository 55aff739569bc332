"""Decoding: RGB always, no rotation, PIL's own pixels, and an error that names the file."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFile
from timm.data.readers.reader_image_folder import ReaderImageFolder
from torchvision.datasets.folder import default_loader

from tests.imagenet_archives import BROKEN, ODD, photo
from workers.decode import MAX_PIXELS, decode
from workers.errors import DataError

ORIENTATION = 0x0112
"""The EXIF tag that asks for a rotation."""


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    ink = (40, 200, 90, 30)
    path = tmp_path / "cmyk.jpg"
    Image.new("CMYK", (16, 16), ink).save(path, quality=100)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    picture = decode(path)
    assert picture.mode == "RGB"
    expected = [(255 - c) * (255 - ink[3]) / 255 for c in ink[:3]]
    assert np.asarray(picture).mean(axis=(0, 1)) == pytest.approx(expected, abs=2)


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    picture = Image.new("P", (3, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 7])
    picture.putdata([2, 0, 1])
    picture.save(tmp_path / "p.png")
    found = decode(tmp_path / "p.png")
    assert np.asarray(found).tolist() == [[[0, 255, 7], [10, 20, 30], [200, 100, 50]]]


@pytest.mark.parametrize("name", ["g.png", "g.jpg"])
def test_grayscale_is_the_same_in_three_channels(tmp_path: Path, name: str) -> None:
    shades = photo()[..., 0]
    Image.fromarray(shades).save(tmp_path / name)
    with Image.open(tmp_path / name) as stored:
        assert stored.mode == "L"
    found = np.asarray(decode(tmp_path / name))
    assert found.shape == (50, 70, 3)
    assert (found[..., 0] == found[..., 1]).all()
    assert (found[..., 0] == found[..., 2]).all()
    if name.endswith(".png"):
        assert (found[..., 0] == shades).all()


def test_one_bit_pictures_become_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "b.png")
    assert np.asarray(decode(tmp_path / "b.png")).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_the_colours_kept(tmp_path: Path, mode: str) -> None:
    rgb = photo() if mode == "RGBA" else np.repeat(photo()[..., :1], 3, axis=2)
    alpha = np.arange(50 * 70, dtype=np.uint8).reshape(50, 70, 1)
    channels = rgb if mode == "RGBA" else rgb[..., :1]
    Image.fromarray(np.concatenate([channels, alpha], axis=2)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == mode
    assert (np.asarray(decode(tmp_path / "a.png")) == rgb).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_not_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(photo()).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as stored:
        assert stored.getexif()[ORIENTATION] == orientation
    assert (np.asarray(decode(tmp_path / "x.png")) == photo()).all()


def test_a_png_named_jpeg_is_read_as_what_it_is(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "n.JPEG", format="PNG")
    assert (np.asarray(decode(tmp_path / "n.JPEG")) == photo()).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, form: str, kept: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, form)
    path = tmp_path / "cut_short_0042.JPEG"
    path.write_bytes(buffer.getvalue()[: int(kept * len(buffer.getvalue()))])
    with pytest.raises(DataError, match=r"cut_short_0042\.JPEG.*does not decode"):
        decode(path)


def test_what_is_no_image_or_missing_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    for name in ("page.jpg", "absent.jpg"):
        with pytest.raises(DataError, match=name):
            decode(tmp_path / name)


def test_the_border_is_cropped_on_each_side(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "b.png")
    found = np.asarray(decode(tmp_path / "b.png", border=2))
    assert found.shape == (46, 66, 3)
    assert (found == photo()[2:-2, 2:-2]).all()
    assert (np.asarray(decode(tmp_path / "b.png", border=0)) == photo()).all()


def test_an_image_that_is_all_border_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (3, 9)).save(tmp_path / "thin.png")
    with pytest.raises(DataError, match=r"thin\.png"):
        decode(tmp_path / "thin.png", border=2)


# ---------------------------------------------------------------------------- 16 bits


def png(width: int, height: int, depth: int, colour: int, samples: bytes) -> bytes:
    """Write a PNG by its specification, without PIL: samples are big-endian, row by row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = len(samples) // height
    lines = b"".join(b"\0" + samples[y * row : (y + 1) * row] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


SHADES = [0, 255, 256, 0x1234, 0x7FFF, 0x8000, 0xFE80, 65535]
"""As 8 bits: 0, 0, 1, 18, 127, 128, 254, 255."""


def test_16_bit_grayscale_keeps_its_shades_instead_of_being_clipped(tmp_path: Path) -> None:
    (tmp_path / "g.png").write_bytes(png(8, 1, 16, 0, struct.pack(">8H", *SHADES)))
    found = np.asarray(decode(tmp_path / "g.png"))
    assert found.tolist() == [[[s] * 3 for s in (0, 0, 1, 0x12, 0x7F, 0x80, 0xFE, 0xFF)]]


def test_16_bit_colour_and_grayscale_are_reduced_alike(tmp_path: Path) -> None:
    samples = struct.pack(">24H", *[shade for shade in SHADES for _ in range(3)])
    (tmp_path / "rgb.png").write_bytes(png(8, 1, 16, 2, samples))
    (tmp_path / "g.png").write_bytes(png(8, 1, 16, 0, struct.pack(">8H", *SHADES)))
    colour, gray = (np.asarray(decode(tmp_path / name)) for name in ("rgb.png", "g.png"))
    assert (colour == gray).all()


def test_a_16_bit_copy_of_an_8_bit_picture_is_that_picture(tmp_path: Path) -> None:
    shades = photo()[..., 0]
    samples = (shades.astype(">u2") * 257).tobytes()
    (tmp_path / "g.png").write_bytes(png(70, 50, 16, 0, samples))
    assert (np.asarray(decode(tmp_path / "g.png")) == shades[..., None]).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_no_known_range_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4), 70_000).save(tmp_path / "x.png", "TIFF")
    with pytest.raises(DataError, match=rf"x\.png.*pixels of mode {mode} have no known range"):
        decode(tmp_path / "x.png")


# ---------------------------------------------------------------------------- all kinds at once


@pytest.mark.parametrize("name", [name for name in ODD if name != "gray16.png"])
def test_pixels_are_those_of_torchvision_s_loader(tmp_path: Path, name: str) -> None:
    """An independent implementation, whose pixels published accuracies were measured on."""
    (tmp_path / name).write_bytes(ODD[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(default_loader(str(tmp_path / name)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = decode(tmp_path / name)
    assert picture.mode == "RGB"
    assert (np.asarray(picture) == expected).all()


def test_pixels_are_those_of_timm_s_reader(tmp_path: Path) -> None:
    (tmp_path / "n01440764").mkdir()
    for name in ("cmyk.JPEG", "png.JPEG", "rotated.JPEG", "grayscale.JPEG"):
        (tmp_path / "n01440764" / name).write_bytes(ODD[name])
    reader = ReaderImageFolder(str(tmp_path))
    assert len(reader) == 4
    for index in range(len(reader)):
        file, _ = reader[index]
        expected = Image.open(file).convert("RGB")
        found = decode(tmp_path / reader.filename(index))
        assert (np.asarray(found) == np.asarray(expected)).all()


@pytest.mark.parametrize("name", ODD)
def test_every_odd_image_shows_the_photo(tmp_path: Path, name: str) -> None:
    """Nothing is inverted, turned or washed out: shades are about the photo's, and in place."""
    (tmp_path / name).write_bytes(ODD[name])
    found = brightness(np.asarray(decode(tmp_path / name)))
    red_as_gray = np.repeat(photo()[..., :1], 3, axis=2)
    expected = brightness(red_as_gray if name == "gray16.png" else photo())
    is_coarse = name == "one_bit.png"
    assert found.shape == (50, 70)
    assert found.mean() == pytest.approx(expected.mean(), abs=12 if is_coarse else 4)
    likeness = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
    assert likeness > (0.4 if is_coarse else 0.9)


def brightness(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return pixels.astype(float) @ np.array([0.299, 0.587, 0.114])


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_name_and_by_nothing_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError) as caught:
            decode(tmp_path / name)
    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / name)
    assert problem.message.startswith("this image does not decode: ")


def test_a_bomb_is_refused_whatever_another_library_does_to_pil(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_PIXELS == 89_478_485  # PIL's own default: a third of a GiB of RGBX
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for name in ("bomb.png", "bomb_of_the_warning_range.png"):
        (tmp_path / name).write_bytes(BROKEN[name])
        with pytest.raises(DataError, match="pixels, more than 89478485"):
            decode(tmp_path / name)
    assert Image.MAX_IMAGE_PIXELS is None  # and nothing is done to it here


def test_a_large_photo_is_no_bomb(tmp_path: Path) -> None:
    Image.new("1", (9_000, 9_000)).save(tmp_path / "large.png")
    assert decode(tmp_path / "large.png").size == (9_000, 9_000)


def test_nothing_is_changed_for_others(tmp_path: Path) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    for name, contents in {**ODD, **BROKEN}.items():
        (tmp_path / name).write_bytes(contents)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                decode(tmp_path / name)
            except DataError:
                assert name in BROKEN
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert after == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD)
def test_whatever_is_in_a_file_the_error_names_it(tmp_path: Path, name: str) -> None:
    """Bits that have rotted make PIL raise nearly anything; here it is one error, or an image."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(50):
        data = bytearray(ODD[name])
        for place in rng.integers(0, min(len(data), 400), size=4):
            data[place] = rng.integers(256)
        (tmp_path / name).write_bytes(data)
        try:
            decode(tmp_path / name)
        except DataError as error:
            refused += f"{name}: this image does not decode: " in str(error)
    assert refused > 0


def test_a_lack_of_memory_is_not_the_file_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(image: Image.Image, mode: str) -> Image.Image:
        raise MemoryError

    Image.fromarray(photo()).save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "convert", full)
    with pytest.raises(MemoryError):
        decode(tmp_path / "x.png")
