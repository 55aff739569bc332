"""What `rib tune` does: search, record every trial, and say what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from orchestrator import licence
from orchestrator.cluster.reach import check_reachable
from orchestrator.cluster.requirements import admission_of
from orchestrator.grid import Grid
from orchestrator.lease import Lease, refuse_if_held
from orchestrator.preflight import preflight
from orchestrator.search import Finding, findings_of, plan_of, searches_of, to_run
from orchestrator.sweep import check_store, make_data, site_of
from workers.datasets import read_dataset
from workers.errors import Problem, UserError
from workers.store import Store
from workers.tuning import Trial


def tune(
    grid: Grid,
    *,
    retry: bool = False,
    take_over: bool = False,
    address: str | None = None,
    num_cpus: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
    """Run the trials of a grid's searches that the store does not have, and return what was found.

    Args:
        grid: with a `tune`.
        retry: whether trials that failed are run once more.
        take_over: whether to take the place of a driver of the store that lives.
        address: of a Ray cluster; None for one embedded in this process.
        num_cpus: of the embedded cluster; None for all of this machine's.
        tell: is told in words of what happens.

    Raises:
        UserError: when anything is wrong with what was asked for, or somebody else drives the
            store; nothing has then been written.
        LeaseLostError: when another driver has taken this one's place.
    """
    store = Store(grid.store)
    check_store(store, grid)
    findings = read_findings(grid, store)
    left = to_run(findings, retry)
    licence.check_acknowledged(grid, plan_of(grid, left))
    if left and not take_over:
        refuse_if_held(store.storage)
    grid = make_data(grid, tell)
    findings = read_findings(grid, store)
    left = to_run(findings, retry)
    if not left:
        return findings
    check_reachable(address)
    plan = plan_of(grid, left)
    digests = preflight(grid, plan)
    _check_same_data(grid, findings)
    tell(f"{len(left)} trials of {len(findings)} searches to run")
    from orchestrator.tuner import run_trials

    site = site_of(grid, address=address)
    ask = None if address is None else admission_of(grid, plan, site.store, digests, tell)
    store.create(grid.suite.name, grid.suite.version)
    with _leased(store, take_over, tell) as lease:
        store.set_aside(store.scan("tuning").damaged)
        run_trials(
            left,
            findings,
            site,
            grid.demands,
            observe=_observer(len(left), tell),
            check=lease.check,
            address=address,
            num_cpus=num_cpus,
            admission=ask,
        )
    # What counts is not what the workers said but what can be read back.
    return read_findings(grid, store)


def read_findings(grid: Grid, store: Store) -> list[Finding]:
    """Return a grid's searches with what the store holds of them.

    Raises:
        UserError: when the grid has nothing to search.
    """
    if grid.tune is None:
        problem = Problem("tune", "the grid has no search space", "see docs/tuning.md")
        raise UserError([problem])
    rows = store.scan("tuning").table.to_pylist() if store.exists else []
    return findings_of(searches_of(grid), rows)


def _check_same_data(grid: Grid, findings: Iterable[Finding]) -> None:
    """Check that the data are those that earlier trials were trained on.

    Raises:
        UserError: naming each set that is another copy.
    """
    made_on: dict[str, set[str]] = {}
    for finding in findings:
        _, name, _ = finding.search.key
        if name not in grid.skip_undecodable:  # what is left of such a set has another digest
            digests = {row["dataset_digest"] for row in finding.rows} - {None}
            made_on.setdefault(name, set()).update(digests)
    problems = []
    for name, digests in made_on.items():
        if not digests:
            continue
        spec = grid.suite.dataset(name)
        now = read_dataset(grid.suite, spec, grid.data_root, accept_counts=True).digest
        if digests != {now}:
            there = ", ".join(sorted(digests))
            message = f"trials in the store are of another copy of it: {there} there, {now} here"
            hint = "trials of different data must not be compared: name another store"
            problems.append(Problem(f"data set {name}", message, hint))
    if problems:
        raise UserError(problems)


@contextmanager
def _leased(store: Store, take_over: bool, tell: Callable[[str], None]) -> Iterator[Lease]:
    """Be the one driver of a store: others clear up what they take for a dead one's."""
    lease = Lease(store.storage, tell=tell)
    lease.acquire(take_over)
    try:
        lease.wait_until_safe()
        yield lease
    finally:
        lease.release()


def _observer(
    total: int, tell: Callable[[str], None]
) -> Callable[[Trial, Mapping[str, Any]], None]:
    ended = 0

    def observe(trial: Trial, row: Mapping[str, Any]) -> None:
        nonlocal ended
        ended += 1
        tell(f"[{ended}/{total}] {row['state']:8} {trial}  {_how_it_ended(row)}")

    return observe


def _how_it_ended(row: Mapping[str, Any]) -> str:
    if row.get("message"):
        return str(row["message"]).splitlines()[0]
    counts = f"{row['held_out_correct']}/{row['held_out_total']} held-out images right"
    epochs = "1 epoch" if row["epochs"] == 1 else f"{row['epochs']} epochs"
    return f"{counts} after {epochs}  {row['seconds']:.1f} s"
