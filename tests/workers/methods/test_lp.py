"""Linear probing: scikit-learn's solution, plain loops, and what stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from tests.embedded import FAST, bench_of, cell_of, images_of, made
from tests.workers.methods import (
    CLASSES,
    COLUMNS,
    CPU,
    N_LABELS,
    RECIPE,
    TARGETS,
    MemorySource,
    PlainSGD,
    ToyBench,
    ToyNet,
    normalise64,
)
from workers.bench import Bench
from workers.cell import Model
from workers.frozen import TensorSource, features_of
from workers.methods.lp import LinearProbe, LinearProbeConfig, classifier_of
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.train import Step, Trainer

MODELS = ["resnet", "vit"]


class Watched(LinearProbe):
    """Linear probing that remembers which images each step was made with."""

    def __init__(self) -> None:
        super().__init__(LinearProbeConfig())
        self.steps: list[torch.Tensor] = []

    def loss(self, step: Step) -> torch.Tensor:
        self.steps.append(step.indices)
        return super().loss(step)


# ---------------------------------------------------------------------------- where it ends


def test_the_converged_probe_is_scikit_learn_s_logistic_regression() -> None:
    """mean CE + lambda / 2 |W|^2 has the minimum of C sum CE + 1/2 |W|^2 at C = 1 / (lambda N)."""
    n, decay = 90, 0.02
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (n,), generator=generator)
    centres = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    features = centres[labels] + noise
    probe = nn.Linear(5, N_LABELS).double()
    recipe = Recipe(
        lr=0.5,
        momentum=0.9,
        weight_decay=decay,
        decay_norms_and_biases=False,
        schedule="constant",
        warmup_steps=0,
        epochs=800,
        batch_size=n,
        precision="fp32",
    )
    trainer = Trainer(
        TensorSource(features, labels), Scorer(CLASSES, CPU), lambda x: x, recipe, CPU, seed=0
    )
    trainer.train(probe, Step.cross_entropy)

    targets = torch.tensor(TARGETS)[labels]
    solver = LogisticRegression(C=1 / (decay * n), tol=1e-10, max_iter=10_000)
    solver.fit(features.numpy(), targets.numpy())
    weight = probe.weight.detach()[COLUMNS]
    expected = torch.from_numpy(solver.coef_)
    torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)
    logits = (probe(features)[:, COLUMNS]).detach()
    probabilities = torch.from_numpy(solver.predict_proba(features.numpy()))
    torch.testing.assert_close(logits.softmax(dim=1), probabilities, rtol=1e-4, atol=1e-5)
    others = [k for k in range(N_LABELS) if k not in COLUMNS]
    assert float(probe.weight.detach()[others].abs().max()) < 1e-3  # they are only decayed
    assert float(expected.abs().max()) > 0.5


# ---------------------------------------------------------------------------- how it gets there


def test_steps_against_a_plain_loop_over_features() -> None:
    start = ToyNet()
    bench = ToyBench(start, MemorySource())
    method = Watched()
    found = method.build(bench)
    assert [len(places) for places in method.steps] == [8, 8, 5, 8, 8, 5]

    plain, source = copy.deepcopy(start), MemorySource()
    with torch.no_grad():
        features = plain.norm(plain.stem(normalise64(source.pixels))).tanh().flatten(1)
    reference = PlainSGD(plain.head, RECIPE.momentum)
    targets = torch.tensor(TARGETS)[source.labels]
    for number, places in enumerate(method.steps):
        log_p = plain.head(features[places])[:, COLUMNS].log_softmax(dim=1)
        loss = -log_p[torch.arange(len(places)), targets[places]].mean()
        reference.step(loss, RECIPE.lr * RECIPE.lr_factor(number, 6))
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-5, atol=1e-6)
        if not name.startswith("head."):
            assert torch.equal(tensor, start.state_dict()[name]), name
    assert not torch.allclose(found.head.weight, start.head.weight, atol=0.01)


@pytest.fixture(params=MODELS)
def bench(request: pytest.FixtureRequest, digits_root: Path, tmp_path: Path) -> Bench:
    model = request.getfixturevalue(request.param)
    return bench_of(cell_of("lp", model, recipe=FAST), digits_root, tmp_path)


def test_the_classifier_makes_the_model_s_logits_of_frozen_features(bench: Bench) -> None:
    module = bench.pretrained()
    images, _ = images_of(bench)
    with torch.no_grad():
        logits = classifier_of(module)(bench.frozen_features())
        torch.testing.assert_close(logits, module(images), rtol=1e-4, atol=1e-4)
        dataset, _ = bench.downstream()
        masked = module(images)[:, list(dataset.classes.columns)]
    torch.testing.assert_close(bench.frozen_logits(), masked, rtol=1e-4, atol=1e-4)


def test_one_pass_gives_what_training_the_head_inside_the_model_gives(bench: Bench) -> None:
    """The backbone run with every batch, in eval mode, by a plain loop."""
    method = Watched()
    found = method.build(bench)
    plain = bench.pretrained()
    head = classifier_of(plain)
    reference = PlainSGD(head, FAST.momentum)
    images, labels = images_of(bench)
    dataset, _ = bench.downstream()
    columns = list(dataset.classes.columns)
    targets = torch.tensor([columns.index(t) for (t,) in dataset.classes.targets])
    for number, places in enumerate(method.steps):
        logits = plain(images[places])[:, columns]
        loss = nn.functional.cross_entropy(logits, targets[labels[places]])
        reference.step(loss, FAST.lr * FAST.lr_factor(number, len(method.steps)))
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-4, atol=1e-5)
    first = classifier_of(bench.pretrained()).weight
    assert float((classifier_of(found).weight - first).detach().abs().max()) > 1e-3


# ---------------------------------------------------------------------------- what else is trained


@pytest.mark.parametrize(
    ("model", "also", "named"),
    [
        ("vit", ["pos_embed", "*norm*"], ["head.", "pos_embed", "norm1.", "norm2.", "fc_norm."]),
        ("resnet", ["layer1.*.bn?.*"], ["fc.", "layer1.0.bn1.", "layer1.0.bn2."]),
    ],
)
def test_also_train_trains_what_it_names_and_nothing_else(
    model: str,
    also: list[str],
    named: list[str],
    request: pytest.FixtureRequest,
    digits_root: Path,
    tmp_path: Path,
) -> None:
    cell = cell_of("lp", request.getfixturevalue(model), also_train=also)
    start = bench_of(cell, digits_root, tmp_path).pretrained()
    module = made(cell, digits_root, tmp_path)
    parameters = dict(module.named_parameters())
    changed = 0
    for name, tensor in module.state_dict().items():
        wanted = name in parameters and any(part in name for part in named)
        same = torch.equal(tensor, start.state_dict()[name])
        assert same != wanted, name
        changed += wanted
    assert changed > len(named)


def test_without_also_train_the_backbone_runs_once(
    resnet: Model, digits_root: Path, tmp_path: Path
) -> None:
    cell = cell_of("lp", resnet, recipe=FAST.model_copy(update={"epochs": 5}))
    bench = bench_of(cell, digits_root, tmp_path)
    module = bench.pretrained()
    batches: list[int] = []
    module.conv1.register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    bench.pretrained = lambda: module  # type: ignore[method-assign]
    LinearProbe(LinearProbeConfig()).build(bench)
    assert batches == [84, 84]  # once for all epochs, and once to see that the head is all there is


def test_a_head_that_is_more_than_a_linear_layer_is_an_error() -> None:
    class Scaled(ToyNet):
        def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
            found = super().forward_head(features, pre_logits)
            return found if pre_logits else 2 * found

    with pytest.raises(ValueError, match="more than one linear layer"):
        features_of(Scaled(), MemorySource(), normalise64)


# ---------------------------------------------------------------------------- what it refuses


def test_models_and_patterns_that_do_not_fit_are_refused_with_the_reason() -> None:
    module = ToyNet()
    assert LinearProbe.unfit(LinearProbeConfig(), module) == ""
    config = LinearProbeConfig(also_train=("norm.*", "cls_token"))
    assert "also_train ['cls_token']" in LinearProbe.unfit(config, module)
    module.head = nn.Identity()  # type: ignore[assignment]
    assert "no linear classifier" in LinearProbe.unfit(LinearProbeConfig(), module)
