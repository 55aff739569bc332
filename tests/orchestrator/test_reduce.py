"""RI, mRI and the leaderboard: the poster's digits, and no number over a hole."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.accuracies import ACCURACY_COLUMNS, ConflictingRows
from orchestrator.accuracy_tables import read_accuracies
from orchestrator.leaderboard import leaderboard, number_columns
from orchestrator.matrix import Matrix, matrices
from orchestrator.reduce import improvement
from orchestrator.set_names import IMAGENET_RIB, SetNames

POSTER = Path(__file__).parents[1] / "data" / "poster_vit_b16_augreg_in1k.csv"
SOUP = "soup-pretrained-ft-ewc-lwf"
GOLDEN = {
    "ft": ([3.9857, -2.9714, 3.8714, 5.4000, -2.6714, 1.6000, 1.5000, 6.9714], 2.2107),
    SOUP: ([3.7571, 1.8000, 8.8429, 6.1000, 2.2000, 3.4286, 4.3714, 7.7857], 4.7857),
}
SETS = SetNames("id", ("a", "b", "c"))


@pytest.fixture(scope="module")
def poster() -> pd.DataFrame:
    return read_accuracies(POSTER)


def frame(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=ACCURACY_COLUMNS)


def matrix_of(
    accuracies: pd.DataFrame, sets: SetNames, method: str, expected: pd.DataFrame | None = None
) -> Matrix:
    board = leaderboard(accuracies, sets, expected)
    (found,) = (m for m in matrices(accuracies, sets, board, expected) if m.method == method)
    return found


def complete(
    model: str = "m", method: str = "ft", seed: int = 0, gain: float = 1.0
) -> pd.DataFrame:
    """A baseline at 50 everywhere and an entry that gains the same everywhere."""
    before = [(model, "pretrained", 0, None, name, 50.0) for name in SETS.names]
    after = [
        (model, method, seed, downstream, name, 50.0 + gain)
        for downstream in SETS.ood
        for name in SETS.names
    ]
    return frame(*before, *after)


def without(accuracies: pd.DataFrame, downstream: str | None, name: str) -> pd.DataFrame:
    same = accuracies["downstream"].eq(downstream)
    if downstream is None:
        same = accuracies["downstream"].isna()
    return accuracies[~(same & accuracies["eval_dataset"].eq(name))]


# The poster


@pytest.mark.parametrize("method", GOLDEN)
def test_the_posters_figures(poster, method):
    matrix = matrix_of(poster, IMAGENET_RIB, method)
    gained = improvement(matrix.accuracy[:, 1:], matrix.baseline[1:])
    assert ([round(ri, 4) for ri in gained], round(gained.mean(), 4)) == GOLDEN[method]
    assert np.isnan(matrix.accuracy[:, 1:].diagonal()).all(), "the poster leaves it out"
    assert matrix.missing == []


def test_the_posters_leaderboard(poster):
    board = leaderboard(poster, IMAGENET_RIB)
    assert board["method"].tolist() == [SOUP, "ft"]
    assert board["rank"].tolist() == [1, 2]
    for row in board.to_dict("records"):
        by_set = [round(row[f"RI {name}"], 4) for name in IMAGENET_RIB.ood]
        assert (by_set, round(row["mRI"], 4)) == GOLDEN[row["method"]]
    assert board["missing"].tolist() == [0, 0]
    assert board["downstream"].isna().all()
    # The authors' bar chart: the mean of FT is 44.01.
    assert board.set_index("method").loc["ft", "OOD"] == pytest.approx(44.01, abs=0.005)


# Holes


def test_a_hole_is_named_and_takes_the_mri():
    board = leaderboard(without(complete(), "a", "c"), SETS).iloc[0]
    assert board["missing_cells"] == ["a -> c (seed 0)"]
    assert board["missing"] == 1
    assert pd.isna(board["rank"])
    assert board[["mRI", "RI a", "OOD"]].isna().all()
    assert board[["RI b", "RI c", "ID", "ID drop", "downstream"]].notna().all()


def test_a_hole_in_the_baseline_takes_the_mri():
    board = leaderboard(without(complete(), None, "c"), SETS).iloc[0]
    assert board["missing_cells"] == ["pretrained -> c"]
    assert board[["mRI", "RI a", "RI b"]].isna().all()
    assert board["RI c"] == 1.0


def test_a_missing_baseline_is_named_set_by_set():
    accuracies = complete()
    board = leaderboard(accuracies[accuracies["method"] != "pretrained"], SETS).iloc[0]
    assert board["missing_cells"] == ["pretrained -> a", "pretrained -> b", "pretrained -> c"]
    assert board[["mRI", "ID drop"]].isna().all()


def test_a_nan_accuracy_is_a_hole():
    accuracies = complete()
    accuracies.loc[
        (accuracies["downstream"] == "a") & (accuracies["eval_dataset"] == "c"), "accuracy"
    ] = float("nan")
    assert leaderboard(accuracies, SETS).at[0, "missing_cells"] == ["a -> c (seed 0)"]


@pytest.mark.parametrize(
    ("downstream", "name", "lost"),
    [("a", "a", ["downstream"]), ("a", "id", ["ID", "ID drop"]), (None, "id", ["ID drop"])],
)
def test_the_diagonal_and_the_id_set_do_not_block_an_mri(downstream, name, lost):
    board = leaderboard(without(complete(), downstream, name), SETS).iloc[0]
    assert (board["mRI"], board["rank"], board["missing"]) == (1.0, 1, 0)
    shown = board[number_columns(SETS)]
    assert shown.index[shown.isna()].tolist() == lost


def test_a_downstream_set_without_any_row_is_missing():
    accuracies = complete()
    accuracies = accuracies[accuracies["downstream"] != "b"]
    assert leaderboard(accuracies, SETS).at[0, "missing_cells"] == [
        "b -> a (seed 0)",
        "b -> c (seed 0)",
    ]


def test_ri_is_nan_only_where_a_value_is_missing():
    matrix = matrix_of(without(complete(), "a", "c"), SETS, "ft")
    assert [math.isnan(matrix.numbers[f"RI {name}"]) for name in SETS.ood] == [True, False, False]
    assert math.isnan(matrix.numbers["mRI"])
    assert matrix.missing == ["a -> c"]


def test_entries_that_should_exist_are_shown():
    expected = pd.DataFrame(
        [("m", "ft", 0), ("m", "ft", 1), ("m", "ewc", 0), ("m", "pretrained", 0)],
        columns=["model", "method", "seed"],
    )
    board = leaderboard(complete(), SETS, expected).set_index("method")
    assert board["seeds"].to_dict() == {"ewc": 1, "ft": 2}
    assert board["missing"].to_dict() == {"ewc": 6, "ft": 6}
    assert board["missing_cells"]["ft"][0] == "a -> b (seed 1)"
    assert board["mRI"].isna().all()
    assert leaderboard(complete().iloc[:0], SETS, expected)["missing"].tolist() == [9, 15]


def test_nothing_gives_an_empty_leaderboard():
    board = leaderboard(complete().iloc[:0], SETS)
    assert board.empty
    assert list(board.columns) == list(leaderboard(complete(), SETS).columns)


# Seeds, ranks, what is shown beside


def test_mri_is_the_mean_over_the_seeds():
    two = pd.concat([complete(seed=0, gain=1.0), complete(seed=1, gain=4.0)])
    board = leaderboard(two, SETS).iloc[0]
    assert (board["mRI"], board["RI a"], board["seeds"]) == (2.5, 2.5, 2)
    assert matrix_of(two, SETS, "ft").accuracy[0, 2] == 52.5


def test_a_hole_in_one_seed_is_not_averaged_over():
    two = pd.concat([complete(seed=0), without(complete(seed=1), "a", "c")])
    assert leaderboard(two, SETS).at[0, "missing_cells"] == ["a -> c (seed 1)"]
    holes = np.isnan(matrix_of(two, SETS, "ft").accuracy)
    assert np.argwhere(holes).tolist() == [[0, 3]]


def test_a_seed_that_should_exist_leaves_the_mean_matrix_empty():
    expected = pd.DataFrame([("m", "ft", 0), ("m", "ft", 1)], columns=["model", "method", "seed"])
    assert np.isnan(matrix_of(complete(), SETS, "ft", expected).accuracy).all()


def test_the_baseline_counts_for_every_seed():
    accuracies = complete(seed=7)
    assert leaderboard(accuracies, SETS).at[0, "mRI"] == 1.0


def test_equal_mri_share_a_rank_and_incomplete_ones_stand_last():
    board = leaderboard(
        pd.concat(
            [
                complete(method="d", gain=1.0),
                complete(method="c", gain=3.0),
                complete(method="b", gain=3.0 + 1e-12),
                without(complete(method="a", gain=9.0), "a", "b"),
            ]
        ),
        SETS,
    )
    assert board["method"].tolist() == ["b", "c", "d", "a"]
    assert board["rank"].tolist()[:3] == [1, 1, 3]
    assert pd.isna(board["rank"][3])


def test_accuracies_beside_the_mri():
    accuracies = complete(gain=1.0)
    tuned = accuracies["method"] == "ft"
    accuracies.loc[tuned & (accuracies["eval_dataset"] == "id"), "accuracy"] = 47.0
    accuracies.loc[accuracies["downstream"] == accuracies["eval_dataset"], "accuracy"] = 90.0
    board = leaderboard(accuracies, SETS).iloc[0]
    shown = board[["mRI", "ID", "ID drop", "downstream", "OOD"]].tolist()
    assert shown == [1.0, 47.0, 3.0, 90.0, 51.0]


def test_a_matrix_has_the_suites_order():
    accuracies = complete()
    accuracies["accuracy"] = range(len(accuracies))
    matrix = matrix_of(accuracies.iloc[::-1], SETS, "ft")
    assert matrix.baseline.tolist() == [0, 1, 2, 3]
    assert matrix.accuracy.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


def test_two_values_for_one_key_raise():
    tuned = frame(("m", "ft", 0, "a", "b", 12.0))
    with pytest.raises(ConflictingRows, match=r"downstream=a, eval_dataset=b has both"):
        leaderboard(pd.concat([complete(), tuned]), SETS)
    other_seed = frame(("m", "pretrained", 1, None, "b", 12.0))
    with pytest.raises(ConflictingRows, match=r"model=m, eval_dataset=b has both"):
        leaderboard(pd.concat([complete(), other_seed]), SETS)


# Properties


@st.composite
def suites_and_accuracies(draw: st.DrawFn) -> tuple[SetNames, pd.DataFrame]:
    """Up to two models, two methods and two seeds on up to four OOD sets, with holes."""
    sets = SetNames("id", tuple("abcd"[: draw(st.integers(2, 4))]))
    models, methods, seeds = (draw(st.integers(1, 2)) for _ in range(3))
    keys = [(f"m{m}", "pretrained", 0, None, j) for m in range(models) for j in sets.names]
    keys += [
        (f"m{m}", f"x{x}", seed, i, j)
        for m in range(models)
        for x in range(methods)
        for seed in range(seeds)
        for i in sets.ood
        for j in sets.names
    ]
    values = draw(st.lists(st.floats(0, 100), min_size=len(keys), max_size=len(keys)))
    holes = draw(st.sets(st.sampled_from(range(len(keys))), max_size=2))
    rows = [(*key, value) for key, value in zip(keys, values, strict=True)]
    return sets, frame(*(row for n, row in enumerate(rows) if n not in holes))


def plain_mri(accuracies: pd.DataFrame, sets: SetNames, model: str, method: str) -> float | None:
    """The formula as the paper prints it, in loops; None over a hole."""
    value = {
        (m, x, None if x == "pretrained" else s, None if x == "pretrained" else i, j): accuracy
        for m, x, s, i, j, accuracy in accuracies.itertuples(index=False)
    }
    entries = accuracies[(accuracies["model"] == model) & (accuracies["method"] == method)]
    by_seed = []
    for seed in entries["seed"].unique():
        improvements = []
        for i in sets.ood:
            total = 0.0
            for j in sets.ood:
                if j == i:
                    continue
                after = value.get((model, method, seed, i, j))
                before = value.get((model, "pretrained", None, None, j))
                if after is None or before is None:
                    return None
                total += after - before
            improvements.append(total / (len(sets.ood) - 1))
        by_seed.append(sum(improvements) / len(improvements))
    return sum(by_seed) / len(by_seed)


@settings(max_examples=60, deadline=None)
@given(suites_and_accuracies())
def test_a_plain_loop_agrees(case):
    sets, accuracies = case
    board = leaderboard(accuracies, sets)
    for row in board.to_dict("records"):
        plain = plain_mri(accuracies, sets, row["model"], row["method"])
        if plain is None:
            assert math.isnan(row["mRI"])
            assert row["missing"] == len(row["missing_cells"]) > 0
        else:
            assert row["mRI"] == pytest.approx(plain, abs=1e-9)
            assert row["missing"] == 0
    ranked = board[board["rank"].notna()]
    assert ranked["mRI"].round(9).is_monotonic_decreasing
    assert ranked.index.tolist() == list(range(len(ranked)))


@settings(max_examples=60, deadline=None)
@given(suites_and_accuracies(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(case, random):
    sets, accuracies = case
    expected = leaderboard(accuracies, sets)
    order = [*range(len(accuracies)), random.randrange(len(accuracies))]
    random.shuffle(order)
    shuffled = accuracies.iloc[order]
    pd.testing.assert_frame_equal(leaderboard(shuffled, sets), expected, check_exact=True)


@settings(max_examples=60, deadline=None)
@given(suites_and_accuracies(), st.floats(0, 100))
def test_unrelated_cells_change_nothing(case, accuracy):
    sets, accuracies = case
    others = frame(
        ("other model", "x0", 0, "a", "b", accuracy),
        ("other model", "pretrained", 0, None, "b", accuracy),
        ("m0", "other method", 5, "a", "b", accuracy),
        ("m0", "x0", 0, "a", "another set", accuracy),
        ("m0", "x0", 0, "another set", "a", accuracy),
        ("m0", "x0", 0, "id", "a", accuracy),
    )
    both = leaderboard(pd.concat([others, accuracies]), sets)
    unrelated = both["model"].eq("other model") | both["method"].eq("other method")
    shown = both[~unrelated].reset_index(drop=True)
    pd.testing.assert_frame_equal(shown, leaderboard(accuracies, sets), check_exact=True)


@settings(max_examples=60, deadline=None)
@given(suites_and_accuracies(), st.floats(0, 100))
def test_the_diagonal_and_the_id_set_never_enter_ri(case, accuracy):
    sets, accuracies = case
    diagonal = accuracies["downstream"] == accuracies["eval_dataset"]
    changed = accuracies.copy()
    changed.loc[diagonal | (accuracies["eval_dataset"] == "id"), "accuracy"] = accuracy
    shown = ["rank", "model", "method", "mRI", *(f"RI {name}" for name in sets.ood), "OOD"]
    pd.testing.assert_frame_equal(
        leaderboard(changed, sets)[shown], leaderboard(accuracies, sets)[shown], check_exact=True
    )
