"""Predictions to intervals: every image adds what it should, and pairs are of the same images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.leaderboard import leaderboard
from orchestrator.paired import Predictions, paired_entries, ri_scores
from tests.orchestrator.answers import SETS, SHARED, World, world

FT = ("m", "ft")


def board(of: World, predictions: Predictions | None = None):
    paired = {} if predictions is None else paired_entries(predictions, [FT, ("m", "lp")])
    return leaderboard(of.accuracies, SETS, sources=SHARED, paired=paired).set_index("method")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_what_images_add_sums_up_to_ri_and_mri(seed, n_seeds):
    made = world({FT: 0.1}, seed, range(n_seeds), noise=0.5)
    scores = ri_scores(made.predictions, *FT, SETS.ood)
    assert scores is not None
    totals = sum(stratum.sum(axis=0) for stratum in scores)
    row = leaderboard(made.accuracies, SETS).iloc[0]
    assert totals == pytest.approx([row[f"RI {name}"] for name in SETS.ood], abs=1e-9)
    (alone,) = paired_entries(made.predictions, [FT]).values()
    assert sum(of.sum() for of in alone.mri) == pytest.approx(row["mRI"], abs=1e-3)


def test_sets_that_show_the_same_images_are_one_stratum():
    made = world({FT: 0.1}).predictions
    scores = ri_scores(made, *FT, SETS.ood)
    assert [len(stratum) for stratum in scores or ()] == [40, 60], "a, and b with c"
    apart = ri_scores(replace(made, sources={}), *FT, SETS.ood)
    assert [len(stratum) for stratum in apart or ()] == [40, 60, 60]
    assert scores is not None
    assert apart is not None
    assert scores[1] == pytest.approx(apart[1] + apart[2])


def test_a_paired_interval_is_narrower_and_centred():
    made = world({FT: 0.1, ("m", "lp"): 0.05})
    by_counts, paired = board(made), board(made, made.predictions)
    assert paired["interval"].tolist() == ["paired", "paired"]
    for name in ("mRI", *(f"RI {j}" for j in SETS.ood)):
        assert (paired[name] == by_counts[name]).all()
        assert (paired[f"{name} low"] < paired[name]).all()
        assert (paired[f"{name} high"] > paired[name]).all()
        widths = [one[f"{name} high"] - one[f"{name} low"] for one in (paired, by_counts)]
        assert (widths[0] < 0.7 * widths[1]).all()
    same = ["ID low", "ID high", "OOD low", "downstream high"]
    assert paired[same].equals(by_counts[same]), "accuracies have Wilson's"


def test_a_paired_interval_covers_what_it_should(true_mri):
    """mRI of answers with 12 points more, whatever images are drawn."""
    held = 0
    for seed in range(120):
        made = world({FT: 0.12}, seed, noise=0.15)
        (found,) = paired_entries(made.predictions, [FT]).values()
        held += found.low[0] <= true_mri <= found.high[0]
    assert 0.89 < held / 120 < 0.995


@pytest.fixture(scope="module")
def true_mri() -> float:
    """The mRI of `world({FT: 0.12}, noise=0.15)` over very many images."""
    sizes = dict.fromkeys(SETS.names, 40_000)
    made = world({FT: 0.12}, 99, noise=0.15, sizes=sizes)
    return float(leaderboard(made.accuracies, SETS).at[0, "mRI"])


def test_pairs_tell_entries_apart_that_counts_do_not():
    made = world({FT: 0.13, ("m", "lp"): 0.06}, noise=0.02)
    by_counts, paired = board(made), board(made, made.predictions)
    assert by_counts[["rank low", "rank high"]].to_numpy().tolist() == [[1, 2], [1, 2]]
    assert paired[["rank low", "rank high"]].to_numpy().tolist() == [[1, 1], [2, 2]]


def without(of: Predictions, cell_id: str, name: str) -> Predictions:
    kept = {one: [j for j in sets if (one, j) != (cell_id, name)] for one, sets in of.kept.items()}
    return replace(of, kept=kept)


@pytest.mark.parametrize(
    ("cell_id", "name"),
    [("m-pretrained-None-None", "c"), ("m-ft-0-a", "b"), ("m-ft-0-c", "a")],
)
def test_without_one_file_an_entry_has_its_counts(cell_id, name):
    made = world({FT: 0.1, ("m", "lp"): 0.05})
    lacking = without(made.predictions, cell_id, name)
    expected = {"counts"} if "pretrained" in cell_id else {"counts", "paired"}
    found = board(made, lacking)
    assert set(found["interval"]) == expected
    assert found.loc["ft", "mRI low"] == board(made).loc["ft", "mRI low"]


def test_what_ri_does_not_look_at_need_not_be_kept():
    made = world({FT: 0.1}).predictions
    for cell_id, name in (("m-ft-0-a", "a"), ("m-ft-0-a", "id"), ("m-pretrained-None-None", "id")):
        assert ri_scores(without(made, cell_id, name), *FT, SETS.ood) is not None


def test_other_images_are_not_paired():
    made = world({FT: 0.1}).predictions

    def fewer(cell_id: str, name: str):
        table = made.read(cell_id, name)
        return table.slice(1) if (cell_id, name) == ("m-ft-0-a", "c") else table

    assert ri_scores(replace(made, read=fewer), *FT, SETS.ood) is None
    assert ri_scores(made, *FT, SETS.ood) is not None


def test_a_split_that_is_missing_is_no_shorter_mean():
    made = world({FT: 0.1}).predictions

    def clear(cell_id: str, name: str):
        table = made.read(cell_id, name)
        keep = [s != "noise" for s in table["corruption"].to_pylist()]
        return table.filter(keep) if name == "c" else table

    assert ri_scores(replace(made, read=clear), *FT, SETS.ood) is None


def test_a_seed_that_is_missing_is_not_averaged_over():
    made = world({FT: 0.1}, seeds=(0, 1)).predictions
    cells = {key: one for key, one in made.cells.items() if key != ("m", "ft", 1, "b")}
    assert ri_scores(replace(made, cells=cells), *FT, SETS.ood) is None
    assert ri_scores(replace(made, cells=cells), *FT, ("a", "c")) is not None


def test_entries_that_are_paired_do_not_depend_on_the_order_of_rows():
    made = world({FT: 0.1}).predictions

    def turned(cell_id: str, name: str):
        table = made.read(cell_id, name)
        return table.take(np.arange(len(table))[::-1]) if "ft" in cell_id else table

    (one,) = paired_entries(made, [FT]).values()
    (other,) = paired_entries(replace(made, read=turned), [FT]).values()
    assert (one.low == other.low).all()
    assert (one.high == other.high).all()
