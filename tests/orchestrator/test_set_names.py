"""Telling which sets a table is about."""

from __future__ import annotations

import pandas as pd
import pytest

from orchestrator.accuracies import ACCURACY_COLUMNS
from orchestrator.accuracy_tables import read_accuracies
from orchestrator.set_names import IMAGENET_RIB, SetNames, infer_sets, strata_of
from tests.orchestrator.test_tables import POSTER
from workers.errors import UserError

SETS = SetNames("id", ("a", "b", "c"))


def evaluated(*pairs: tuple[str | None, str]) -> pd.DataFrame:
    rows = [("m", "ft" if i else "pretrained", 0, i, j, 50.0 + n) for n, (i, j) in enumerate(pairs)]
    return pd.DataFrame(rows, columns=ACCURACY_COLUMNS)


def test_a_known_suite_is_recognised_by_a_part_of_it():
    assert infer_sets(read_accuracies(POSTER), [SETS, IMAGENET_RIB], None) == IMAGENET_RIB
    part = evaluated((None, "imagenet-a"), ("imagenet-v2", "imagenet-a"))
    assert infer_sets(part, [IMAGENET_RIB], None) == IMAGENET_RIB
    assert infer_sets(part, [IMAGENET_RIB], "imagenet-1k") == IMAGENET_RIB


def test_the_largest_known_suite_wins_over_a_partial_mean():
    small = SetNames("id", ("a", "b"))
    assert infer_sets(evaluated(("a", "b"), ("b", "a")), [small, SETS], None) == SETS


def test_the_only_set_that_nothing_is_tuned_on_is_the_id_set():
    table = evaluated((None, "x"), ("q", "p"), ("p", "q"), ("q", "x"))
    assert infer_sets(table, [], None) == SetNames("x", ("q", "p"))
    assert infer_sets(table, [IMAGENET_RIB], "x") == SetNames("x", ("q", "p"))


def test_an_id_set_without_rows_can_be_named():
    table = evaluated(("q", "p"), ("p", "q"))
    assert infer_sets(table, [], "x") == SetNames("x", ("q", "p"))


@pytest.mark.parametrize(
    ("pairs", "id_name", "message"),
    [
        ([("q", "p"), ("p", "q")], None, "every set is fine-tuned on"),
        ([("q", "p"), ("p", "x"), ("p", "y")], None, "candidates: x, y"),
        ([("q", "p"), ("p", "imagenet-a")], None, "candidates: imagenet-a"),
        ([("q", "p"), ("p", "x")], "q", "so it is an OOD set"),
        ([("q", "p"), ("p", "xyz")], "xy", "did you mean 'xyz'?"),
        ([("q", "x")], None, "at least two OOD sets"),
        ([("imagenet-a", "imagenet-r")], "imagenet-r", "candidates: imagenet-1k"),
    ],
)
def test_an_unclear_id_set_is_asked_for(pairs, id_name, message):
    with pytest.raises(UserError) as raised:
        infer_sets(evaluated(*pairs), [IMAGENET_RIB], id_name)
    assert message in str(raised.value)


@pytest.mark.parametrize("ood", [(), ("a",), ("a", "a"), ("a", "id")])
def test_a_suite_that_ri_is_not_defined_on(ood):
    with pytest.raises(ValueError, match="suite"):
        SetNames("id", ood)


def test_sets_that_show_the_same_images_are_one_stratum():
    assert strata_of(SETS, {}) == [0, 1, 2]
    assert strata_of(SETS, {"a": "id", "c": "id"}) == [0, 1, 0]
    assert strata_of(SETS, {"id": "id", "a": "a", "b": "a", "c": "c"}) == [0, 0, 1]
