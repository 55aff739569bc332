"""Figures show the store's numbers, say what they leave out, and come out the same each time."""

from __future__ import annotations

import dataclasses
import re
import shutil
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from orchestrator.correlation import correlate
from orchestrator.report_data import Distances, ReportData, gather
from tests.orchestrator.report.html.stores import IMAGES, Made, add_curves, make_store, on_curve
from tests.orchestrator.rib import rib
from workers.store import Store

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from orchestrator.report.figures.bars import ood_bars
from orchestrator.report.figures.curves import accuracy_curves
from orchestrator.report.figures.drawn import Drawn, file_name
from orchestrator.report.figures.labels import place_labels
from orchestrator.report.figures.radar import radars
from orchestrator.report.figures.scatter import otdd_scatter
from orchestrator.report.figures.style import looks_of, new_figure, styled, wrapped
from orchestrator.report.figures.training import training_curves

OOD = ("v2", "a", "r", "sketch", "objectnet", "cartoon", "drawing", "c")
METHODS = ("ft", "lwf", "soup")
LOOKS = looks_of(METHODS)
ENDS = ("pdf", "png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two seeds; one cell of resnet_digits lwf on `r` is still to come."""
    return make_store(
        tmp_path_factory.mktemp("figures") / "store",
        seeds=(0, 1),
        is_done=lambda cell: (
            (cell.model.name, cell.label, cell.downstream, cell.seed)
            != ("resnet_digits", "lwf", "r", 1)
        ),
    )


@pytest.fixture(scope="module")
def data(made: Made) -> ReportData:
    return gather(made.uri)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with styled():
        yield


def percent(made: Made, model: str, method: str, downstream: str | None, name: str) -> float:
    """The mean over the seeds of what a cell gets right."""
    seeds = (0,) if downstream is None else (0, 1)
    found = [made.correct[model, method, seed, downstream, name] for seed in seeds]
    return 100 * float(np.mean(found)) / IMAGES


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def heights(drawn: Drawn) -> list[float]:
    (axes,) = drawn.figure.axes
    return [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]


# ---------------------------------------------------------------------------- what is drawn


def test_bars_are_the_means_that_mri_is_the_difference_of(made: Made, data: ReportData) -> None:
    drawn = ood_bars(data, ["vit_digits"], LOOKS)
    assert drawn is not None
    before = np.mean([percent(made, "vit_digits", "pretrained", None, name) for name in OOD])
    expected = [before]
    for method in METHODS:
        rows = [
            np.mean([percent(made, "vit_digits", method, i, j) for j in OOD if j != i]) for i in OOD
        ]
        expected.append(np.mean(rows))
    assert heights(drawn) == pytest.approx(expected)
    for after in expected[1:]:
        assert f"{after - before:+.2f}".replace("-", "−") in texts(drawn.figure)
    assert drawn.left_out == []
    assert "error bars: their standard deviation" in drawn.caption


def test_an_incomplete_entry_has_no_bar_and_is_named(data: ReportData) -> None:
    drawn = ood_bars(data, ["vit_digits", "resnet_digits"], LOOKS)
    assert drawn is not None
    assert len(heights(drawn)) == 2 * (1 + len(METHODS)) - 1
    assert drawn.left_out == ["resnet_digits lwf: 7 values are missing"]
    assert "Incomplete: one entry is not drawn" in texts(drawn.figure)
    only_lwf = {"lwf": LOOKS["lwf"]}
    assert ood_bars(data, ["resnet_digits"], only_lwf) is None


def test_a_radar_has_every_set_but_the_one_that_was_tuned_on(made: Made, data: ReportData) -> None:
    drawn = radars(data, "resnet_digits", LOOKS)
    assert drawn is not None
    panel = drawn.figure.axes[OOD.index("a")]
    assert panel.get_title() == "fine-tuned on a"
    names = ["val", *(name for name in OOD if name != "a")]
    assert [label.get_text() for label in panel.get_xticklabels()] == names
    assert len(panel.lines) == 1 + len(METHODS)
    for line, method in zip(panel.lines, ("pretrained", *METHODS), strict=True):
        downstream = None if method == "pretrained" else "a"
        expected = [percent(made, "resnet_digits", method, downstream, name) for name in names]
        assert list(line.get_ydata()) == pytest.approx([*expected, expected[0]])
    # A seed is missing, so there is no mean over the seeds.
    assert len(drawn.figure.axes[OOD.index("r")].lines) == len(METHODS)
    assert drawn.left_out == ["lwf on r: not scored on every set"]
    contaminated = drawn.figure.axes[OOD.index("cartoon")].get_xticklabels()
    marked = [label.get_text() for label in contaminated if "†" in label.get_text()]
    assert marked == ["val†", "drawing†", "c†"]


def test_training_is_drawn_as_far_as_every_seed_has_got(data: ReportData) -> None:
    drawn = training_curves(data, "resnet_digits", LOOKS)
    assert drawn is not None
    ft, lwf, soup = drawn.figure.axes[OOD.index("r")].lines
    assert list(ft.get_xdata()) == [1, 2, 3]
    assert list(ft.get_ydata()) == pytest.approx([70, 80, 90])
    assert len(lwf.get_xdata()) == len(soup.get_xdata()) == 0
    assert drawn.left_out == ["lwf on r: epochs that seeds lack"]
    assert "soup" not in texts(drawn.figure)  # it trains nothing


def with_distances(data: ReportData, n: int) -> ReportData:
    """OTDD of n sets, and drops of ft; `c` has none."""
    otdd = np.arange(n) * 10.0 + 5
    drops = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 6.5, 7.0, np.nan])[:n]
    points = pd.DataFrame(
        {
            "model": "vit_digits",
            "method": "ft",
            "downstream": OOD[:n],
            "otdd": otdd,
            "id_drop": drops,
        }
    )
    known = np.isfinite(drops)
    found = correlate(otdd[known].tolist(), drops[known].tolist())
    distances = Distances("resnet_digits", points, {("vit_digits", "ft"): found})
    return dataclasses.replace(data, distances=distances)


def test_the_scatter_has_its_points_and_its_correlation(data: ReportData) -> None:
    drawn = otdd_scatter(with_distances(data, 8), "vit_digits", LOOKS)
    assert drawn is not None
    (axes,) = drawn.figure.axes
    dots = axes.lines[-1]
    assert list(dots.get_xdata()) == [5, 15, 25, 35, 45, 55, 65]
    assert list(dots.get_ydata()) == [1, 3, 2, 5, 4, 6.5, 7]
    # Pearson's by hand; ranks (1, 3, 2, 5, 4, 6, 7) against 1..7: 1 - 6 * 4 / (7 * 48).
    x, y = np.arange(7.0), np.array([1, 3, 2, 5, 4, 6.5, 7])
    r = np.corrcoef(x, y)[0, 1]
    said = texts(drawn.figure)
    assert f"n = 7, r = {r:.2f} [" in said
    assert f"ρ = {1 - 24 / 336:.2f} [" in said
    for name in ("v2", "objectnet", "cartoon†", "drawing†"):
        assert name in said.splitlines()
    assert drawn.left_out == ["ft on c: no accuracy on the ID set"]
    assert "resnet_digits" in drawn.caption


def test_few_points_are_not_correlated_and_missing_distances_are_named(data: ReportData) -> None:
    drawn = otdd_scatter(with_distances(data, 3), "vit_digits", LOOKS)
    assert drawn is not None
    assert "n = 3: too few to correlate" in texts(drawn.figure)
    assert drawn.left_out == [f"{name}: its distance is not measured" for name in OOD[3:]]
    assert otdd_scatter(data, "vit_digits", LOOKS) is None


# ---------------------------------------------------------------------------- the files


def write(data: ReportData, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    for drawn in (
        ood_bars(data, ["vit_digits"], LOOKS),
        otdd_scatter(with_distances(data, 8), "vit_digits", LOOKS),
    ):
        assert drawn is not None
        drawn.write(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_are_the_same_each_time_and_fit_a_paper(data: ReportData, tmp_path: Path) -> None:
    """A column wide, with fonts that are embedded as outlines, and without dates."""
    files = write(data, tmp_path / "first")
    names = [f"{name}.{ending}" for name in ("ood-accuracy", "otdd-vit_digits") for ending in ENDS]
    assert list(files) == names
    assert write(data, tmp_path / "again") == files
    png, pdf = files["ood-accuracy.png"], files["ood-accuracy.pdf"]
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == (975, 600)  # 3.25 x 2 inches at 300 dots
    assert b"/MediaBox [ 0 0 234 144 ]" in pdf
    plain = pdf + b"".join(
        zlib.decompress(stream)
        for stream in re.findall(rb"stream\r?\n(x.*?)\r?\nendstream", pdf, re.DOTALL)
    )
    assert b"/FontFile2" in plain  # TrueType, embedded
    assert b"/Type3" not in plain
    assert b"CreationDate" not in plain


HOSTILE = "$x_1$ <b>&\\n{"


def test_names_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In tables names can be anything: mathematics, markup, a hidden label, a path."""
    table, out = tmp_path / "table.csv", tmp_path / "out"
    rows = ["model,method,downstream,eval_dataset,accuracy_percent"]
    for model in (HOSTILE, "../_hidden"):
        for name in ("id", "x", "y"):
            rows.append(f"{model},pretrained,,{name},50")
            for downstream in ("x", "y"):
                rows.append(f"{model},_m$^2$,{downstream},{name},{60 if name == 'id' else 70}")
    table.write_text("\n".join(rows))
    assert rib("figures", table, "--out", out, "--id", "id") == 0
    written = [Path(line) for line in capsys.readouterr().out.split()]
    assert sorted(written) == sorted(out.iterdir())
    assert {path.parent for path in written} == {out}
    data = gather(str(table), "id")
    drawn = ood_bars(data, [HOSTILE, "../_hidden"], looks_of(["_m$^2$"]))
    assert drawn is not None
    assert {"_m$^2$", HOSTILE, "../_hidden"} <= set(texts(drawn.figure).splitlines())
    assert all(not text.get_parse_math() for text in drawn.figure.findobj(Text))
    assert HOSTILE in (out / "captions.md").read_text()


def test_file_names_stay_in_their_folder_and_apart() -> None:
    assert file_name("radar", "vit_b.augreg") == "radar-vit_b.augreg"
    odd = {file_name("radar", name) for name in ("a/b", "a b", "a:b", "../a/b")}
    assert len(odd) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9._+-]+", name) for name in odd)


# ---------------------------------------------------------------------------- the command


def test_the_command_writes_names_what_is_missing_and_exits_with_1(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures"
    chosen = ("--model", "resnet_digits", "--method", "lwf", "--method", "ft")
    assert rib("figures", made.uri, "--out", out, *chosen) == 1
    said = capsys.readouterr()
    names = ["ood-accuracy", "radar-resnet_digits", "training-resnet_digits"]
    files = [f"{name}.{ending}" for name in names for ending in ENDS]
    assert said.out.split() == [str(out / name) for name in [*files, "captions.md"]]
    assert "ood-accuracy: not drawn: resnet_digits lwf: 7 values are missing" in said.err
    assert "no OTDD scatter: no distance was measured" in said.err
    captions = (out / "captions.md").read_text()
    assert "- resnet_digits lwf: 7 values are missing" in captions
    assert "scoring: each set over its own classes" in captions


def test_names_that_are_not_there_are_told_all_at_once(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--model", "vit", "--method", "fft", "--method", "pretrained", "--method", "ft")
    assert rib("figures", made.uri, "--out", tmp_path / "x", *asked) == 2
    said = capsys.readouterr().err
    assert "--model: there is no 'vit' here" in said
    assert "--method: there is no 'fft' here (did you mean 'ft'?)" in said
    assert "--method: there is no 'pretrained' here" in said
    assert not (tmp_path / "x").exists()


def test_a_file_in_the_way_is_told(made: Made, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    chosen = ("--model", "vit_digits", "--method", "ft")
    assert rib("figures", made.uri, "--out", tmp_path / "file", *chosen) == 2
    assert "is a file, not a folder" in capsys.readouterr().err


def test_matplotlib_is_asked_for(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert rib("figures", made.uri, "--out", tmp_path / "x") == 2
    assert "matplotlib is not installed (pip install 'rib-orchestrator[figures]')" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "x").exists()


# ---------------------------------------------------------------------------- style


def test_a_method_looks_the_same_whatever_is_chosen_and_no_two_look_alike() -> None:
    many = looks_of([f"m{k}" for k in range(24)])
    assert len({(one.colour, one.hatch) for one in many.values()}) == 24
    assert len({(one.colour, one.line) for one in many.values()}) == 24


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_base_patch16_224.augreg_in1k", "vit_base_patch16_\n224.augreg_in1k"),
        ("short", "short"),
        ("averylongnamewithoutanybreak", "averylongnamewithoutanybreak"),
    ],
)
def test_long_names_are_broken_where_they_can_be(name: str, expected: str) -> None:
    assert wrapped(name, 18) == expected
    assert wrapped(name, 18).replace("\n", "") == name


def test_labels_cover_neither_points_nor_each_other() -> None:
    figure = new_figure(3.25, 2.5)
    axes = figure.subplots()
    generator = np.random.default_rng(0)
    points = [tuple(point) for point in generator.uniform(0, 10, (8, 2))]
    axes.plot(*zip(*points, strict=True), "o")
    axes.margins(0.2)
    figure.draw_without_rendering()
    place_labels(axes, points, [f"name{k}" for k in range(len(points))])
    boxes = [text.get_window_extent() for text in axes.texts]
    dots = axes.transData.transform(points)
    for k, box in enumerate(boxes):
        assert axes.get_window_extent().contains(box.x0, box.y0)
        assert axes.get_window_extent().contains(box.x1, box.y1)
        assert not any(box.contains(*dot) for dot in dots)
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


# ---------------------------------------------------------------------------- curves


@pytest.fixture(scope="module")
def curved(tmp_path_factory: pytest.TempPathFactory) -> Made:
    store = make_store(tmp_path_factory.mktemp("curves") / "store", seeds=(0, 1))
    add_curves(store, "ft")
    return store


def test_curves_are_drawn_per_downstream_set(curved: Made) -> None:
    drawn = accuracy_curves(gather(curved.uri), "resnet_digits", LOOKS)
    assert drawn is not None
    assert drawn.left_out == []
    assert len(drawn.figure.axes) == len(OOD) * 3
    assert [axes.get_title() for axes in drawn.figure.axes[:3]] == [
        "downstream set",
        "ID set",
        "other OOD sets",
    ]
    for row, name in enumerate(OOD):
        for place, sets in enumerate(([name], ["val"], [one for one in OOD if one != name])):
            axes = drawn.figure.axes[3 * row + place]
            line = axes.lines[METHODS.index("ft")]
            assert list(line.get_xdata()) == [0, 1, 2]
            values = [
                np.mean([on_curve(curved, one, epoch, seed) for one in sets for seed in (0, 1)])
                for epoch in (0, 1, 2)
            ]
            assert list(line.get_ydata()) == pytest.approx(values)
    assert "lwf" not in texts(drawn.figure)
    assert "0.5 of each class's images (seed 0)" in drawn.caption
    assert "none of it is part of RI" in drawn.caption
    assert "Means over seeds." in drawn.caption


def test_an_epoch_that_a_seed_lacks_is_not_drawn_and_named(curved: Made, tmp_path: Path) -> None:
    store = Store(str(shutil.copytree(curved.uri, tmp_path / "store")))
    cell = next(
        cell
        for cell in curved.cells.values()
        if (cell.model.name, cell.label, cell.downstream, cell.seed)
        == ("resnet_digits", "ft", "r", 1)
    )
    (file,) = [n for n in store.storage.walk("accuracy") if cell.cell_id in n]
    table = pq.read_table(Path(store.uri, file))
    kept = pc.or_kleene(pc.is_null(table["epoch"]), pc.less(table["epoch"], 2))
    pq.write_table(table.filter(kept), Path(store.uri, file), store_schema=False)
    drawn = accuracy_curves(gather(store.uri), "resnet_digits", LOOKS)
    assert drawn is not None
    line = drawn.figure.axes[3 * OOD.index("r")].lines[METHODS.index("ft")]
    assert list(line.get_xdata()) == [0, 1]
    assert drawn.left_out == ["ft on r: epochs that seeds, sets or splits lack"]


def test_without_curves_there_is_no_such_figure(data: ReportData) -> None:
    assert accuracy_curves(data, "resnet_digits", LOOKS) is None
