"""Baselines against published accuracies: exact at the tolerance, silent about nothing."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from orchestrator.canary import (
    COLUMNS,
    Verdict,
    check,
    complaints,
    is_as_published,
    measured_in_rows,
    measured_in_table,
    published_of,
)
from orchestrator.executor import InlineExecutor
from orchestrator.grid import load_grid, load_stored_grid
from tests.orchestrator.rib import rib
from workers.cell import Model
from workers.job import Job, Site
from workers.outcome import ErrorKind, Outcome
from workers.suites import DatasetSpec, suites

SPLITS = {
    "val": ((None, None),),
    "a": ((None, None),),
    "c": (("fog", 1), ("fog", 2), ("snow", 1)),
}


def rows(*given: tuple[str, int, int], model: str = "m", **other: Any) -> pd.DataFrame:
    """Make baseline rows of (evaluation set, correct, total)."""
    blank = {"model": model, "method": "pretrained", "corruption": None, "severity": None}
    made = [
        {**blank, "eval_dataset": name, "n_correct": k, "n_total": n, **other}
        for name, k, n in given
    ]
    return pd.DataFrame(made, columns=COLUMNS)


def verdict(measured: pd.DataFrame, **published: float) -> Verdict:
    figures = {name: Fraction(str(value)) for name, value in published.items()}
    (found,) = check(["m"], {"m": figures}, measured_in_rows(measured, SPLITS))
    return found


# ------------------------------------------------------------------------------ the tolerance


@pytest.mark.parametrize(
    ("n_correct", "state"),
    [
        (39_677, "agrees"),  # 79.354 is exactly 0.2 above 79.154,
        (39_678, "differs"),  # one image more is 0.202 above,
        (39_477, "agrees"),  # 78.954 is exactly 0.2 below,
        (39_476, "differs"),
        (39_577, "agrees"),
    ],
)
def test_a_difference_of_just_the_tolerance_agrees(n_correct: int, state: str) -> None:
    assert verdict(rows(("val", n_correct, 50_000)), val=79.154).state == state


def test_floats_would_have_put_the_boundary_on_the_wrong_side() -> None:
    assert abs(100 * 39_677 / 50_000 - 79.154) > 0.2


def test_what_is_said_of_a_model() -> None:
    agreeing, low = ("val", 795, 1000), ("a", 120, 1000)
    assert str(verdict(rows(agreeing), val=79.5)) == "agrees"
    assert str(verdict(rows(agreeing))) == "no published value"
    text = str(verdict(rows(agreeing, low), val=79.5, a=14.907))
    assert text == "differs by -2.907 (a)"
    text = str(verdict(rows(("val", 800, 1000), low), val=79.5, a=14.907))
    assert text == "differs by +0.500 (val), -2.907 (a)"


def test_a_row_that_is_missing_does_not_pass() -> None:
    nothing = verdict(rows(), val=79.5, a=14.9)
    assert nothing.state == "missing"
    assert str(nothing) == "not evaluated yet (val, a)"
    half = verdict(rows(("val", 795, 1000)), val=79.5, a=14.9)
    assert (half.state, half.missing) == ("missing", ("a",))
    # What differs already is said at once.
    wrong = verdict(rows(("val", 700, 1000)), val=79.5, a=14.9)
    assert (wrong.state, wrong.missing) == ("differs", ("a",))


def test_a_set_with_corruptions_is_the_mean_over_severities_then_corruptions() -> None:
    c = pd.concat(
        [
            rows(("c", 10, 100), corruption="fog", severity=1),
            rows(("c", 20, 100), corruption="fog", severity=2),
            rows(("c", 45, 100), corruption="snow", severity=1),
        ]
    )
    # fog is 15, snow is 45: 30. The mean of the three would be 25.
    assert verdict(c, c=30.2).state == "agrees"
    assert verdict(c, c=30.201).state == "differs"
    assert verdict(c.iloc[:2], c=15.0).state == "missing", "never a shorter mean"


def test_only_baselines_and_only_the_class_mask_count() -> None:
    tuned = rows(("val", 0, 1000)).assign(method="ft")
    assert verdict(pd.concat([rows(("val", 795, 1000)), tuned]), val=79.5).state == "agrees"
    assert "n_correct_unmasked" not in COLUMNS


def test_models_are_judged_one_by_one() -> None:
    measured = pd.concat([rows(("val", 50, 100)), rows(("val", 60, 100), model="other")])
    half = {"val": Fraction(50)}
    found = check(
        ["other", "m", "new"], {"m": half, "other": half}, measured_in_rows(measured, SPLITS)
    )
    assert [str(one) for one in found] == [
        "differs by +10.000 (val)",
        "agrees",
        "no published value",
    ]


def test_a_published_table_is_taken_as_the_decimals_it_gives() -> None:
    table = pd.DataFrame(
        [("m", "pretrained", "val", 79.354), ("m", "ft", "val", 1.0)],
        columns=["model", "method", "eval_dataset", "accuracy"],
    )
    measured = measured_in_table(table)
    assert measured == {"m": {"val": Fraction("79.354")}}
    (found,) = check(["m"], {"m": {"val": Fraction("79.154")}}, measured)
    assert found.state == "agrees"


# ------------------------------------------------------------------------------ which model


def timm_model(**changes: Any) -> Model:
    known = {model.name: model for model in suites()["imagenet-rib"].models}
    return replace(known["resnet18.tv_in1k"], **changes)


def test_a_model_with_something_of_the_user_s_own_is_not_the_published_one() -> None:
    suite = suites()["imagenet-rib"]
    assert is_as_published(timm_model(), suite)
    assert is_as_published(timm_model(pretraining="IN-1K"), suite)
    assert not is_as_published(timm_model(transform={"crop_pct": 1.0}), suite)
    assert not is_as_published(timm_model(arguments={"drop_rate": 0.1}), suite)
    assert not is_as_published(timm_model(file="/mine.safetensors"), suite)
    assert not is_as_published(timm_model(architecture="resnet18"), suite)
    assert not is_as_published(timm_model(name="mine"), suite)
    for model in suite.models:
        assert is_as_published(model, suite)
        assert not is_as_published(replace(model, transform={}), suite)


def test_only_a_grid_s_plain_entries_are_the_published_models(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    changed = {"name": "resnet50.tv_in1k", "transform": {"crop_pct": 0.9}}
    restated = {"name": "resnet50.tv2_in1k", "transform": {"crop_pct": 0.965}}
    keys = {"name": "g", "suite": "imagenet-rib", "data_root": str(tmp_path), "methods": ["ft"]}
    path.write_text(yaml.safe_dump({**keys, "models": ["resnet18.tv_in1k", changed, restated]}))
    grid = load_grid(path)
    for one in (grid, load_stored_grid(grid.to_yaml(), "store")):
        assert set(published_of(one)) == {"resnet18.tv_in1k", "resnet50.tv2_in1k"}


# ------------------------------------------------------------------------------ in words


def test_every_set_that_differs_is_named_with_its_numbers() -> None:
    suite = replace(
        suites()["digits-rib"],
        id=DatasetSpec("val", ""),
        ood=(DatasetSpec("a", "", "index_folders"), DatasetSpec("c", "", classes=("d0",))),
    )
    found = verdict(rows(("val", 795, 1000), ("a", 10, 1000)), val=79.5, a=14.907, c=50.0)
    first, causes, missing = complaints([found], suite)
    assert first == "canary: m on a: 1.000 here, 14.907 published, -13.907"
    assert "numbered folders" in causes
    assert "class mask" not in causes
    assert missing == "canary: m has no accuracy yet on c"
    everywhere = verdict(rows(("val", 1, 1000), ("a", 1, 1000)), val=79.5, a=14.907)
    assert "transform" in complaints([everywhere], suite)[-1]
    assert complaints([verdict(rows()), verdict(rows(("a", 149, 1000)), a=14.9)], suite) == []


# ------------------------------------------------------------------------------ a grid

Capture = pytest.CaptureFixture[str]
SETS = ["val", "v2", "a"]


@pytest.fixture(scope="module")
def baselines(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a grid and a store in which only its baseline has been run."""
    folder = tmp_path_factory.mktemp("baselines")
    grid = {
        "name": "g",
        "suite": "digits-rib",
        "data_root": str(digits_root),
        "models": ["resnet_digits"],
        "downstream": ["v2"],
        "methods": ["ft"],
        "evaluate": SETS,
        "recipe": {"warmup_steps": 1, "epochs": 1, "precision": "fp32"},
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))
    some = ["--executor", "inline", "--only", "method=pretrained"]
    assert rib("run", folder / "grid.yaml", "--store", folder / "store", *some) == 0
    return folder


@pytest.fixture
def folder(baselines: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(baselines, tmp_path / "here"))


@pytest.fixture
def publish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Publish of the model what it was measured to have, so many points above in some sets."""
    rows = pd.read_parquet(folder / "store" / "accuracy").set_index("eval_dataset")
    accuracy = (100 * rows["n_correct"] / rows["n_total"]).to_dict()

    def publish(*names: str, **above: float) -> None:
        figures = {name: accuracy[name] + above.get(name, 0.0) for name in names}
        published = {"resnet_digits": figures}
        suite = replace(suites()["digits-rib"], published=published)
        monkeypatch.setattr("workers.suites._ADOPTED", {"digits-rib": suite})

    return publish


def run(folder: Path, *more: str) -> int:
    place = ["--store", folder / "store", "--executor", "inline"]
    return rib("run", folder / "grid.yaml", *place, *more)


def methods_in(folder: Path) -> set[str]:
    return set(pd.read_parquet(folder / "store" / "attempts")["method"])


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_a_grid_whose_baselines_agree_is_run(
    folder: Path, publish: Callable[..., None], capsys: Capture
) -> None:
    publish(*SETS)
    shutil.rmtree(folder / "store")
    assert run(folder, "--canary") == 0
    told = capsys.readouterr().err
    assert methods_in(folder) == {"pretrained", "ft"}
    first, second = told.index("canary: agrees: resnet_digits"), told.index("resnet_digits ft")
    assert first < second
    assert "2 of 2 cells to run" in told


def test_a_grid_with_a_baseline_that_differs_stops_before_fine_tuning(
    folder: Path, publish: Callable[..., None], capsys: Capture
) -> None:
    publish(*SETS, a=0.5)
    assert run(folder, "--canary") == 1
    told = capsys.readouterr().err
    assert methods_in(folder) == {"pretrained"}
    assert not (folder / "store" / "artifacts").exists()
    assert "canary: differs by -0.500 (a): resnet_digits" in told
    assert "rib: canary: resnet_digits on a: " in told
    assert "likely causes: " in told
    assert "stopped: nothing more is fine-tuned" in told
    assert "on val" not in told
    # Without the canary it is the user's business; afterwards the canary still says no.
    assert run(folder) == 0
    assert run(folder, "--canary") == 1
    assert "likely causes" in capsys.readouterr().err


def test_a_baseline_that_cannot_be_scored_does_not_pass(
    folder: Path,
    publish: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    publish(*SETS)
    shutil.rmtree(folder / "store")
    tried = []

    def fail(job: Job, site: Site) -> Outcome:
        tried.append(job.cell.method)
        return Outcome(error=ErrorKind.BUG, message="no luck")

    site = Site(store=str(folder / "store"), data_root="")
    monkeypatch.setattr("orchestrator.sweep.open_executor", lambda *_: InlineExecutor(site, fail))
    assert run(folder, "--canary") == 1
    assert set(tried) == {"pretrained"}
    told = capsys.readouterr().err
    assert "canary: resnet_digits has no accuracy yet on val, v2, a" in told
    assert "stopped" in told


def test_a_model_of_which_nothing_is_published_is_named_and_run(
    folder: Path, capsys: Capture
) -> None:
    assert run(folder, "--canary") == 0
    assert "canary: no published value: resnet_digits" in capsys.readouterr().err
    assert methods_in(folder) == {"pretrained", "ft"}


@pytest.mark.parametrize(
    ("above", "verdict"), [(0.0, "agrees"), (-0.5, "differs by +0.500 (v2)")], ids=["as", "other"]
)
def test_status_and_every_report_say_it(
    above: float, verdict: str, folder: Path, publish: Callable[..., None], capsys: Capture
) -> None:
    publish("val", "v2", v2=above)
    store = folder / "store"

    def said(*arguments: object) -> str:
        assert rib(*arguments) in (0, 1)
        return capsys.readouterr().out

    for arguments in (
        ["status", store],
        *(["report", store, "--format", form] for form in ("table", "md")),
        *(["matrix", store, "--format", form] for form in ("table", "md")),
    ):
        assert f"canary: {verdict}: resnet_digits" in one_line(said(*arguments)), arguments
    for command in ("report", "matrix"):
        table = csv.DictReader(io.StringIO(said(command, store, "--format", "csv")))
        assert {row["canary"] for row in table} == {verdict}
        assert {row["canary"] for row in json.loads(said(command, store, "--json"))} == {verdict}
    assert {cell["canary"] for cell in json.loads(said("status", store, "--json"))} == {verdict}


def test_a_store_without_baselines_says_so(
    folder: Path, publish: Callable[..., None], capsys: Capture
) -> None:
    publish("val")
    for path in (folder / "store" / "accuracy").iterdir():
        path.unlink()
    assert rib("status", folder / "store") == 1
    assert "canary: not evaluated yet (val): resnet_digits" in one_line(capsys.readouterr().out)


# ------------------------------------------------------------------------------ the benchmark

POSTER = Path(__file__).parents[1] / "data" / "poster_vit_b16_augreg_in1k.csv"


def test_the_poster_s_own_baseline_agrees_with_timm_s_table(
    tmp_path: Path, capsys: Capture
) -> None:
    """The poster's row is within 0.2 of what timm publishes: that is where 0.2 is from."""
    model = "vit_base_patch16_224.augreg_in1k"
    path = tmp_path / "poster.csv"
    table = pd.read_csv(POSTER).assign(model=model)
    table.to_csv(path, index=False)
    assert rib("report", path) == 0
    assert f"canary: agrees: {model}" in capsys.readouterr().out
    is_a = (table["method"] == "pretrained") & (table["eval_dataset"] == "imagenet-a")
    table["accuracy_percent"] += 5.0 * is_a
    table.to_csv(path, index=False)
    assert rib("report", path, "--json") == 0
    # 15.0 + 5.0 - 14.907
    assert json.loads(capsys.readouterr().out)[0]["canary"] == "differs by +5.093 (imagenet-a)"


def test_the_grids_of_the_benchmark_are_of_models_with_published_figures() -> None:
    grids = Path(__file__).resolve().parents[2] / "grids"
    figures = published_of(load_grid(grids / "paper.yaml"))
    assert len(figures) == 19
    # torchvision's ResNet-50 has none on A, and those on Cartoon and Drawing that the others lack.
    assert sorted(map(len, figures.values())) == [5] * 18 + [6]
    assert figures["resnet50.tv_in1k"]["imagenet-cartoon"] == Fraction("53.96")
    assert figures["resnet50.tv2_in1k"]["imagenet-r"] == Fraction("42.84")
