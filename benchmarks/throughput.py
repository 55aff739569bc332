"""Images per second of evaluation and training, from real JPEG files.

Beside each other on one model, set and machine: timm's loader and the loop of its validation
script; this project's evaluation without its cache of images, while it fills that, and from it; and
the forward pass alone on pixels in memory, which is the limit. Then several checkpoints of the
model, one after another and in one pass over the files, and the same for a training epoch. All of
them have to give the same number of right images.

    python -m benchmarks.throughput [--model resnet18] [--images 512] [--workers 2] [--repeat 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from timm.data.config import resolve_data_config
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader

from benchmarks.machine import machine
from workers import images as images_module
from workers.datasets.base import Dataset, read_split
from workers.evaluate import evaluate, evaluate_together
from workers.frozen import TensorSource
from workers.holdout import Batches
from workers.images import ImageSource, Transform
from workers.labels import ClassMap
from workers.pixel_cache import PixelCache
from workers.recipe import Recipe
from workers.scoring import Scorer
from workers.suites.base import DatasetSpec
from workers.train import Trainer
from workers.transfer import to_device

N_CLASSES = 8
SIDES = (500, 375)
"""Of the pictures in pixels: those of most ImageNet files."""
BATCH = 64
N_CHECKPOINTS = 4
"""That are evaluated on the same files; the same weights will do, as they are not compared."""
SEVERAL = f"evaluate {N_CHECKPOINTS}"

err = Console(stderr=True)


class Bench:
    """The set, the model, and what is measured on them."""

    def __init__(self, folder: Path, name: str, n_images: int, workers: int) -> None:
        self.folder, self.n_workers = folder, workers
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(0)
        self.module: Any = timm.create_model(name, num_classes=N_CLASSES).to(self.device).eval()
        self.config = resolve_data_config({}, model=self.module)
        self.transform = Transform.from_config(self.config)
        make_pictures(folder / "set", n_images)
        classes = sorted(path.name for path in (folder / "set").iterdir())
        labels = [(label, place) for place, label in enumerate(classes)]
        split = read_split(folder / "set", labels)
        targets = tuple((place,) for place in range(N_CLASSES))
        self.dataset = Dataset(
            DatasetSpec("set", "set"), ClassMap(tuple(classes), targets, N_CLASSES), (split,)
        )
        self.scorer = Scorer(self.dataset.classes, self.device)

    def source(self, cache: PixelCache | None = None) -> ImageSource:
        pinned = self.device.type == "cuda"
        return ImageSource(self.dataset, self.transform, None, self.n_workers, cache, pinned)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.transform.normalise(to_device(pixels, self.device))

    def in_memory(self) -> TensorSource:
        """Return the images as the model takes them, on its device."""
        source = self.source()
        pixels = source.decode_all()
        inputs = torch.cat([self.normalise(part) for part in pixels.split(BATCH)])
        return TensorSource(inputs, source.labels)

    def of_timm(self) -> int:
        """Evaluate as timm's validation script does."""
        loader = create_loader(
            create_dataset("", root=str(self.folder / "set")),
            input_size=self.config["input_size"],
            batch_size=BATCH,
            use_prefetcher=self.device.type == "cuda",
            interpolation=self.config["interpolation"],
            mean=self.config["mean"],
            std=self.config["std"],
            num_workers=self.n_workers,
            crop_pct=self.config["crop_pct"],
            crop_mode=self.config["crop_mode"],
            pin_memory=self.device.type == "cuda",
            device=self.device,
        )
        correct = 0
        with torch.inference_mode():
            for images, labels in loader:
                logits = self.module(images.to(self.device))
                correct += int((logits.argmax(-1) == labels.to(self.device)).sum())
        return correct

    def evaluated(self, source: Batches, normalise: Callable[..., torch.Tensor]) -> int:
        return evaluate(self.module, source, self.scorer, normalise, BATCH).n_correct

    def evaluated_apart(self, source: Callable[[], Batches]) -> int:
        """Evaluate each of the checkpoints in a pass of its own; return what each got right."""
        (each,) = {self.evaluated(source(), self.normalise) for _ in range(N_CHECKPOINTS)}
        return each

    def evaluated_together(self, source: Batches) -> int:
        """Evaluate the checkpoints in one pass; return what each got right."""
        modules = [self.module] * N_CHECKPOINTS
        scores = evaluate_together(modules, source, self.scorer, self.normalise, BATCH)
        (each,) = {score.n_correct for score in scores}
        return each

    def trained(self, source: Batches, normalise: Callable[..., torch.Tensor]) -> int:
        """Train for an epoch from the same weights; return how many images were right."""
        module = timm.create_model(self.model_name, num_classes=N_CLASSES).to(self.device)
        module.load_state_dict(self.module.state_dict())
        precision = "fp16" if self.device.type == "cuda" else "fp32"
        recipe = Recipe(epochs=1, warmup_steps=0, batch_size=BATCH, precision=precision)
        trainer = Trainer(source, self.scorer, normalise, recipe, self.device, seed=0)
        (record,) = trainer.train(module, lambda step: step.cross_entropy())
        return record.n_correct

    @property
    def model_name(self) -> str:
        return str(self.module.default_cfg["architecture"])


def make_pictures(folder: Path, n_images: int) -> None:
    """Write JPEG files in class folders: parts of two photographs, resized."""
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    draw = np.random.default_rng(0)
    for number in range(n_images):
        photograph = photographs[number % len(photographs)]
        width, height = photograph.size
        left, top = (int(draw.integers(0, side // 3)) for side in (width, height))
        part = photograph.crop((left, top, left + 2 * width // 3, top + 2 * height // 3))
        place = folder / f"class{number % N_CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        part.resize(SIDES).save(place / f"{number:06d}.jpg", quality=90)


def seconds_of(work: Callable[[], int], device: torch.device) -> tuple[float, int]:
    start = time.perf_counter()
    found = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def contenders(bench: Bench, round_: int) -> dict[str, Callable[[], int]]:
    """Return what is measured in a round, by name, in an order that is part of the question."""
    memory = bench.in_memory()
    cache = PixelCache(bench.folder / f"cache-{round_}", 1 << 40)

    def as_it_is(inputs: torch.Tensor) -> torch.Tensor:
        return inputs

    return {
        "evaluate: timm's loader and loop": bench.of_timm,
        "evaluate: rib without cache": lambda: bench.evaluated(bench.source(), bench.normalise),
        "evaluate: rib, filling the cache": lambda: bench.evaluated(
            bench.source(cache), bench.normalise
        ),
        "evaluate: rib from the cache": lambda: bench.evaluated(
            bench.source(cache), bench.normalise
        ),
        "evaluate: forward pass alone": lambda: bench.evaluated(memory, as_it_is),
        f"{SEVERAL}: one after another": lambda: bench.evaluated_apart(bench.source),
        f"{SEVERAL}: in one pass": lambda: bench.evaluated_together(bench.source()),
        f"{SEVERAL}: one after another, from the cache": lambda: bench.evaluated_apart(
            lambda: bench.source(cache)
        ),
        "train: rib without cache": lambda: bench.trained(bench.source(), bench.normalise),
        "train: rib from the cache": lambda: bench.trained(bench.source(cache), bench.normalise),
        "train: steps alone": lambda: bench.trained(memory, as_it_is),
    }


def set_up(threads: int) -> None:
    """Compute as a worker does; read every image each time, as a set of many GB is."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    images_module.CACHE_BYTES = 0


def table_of(rates: dict[str, float]) -> Table:
    """Show images per second, beside the limit and beside timm."""
    table = Table(title="Images per second")
    for head in ("", "images/s", "of the limit", "of timm's"):
        table.add_column(head, justify="right" if head else "left")
    for name, rate in rates.items():
        kind = name.partition(":")[0]
        limit = rates["train: steps alone" if kind == "train" else "evaluate: forward pass alone"]
        timm_s = rates["evaluate: timm's loader and loop"]
        beside = "" if kind == "train" else f"{rate / timm_s:.2f}"
        table.add_row(name, f"{rate:.1f}", f"{rate / limit:.2f}", beside)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.throughput", description=__doc__)
    parser.add_argument("--model", default="resnet18", help="a timm architecture")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1, help="processes that decode")
    parser.add_argument("--threads", type=int, default=1, help="threads that compute")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; medians are shown")
    options = parser.parse_args(arguments)
    set_up(options.threads)
    seconds: dict[str, list[float]] = {}
    found: dict[str, set[int]] = {}
    with tempfile.TemporaryDirectory(prefix="rib-throughput-") as folder:
        bench = Bench(Path(folder), options.model, options.images, options.workers)
        for round_ in range(options.repeat):
            for name, work in contenders(bench, round_).items():
                took, correct = seconds_of(work, bench.device)
                took /= N_CHECKPOINTS if name.startswith(SEVERAL) else 1
                seconds.setdefault(name, []).append(took)
                found.setdefault(name.split()[0].rstrip(":"), set()).add(correct)
                err.print(f"{name}: {options.images / took:.1f} images/s", highlight=False)
        assert all(len(counts) == 1 for counts in found.values()), found
        device = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    rates = {name: options.images / statistics.median(took) for name, took in seconds.items()}
    output = Console(width=100)
    output.print(table_of(rates))
    output.print(
        f"{options.model}, {options.images} JPEG files of {SIDES[0]} x {SIDES[1]}, "
        f"{options.workers} loader processes, {options.threads} threads, {device}; "
        + machine("torch", "timm", "pillow"),
        highlight=False,
    )


if __name__ == "__main__":
    main()
