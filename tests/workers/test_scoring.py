"""Which predictions are right, and the loss, against hand computation and torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from workers.labels import ClassMap, LabelSpace, map_class_ids
from workers.scoring import Scorer

CPU = torch.device("cpu")
SPACE = LabelSpace(("n0", "n1", "n2", "n3", "n4", "n5"))
WHOLE = map_class_ids(SPACE.ids, SPACE)
SUBSET = map_class_ids(("n4", "n1", "n2"), SPACE)
"""Its classes are in another order than the label space: position 0 is label 4."""
MANY = ClassMap(("bench", "chair", "cup"), ((5,), (0, 3), (1,)), 6)
"""As ObjectNet's: a prediction of 0 or of 3 is right for a chair; 2 and 4 are outside."""

LOGITS = torch.tensor(
    [
        # 0    1    2    3    4    5
        [9.0, 1.0, 2.0, 9.5, 3.0, 0.0],
        [0.0, 5.0, 1.0, 0.0, 4.0, 7.0],
        [0.0, 1.0, 2.0, 3.0, 8.0, 4.0],
        [4.0, 3.0, 0.0, 2.0, 1.0, 5.0],
    ]
)


def masked(classes: ClassMap) -> torch.Tensor:
    return Scorer(classes, CPU).select(LOGITS)


def test_the_mask_keeps_the_set_s_own_logits_in_label_order() -> None:
    assert masked(SUBSET).tolist() == LOGITS[:, [1, 2, 4]].tolist()
    assert masked(MANY).tolist() == LOGITS[:, [0, 1, 3, 5]].tolist()
    assert torch.equal(masked(WHOLE), LOGITS)


def test_the_arg_max_is_taken_under_the_mask_and_once_without_it() -> None:
    scorer = Scorer(SUBSET, CPU)
    # Under the mask the four predictions are labels 4, 1, 4, 1; without it 3, 5, 4, 5.
    by_label = {"n4": 0, "n1": 1, "n2": 2}
    for guess, right, right_unmasked in [
        ("n4", [True, False, True, False], [False, False, True, False]),
        ("n1", [False, True, False, True], [False, False, False, False]),
        ("n2", [False, False, False, False], [False, False, False, False]),
    ]:
        labels = torch.full((4,), by_label[guess])
        assert scorer.correct(masked(SUBSET), labels).tolist() == right
        assert scorer.correct_unmasked(LOGITS, labels).tolist() == right_unmasked


def test_any_target_of_a_class_is_right() -> None:
    scorer = Scorer(MANY, CPU)
    # Under the mask {0, 1, 3, 5} the predictions are 3, 5, 5, 5; without it 3, 5, 4, 5.
    bench, chair, cup = (torch.full((4,), k) for k in range(3))
    assert scorer.correct(masked(MANY), chair).tolist() == [True, False, False, False]
    assert scorer.correct(masked(MANY), bench).tolist() == [False, True, True, True]
    assert scorer.correct(masked(MANY), cup).tolist() == [False] * 4
    assert scorer.correct_unmasked(LOGITS, chair).tolist() == [True, False, False, False]
    assert scorer.correct_unmasked(LOGITS, bench).tolist() == [False, True, False, True]
    zero_wins = LOGITS[:1, :].clone()
    zero_wins[0, 0] = 9.9
    assert scorer.correct(scorer.select(zero_wins), chair[:1]).tolist() == [True]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_of_one_to_one_classes_is_torch_s_cross_entropy(reduction: str) -> None:
    labels = torch.tensor([0, 1, 2, 0])
    found = Scorer(SUBSET, CPU).cross_entropy(masked(SUBSET), labels, reduction)
    columns = torch.tensor([2, 0, 1, 2])  # of n4, n1, n2, n4 among columns n1, n2, n4
    expected = functional.cross_entropy(LOGITS[:, [1, 2, 4]], columns, reduction=reduction)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_of_a_class_with_several_targets_adds_their_probabilities(reduction: str) -> None:
    labels = torch.tensor([1, 0, 2, 1])
    found = Scorer(MANY, CPU).cross_entropy(masked(MANY), labels, reduction)
    p = LOGITS.double()[:, [0, 1, 3, 5]].softmax(dim=1)
    right = torch.stack([p[0, 0] + p[0, 2], p[1, 3], p[2, 1], p[3, 0] + p[3, 2]])
    losses = -right.log()
    expected = losses.mean() if reduction == "mean" else losses.sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_loss_of_several_targets_by_hand_and_its_gradient() -> None:
    """Equal logits: two targets of four give -log(1/2); the gradient is p - p restricted."""
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    loss = Scorer(MANY, CPU).cross_entropy(logits, torch.tensor([1]))
    assert float(loss.detach()) == pytest.approx(0.6931471805599453)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.25 - 0.5, 0.25, 0.25 - 0.5, 0.25])


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, -1e4, 0.0]], requires_grad=True)
    loss = Scorer(MANY, CPU).cross_entropy(logits, torch.tensor([0]))
    assert float(loss.detach()) == pytest.approx(1e4)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_one_to_one_map_written_as_several_targets_gives_the_same_loss() -> None:
    """The two formulas agree where both apply."""
    scorer = Scorer(SUBSET, CPU)
    labels = torch.tensor([2, 1, 0, 1])
    first = scorer.cross_entropy(masked(SUBSET), labels)
    scorer.is_one_to_one = False
    torch.testing.assert_close(scorer.cross_entropy(masked(SUBSET), labels), first)


@st.composite
def class_maps(draw: st.DrawFn) -> ClassMap:
    n_labels = draw(st.integers(1, 9))
    indices = st.lists(st.integers(0, n_labels - 1), min_size=1, max_size=3, unique=True)
    targets = draw(st.lists(indices.map(tuple), min_size=1, max_size=5))
    return ClassMap(tuple(f"c{i}" for i in range(len(targets))), tuple(targets), n_labels)


@settings(deadline=None)
@given(class_maps(), st.integers(0, 1000))
def test_scoring_against_a_plain_loop(classes: ClassMap, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, classes.n_labels, generator=generator)
    labels = torch.randint(0, len(classes.classes), (6,), generator=generator)
    scorer = Scorer(classes, CPU)
    selected = scorer.select(logits)
    allowed = {k for targets in classes.targets for k in targets}
    losses = []
    for i, label in enumerate(labels.tolist()):
        row, right = logits[i].double(), classes.targets[label]
        inside = max(allowed, key=lambda k: float(row[k]))
        anywhere = max(range(classes.n_labels), key=lambda k: float(row[k]))
        assert bool(scorer.correct(selected, labels)[i]) == (inside in right)
        assert bool(scorer.correct_unmasked(logits, labels)[i]) == (anywhere in right)
        mass = sum(row[k].exp() for k in right) / sum(row[k].exp() for k in allowed)
        losses.append(-mass.log())
    expected = torch.stack(losses)
    found = scorer.cross_entropy(selected, labels)
    torch.testing.assert_close(found.double(), expected.mean(), rtol=1e-4, atol=1e-5)


def test_wrong_class_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="needs its targets"):
        ClassMap(("a", "b"), ((0,),), 3)
    for targets in ((3,), (-1,), ()):
        with pytest.raises(ValueError, match="'a' has targets"):
            ClassMap(("a",), (targets,), 3)
    with pytest.raises(KeyError):
        map_class_ids(("n0", "n9"), SPACE)
    with pytest.raises(ValueError, match="repeat"):
        LabelSpace(("a", "a"))


# ---------------------------------------------------------------------------- label smoothing


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("classes", [WHOLE, SUBSET, MANY], ids=["whole", "subset", "many"])
def test_label_smoothing_by_its_formula(
    classes: ClassMap, smoothing: float, reduction: str
) -> None:
    """(1 - s) -log p(right) + s * the mean of -log p over the columns of the mask."""
    labels = torch.tensor([2, 0, 1, 1])
    columns = sorted({k for targets in classes.targets for k in targets})
    p = LOGITS.double()[:, columns].softmax(dim=1)
    losses = []
    for row, label in zip(p, labels.tolist(), strict=True):
        right = sum(row[columns.index(k)] for k in classes.targets[label])
        losses.append(-(1 - smoothing) * right.log() - smoothing * row.log().mean())
    total = torch.stack(losses).sum()
    expected = total / 4 if reduction == "mean" else total
    scorer = Scorer(classes, CPU)
    found = scorer.cross_entropy(
        scorer.select(LOGITS.double()), labels, reduction, smoothing=smoothing
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_smoothing_of_a_one_to_one_map_is_the_same_by_both_formulas() -> None:
    scorer = Scorer(SUBSET, CPU)
    labels = torch.tensor([2, 1, 0, 1])
    first = scorer.cross_entropy(masked(SUBSET).double(), labels, smoothing=0.3)
    scorer.is_one_to_one = False
    second = scorer.cross_entropy(masked(SUBSET).double(), labels, smoothing=0.3)
    torch.testing.assert_close(second, first, rtol=1e-12, atol=1e-12)
