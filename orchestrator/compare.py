"""Whether two models and methods differ: on each evaluation set, and in RI or mRI.

An entry's accuracy on a set is the mean over the downstream sets that RI looks at (all but the set
itself) and over seeds; with one downstream set asked for, that one's. Where the predictions of all
cells behind both are kept the test is paired: McNemar's of two cells on a plain set, otherwise a
bootstrap over images. Where they are not, it is one for samples of different images, which these
are not: it finds a difference later than a paired one would. `docs/results.md` has the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.accuracies import BASELINE
from orchestrator.paired import not_of_these_rows
from orchestrator.results import Results
from orchestrator.sides import Name, Side, side_of, spread_of_difference
from orchestrator.statistics import (
    UNPAIRED,
    Floats,
    Spread,
    Tested,
    bootstrap,
    bootstrap_p,
    critical_value,
    holm,
    mcnemar,
    normal_p,
    percentiles,
    spread_of_sum,
    two_proportions,
)
from workers.errors import Problem, UserError, nearest

BOOTSTRAP = "paired bootstrap"


@dataclass(frozen=True)
class Difference:
    """How one number of two entries differs."""

    what: str
    """The evaluation set, or `mRI`, or `RI <set>`."""
    first: float | None
    """Percent, or points; None where a value is missing."""
    second: float | None
    contaminated: bool
    images: int | None = None
    """On how many both were scored; of RI and mRI, those of all OOD sets together."""
    low: float | None = None
    """Limits of the 95% interval of first - second, in points."""
    high: float | None = None
    tested: Tested | None = None
    p_holm: float | None = None
    """Adjusted for being one of several evaluation sets; None for RI and mRI."""
    discordant: tuple[int, int] | None = None
    """Of McNemar's test: images that only the first, and that only the second gets right."""

    @property
    def difference(self) -> float | None:
        if self.first is None or self.second is None:
            return None
        return self.first - self.second


@dataclass(frozen=True)
class Comparison:
    """Two entries side by side."""

    results: Results
    first: Name
    second: Name
    downstream: str | None
    """The one that is looked at; None for all."""
    by_set: tuple[Difference, ...]
    overall: Difference
    """In mRI, or in the RI of the downstream set."""

    @property
    def missing(self) -> list[str]:
        """The numbers that lack values."""
        return [one.what for one in (*self.by_set, self.overall) if one.difference is None]


def compare(results: Results, first: str, second: str, downstream: str | None = None) -> Comparison:
    """Compare two entries.

    Args:
        results: of a store.
        first: names an entry: "model:method", or a part of it that no other has.
        second: names the other.
        downstream: look at what was fine-tuned on this set alone.

    Raises:
        UserError: a name fits none or several, or there is no such set; the results are of a
            published table, which does not say of how many images its numbers are.
    """
    if results.expected is None:
        message = "a table does not say of how many images its numbers are: nothing can be tested"
        raise UserError([Problem(results.source, message, "compare entries of a store")])
    names = choose_two(entry_names(results), (first, second), downstream, results.sets.ood)
    sides = side_of(results, names[0], downstream), side_of(results, names[1], downstream)
    found = [_on_set(results, *sides, k) for k in range(len(results.sets.names))]
    adjusted = iter(holm([one.tested.p for one in found if one.tested is not None]))
    found = [
        one if one.tested is None else replace(one, p_holm=float(next(adjusted))) for one in found
    ]
    overall = _overall(results, *sides)
    return Comparison(results, *names, downstream, tuple(found), overall)


# ---------------------------------------------------------------------------------- names


def entry_names(results: Results) -> list[Name]:
    """List the models and methods that can be compared, the baselines included."""
    listed = results.accuracies if results.expected is None else results.expected
    found = [(str(m), str(x)) for m, x in zip(listed["model"], listed["method"], strict=True)]
    baselines = [(model, BASELINE) for model, _ in found]
    return list(dict.fromkeys([*baselines, *found]))


def find_entry(given: str, known: Sequence[Name]) -> list[Name]:
    """Return the entries that a name may mean: whole names before models or methods before parts.

    Args:
        given: "model:method", a model, a method, or a part of "model:method"; in any case.
        known: the entries that there are.
    """
    wanted = given.lower()
    whole = {name: ":".join(name).lower() for name in known}
    ways = (
        [name for name in known if whole[name] == wanted],
        [name for name in known if wanted in (part.lower() for part in name)],
        [name for name in known if wanted in whole[name]],
    )
    return next((fits for fits in ways if fits), [])


def choose_two(
    known: Sequence[Name], given: Sequence[str], downstream: str | None, ood: Sequence[str]
) -> tuple[Name, Name]:
    """Find out which two entries are meant.

    Args:
        known: the entries that there are.
        given: two names; see `find_entry`.
        downstream: the downstream set that is looked at; None for all.
        ood: the downstream sets that there are.

    Raises:
        UserError: a name fits none or several, both are the same, or there is no such set.
    """
    problems, found = [], []
    for name in given:
        fits = find_entry(name, known)
        if len(fits) == 1:
            found.append(fits[0])
        elif fits:
            options = ", ".join(":".join(one) for one in fits)
            problems.append(Problem(name, "fits more than one entry", f"which of {options}?"))
        else:
            hint = nearest(name, [":".join(one) for one in known])
            problems.append(Problem(name, "is no entry of this store", hint))
    if len(found) == 2 and found[0] == found[1]:
        problems.append(Problem(given[1], f"is the same entry as {given[0]}"))
    if downstream is not None and downstream not in ood:
        hint = nearest(downstream, ood)
        problems.append(Problem("--downstream", f"there is no set {downstream!r}", hint))
    if problems:
        raise UserError(problems)
    return found[0], found[1]


# ---------------------------------------------------------------------------------- numbers


def _on_set(results: Results, first: Side, second: Side, k: int) -> Difference:
    name = results.sets.names[k]
    sides = (first, second)
    values = [side.accuracy(k) for side in sides]
    contaminated = _is_contaminated(results, sides, [name])
    found = Difference(name, _known(values[0]), _known(values[1]), contaminated)
    if found.difference is None:
        return found
    scores = [side.scores(results.predictions, k) for side in sides]
    if scores[0] is not None and scores[1] is not None:
        for side, value, of in zip(sides, values, scores, strict=True):
            if of is not None and not math.isclose(100 * of.share.sum(), value, abs_tol=1e-6):
                raise not_of_these_rows(":".join(side.name))
        drawn = bootstrap([100 * (scores[0].share - scores[1].share)])
        found = _drawn(replace(found, images=len(scores[0].share)), drawn)
        cells = [side.cells(results.predictions, k) for side in sides if results.predictions]
        if max(map(len, cells)) > 1 or scores[0].shown.max() > 1:
            return found
        # Of one cell on a plain set an image adds 1 / images or nothing: it is right or not.
        right, other = (one.share > 0 for one in scores if one is not None)
        discordant = int((right & ~other).sum()), int((other & ~right).sum())
        return replace(found, discordant=discordant, tested=mcnemar(*discordant))
    images = [side.images(k) for side in sides]
    shares = [value / 100 for value in values]
    tested = two_proportions(shares[0], int(images[0]), shares[1], int(images[1]))
    spreads = [_spread(p, n) for p, n in zip(shares, images, strict=True)]
    found = replace(found, images=int(min(images)), tested=tested)
    return _limited(found, spreads[0].minus(spreads[1]).times(100))


def _overall(results: Results, first: Side, second: Side) -> Difference:
    sides = (first, second)
    what = "mRI" if len(first.downstream) > 1 else f"RI {first.downstream[0]}"
    values = [_known(side.improvement()) for side in sides]
    contaminated = _is_contaminated(results, sides, results.sets.ood)
    found = Difference(what, values[0], values[1], contaminated)
    if found.difference is None or all(side.is_baseline for side in sides):
        return found
    scores = [side.improvement_scores(results.predictions) for side in sides]
    if scores[0] is not None and scores[1] is not None:
        added = [one - other for one, other in zip(scores[0], scores[1], strict=True)]
        return _drawn(replace(found, images=sum(map(len, added))), bootstrap(added))
    z = critical_value()
    spread = spread_of_difference(first, second, results.sources, z)
    towards_0 = spread.below if found.difference > 0 else spread.above
    statistic = z * found.difference / float(towards_0)
    images = min(side.improvement_images() for side in sides if not side.is_baseline)
    tested = Tested(UNPAIRED, statistic, normal_p(statistic))
    return _limited(replace(found, images=images, tested=tested), spread)


def _drawn(found: Difference, drawn: Floats) -> Difference:
    low, high = percentiles(drawn)
    return replace(found, low=low, high=high, tested=Tested(BOOTSTRAP, None, bootstrap_p(drawn)))


def _limited(found: Difference, spread: Spread) -> Difference:
    difference = found.difference or 0.0
    low, high = difference - float(spread.below), difference + float(spread.above)
    return replace(found, low=low, high=high)


def _spread(share: float, images: float) -> Spread:
    one = np.ones(1)
    return spread_of_sum(share * one, images * one, one, [0], critical_value())


def _is_contaminated(results: Results, sides: Sequence[Side], names: Sequence[str]) -> bool:
    of = results.remarks.contamination
    tuned = [side for side in sides if not side.is_baseline]
    return any(of.mark(downstream, names) for side in tuned for downstream in side.downstream)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
