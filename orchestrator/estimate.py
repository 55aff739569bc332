"""What a plan will take: hours of a device, and disk for checkpoints.

Hours come from images per second, and those from the store's own rows, else from the grid; where
neither has them there is no estimate. Starting a cell, a method's preparations and the first
reading of a data set are not in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from orchestrator.demands import Demands
from orchestrator.grid import Grid
from orchestrator.grid_file import Throughput
from orchestrator.places import places_of
from orchestrator.plan import Node, Plan
from workers.cell import Model
from workers.errors import DataError
from workers.paths import place_here

BYTES_PER_PARAMETER = 4
"""Checkpoints are float32."""

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Speed:
    """Images per second of one cell; None where it is not known."""

    train: float | None = None
    """In plain fine-tuning; a method that costs twice as much has half of it."""
    evaluate: float | None = None

    def seconds(self, node: Node) -> float | None:
        """Return how long a cell takes; None when it needs a speed that is not known."""
        total = 0.0
        for images, per_second in (
            (node.training_weight * node.training_images, self.train),
            (node.evaluation_images, self.evaluate),
        ):
            if images and per_second is None:
                return None
            if images and per_second is not None:
                total += images / per_second
        return total


@dataclass(frozen=True)
class Estimates:
    """What is needed to say what cells take."""

    speeds: Mapping[str, Speed] = field(default_factory=dict)
    """Of models; one that is not here has no speed that is known."""
    checkpoints: Mapping[str, int] = field(default_factory=dict)
    """Bytes of a model's checkpoint; one that is not here has no size that is known."""
    demands: Demands = field(default_factory=Demands)
    """What cells ask for: on how many devices at a time one computes."""

    @property
    def device(self) -> str:
        """`GPU` or `CPU`: what hours are counted in."""
        return self.demands.device

    def hours(self, nodes: Iterable[Node]) -> float | None:
        """Return the device-hours of cells; None when that of any is not known."""
        total = 0.0
        for node in nodes:
            seconds = self._speed(node).seconds(node)
            if seconds is None:
                return None
            total += seconds * self.demands.devices(node.cell)
        return total / SECONDS_PER_HOUR

    def slowness(self, nodes: Iterable[Node]) -> dict[str, float]:
        """Return, by model, how long a unit of cost takes in its cells beside those of others.

        That is in seconds where speeds are known. A model of which none is known is taken to be
        as slow as its weights are large; where their size is not known either, as the others are.
        """
        nodes_of: dict[str, list[Node]] = {}
        for node in nodes:
            nodes_of.setdefault(node.cell.model.name, []).append(node)
        known = {}
        for name, mine in nodes_of.items():
            seconds = [self._speed(node).seconds(node) for node in mine]
            if None not in seconds:
                known[name] = sum(filter(None, seconds)) / sum(node.cost for node in mine)
        sized = {name: self.checkpoints[name] for name in nodes_of if name in self.checkpoints}
        per_byte = _mean(known[name] / sized[name] for name in known if name in sized)
        found = {**{name: per_byte * size for name, size in sized.items()}, **known}
        usual = _mean(found.values())
        return {name: found.get(name, usual) for name in nodes_of}

    def without_speed(self, nodes: Iterable[Node]) -> list[str]:
        """Name the models for whose cells there is no estimate of hours."""
        return _names(node for node in nodes if self._speed(node).seconds(node) is None)

    def checkpoint_bytes(self, nodes: Iterable[Node]) -> int:
        """Return the disk that the cells' checkpoints will take, those of unknown size left out."""
        made = (node for node in nodes if not node.has_weights)
        return sum(self.checkpoints.get(node.cell.model.name, 0) for node in made)

    def without_size(self, nodes: Iterable[Node]) -> list[str]:
        """Name the models whose checkpoints are of unknown size."""
        made = (node for node in nodes if not node.has_weights)
        return _names(node for node in made if node.cell.model.name not in self.checkpoints)

    def _speed(self, node: Node) -> Speed:
        return self.speeds.get(node.cell.model.name, Speed())


def _names(nodes: Iterable[Node]) -> list[str]:
    return list(dict.fromkeys(node.cell.model.name for node in nodes))


def _mean(values: Iterable[float]) -> float:
    """Return a mean; 1 of nothing."""
    listed = list(values)
    return fmean(listed) if listed else 1.0


def make_estimates(grid: Grid, measured: Mapping[str, Speed]) -> Estimates:
    """Return what is known of a grid's models; looks at the size of weights files."""
    sizes = {model.name: checkpoint_size(model, grid) for model in grid.models}
    return Estimates(
        known_speeds(grid.throughput, measured),
        {name: size for name, size in sizes.items() if size is not None},
        grid.demands,
    )


def known_speeds(
    given: Mapping[str, Throughput], measured: Mapping[str, Speed]
) -> dict[str, Speed]:
    """Take what was measured, and where nothing was, what the grid gives."""
    speeds = {}
    for name in {**given, **measured}:
        seen, told = measured.get(name, Speed()), given.get(name, Throughput())
        speeds[name] = Speed(seen.train or told.train, seen.evaluate or told.evaluate)
    return speeds


def measured_speeds(plan: Plan, history: pd.DataFrame, accuracy: pd.DataFrame) -> dict[str, Speed]:
    """Return how fast the cells of a plan have gone, by model, all of their images together.

    Args:
        plan: whose cells are looked at.
        history: columns cell_id, n_total, seconds of the store's training epochs.
        accuracy: columns cell_id, n_total, started_at, finished_at of the store's rows.
    """
    nodes = plan.nodes.values()
    models = np.array([node.cell.model.name for node in nodes], dtype=object)
    weights = np.array([node.training_weight for node in nodes])
    epochs, of_epoch = _of_nodes(history, plan)
    images = epochs["n_total"] * weights[of_epoch]
    train = _per_second(models[of_epoch], images, epochs["seconds"])
    rows, of_row = _of_nodes(accuracy, plan)
    seconds = (rows["finished_at"] - rows["started_at"]).dt.total_seconds()
    evaluate = _per_second(models[of_row], rows["n_total"], seconds)
    return {
        name: Speed(train.get(name), evaluate.get(name))
        for name in dict.fromkeys([*train, *evaluate])
    }


def _of_nodes(rows: pd.DataFrame, plan: Plan) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the rows of a plan's cells, and the place of each one's cell among the plan's."""
    places = places_of(rows["cell_id"], plan.nodes)
    is_known = places >= 0
    return rows[is_known], places[is_known]


def _per_second(
    models: NDArray[np.object_], images: pd.Series, seconds: pd.Series
) -> dict[str, float]:
    """Divide the images of each model by their seconds; rows that took no time are left out."""
    frame = pd.DataFrame(
        {
            "model": models,
            "images": images.astype("float64"),
            "seconds": seconds.astype("float64"),
        }
    )
    sums = frame[(frame["images"] > 0) & (frame["seconds"] > 0)].groupby("model").sum()
    return {str(name): float(rate) for name, rate in (sums["images"] / sums["seconds"]).items()}


def checkpoint_size(model: Model, grid: Grid) -> int | None:
    """Return the bytes of a model's weights: its file's, else by its number of parameters.

    The models of a suite are looked up. The architecture of any other is built without memory;
    timm, which takes seconds to import, has been imported then to know the model's name.
    """
    if model.file is not None:
        with suppress(DataError, OSError):
            return (grid.data_root / place_here(model.file)).stat().st_size
    if model.name in grid.suite.parameters:
        return grid.suite.parameters[model.name] * BYTES_PER_PARAMETER
    if any(known.name == model.name for known in grid.suite.models):
        return None  # its file is yet to be made
    return _built_size(model)


def _built_size(model: Model) -> int | None:
    import torch

    from workers.models import create

    try:
        with torch.device("meta"):
            state = create(model).state_dict()
    except Exception:  # whatever the architecture makes of bad arguments: the preflight says what
        return None
    sizes: list[int] = [tensor.numel() * tensor.element_size() for tensor in state.values()]
    return sum(sizes)
