"""Greedy soup: members that help, by a held-out part of the downstream set.

Members are sorted by held-out accuracy; one after another joins the soup if the soup is then
strictly better on the held-out images (Wortsman et al. 2022, arXiv 2203.05482, recipe 1). The
held-out images come from the downstream set: selecting on an OOD test set would be training on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from workers.methods.base import Method, MethodConfig, Workbench
from workers.methods.soup import Members
from workers.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn


class GreedySoup(Method):
    """Evaluates the mean of some of its members' weights; trains nothing."""

    name: ClassVar[str] = "greedy-soup"
    Config: ClassVar[type[MethodConfig]] = Members
    config: Members

    @classmethod
    def starts_from(cls, config: MethodConfig) -> tuple[str, ...]:
        assert isinstance(config, Members)
        return config.members

    @classmethod
    def seeds(cls, config: MethodConfig) -> tuple[int, ...]:
        assert isinstance(config, Members)
        return config.seeds

    @classmethod
    def unsuited(cls, config: MethodConfig, recipe: Recipe) -> str:  # noqa: ARG003
        if recipe.holdout:
            return ""
        return "it chooses by held-out images: give the recipe a holdout, such as holdout: 0.1"

    def build(self, bench: Workbench) -> nn.Module:
        from workers.averaging import average

        module = bench.pretrained()

        def accuracy(states: list[dict[str, torch.Tensor]]) -> float:
            module.load_state_dict(average(states))
            score = bench.held_out_score(module)
            return score.n_correct / score.n_total

        parents = bench.parents()
        ranked = sorted(parents, key=lambda state: accuracy([state]), reverse=True)
        soup = ranked[:1]
        best = accuracy(soup)
        for state in ranked[1:]:
            found = accuracy([*soup, state])
            if found > best:
                soup, best = [*soup, state], found
        module.load_state_dict(average(soup))
        return module
