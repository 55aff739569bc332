"""ImageNet's label space and its subsets, from the lists that timm ships. Nothing else has them.

The lists are text files inside timm. They are found and read without importing timm, which takes
seconds: the driver plans without it.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from workers.labels import LabelSpace


def imagenet_1k() -> LabelSpace:
    """Return the 1000 WordNet ids in the order of every timm model's logits, with their words."""
    ids = _ids("imagenet_synsets.txt")
    lines = _read("imagenet_synset_to_lemma.txt").splitlines()
    words = dict(line.split("\t", 1) for line in lines)
    return LabelSpace(ids, tuple(words[class_id] for class_id in ids))


def imagenet_a() -> tuple[str, ...]:
    """Return the 200 WordNet ids of ImageNet-A."""
    return _ids("imagenet_a_synsets.txt")


def imagenet_r() -> tuple[str, ...]:
    """Return the 200 WordNet ids of ImageNet-R, of which 86 are in ImageNet-A too."""
    return _ids("imagenet_r_synsets.txt")


def _ids(name: str) -> tuple[str, ...]:
    return tuple(_read(name).split())


def _read(name: str) -> str:
    return (_folder() / name).read_text(encoding="utf-8")


@cache
def _folder() -> Path:
    spec = find_spec("timm")  # finds the package without running it
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("timm is not installed", name="timm")
    return Path(spec.origin).parent / "data" / "_info"
