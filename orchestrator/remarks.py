"""What has to be said beside numbers: their scoring, contamination, the canary's verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from orchestrator.canary import Verdict
from orchestrator.contamination import Contamination
from orchestrator.scoring import AS_PUBLISHED, describe


@dataclass(frozen=True)
class Remarks:
    """What a table says besides its numbers."""

    verdicts: tuple[Verdict, ...] = ()
    """One per model."""
    contamination: Contamination = field(default_factory=Contamination)
    scoring: str = AS_PUBLISHED
    """How predictions were scored, as `orchestrator.scoring.Scoring.label` has it."""

    @cached_property
    def verdict_of(self) -> dict[str, str]:
        """Model -> what the canary says of it."""
        return {one.model: str(one) for one in self.verdicts}

    def verdict(self, model: str) -> str:
        """Return what the canary says of a model, "" where it was not asked."""
        return self.verdict_of.get(model, "")

    def of_model(self, model: str) -> Remarks:
        """Return what is to be said where one model is shown."""
        return replace(self, verdicts=tuple(one for one in self.verdicts if one.model == model))

    def notes(self) -> list[str]:
        """Say all of it, a line each."""
        return [describe(self.scoring), *self.contamination.notes(), *self.canary_notes()]

    def canary_notes(self) -> list[str]:
        """Say how models compare with what is published, those with one verdict in one line."""
        by_verdict: dict[str, list[str]] = {}
        for model, verdict in self.verdict_of.items():
            by_verdict.setdefault(verdict, []).append(model)
        return [f"canary: {text}: {', '.join(names)}" for text, names in by_verdict.items()]
