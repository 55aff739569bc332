"""From counts to accuracies: no shorter mean, no guessed value."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.accuracies import (
    ACCURACY_COLUMNS,
    IMAGES,
    ConflictingRows,
    Splits,
    accuracies_from_rows,
)
from orchestrator.scoring import Scoring
from workers.errors import UserError

SPLITS: Splits = {
    "id": [(None, None)],
    "c": [("fog", 1), ("fog", 2), ("fog", 3), ("noise", 1)],
}
C_COUNTS = {("fog", 1): 90, ("fog", 2): 60, ("fog", 3): 30, ("noise", 1): 20}


def row(eval_dataset: str = "id", n_correct: int | None = 50, **other: object) -> dict[str, object]:
    return {
        "suite": "s",
        "model": "m",
        "method": "ft",
        "seed": 0,
        "downstream": "c",
        "cell_id": f"cell-{other.get('method', 'ft')}-{other.get('seed', 0)}",
        "epoch": None,
        "eval_dataset": eval_dataset,
        "corruption": None,
        "severity": None,
        "n_correct": n_correct,
        "n_correct_unmasked": (n_correct or 0) // 2,
        "n_total": 100,
        "n_expected": 100,
    } | other


def c_rows(**other: object) -> list[dict[str, object]]:
    return [
        row("c", count, corruption=corruption, severity=severity, **other)
        for (corruption, severity), count in C_COUNTS.items()
    ]


def reduced(rows: Sequence[dict[str, object]], **options: object) -> dict[str, float]:
    frame = accuracies_from_rows(pd.DataFrame(rows), SPLITS, **options)  # type: ignore[arg-type]
    assert list(frame.columns) == [*ACCURACY_COLUMNS, IMAGES]
    return dict(zip(frame["eval_dataset"], frame["accuracy"], strict=True))


def test_a_plain_set_is_the_percentage_of_its_counts():
    assert reduced([row(n_correct=3, n_total=8)]) == {"id": 37.5}


def test_c_is_the_mean_over_severities_then_over_corruptions():
    # fog (90 + 60 + 30) / 3 = 60, noise 20: 40, where the mean of all four would be 50.
    assert reduced(c_rows()) == {"c": 40.0}


def test_splits_of_different_size_weigh_the_same():
    rows = c_rows()
    rows[3] |= {"n_correct": 2, "n_total": 10}
    assert reduced(rows) == {"c": 40.0}


@pytest.mark.parametrize("lost", range(4))
def test_a_set_with_a_missing_split_is_a_hole(lost):
    rows = c_rows()
    rows.pop(lost)
    assert reduced([*rows, row()]) == {"id": 50.0}


def test_another_cells_splits_do_not_fill_a_hole():
    rows = [*c_rows()[:3], *c_rows(seed=1)[3:]]
    assert reduced(rows) == {}


def test_a_plain_row_does_not_stand_for_a_set_with_corruptions():
    assert reduced([row("c")]) == {}


def test_sets_and_splits_that_are_not_asked_for_are_left_out():
    extra = row("c", 0, corruption="snow", severity=1)
    deeper = row("c", 0, corruption="fog", severity=5)
    assert reduced([*c_rows(), extra, deeper, row("other")]) == {"c": 40.0}


def test_only_the_rows_after_the_last_epoch_count():
    assert reduced([row(n_correct=10, epoch=3), row(n_correct=70)]) == {"id": 70.0}
    assert reduced([row(n_correct=10, epoch=3)]) == {}


def test_scoring_picks_the_counts_set_by_set():
    rows = [row(n_correct=50), *c_rows()]
    assert reduced(rows) == {"id": 50.0, "c": 40.0}
    assert reduced(rows, scoring=Scoring(frozenset({"id"}))) == {"id": 25.0, "c": 40.0}
    assert reduced(rows, scoring=Scoring(frozenset({"id", "c"}))) == {"id": 25.0, "c": 20.0}


def test_a_count_that_was_not_kept_is_asked_for_only_where_it_is_used():
    rows = [row(), *(one | {"n_correct_unmasked": None} for one in c_rows())]
    assert reduced(rows, scoring=Scoring(frozenset({"id"}))) == {"id": 25.0, "c": 40.0}
    with pytest.raises(ValueError, match=r"impossible counts.*eval_dataset=c.*nan correct of 100"):
        reduced(rows, scoring=Scoring(frozenset({"c"})))


def test_images_are_those_of_the_smallest_split():
    rows = [*c_rows(), row(n_total=70)]
    rows[2] |= {"n_total": 60}
    frame = accuracies_from_rows(pd.DataFrame(rows), SPLITS)
    assert dict(zip(frame["eval_dataset"], frame[IMAGES], strict=True)) == {"c": 60, "id": 70}


def test_severities_of_a_corruption_need_not_stand_together():
    apart: Splits = {"c": [("fog", 1), ("noise", 1), ("fog", 2), ("fog", 3)]}
    frame = accuracies_from_rows(pd.DataFrame(c_rows()), apart)
    assert frame["accuracy"].tolist() == [40.0]


def test_the_baseline_keeps_its_missing_downstream():
    frame = accuracies_from_rows(pd.DataFrame([row(method="pretrained", downstream=None)]), SPLITS)
    assert frame["downstream"].isna().tolist() == [True]
    assert frame["method"].tolist() == ["pretrained"]


def test_an_empty_store_has_no_accuracies():
    empty = pd.DataFrame([row()]).iloc[:0]
    assert accuracies_from_rows(empty, SPLITS).columns.tolist() == [*ACCURACY_COLUMNS, IMAGES]
    assert accuracies_from_rows(empty, SPLITS).empty


def test_seeds_are_told_apart_that_floating_point_numbers_do_not():
    seeds = [2**60, 2**60 + 1]
    frame = accuracies_from_rows(pd.DataFrame([row(seed=seed) for seed in seeds]), SPLITS)
    assert frame["seed"].tolist() == seeds


def test_dictionary_encoded_columns_read_like_plain_ones():
    plain = pd.DataFrame([*c_rows(), row(), row(method="pretrained", downstream=None)])
    text = ["model", "method", "downstream", "cell_id", "eval_dataset", "corruption"]
    encoded = plain.astype(dict.fromkeys(text, "category")).astype({"severity": "Int8"})
    pd.testing.assert_frame_equal(
        accuracies_from_rows(encoded, SPLITS), accuracies_from_rows(plain, SPLITS)
    )


def test_a_mean_does_not_depend_on_the_order_of_its_rows_even_in_the_last_bit():
    wide: Splits = {"c": [(f"x{n}", level) for n in range(9) for level in range(1, 6)]}
    rows = pd.DataFrame(
        row("c", 7 * n % 97, corruption=corruption, severity=severity, n_total=97)
        for n, (corruption, severity) in enumerate(wide["c"])
    )
    means = {
        accuracies_from_rows(rows.sample(frac=1, random_state=n), wide).at[0, "accuracy"]
        for n in range(20)
    }
    assert len(means) == 1


@settings(max_examples=40, deadline=None)
@given(st.permutations([*c_rows(), row(), *c_rows(seed=1), row(seed=1)]), st.integers(0, 9))
def test_order_repetition_and_other_cells_change_nothing(rows, repeated):
    expected = accuracies_from_rows(pd.DataFrame([*c_rows(), row()]), SPLITS)
    got = accuracies_from_rows(pd.DataFrame([*rows, rows[repeated]]), SPLITS)
    seed_0 = got[got["seed"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(seed_0, expected, check_exact=True)


@pytest.mark.parametrize(
    "column",
    ["n_correct", "n_correct_unmasked", "n_total"],
)
def test_conflicting_duplicates_raise_and_name_the_key(column):
    first, second = row(), row()
    second[column] += 1
    with pytest.raises(ConflictingRows) as raised:
        reduced([first, row(seed=1), second])
    for part in ("model=m", "method=ft", "seed=0", "downstream=c", "eval_dataset=id"):
        assert part in str(raised.value)
    assert f"{column}={first[column]}" in str(raised.value)
    assert f"{column}={second[column]}" in str(raised.value)


def test_one_cells_numbers_are_not_mixed_from_two_cells():
    rows = c_rows()
    rows[0]["cell_id"] = "older-recipe"
    with pytest.raises(ConflictingRows, match=r"cell_id=older-recipe and cell_id=cell-ft-0"):
        reduced(rows)


@pytest.mark.parametrize(
    "counts",
    [
        {"n_total": 0, "n_correct": 0},
        {"n_correct": -1},
        {"n_correct": 101},
        {"n_correct": None},
        {"n_total": None},
    ],
    ids=str,
)
def test_impossible_counts_raise(counts):
    with pytest.raises(ValueError, match=r"impossible counts.*model=m.*eval_dataset=id"):
        reduced([row(seed=1), row(**counts)])


# Rows of other data or other weights


def refusal(rows: Sequence[dict[str, object]], **options: object) -> list[str]:
    try:
        reduced(rows, **options)
    except UserError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_rows_of_two_copies_of_a_set_are_refused_with_what_there_is_of_each():
    rows = [
        *c_rows(dataset_digest="new"),
        *c_rows(method="pretrained", downstream=None, dataset_digest="old", cell_id="base"),
        *c_rows(seed=1, dataset_digest="new"),
        row(dataset_digest="other"),
        row(seed=1, dataset_digest="other"),
    ]
    assert refusal(rows) == [
        "c: its rows are of different copies of this set: 8 rows of new, 4 rows of old (cells base)"
        " (they must not be compared; --mixed-data does so all the same)"
    ]
    frame = accuracies_from_rows(pd.DataFrame(rows), SPLITS, mixed_data=True)
    on_c = frame.loc[frame["eval_dataset"] == "c", "accuracy"]
    assert on_c.tolist() == [40.0] * 3
    assert refusal(rows, mixed_data=True) == []


def test_one_cell_with_splits_of_two_copies_is_refused():
    rows = c_rows(dataset_digest="new")
    rows[2]["dataset_digest"] = "old"
    (told,) = refusal(rows)
    assert "3 rows of new, 1 rows of old (cells cell-ft-0)" in told


def test_one_name_for_two_weights_is_refused():
    rows = [
        row(weights_digest="sha256:a"),
        row(model="n", weights_digest="sha256:b"),
        row(seed=1, weights_digest="sha256:b"),
        row(seed=2, weights_digest=None),
    ]
    (told,) = refusal(rows)
    assert told.startswith("m: its rows are of different weights of this model: 1 rows of sha256:a")
    assert refusal(rows[1:]) == []


def test_every_mixture_is_told_at_once_and_only_of_rows_that_count():
    rows = [
        row(dataset_digest="a", weights_digest="x"),
        row(seed=1, dataset_digest="b", weights_digest="y"),
        *c_rows(dataset_digest="a"),
        *c_rows(seed=1, dataset_digest="b"),
        row("left out", dataset_digest="a"),
        row("left out", seed=1, dataset_digest="b"),
        row(seed=2, dataset_digest="b", epoch=1),
    ]
    assert [told.partition(":")[0] for told in refusal(rows)] == ["c", "id", "m"]
    assert refusal([rows[0], rows[-1], *rows[4:6]]) == []


def test_the_cells_of_the_rarer_digests_are_named_up_to_three():
    rows = [row(seed=n, dataset_digest="a") for n in range(9)]
    rows += [row(seed=9 + n, dataset_digest="b", cell_id=f"z{n}") for n in range(5)]
    (told,) = refusal(rows)
    assert "9 rows of a, 5 rows of b (cells z0, z1, z2 and 2 more)" in told


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([None, "a", "b"]), min_size=9, max_size=9), st.booleans())
def test_digests_are_refused_exactly_when_a_set_has_two(digests, encoded):
    rows = [row(), row(seed=1), row(method="pretrained", downstream=None), *c_rows()]
    rows += [row(seed=2), row(seed=3)]
    for one, digest in zip(rows, digests, strict=True):
        one["dataset_digest"] = digest
    of_set = {"id": digests[:3] + digests[7:], "c": digests[3:7]}
    mixed = [name for name, held in of_set.items() if {"a", "b"} <= set(held)]
    frame = pd.DataFrame(rows)
    if encoded:
        frame = frame.astype({"dataset_digest": "category", "eval_dataset": "category"})
    if not mixed:
        accuracies_from_rows(frame, SPLITS)
        return
    with pytest.raises(UserError) as raised:
        accuracies_from_rows(frame, SPLITS)
    assert [problem.where for problem in raised.value.problems] == sorted(mixed)
