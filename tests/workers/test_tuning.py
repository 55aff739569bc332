"""Trials: what they count is what an independent evaluation counts, on images never trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.embedded import FAST, SUITE, cell_of, deterministic, made
from workers import tuning
from workers.bench import Bench
from workers.cell import Cell, Model
from workers.datasets import read_dataset
from workers.holdout import PartOf
from workers.job import Job, Site
from workers.methods import method_of
from workers.recipe import Recipe
from workers.store import Store
from workers.trial_bench import TrialBench
from workers.tuning import Trial, run_trial

RECIPE = FAST.model_copy(update={"holdout": 0.25, "epochs": 3})
N_HELD_OUT = 6 * round(0.25 * 14)  # the set `a` has 14 images of each of 6 classes


@pytest.fixture
def site(digits_root: Path, tmp_path: Path) -> Site:
    return Site(str(tmp_path), str(digits_root))


def run(cell: Cell, site: Site) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a trial; return its row, and what it reported on the way."""
    reports: list[dict[str, Any]] = []
    with deterministic():
        row = run_trial(Trial("s", 1, cell, {"recipe": {"lr": 1}}), site, reports.append)
    return row, reports


def held_out_places(monkeypatch: pytest.MonkeyPatch, cell: Cell, site: Site) -> list[int]:
    """The images that training a cell never sees."""
    seen: set[int] = set()
    batches = PartOf.batches

    def watched(self: PartOf, order: torch.Tensor, batch_size: int) -> Any:
        for batch in batches(self, order, batch_size):
            if len(self) == 84 - N_HELD_OUT:
                seen.update(batch.indices.tolist())
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(PartOf, "batches", watched)
        row, _ = run(cell, site)
    assert row["state"] == "done", row["message"]
    return sorted(set(range(84)) - seen)


def n_right(module: torch.nn.Module, places: list[int], bench: Bench) -> int:
    """Count right predictions over the set's classes, without the code that trials use."""
    dataset = read_dataset(SUITE, SUITE.dataset("a"), bench.data_root)
    _, source = bench.downstream()
    (batch,) = source.batches(torch.tensor(places), len(places))
    columns = torch.tensor(dataset.classes.columns)
    with torch.no_grad():
        logits = module.eval()(bench.normalise(batch.pixels))
    guesses = logits[:, columns].argmax(dim=1)
    return int((guesses == batch.labels).sum())


def test_a_trial_counts_what_its_model_gets_right_of_images_it_never_saw(
    resnet: Model, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of("ft", resnet, RECIPE)
    places = held_out_places(monkeypatch, cell, site)
    assert len(places) == N_HELD_OUT
    row, reports = run(cell, site)
    # The same cell, trained as `rib run` does.
    module = made(cell, Path(site.data_root), Path(site.store))
    bench = Bench(Job(cell, ()), site, Store(site.store))
    assert row["held_out_correct"] == n_right(module, places, bench)
    assert row["held_out_total"] == N_HELD_OUT
    assert row["held_out_by_epoch"][-1] == row["held_out_correct"]
    assert [report["epochs"] for report in reports] == [1, 2, 3]


@pytest.mark.parametrize(
    ("method", "config"), [("ema", {"decay": 0.5}), ("lp", {}), ("l2sp", {"strength": 0.1})]
)
def test_what_counts_is_the_model_that_the_method_leaves(
    method: str, config: dict[str, Any], resnet: Model, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An average of weights, or a head under a frozen backbone: not what the loop last trained."""
    cell = cell_of(method, resnet, RECIPE, **config)
    row, _ = run(cell, site)
    module = made(cell, Path(site.data_root), Path(site.store))
    bench = Bench(Job(cell, ()), site, Store(site.store))
    places = held_out_places(monkeypatch, cell_of("ft", resnet, RECIPE), site)
    assert row["state"] == "done"
    assert row["held_out_correct"] == n_right(module, places, bench)


def test_being_watched_changes_no_weight(resnet: Model, site: Site) -> None:
    cell = cell_of("ft", resnet, RECIPE)
    store = Store(site.store)
    with deterministic():
        modules = []
        for bench in (
            Bench(Job(cell, ()), site, store),
            TrialBench(Job(cell, ()), site, store, lambda _: None),
        ):
            modules.append(method_of(cell).build(bench).state_dict())
    plain, watched = modules
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_a_trial_leaves_a_row_to_commit_and_nothing_in_the_store(
    resnet: Model, site: Site, tmp_path: Path
) -> None:
    cell = cell_of("ft", resnet, RECIPE)
    row, reports = run(cell, site)
    assert not list(tmp_path.iterdir())
    assert json.loads(row["configuration"]) == {"recipe": {"lr": 1}}
    assert (row["search"], row["trial"], row["cell_id"]) == ("s", 1, cell.cell_id)
    assert row["best_epoch"] == 1 + row["held_out_by_epoch"].index(max(row["held_out_by_epoch"]))
    Store(site.store).commit_trial(row)
    Store(site.store).commit_trial({**reports[0], "trial": 2})
    rows = Store(site.store).scan("tuning").table.sort_by("trial").to_pylist()
    assert [(r["state"], r["epochs"]) for r in rows] == [("done", 3), ("stopped", 1)]
    assert {k: rows[0][k] for k in row} == row
    assert rows[1]["held_out_correct"] == rows[0]["held_out_by_epoch"][0]


def test_with_patience_what_counts_is_the_best_epoch(resnet: Model, site: Site) -> None:
    """A learning rate that makes it worse with every epoch: the first one is kept."""
    recipe = RECIPE.model_copy(update={"patience": 1, "epochs": 9, "lr": 0.3})
    row, _ = run(cell_of("ft", resnet, recipe), site)
    assert row["epochs"] < 9
    assert row["held_out_correct"] == max(row["held_out_by_epoch"])
    assert row["held_out_by_epoch"][row["best_epoch"] - 1] == row["held_out_correct"]


def test_a_trial_that_diverges_says_so(resnet: Model, site: Site) -> None:
    recipe = RECIPE.model_copy(update={"lr": 1e12})
    row, _ = run(cell_of("ft", resnet, recipe), site)
    assert (row["state"], row["error_kind"]) == ("diverged", "diverged")
    assert row["message"].startswith("DivergedError: ")


def test_a_trial_that_cannot_be_run_says_why(resnet: Model, site: Site) -> None:
    """Holding nothing out would leave nothing to compare by."""
    row, _ = run(cell_of("ft", resnet, FAST), site)
    assert (row["state"], row["error_kind"]) == ("failed", "user")
    assert "hold out [0.0]" in row["message"]
    assert "held_out_score" in row["traceback"]


# ------------------------------------------------------------------ what trials start from


def test_what_a_trial_starts_from_is_made_once_and_kept(
    resnet: Model, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of("lp-ft", resnet, RECIPE)
    (probe,) = cell.parents
    makings: list[str] = []
    make_model = tuning.make_model

    def counted(bench: Bench) -> Any:
        makings.append(bench.cell.cell_id)
        return make_model(bench)

    monkeypatch.setattr(tuning, "make_model", counted)
    first, _ = run(cell, site)
    again, _ = run(cell, site)
    assert first["state"] == again["state"] == "done"
    assert first["held_out_by_epoch"] == again["held_out_by_epoch"]
    assert makings == [probe.cell_id]
    assert Store(site.store).has_checkpoint(probe.cell_id)


def test_a_start_that_saw_the_held_out_images_is_refused(resnet: Model, site: Site) -> None:
    cell = cell_of("lp-ft", resnet, RECIPE)
    seen = Recipe.model_validate({**(cell.recipe or {}), "holdout": 0.0}).model_dump(mode="json")
    leaking = replace(cell, parents=(replace(cell.parents[0], recipe=seen),))
    row, _ = run(leaking, site)
    assert (row["state"], row["error_kind"]) == ("failed", "user")
    assert "hold out [0.0, 0.25]" in row["message"]
