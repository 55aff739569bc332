"""Which accuracies are of images whose sources a model was tuned on. Pure.

ImageNet-C, -Cartoon and -Drawing are made from the images of ImageNet val: fine-tuning on one of
them has seen what the ID set and the other two show. RI keeps the paper's definition and includes
such values; every table marks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from workers.suites import Suite

MARK = "†"


@dataclass(frozen=True)
class Contamination:
    """The pairs of sets that share source images."""

    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Downstream set -> the other evaluation sets with images from the same source."""
    made_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Source -> the sets that are made from it."""

    @classmethod
    def of(cls, suite: Suite) -> Contamination:
        """Return what a suite's sets say of where their images are from."""
        found = {name: suite.contaminates(name) for name in suite.ood_names}
        made_from: dict[str, tuple[str, ...]] = {}
        for spec in suite.ood:
            if spec.derived_from is not None:
                made_from[spec.derived_from] = (*made_from.get(spec.derived_from, ()), spec.name)
        return cls({name: sets for name, sets in found.items() if sets}, made_from)

    def sets(self, downstream: str | None) -> tuple[str, ...]:
        """Return the evaluation sets that tuning on `downstream` contaminates."""
        return self.shared.get(downstream, ()) if downstream is not None else ()

    def mark(self, downstream: str | None, eval_datasets: Iterable[str]) -> str:
        """Return the mark of a number into which accuracies after tuning on `downstream` go.

        Empty when none of the evaluation sets shares its images.
        """
        return "" if set(self.sets(downstream)).isdisjoint(eval_datasets) else MARK

    def mark_mean(self, eval_datasets: Sequence[str]) -> str:
        """Return the mark of a mean over every downstream set."""
        return max((self.mark(downstream, eval_datasets) for downstream in self.shared), default="")

    @property
    def pairs(self) -> list[str]:
        """Every contaminated cell, as "downstream -> evaluation set"."""
        return [
            f"{downstream} -> {name}" for downstream, sets in self.shared.items() for name in sets
        ]

    def notes(self) -> list[str]:
        """Say what the mark means, a line for each source of images."""
        return [
            f"{MARK} contaminated: a model tuned on one of {', '.join((source, *made))} has seen "
            f"the images of the others, all made from those of {source}. RI and mRI include such "
            "values, as the paper defines them."
            for source, made in self.made_from.items()
        ]
