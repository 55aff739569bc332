"""Scoring a model on a data set, and what the accuracy rows say of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workers import provenance
from workers.cell import Cell, canonical_json
from workers.job import Site
from workers.store import Row

if TYPE_CHECKING:
    from torch import nn

    from workers.bench import Bench
    from workers.datasets import Dataset, Split
    from workers.evaluate import Score


def score(bench: Bench, module: nn.Module, dataset: Dataset, **about: Any) -> list[Row]:
    """Score a model on every split of a data set.

    Args:
        bench: of the cell that the model is of.
        module: the model.
        dataset: what to score it on.
        about: columns that take the place of those for a finished cell and a whole set.

    Returns:
        A row per split.
    """
    rows: list[Row] = []
    for split in dataset.splits:
        started = datetime.now(UTC)
        found = bench.score(module, dataset, split)
        rows.append({**split_row(bench, dataset, split, found, started), **about})
    return rows


def split_row(bench: Bench, dataset: Dataset, split: Split, score: Score, started: datetime) -> Row:
    """Return the row of a finished cell and a split that was scored, just now, since `started`."""
    return {
        **describe(bench.cell),
        **split_key(dataset, split),
        **vars(score),
        "n_expected": split.n_expected,
        **made_of(bench, dataset),
        **versions(bench.site),
        "attempt": bench.job.attempt,
        "started_at": started,
        "finished_at": datetime.now(UTC),
    }


def split_key(dataset: Dataset, split: Split) -> Row:
    """Return the columns that say which split a row is of."""
    return {
        "eval_dataset": dataset.spec.name,
        "corruption": split.corruption,
        "severity": split.severity,
    }


def made_of(bench: Bench, dataset: Dataset) -> Row:
    """Return the columns that say what a row's numbers are made of, besides its cell."""
    from workers.models import weights_digest

    return {
        "dataset_digest": dataset.digest,
        "transform_digest": bench.transform.digest,
        "weights_digest": weights_digest(bench.cell.model, bench.data_root),
        "precision": "fp32",
        "device": provenance.gpu_in_use() or bench.device.type,
    }


def describe(cell: Cell) -> Row:
    """Return the columns of an accuracy row that say which cell it is of."""
    recipe = None if cell.recipe is None else {**cell.recipe, **cell.data_choices}
    return {
        "suite": cell.suite,
        "suite_version": cell.suite_version,
        "model": cell.model.name,
        "pretraining": cell.model.pretraining,
        "downstream": cell.downstream,
        "method": cell.label,
        "seed": cell.seed,
        "cell_id": cell.cell_id,
        "hyperparameters": canonical_json(dict(cell.hyperparameters)),
        "recipe": None if recipe is None else canonical_json(recipe),
    }


def versions(site: Site) -> Row:
    """Return the columns of an accuracy row that say what software made it."""
    return {
        "torch_version": provenance.version_of("torch"),
        "timm_version": provenance.version_of("timm"),
        "ray_version": site.ray_version,
        "rib_version": provenance.version_of("rib-orchestrator"),
        "git_commit": site.git_commit,
    }
