"""Nothing waits for the device between two batches: on a GPU it would then wait for the next one.

Who reads a number out of a tensor waits until it has been computed. How often that happens is
counted here, on the CPU, where each batch takes the same operations as on a GPU. So is how often a
tensor is copied to the CPU, by name: here that is no operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.embedded import (
    FAST,
    bench_of,
    cell_of,
    deterministic,
    embedded_model,
    fitting_pairs,
    images_of,
    made,
)
from workers.bench import Bench
from workers.evaluate import evaluate, evaluate_together
from workers.methods import methods
from workers.predictions import Seen
from workers.run import make_model
from workers.scoring import Scorer

FITTING = {name: model.name for name, model in fitting_pairs() if methods()[name].trains}
READING = {"item", "_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"}
COPYING = ("cpu", "numpy", "tolist")


class Reads(TorchDispatchMode):
    """Counts the operations whose result, or its size, has to be known before going on."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = operation.__name__.partition(".")[0]
        self.n += name in READING or (name == "index" and _has_mask(args[1]))
        return operation(*args, **(kwargs or {}))


def _has_mask(indices: Sequence[torch.Tensor | None]) -> bool:
    return any(one is not None and one.dtype == torch.bool for one in indices)


def reads_of(work: Callable[[], object]) -> int:
    with Reads() as reads, pytest.MonkeyPatch.context() as patched:
        for name in COPYING:
            patched.setattr(torch.Tensor, name, _counted(reads, getattr(torch.Tensor, name)))
        work()
    return reads.n


def _counted(reads: Reads, copy: Callable[..., Any]) -> Callable[..., Any]:
    def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        reads.n += 1
        return copy(tensor, *args, **kwargs)

    return counted


def test_reads_are_counted() -> None:
    numbers = torch.arange(3.0)
    for read in (numbers.sum().item, lambda: bool(numbers[0]), lambda: numbers[numbers > 1]):
        assert reads_of(read) == 1
    for copy in (numbers.cpu, numbers.numpy, numbers.tolist):
        name = copy.__name__
        assert reads_of(lambda name=name: getattr(numbers, name)()) == 1
    assert reads_of(lambda: numbers.sum() + numbers[torch.tensor([2, 0])]) == 0


@pytest.mark.parametrize(("method", "model"), FITTING.items())
def test_no_step_of_training_waits(
    method: str, model: str, digits_root: Path, tmp_path: Path
) -> None:
    found = set()
    for batch_size in (42, 21):  # of 84 images: 2 steps, and 4
        recipe = FAST.model_copy(update={"batch_size": batch_size})
        cell = cell_of(method, embedded_model(model, digits_root), recipe)
        bench = bench_of(cell, digits_root, tmp_path / str(batch_size))
        images_of(bench)  # they are kept in memory from now on
        made_parents(bench)
        with deterministic():
            found.add(reads_of(lambda bench=bench: make_model(bench)))
    assert len(found) == 1, f"{min(found)} reads with 2 steps, {max(found)} with 4"


def made_parents(bench: Bench) -> None:
    for parent in bench.cell.parents:
        if not parent.is_baseline:
            made(parent, bench.data_root, Path(bench.store.uri))


@pytest.mark.parametrize("n_models", [1, 3])
def test_no_batch_of_an_evaluation_waits(n_models: int, digits_root: Path, tmp_path: Path) -> None:
    model = embedded_model("resnet_digits", digits_root)
    bench = bench_of(cell_of("ft", model), digits_root, tmp_path)
    dataset, source = bench.downstream()
    modules = [bench.pretrained() for _ in range(n_models)]
    scorer = Scorer(dataset.classes, bench.device)

    def score(batch_size: int) -> None:
        evaluate_together(modules, source, scorer, bench.normalise, batch_size)

    found = {reads_of(lambda n=n: score(n)) for n in (84, 7)}
    assert found == {3 * n_models}, "two counts and a loss of each, at the end"


def test_no_batch_waits_where_predictions_are_kept(digits_root: Path, tmp_path: Path) -> None:
    bench = bench_of(
        cell_of("ft", embedded_model("resnet_digits", digits_root)), digits_root, tmp_path
    )
    dataset, source = bench.downstream()
    module, scorer = bench.pretrained(), Scorer(dataset.classes, bench.device)

    def score(batch_size: int) -> None:
        seen = Seen(scorer, [(0, 1)], 3)
        evaluate(module, source, scorer, bench.normalise, batch_size, seen)

    assert {reads_of(lambda n=n: score(n)) for n in (84, 7)} == {3}
