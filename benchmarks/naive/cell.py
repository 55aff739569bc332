"""One cell in a process of its own: load the model and the data, train, evaluate, write a CSV file.

Nothing here is of this project but the folders of its embedded suite: it is the script that one
writes with PyTorch and timm to get the same numbers. It loads every set once, keeps it in memory,
and starts from the checkpoints of earlier cells where a method needs them.

    python cell.py --root data/digits-rib --model vit_digits --method ft --downstream a --out a.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data.transforms_factory import create_transform
from torch import nn
from torch.nn import functional

VIT: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 4,
    "global_pool": "avg",
    "class_token": False,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit_digits": ("vit_tiny_patch16_224", VIT),
    "resnet_digits": ("test_resnet", {}),
}
FOLDERS = {
    "val": "val",
    "v2": "digitsv2-matched-frequency-format-val",
    "a": "digits-a",
    "r": "digits-r",
    "sketch": "sketch",
    "objectnet": "objectnet-1.0",
    "cartoon": "digits-cartoon",
    "drawing": "digits-drawing",
    "c": "digits-c",
}
LR, MOMENTUM, WARMUP, BATCH, TEMPERATURE = 1e-3, 0.9, 5, 32, 2.0
HALF = 0.5


@dataclass
class Data:
    """One set, or one corrupted copy of it, in memory."""

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    """Places among `targets`."""
    targets: list[list[int]]
    """The logits that are right for each class."""

    @property
    def columns(self) -> list[int]:
        return sorted({index for right in self.targets for index in right})


def load(root: Path, name: str) -> list[Data]:
    """Load a set; of corruptions, each and severity by severity."""
    folder = root / FOLDERS[name]
    if name == "c":
        return [
            read(f"c/{kind.name}/{severity.name}", severity)
            for kind in sorted(folder.iterdir())
            for severity in sorted(kind.iterdir())
        ]
    if name == "objectnet":
        return [read_objectnet(folder)]
    return [read(name, folder)]


def read(name: str, folder: Path) -> Data:
    """Read class folders named d0 ... d9, or 0 ... 9."""
    classes = sorted(folder.iterdir(), key=lambda path: int(path.name.lstrip("d")))
    return decode(name, classes, [[int(path.name.lstrip("d"))] for path in classes])


def read_objectnet(folder: Path) -> Data:
    """Read class folders named by words, through the mapping files."""
    mappings = folder / "mappings"
    label_of = json.loads((mappings / "folder_to_objectnet_label.json").read_text())
    names_of = json.loads((mappings / "objectnet_to_imagenet_1k.json").read_text())
    line_of = json.loads((mappings / "pytorch_to_imagenet_2012_id.json").read_text())
    lines = [x.strip() for x in (mappings / "imagenet_to_label_2012_v2").read_text().splitlines()]
    index_of = {lines[line]: int(index) for index, line in line_of.items()}
    classes = sorted(p for p in (folder / "images").iterdir() if label_of[p.name] in names_of)
    targets = [
        [index_of[name] for name in names_of[label_of[path.name]].split("; ")] for path in classes
    ]
    return decode("objectnet", classes, targets, border=2)


def decode(name: str, classes: list[Path], targets: list[list[int]], border: int = 0) -> Data:
    transform = create_transform(
        (3, 32, 32), interpolation="bicubic", crop_pct=1.0, mean=(HALF,) * 3, std=(HALF,) * 3
    )
    images, labels = [], []
    for label, folder in enumerate(classes):
        for path in sorted(folder.iterdir()):
            with Image.open(path) as image:
                picture = image.convert("RGB")
            width, height = picture.size
            picture = picture.crop((border, border, width - border, height - border))
            images.append(transform(picture))
            labels.append(label)
    return Data(name, torch.stack(images), torch.tensor(labels), targets)


def joined(parts: list[Data]) -> Data:
    images = torch.cat([part.images for part in parts])
    labels = torch.cat([part.labels for part in parts])
    return Data(parts[0].name, images, labels, parts[0].targets)


def build(name: str, weights: Path) -> nn.Module:
    architecture, arguments = MODELS[name]
    model: nn.Module = timm.create_model(architecture, num_classes=10, **arguments)
    model.load_state_dict(load_file(weights))
    return model


def loss_over(selected: torch.Tensor, labels: torch.Tensor, data: Data) -> torch.Tensor:
    """Return the cross-entropy, where any of a class's targets is right: the mean."""
    place = {column: k for k, column in enumerate(data.columns)}
    if all(len(right) == 1 for right in data.targets):
        first = torch.tensor([place[right[0]] for right in data.targets])
        return functional.cross_entropy(selected, first[labels])
    is_right = torch.zeros(len(data.targets), len(place), dtype=torch.bool)
    for row, right in enumerate(data.targets):
        is_right[row, [place[index] for index in right]] = True
    among = selected.masked_fill(~is_right[labels], -torch.inf)
    return (selected.logsumexp(-1) - among.logsumexp(-1)).mean()


def train(
    model: nn.Module,
    data: Data,
    epochs: int,
    seed: int,
    penalty: Callable[[torch.Tensor, torch.Tensor], torch.Tensor | float],
    is_frozen: bool = False,
) -> None:
    """Train with SGD, a linear warm-up and a cosine; what is frozen stays in eval mode."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=LR, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model.train(not is_frozen)
    steps = list(steps_of(len(data.labels), epochs, generator))
    for number, batch in enumerate(steps):
        progress = (number - WARMUP) / max(1, len(steps) - WARMUP)
        factor = (
            (number + 1) / WARMUP if number < WARMUP else 0.5 + 0.5 * math.cos(math.pi * progress)
        )
        for group in optimizer.param_groups:
            group["lr"] = LR * factor
        optimizer.zero_grad()
        images = data.images[batch]
        selected = model(images)[:, data.columns]
        loss = loss_over(selected, data.labels[batch], data) + penalty(images, selected)
        loss.backward()
        optimizer.step()


def steps_of(n: int, epochs: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    for _ in range(epochs):
        batches = list(torch.split(torch.randperm(n, generator=generator), BATCH))
        if len(batches) > 1 and len(batches[-1]) == 1:  # BatchNorm cannot train on one image
            batches[-2:] = [torch.cat(batches[-2:])]
        yield from batches


@torch.inference_mode()
def score(model: nn.Module, data: Data) -> tuple[int, int]:
    """Return how many images are right, and of how many."""
    model.eval()
    columns = torch.tensor(data.columns)
    correct = 0
    for images, labels in zip(data.images.split(256), data.labels.split(256), strict=True):
        best = columns[model(images)[:, columns].argmax(-1)]
        correct += sum(
            int(index) in data.targets[label]
            for index, label in zip(best, labels.tolist(), strict=True)
        )
    return correct, len(data.labels)


def mean_of(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Average checkpoints; integer buffers are the first one's."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }


def make(arguments: argparse.Namespace, model: nn.Module, original: nn.Module, data: Data) -> None:
    """Turn the pre-trained model into the method's, in place."""
    starts = [load_file(path) for path in arguments.start]
    if arguments.method in ("wise-ft", "soup"):
        model.load_state_dict(mean_of([original.state_dict(), *starts]))
        return
    if arguments.method == "lp-ft":
        model.load_state_dict(starts[0])
    anchor = [parameter.detach().clone() for parameter in model.parameters()]

    def nothing(images: torch.Tensor, selected: torch.Tensor) -> float:  # noqa: ARG001
        return 0.0

    def l2sp(images: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        pairs = zip(model.parameters(), anchor, strict=True)
        return torch.stack([(now - before).square().sum() for now, before in pairs]).sum()

    def lwf(images: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            before = original(images)[:, data.columns]
        return functional.kl_div(
            (selected / TEMPERATURE).log_softmax(-1),
            (before / TEMPERATURE).log_softmax(-1),
            reduction="batchmean",
            log_target=True,
        )

    is_probe = arguments.method == "lp"
    if is_probe:
        model.requires_grad_(False)
        model.get_classifier().requires_grad_(True)  # type: ignore[operator]
    penalty = {"l2sp": l2sp, "lwf": lwf}.get(arguments.method, nothing)
    train(model, data, arguments.epochs, arguments.seed, penalty, is_probe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--downstream", choices=FOLDERS)
    parser.add_argument("--evaluate", nargs="+", default=list(FOLDERS))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, nargs="*", default=[])
    parser.add_argument("--save", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    weights = arguments.root / "models" / f"{arguments.model}.safetensors"
    model, original = build(arguments.model, weights), build(arguments.model, weights).eval()
    if arguments.downstream is not None:
        make(arguments, model, original, joined(load(arguments.root, arguments.downstream)))
    if arguments.save is not None:
        save_file(model.state_dict(), arguments.save)
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file)
        for name in arguments.evaluate:
            for data in load(arguments.root, name):
                writer.writerow([data.name, *score(model, data)])


if __name__ == "__main__":
    main()
