"""The keys `tune` and `choices` of a grid: what is searched for, and what was found."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NonEmpty = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Domain(_Section):
    """The values that one hyper-parameter may take: exactly one of the keys is given."""

    choice: Annotated[list[Any], Field(min_length=1)] | None = Field(
        None, description="one of these, each as likely"
    )
    uniform: list[float] | None = Field(None, description="a number from the first to the second")
    log_uniform: list[float] | None = Field(
        None, description="the same, each order of magnitude as likely; above 0"
    )
    int_uniform: list[int] | None = Field(
        None, description="a whole number from the first to the second, both included"
    )

    @model_validator(mode="after")
    def _one_kind_of_values(self) -> Domain:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("should have one key: choice, uniform, log_uniform or int_uniform")
        if self.choice is not None:
            if any(value in self.choice[:index] for index, value in enumerate(self.choice)):
                raise ValueError("should not have a value twice")
            return self
        if len(self.bounds) != 2 or not self.bounds[0] < self.bounds[1]:
            raise ValueError("should be two numbers, the lower one first")
        if self.log_uniform is not None and self.bounds[0] <= 0:
            raise ValueError("should be above 0: there is no logarithm of the rest")
        return self

    @property
    def bounds(self) -> list[float]:
        """The lowest and the highest number; nothing for a choice."""
        return list(self.uniform or self.log_uniform or self.int_uniform or [])

    @property
    def extremes(self) -> list[Any]:
        """The values between which all others lie, or every value of a choice."""
        return list(self.choice) if self.choice is not None else self.bounds

    def at(self, quantile: float) -> Any:
        """Return the value below which a part of the probability lies.

        Args:
            quantile: from 0 up to, but not including, 1.

        Continuous values are rounded to four significant digits: a table shows what was used.
        """
        if self.choice is not None:
            return self.choice[int(quantile * len(self.choice))]
        low, high = self.bounds
        if self.int_uniform is not None:
            return int(low) + int(quantile * (int(high) - int(low) + 1))
        if self.log_uniform is not None:
            value = low * math.exp(quantile * math.log(high / low))
        else:
            value = low + quantile * (high - low)
        return min(max(float(f"{value:.4g}"), low), high)


class Tune(_Section):
    """A random search of hyper-parameters, per model, downstream set and method."""

    trials: int = Field(16, ge=1, description="of each search; the first has the grid's values")
    holdout: float = Field(
        0.2, gt=0, lt=1, description="part of the downstream set that trials are compared on"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="decides which values are tried")
    grace_epochs: int = Field(1, ge=1, description="epochs before a trial may be stopped")
    reduction_factor: int = Field(
        3, ge=2, description="one trial in so many goes on from a rung to the next"
    )
    space: dict[str, dict[str, Domain]] = Field(
        default_factory=dict, description="by method, or 'recipe' for all; key: values"
    )
    objective: Literal["held-out"] = Field(
        "held-out", description="what is compared: the held-out accuracy, and never a test set's"
    )

    @model_validator(mode="before")
    @classmethod
    def _metric_is_objective(cls, given: Any) -> Any:
        """Understand the key by the name that other tuners have for it."""
        if isinstance(given, dict) and "metric" in given and "objective" not in given:
            return {("objective" if key == "metric" else key): given[key] for key in given}
        return given

    @field_validator("objective", mode="before")
    @classmethod
    def _never_a_test_set(cls, objective: Any) -> Any:
        if objective != "held-out":
            raise ValueError(
                "can only be 'held-out': choosing by a set that models are tested on would be "
                "training on it"
            )
        return objective


class ChoiceEntry(_Section):
    """Values that take the place of the grid's for one model, downstream set and method."""

    model: NonEmpty = Field(description="by its name in the grid")
    downstream: NonEmpty = Field(description="a set of the suite")
    method: NonEmpty = Field(description="by its name in the grid")
    recipe: dict[str, Any] = Field(default_factory=dict, description="keys of the recipe")
    hyperparameters: dict[str, Any] = Field(default_factory=dict, description="of the method")
    source: str | None = Field(None, description="where they come from, in words")

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.downstream, self.method
