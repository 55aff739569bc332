"""Which cells are scored together, in one pass over the images. Pure.

Decoding an image once for several models spares what decoding costs, where that is what takes the
time: many CPUs' work for small models on a fast GPU, with no room for a cache of images. Only cells
that train nothing are put together: soups and interpolations of the same fine-tuned models, and
whatever has its weights and lacks rows of an evaluation set that was added later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from orchestrator.plan import Node, Plan


def packs(
    plan: Plan, ready: Iterable[str], most: int, lane: Callable[[str], str]
) -> Iterator[list[str]]:
    """Yield cells in groups that one pass over the images can score.

    Args:
        plan: that has them.
        ready: cells that can run now.
        most: how many models there may be in a group.
        lane: says what a cell waits for. Cells of one lane are given the same; on a CPU the number
            of threads decides the last bits of a loss.
    """
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for cell_id in ready:
        node = plan.nodes[cell_id]
        if most > 1 and _is_only_scored(node):
            alike[lane(cell_id), node.cell.model.name, node.missing].append(cell_id)
        else:
            yield [cell_id]
    for some in alike.values():
        cell_ids = sorted(some)  # the same groups whenever it is gone on
        yield from (cell_ids[i : i + most] for i in range(0, len(cell_ids), most))


def _is_only_scored(node: Node) -> bool:
    return bool(node.missing) and not node.scored and not node.has_to_train
