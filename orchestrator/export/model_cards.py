"""Model cards as the Hugging Face hub has them: a README.md for each checkpoint.

Its metadata has the accuracies as `model-index` results, its text the recipe, what its numbers are
compared with, and where they come from. Nothing is uploaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.contamination import MARK
from orchestrator.export.cells import ExportedCell, Source
from orchestrator.report.safe_text import inert
from workers.store import CHECKPOINT

EXTRA = "model-card"
PACKAGES = ["huggingface_hub"]
ENVIRONMENT: dict[str, str] = {}

PAPER = "https://arxiv.org/abs/2410.21582"

TAGS = ["imagenet-rib", "robustness", "timm"]


def write(source: Source, cells: Sequence[ExportedCell], out: Path) -> int:
    """Write the cards of cells that have a checkpoint; return how many there are."""
    from huggingface_hub import ModelCard

    written = 0
    for one in cells:
        if one.has_checkpoint:
            folder = out / one.folder
            folder.mkdir(exist_ok=True)
            metadata = _metadata(one, source).to_yaml()
            card = ModelCard(f"---\n{metadata}\n---\n\n{_text(one, source)}")
            (folder / "README.md").write_text(str(card), encoding="utf-8")
            written += 1
    return written


def _metadata(one: ExportedCell, source: Source) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=name,
            dataset_name=f"{name} ({source.suite.name})",
            dataset_args={"contaminated": name in one.contaminated},
            metric_type="accuracy",
            metric_name="top-1 accuracy (percent)",
            metric_value=round(value, 4),
            source_name="ImageNet-RIB",
            source_url=PAPER,
        )
        for name, value in one.accuracies.items()
    ]
    weights = one.cell.model.weights
    base = f"timm/{weights.removeprefix('timm:')}" if weights.startswith("timm:") else None
    return ModelCardData(
        model_name=one.name,
        library_name="timm",
        pipeline_tag="image-classification",
        base_model=None if base == "timm/none" else base,
        tags=[*TAGS, one.cell.label],
        eval_results=results or None,
    )


def _text(one: ExportedCell, source: Source) -> str:
    cell = one.cell
    how = f"fine-tuned on {inert(cell.downstream or '')} by {inert(cell.label)}"
    lines = [
        f"# {inert(one.name)}",
        "",
        f"The model {inert(cell.model.name)}, {how}. Pre-training:",
        f"{inert(cell.model.pretraining or 'not stated')}. A cell of the grid {inert(source.grid)}",
        f"over the suite {source.suite.name} of the [ImageNet-RIB]({PAPER}) benchmark. Its weights",
        f"are `artifacts/{cell.cell_id}/{CHECKPOINT}` in the store.",
        "",
        "## Accuracy",
        "",
        *_accuracy_table(one),
        "",
        "## How it was made",
        "",
        *_table(["setting", "value"], ((name, str(v)) for name, v in one.settings.items())),
        "",
        "## Where the numbers come from",
        "",
        *_table(["what", "which"], {"cell": cell.cell_id, **one.provenance}.items()),
    ]
    return "\n".join(lines) + "\n"


def _accuracy_table(one: ExportedCell) -> Iterator[str]:
    head = ["set", "top-1 accuracy, percent", "of the model as it came", "gain, points"]
    yield from _table(head, (_accuracy_row(one, name) for name in one.accuracies))
    if set(one.contaminated) & set(one.accuracies):
        yield ""
        yield f"{MARK} contaminated: made from the same images as the set that was tuned on."
    if not one.is_complete:
        yield ""
        yield "Incomplete: sets that the grid asks for are missing."


def _accuracy_row(one: ExportedCell, name: str) -> list[str]:
    value, before = one.accuracies[name], one.before.get(name)
    shown = f"{name}{MARK}" if name in one.contaminated else name
    if before is None:
        return [shown, f"{value:.2f}", "", ""]
    return [shown, f"{value:.2f}", f"{before:.2f}", f"{value - before:+.2f}"]


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "-|" * len(head)
    for row in rows:
        yield f"| {' | '.join(inert(str(value)) for value in row)} |"
