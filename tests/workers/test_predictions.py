"""What is kept of each image: against plain loops over made-up logits, and a real model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.embedded import bench_of, cell_of
from workers.cell import Model
from workers.datasets import Dataset, Split
from workers.job import Job, Site
from workers.labels import ClassMap, LabelSpace
from workers.outcome import ErrorKind
from workers.predictions import PredictionFile, Seen
from workers.run import execute
from workers.schemas import PREDICTIONS
from workers.scoring import Scorer
from workers.store import Store
from workers.suites import DatasetSpec, Suite

N_LABELS = 12
TOP = 4
CLASSES = ClassMap(("one", "two", "three"), ((7,), (2, 9), (4,)), N_LABELS)
"""The second class is coarser than the label space, as ObjectNet's are."""
DECLARED = (1, 2, 8)

SPACE = LabelSpace(tuple(f"n{k}" for k in range(N_LABELS)))
SUITE = Suite(
    name="s",
    version="1",
    space=SPACE,
    id=DatasetSpec("val", "val"),
    ood=(
        DatasetSpec("some", "some", classes=tuple(f"n{k}" for k in DECLARED)),
        DatasetSpec("other", "other"),
    ),
)


def logits_with_ties(n: int) -> torch.Tensor:
    """Whole numbers from 0 to 5: most rows have several highest ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 6, (n, N_LABELS), generator=generator).float()


def kept(logits: torch.Tensor, labels: list[int], batch: int = 7) -> pa.Table:
    files = tuple(f"{place % 3}/{-place:+04d}.png" for place in range(len(labels)))
    split = Split(Path("x"), files, tuple(labels), "fog", 2)
    dataset = Dataset(DatasetSpec("other", "other"), CLASSES, (split,))
    scorer = Scorer(CLASSES, torch.device("cpu"))
    file = PredictionFile("cell", dataset, SUITE, TOP)
    seen = Seen(scorer, file.masks, file.top)
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        seen(logits[part], scorer.select(logits[part]), torch.tensor(labels[part]))
    file.add(split, seen.columns())
    found = pq.read_table(pa.BufferReader(file.close()))
    assert found.schema.equals(PREDICTIONS)
    assert found["image"].to_pylist() == sorted(files)
    order = [sorted(files).index(name) for name in files]
    return found.take(order)


def best_of(row: Any, classes: tuple[int, ...]) -> list[int]:
    """Classes, the highest first, and the first of equals first."""
    return sorted(classes, key=lambda k: (-float(row[k]), k))


def softmax(row: Any, classes: tuple[int, ...]) -> dict[int, float]:
    powers = {k: np.exp(float(row[k])) for k in classes}
    return {k: power / sum(powers.values()) for k, power in powers.items()}


def test_every_column_is_what_a_loop_over_images_says() -> None:
    labels = [place % 3 for place in range(50)]
    logits = logits_with_ties(50)
    own, every = (2, 4, 7, 9), tuple(range(N_LABELS))
    for row, image, label in zip(logits, kept(logits, labels).to_pylist(), labels, strict=True):
        assert (image["cell_id"], image["eval_dataset"]) == ("cell", "other")
        assert (image["corruption"], image["severity"]) == ("fog", 2)
        assert image["label"] == CLASSES.classes[label]
        assert image["targets"] == list(CLASSES.targets[label])
        for scope, classes in (("", own), ("_unmasked", every)):
            first = best_of(row, classes)[0]
            assert image[f"top1{scope}"] == first
            assert image[f"correct{scope}"] == (first in CLASSES.targets[label])
            probability = softmax(row, classes)[first]
            assert image[f"probability{scope}"] == pytest.approx(probability, rel=1e-6)
        assert image["top"] == best_of(row, every)[:TOP]
        assert image["top_masked"] == best_of(row, own)[:TOP]
        assert image["top1_within"] == [best_of(row, DECLARED)[0]]


def test_batches_make_no_difference() -> None:
    labels = [place % 3 for place in range(20)]
    logits = logits_with_ties(20)
    assert kept(logits, labels, 3).equals(kept(logits, labels, 20))


# ---------------------------------------------------------------------- a real model


def attempt(job: Job, root: Path, store: Path, *sets: str) -> Any:
    return execute(job, Site(str(store), str(root), predictions=sets, top=3))


def read(store: Path, cell_id: str, name: str) -> pa.Table:
    return pq.read_table(store / "predictions" / f"{cell_id}.{name}.parquet")


def test_predictions_are_what_the_rows_count(digits_root: Path, vit: Model, tmp_path: Path) -> None:
    cell = cell_of("pretrained", vit)
    outcome = attempt(Job(cell, ("objectnet", "c", "v2")), digits_root, tmp_path, "objectnet", "c")
    assert outcome.ok, outcome.traceback
    assert {file.name for file in (tmp_path / "predictions").iterdir()} == {
        f"{cell.cell_id}.{name}.parquet" for name in ("objectnet", "c")
    }
    rows = Store(str(tmp_path)).scan("accuracy").table.to_pylist()
    for name in ("objectnet", "c"):
        images = read(tmp_path, cell.cell_id, name).to_pylist()
        for row in (row for row in rows if row["eval_dataset"] == name):
            own = [
                image
                for image in images
                if (image["corruption"], image["severity"]) == (row["corruption"], row["severity"])
            ]
            assert len(own) == row["n_total"]
            assert sum(image["correct"] for image in own) == row["n_correct"]
            assert sum(image["correct_unmasked"] for image in own) == row["n_correct_unmasked"]
        assert len(images) == sum(r["n_total"] for r in rows if r["eval_dataset"] == name)


def test_each_prediction_is_of_its_own_image(digits_root: Path, vit: Model, tmp_path: Path) -> None:
    """Decode every image by its name, one at a time, and ask the model again."""
    cell = cell_of("pretrained", vit)
    assert attempt(Job(cell, ("a",)), digits_root, tmp_path, "a").ok
    bench = bench_of(cell, digits_root, tmp_path / "other")
    module = bench.pretrained().eval()
    dataset = bench.dataset("a")
    (split,) = dataset.splits
    source = bench.source(dataset)
    columns = list(dataset.classes.columns)
    images = {image["image"]: image for image in read(tmp_path, cell.cell_id, "a").to_pylist()}
    assert images.keys() == set(split.files)
    for place, name in enumerate(split.files):
        (batch,) = source.batches(torch.tensor([place]), 1)
        with torch.inference_mode():
            logits = module(bench.normalise(batch.pixels))[0]
        chosen = columns[int(logits[columns].argmax())]
        assert images[name]["top1"] == chosen
        assert images[name]["label"] == dataset.classes.classes[split.labels[place]]
        probability = float(logits[columns].softmax(0).max())
        assert images[name]["probability"] == pytest.approx(probability, abs=1e-4)
        assert images[name]["top_masked"] == best_of(logits, tuple(columns))[:3]


def test_predictions_that_come_later_leave_the_rows_as_they_are(
    digits_root: Path, vit: Model, tmp_path: Path
) -> None:
    cell = cell_of("pretrained", vit)
    store = Store(str(tmp_path))
    assert attempt(Job(cell, ("a", "v2")), digits_root, tmp_path).ok
    before = store.scan("accuracy").table
    later = attempt(Job(cell, ("a",), attempt=2, scored=("a",)), digits_root, tmp_path, "a")
    assert (later.ok, later.rows) == (True, 0)
    assert store.scan("accuracy").table.equals(before)
    assert read(tmp_path, cell.cell_id, "a").num_rows == 84


def test_predictions_that_contradict_the_rows_are_refused(
    digits_root: Path, vit: Model, tmp_path: Path
) -> None:
    cell = cell_of("pretrained", vit)
    store = Store(str(tmp_path))
    assert attempt(Job(cell, ("a",)), digits_root, tmp_path).ok
    (row,) = store.scan("accuracy").table.to_pylist()
    store.commit_accuracy(cell.cell_id, "a", [row | {"n_correct": row["n_correct"] + 1}])
    later = attempt(Job(cell, ("a",), attempt=2, scored=("a",)), digits_root, tmp_path, "a")
    assert later.error is ErrorKind.USER
    assert f"its rows say {row['n_correct'] + 1} of 84" in later.message
    assert store.kept_predictions() == {}
