"""What a model predicts of each image of an evaluation set: one file per cell and set.

Enough to score the cell by other classes later on, without the model: kept are the most probable
classes in their order, so that the best of any others is the first of the list that is among them
(see `orchestrator.rescore` for when that is certain). Their logits are not kept: they would more
than double the size and decide nothing that the order does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workers.schemas import PREDICTIONS

if TYPE_CHECKING:
    import torch

    from workers.datasets import Dataset, Split
    from workers.scoring import Scorer
    from workers.suites import Suite

TOP = 10
"""How many of the most probable classes are kept, unless a grid says otherwise."""

MAX_LABELS = 2**15
"""Size of the largest label space whose indices fit into the columns."""

_DICTIONARY = [
    "cell_id",
    "eval_dataset",
    "corruption",
    "severity",
    "label",
    "targets.list.element",
    "top1",
    "top1_unmasked",
    "top.list.element",
    "top_masked.list.element",
    "top1_within.list.element",
    "dataset_digest",
]
_SPLIT_BYTES = ["probability", "probability_unmasked"]


def declared_masks(suite: Suite) -> dict[str, tuple[int, ...]]:
    """Return the classes of the sets that a suite declares to have only some: set -> indices."""
    return {
        spec.name: tuple(sorted(suite.space.index[one] for one in spec.classes))
        for spec in suite.evaluation_sets.values()
        if spec.classes is not None
    }


class Seen:
    """Collects what a model says of the images of a split, batch by batch.

    It stays on the device until the end: to copy each batch from a GPU is to wait for it.
    """

    def __init__(self, scorer: Scorer, masks: list[tuple[int, ...]], top: int) -> None:
        """Begin a split.

        Args:
            scorer: of the set.
            masks: classes whose best is kept, besides the set's own.
            top: how many of the most probable classes are kept.
        """
        import torch

        self.scorer, self.top = scorer, top
        self._masks = [torch.tensor(mask, device=scorer.device) for mask in masks]
        self._batches: list[dict[str, torch.Tensor]] = []

    def __call__(self, logits: torch.Tensor, selected: torch.Tensor, labels: torch.Tensor) -> None:
        """Take a batch, as `workers.evaluate.Observe` says."""
        import torch

        scorer = self.scorer
        columns = {
            "top1": scorer.top1(selected),
            "correct": scorer.correct(selected, labels),
            "probability": selected.softmax(dim=-1).amax(dim=-1),
            "top1_unmasked": logits.argmax(dim=-1),
            "correct_unmasked": scorer.correct_unmasked(logits, labels),
            "probability_unmasked": logits.softmax(dim=-1).amax(dim=-1),
            "top": _best(logits, self.top),
        }
        if scorer.columns is not None:
            columns["top_masked"] = scorer.columns[_best(selected, self.top)]
        if self._masks:
            within = [mask[logits[:, mask].argmax(dim=-1)] for mask in self._masks]
            columns["top1_within"] = torch.stack(within, dim=-1)
        self._batches.append(columns)

    def columns(self) -> dict[str, Any]:
        """Return what was collected: numpy arrays [N] or [N, K] by column, in the split's order."""
        import torch

        return {
            name: torch.cat([batch[name] for batch in self._batches]).cpu().numpy()
            for name in self._batches[0]
        }


def _best(logits: torch.Tensor, n: int) -> torch.Tensor:
    """Return the places of the n highest of [B, C], highest first and the first of equals first.

    `topk` leaves open which of equals comes first; arg-max takes the first.
    """
    order = logits.sort(dim=-1, descending=True, stable=True).indices
    return order[:, :n].contiguous()  # else all of the order stays in memory


class PredictionFile:
    """A file of predictions while it is written, split by split."""

    def __init__(self, cell_id: str, dataset: Dataset, suite: Suite, top: int = TOP) -> None:
        self.top, self.masks = top, list(declared_masks(suite).values())
        self._cell_id, self._dataset = cell_id, dataset
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            PREDICTIONS,
            compression="zstd",
            store_schema=False,
            use_dictionary=_DICTIONARY,
            column_encoding=dict.fromkeys(_SPLIT_BYTES, "BYTE_STREAM_SPLIT"),
        )

    def add(self, split: Split, columns: dict[str, Any]) -> None:
        """Add a split's images, sorted by their names.

        Args:
            split: that the images are of.
            columns: of `Seen`, in the order of `split.files`.
        """
        order = np.array(sorted(range(len(split)), key=split.files.__getitem__))
        labels = np.array(split.labels)[order]
        targets = self._dataset.classes.targets
        described = {
            "cell_id": self._cell_id,
            "eval_dataset": self._dataset.spec.name,
            "corruption": split.corruption,
            "severity": split.severity,
            "dataset_digest": self._dataset.digest,
        }
        values = {
            **{name: pa.repeat(value, len(split)) for name, value in described.items()},
            "image": [_readable(split.files[place]) for place in order],
            "label": [self._dataset.classes.classes[label] for label in labels],
            "targets": [targets[label] for label in labels],
            **{name: _array(column[order]) for name, column in columns.items()},
        }
        arrays = [
            _typed(values[field.name], field.type)
            if values.get(field.name) is not None
            else pa.nulls(len(split), field.type)
            for field in PREDICTIONS
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=PREDICTIONS))

    def close(self) -> pa.Buffer:
        """End the file and return it."""
        self._writer.close()
        return self._sink.getvalue()


def _array(column: Any) -> pa.Array:
    """Turn numbers [N], or [N, K] as lists, into Arrow."""
    if column.ndim == 1:
        return pa.array(column)
    n, width = column.shape
    offsets = pa.array(np.arange(0, (n + 1) * width, width, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(column.reshape(-1)))


def _typed(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _readable(name: str) -> str:
    """Return a file's name as Parquet takes it: what is not UTF-8 comes with escapes."""
    return name.encode(errors="backslashreplace").decode()
