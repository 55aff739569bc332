"""Other scorings of kept predictions: against the logits themselves, and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix

from orchestrator.masks import ALL, OWN, Mask, parse_mask
from orchestrator.rescore import (
    Rescored,
    UnansweredError,
    agreement,
    calibration,
    calibration_error,
    per_class,
    per_split,
    rescore,
)
from tests.workers.test_predictions import (
    CLASSES,
    DECLARED,
    N_LABELS,
    SUITE,
    best_of,
    kept,
    logits_with_ties,
)
from workers.errors import UserError
from workers.labels import LabelSpace
from workers.suites import DatasetSpec, Suite

LABELS = [place % 3 for place in range(60)]
LOGITS = logits_with_ties(60)
OWN_CLASSES = (2, 4, 7, 9)


KEPT = kept(LOGITS, LABELS)


@pytest.fixture
def table() -> pa.Table:
    return KEPT


def by_hand(classes: tuple[int, ...]) -> tuple[list[bool], list[int], list[bool]]:
    """Whether each image counts, the best of the classes, and whether that is right."""
    targets = [CLASSES.targets[label] for label in LABELS]
    counts = [any(k in classes for k in those) for those in targets]
    best = [best_of(row, classes)[0] for row in LOGITS]
    return counts, best, [k in those for k, those in zip(best, targets, strict=True)]


@pytest.mark.parametrize("name", [OWN, ALL])
def test_the_two_scorings_of_rows(table: pa.Table, name: str) -> None:
    found = rescore(table, Mask(name), SUITE)
    classes = OWN_CLASSES if name == OWN else tuple(range(N_LABELS))
    counts, best, right = by_hand(classes)
    assert all(counts)
    assert found.n_total == 60
    assert found.top1.tolist() == best
    assert found.correct.tolist() == right
    assert found.n_correct == sum(right)


def answer(mask: Mask) -> Rescored | UnansweredError:
    try:
        return rescore(KEPT, mask, SUITE)
    except UnansweredError as error:
        return error


@settings(deadline=None)
@given(st.sets(st.integers(0, N_LABELS - 1), min_size=1))
def test_any_mask_is_scored_as_the_logits_would_be_or_refused(mask: set[int]) -> None:
    classes = tuple(sorted(mask))
    counts, best, right = by_hand(classes)
    told = answer(Mask("file", classes))
    if isinstance(told, UnansweredError):
        assert 0 < told.n_images <= told.n_total == sum(counts)
        return
    found = told
    assert found.is_scored.tolist() == counts
    assert found.n_correct == sum(r for r, counted in zip(right, counts, strict=True) if counted)
    for mine, theirs, counted in zip(found.top1, best, counts, strict=True):
        assert not counted or mine == theirs
    assert found.confidence is None


def test_a_mask_is_known_wherever_something_kept_tells_its_best(table: pa.Table) -> None:
    # All classes but one: among the four best of all there are always three others.
    assert rescore(table, Mask("most", tuple(range(1, N_LABELS))), SUITE).n_total == 60
    # A part of the set's own four classes, all of which are in `top_masked`.
    assert rescore(table, Mask("own part", (2, 4)), SUITE).n_total == 40
    # The classes that the suite declares, however far down the list.
    assert rescore(table, Mask("some", DECLARED), SUITE).n_total == 20


def test_what_is_not_known_is_refused_with_how_much() -> None:
    """Class 0 is the worst and 1 the one before of every image: neither is among those kept."""
    logits = torch.arange(N_LABELS).float().repeat(6, 1)
    with pytest.raises(UnansweredError, match="of 2 of 2 images") as raised:
        rescore(kept(logits, [0, 1, 2, 0, 1, 2]), Mask("file", (0, 1, 4)), SUITE)
    assert (raised.value.n_images, raised.value.n_total) == (2, 2)


def test_per_class_accuracy_is_the_diagonal_of_the_confusion_matrix(table: pa.Table) -> None:
    found = rescore(table, Mask(OWN), SUITE)
    counts = per_class(table, found).set_index("label")
    _, best, _ = by_hand(OWN_CLASSES)
    # A prediction of either of the second class's two targets is that class.
    said = [{7: "one", 2: "two", 9: "two", 4: "three"}[k] for k in best]
    truth = [CLASSES.classes[label] for label in LABELS]
    matrix = confusion_matrix(truth, said, labels=CLASSES.classes)
    assert [counts.at[name, "n_correct"] for name in CLASSES.classes] == matrix.diagonal().tolist()
    assert counts["n_total"].tolist() == [20, 20, 20]


def test_splits_are_counted_apart() -> None:
    one = kept(LOGITS, LABELS)
    severity = pa.array([3] * 60)
    other = one.set_column(one.schema.get_field_index("severity"), "severity", severity)
    both = pa.concat_tables([one.slice(0, 20), other])
    counts = per_split(both, rescore(both, Mask(OWN), SUITE))
    _, _, right = by_hand(OWN_CLASSES)
    assert counts["severity"].tolist() == [2, 3]
    assert counts["n_total"].tolist() == [20, 60]
    assert counts["n_correct"].tolist() == [sum(right[:20]), sum(right)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60).filter(
        lambda pairs: len({k for pair in pairs for k in pair}) > 1
    )
)
def test_agreement_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side, dtype=np.int16) for side in zip(*pairs, strict=True))
    found = agreement(a, b)
    assert found.n_images == len(pairs)
    assert found.share == pytest.approx(accuracy_score(a, b))
    assert found.kappa == pytest.approx(cohen_kappa_score(a, b))


def test_kappa_of_two_that_always_say_the_same_class_is_unknown() -> None:
    same = np.full(5, 3, dtype=np.int16)
    found = agreement(same, same)
    assert (found.share, found.kappa) == (1.0, None)


def ece_by_hand(confidence: list[float], correct: list[bool], bins: int) -> float:
    """Equation 3 of Guo et al. 2017, one bin after another."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [k for k, c in enumerate(confidence) if (m - 1) / bins < c <= m / bins]
        if inside:
            accuracy = sum(correct[k] for k in inside) / len(inside)
            mean = sum(confidence[k] for k in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(2**-20, 1, width=32), st.booleans()), min_size=1, max_size=80))
def test_the_calibration_error_is_guos(images: list[tuple[float, bool]]) -> None:
    confidence = np.array([c for c, _ in images], dtype=np.float32)
    correct = np.array([right for _, right in images])
    expected = ece_by_hand([float(c) for c in confidence], correct.tolist(), 16)
    assert calibration_error(confidence, correct, 16) == pytest.approx(expected, abs=1e-9)
    bins = calibration(confidence, correct, 16)
    assert bins["n"].sum() == len(images)


def test_a_model_that_is_as_sure_as_it_is_right_is_calibrated() -> None:
    confidence = np.full(100, 0.75, dtype=np.float32)
    correct = np.arange(100) < 75
    assert calibration_error(confidence, correct) == pytest.approx(0, abs=1e-9)
    assert calibration_error(confidence, ~correct) == pytest.approx(0.5)


# ---------------------------------------------------------------------- naming classes


NAMED = Suite(
    name="named",
    version="1",
    space=LabelSpace(("n1", "n2", "n3"), ("tench, Tinca tinca", "crane", "crane, hoist")),
    id=DatasetSpec("val", "val"),
    ood=(DatasetSpec("some", "some", classes=("n1", "n3")), DatasetSpec("all2", "all2")),
)


def test_masks_by_their_names() -> None:
    assert parse_mask("own", NAMED) == Mask("own")
    assert parse_mask("all", NAMED) == Mask("all")
    assert parse_mask("some", NAMED) == Mask("some", (0, 2))
    assert parse_mask("all2", NAMED) == Mask("all")
    with pytest.raises(UserError, match="no set of named, and no file"):
        parse_mask("sone", NAMED)


def test_a_file_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("# fish\nTinca tinca\n\nn3  # by its id\ncrane, hoist\n")
    assert parse_mask(str(path), NAMED) == Mask(str(path), (0, 2))
    path.write_text("crane\nbird\nn1\n")
    with pytest.raises(UserError) as raised:
        parse_mask(str(path), NAMED)
    told = [str(problem) for problem in raised.value.problems]
    assert told[0].startswith(f"{path}:1: 2 classes are 'crane'")
    assert "n2, n3" in told[0]
    assert told[1].startswith(f"{path}:2: there is no class 'bird'")
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="lists no class"):
        parse_mask(str(path), NAMED)
