"""Counts of a model whose predictions are known image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

from workers.datasets.base import Dataset, Split
from workers.evaluate import evaluate
from workers.images import ImageSource, Transform
from workers.labels import ClassMap
from workers.scoring import Scorer
from workers.suites.base import DatasetSpec

N = 11
CLASSES = ClassMap(("x", "y", "z"), ((4,), (1,), (2,)), 6)
LABELS = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2)
TRANSFORM = Transform((3, 8, 8), 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Table(nn.Module):
    """Reads an image's number off its first pixel and answers with the logits written for it."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert images.dtype == torch.float32
        assert not torch.is_grad_enabled()
        self.batches.append(len(images))
        numbers = (images[:, 0, 0, 0] * 255 / 20).round().long()
        return self.logits[numbers]


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    files = []
    for number in range(N):
        files.append(f"{number:02d}.png")
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / files[-1])
    dataset = Dataset(DatasetSpec("d", "d"), CLASSES, (Split(tmp_path, tuple(files), LABELS),))
    return ImageSource(dataset, TRANSFORM)


def scorer() -> Scorer:
    return Scorer(CLASSES, torch.device("cpu"))


def test_counts_by_hand(source: ImageSource) -> None:
    """Images of x: 3 right under the mask, 1 of them also without; y: all 4; z: none."""
    logits = torch.zeros(N, 6)
    for number, best in enumerate([4, 4, 4, 1, 1, 1, 1, 1, 4, 1, 4]):
        logits[number, best] = 5.0
    logits[[1, 2], 0] = 9.0  # outside the mask
    module = Table(logits).train()
    score = evaluate(module, source, scorer(), TRANSFORM.normalise, batch_size=4)
    assert (score.n_correct, score.n_correct_unmasked, score.n_total) == (7, 5, N)
    assert module.batches == [4, 4, 3]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 10, 256])
def test_counts_and_loss_against_sklearn(source: ImageSource, batch_size: int) -> None:
    torch.manual_seed(batch_size)
    logits = torch.randn(N, 6) * 2
    score = evaluate(Table(logits), source, scorer(), TRANSFORM.normalise, batch_size)
    truth = np.array([4, 1, 2])[list(LABELS)]
    columns = np.array([1, 2, 4])
    inside = columns[logits[:, columns].argmax(dim=1).numpy()]
    assert score.n_correct == accuracy_score(truth, inside, normalize=False)
    anywhere = logits.argmax(dim=1).numpy()
    assert score.n_correct_unmasked == accuracy_score(truth, anywhere, normalize=False)
    probabilities = logits[:, columns].double().softmax(dim=1).numpy()
    assert score.loss == pytest.approx(log_loss(truth, probabilities, labels=columns), rel=1e-5)
    assert score.n_total == N


def test_batchnorm_uses_its_running_statistics_and_keeps_them(source: ImageSource) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 6))
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    scores = {evaluate(module, source, scorer(), TRANSFORM.normalise, size) for size in (2, 3, 256)}
    assert len({(s.n_correct, s.n_correct_unmasked, s.n_total) for s in scores}) == 1
    losses = [s.loss for s in scores]
    assert max(losses) - min(losses) < 1e-5
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
