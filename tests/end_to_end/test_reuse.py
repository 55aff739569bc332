"""A worker process keeps nothing of the cells that it has run. `benchmarks.reuse` measures more."""

from pathlib import Path

import pytest

from benchmarks.reuse import MIB, growth, measure, warm


@pytest.mark.slow
def test_a_process_that_ran_many_cells_holds_what_it_held_after_few(
    digits_root: Path, tmp_path: Path
) -> None:
    usages = measure(60, digits_root, tmp_path)
    assert len(usages) >= 60
    [mine] = warm(usages).values()  # all of them ran in one process
    first, last = mine[0], mine[-1]
    # What each cell left open would be there some forty times; Ray's own come and go.
    assert last.threads - first.threads < 8 < len(mine)
    assert last.files - first.files < 8
    # A model of the suite has 1 MiB of weights, and each cell loads it several times.
    assert last.rss - first.rss < 32 * MIB


def test_growth_is_the_slope_of_a_line() -> None:
    assert growth([1.0, 1.5, 2.0, 2.5]) == pytest.approx(50.0)
    assert growth([3.0, 3.0, 3.0]) == 0.0
