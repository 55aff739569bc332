"""TensorBoard: an event file per cell, with its training, curves, accuracies and settings.

`tensorboard --logdir OUT` shows a run per cell, and the grid as a table in its HParams tab.
tensorboardX writes the files: it comes with Ray Tune and needs no TensorFlow.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.export.cells import ExportedCell, Source

EXTRA = "tensorboard"
PACKAGES = ["tensorboardX"]
ENVIRONMENT: dict[str, str] = {}

EPOCH = datetime.fromtimestamp(0, UTC)


def write(source: Source, cells: Sequence[ExportedCell], out: Path) -> int:
    """Write event files, replacing those of an earlier export; return the number of cells."""
    for one in cells:
        with tempfile.TemporaryDirectory(dir=out, prefix=".") as made:
            run = Path(made) / "run"
            _write_run(one, run, source)
            target = out / one.folder
            shutil.rmtree(target, ignore_errors=True)
            run.rename(target)
    return len(cells)


def scalars(one: ExportedCell) -> Iterator[tuple[str, float, int]]:
    """Yield the name, value and step of everything that is a number; steps are epochs."""
    for row in one.training:
        epoch = int(row["epoch"])
        if row["loss"] is not None:
            yield "train/loss", row["loss"], epoch
        if row["n_total"]:
            yield "train/accuracy", 100 * row["n_correct"] / row["n_total"], epoch
        if row["lr"] is not None:
            yield "train/lr", row["lr"], epoch
        if row["held_out_total"]:
            share = row["held_out_correct"] / row["held_out_total"]
            yield "train/held_out_accuracy", 100 * share, epoch
    for epoch, accuracies in sorted(one.curves.items()):
        for name, accuracy in accuracies.items():
            yield f"curve/{name}", accuracy, epoch
    last = int(one.training[-1]["epoch"]) if one.training else 0
    for name, accuracy in one.accuracies.items():
        yield f"accuracy/{name}", accuracy, last
    for name, accuracy in one.unmasked.items():
        yield f"accuracy_unmasked/{name}", accuracy, last
    for name, accuracy in one.accuracies.items():
        if name in one.before and one.cell.downstream is not None:
            yield f"gain/{name}", accuracy - one.before[name], last


def _write_run(one: ExportedCell, run: Path, source: Source) -> None:
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    at = (one.finished_at or EPOCH).timestamp()
    metrics = {f"accuracy/{name}": value for name, value in one.accuracies.items()}
    with SummaryWriter(str(run)) as writer:
        for summary in hparams(one.settings, metrics):
            writer.file_writer.add_summary(summary, walltime=at)
        for name, value, step in scalars(one):
            writer.add_scalar(name, value, step, walltime=at, display_name=name)
        writer.add_text("cell", _description(one, source), walltime=at)


def _description(one: ExportedCell, source: Source) -> str:
    """Say in indented text, which no Markdown is read into, what the run is."""
    lines = [one.name, f"cell {one.cell.cell_id} of {source.grid}"]
    if one.contaminated:
        lines.append(f"contaminated: {', '.join(one.contaminated)}")
    lines += [f"{name}: {value}" for name, value in one.provenance.items()]
    return "\n".join(f"    {' '.join(line.split())}" for line in lines)
