"""Trials on Ray Tune: one experiment for all searches, so that a cluster is filled, and ASHA.

Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934) looks at a trial after
`grace_epochs` epochs, and again after `reduction_factor` times as many: at each of these rungs
only the best part of those that came so far goes on. Each search has rungs of its own: trials of
different models, sets or methods are never compared.

What this relies on (Ray 2.60): Tune is told of all trials at once and keeps nothing that is needed
afterwards; a stopped trial ends where it reports; SIGINT is left to this process. Between two steps
it is heeded: raised wherever it comes, what Tune catches could swallow it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

# First: it sets what ray reads when it is imported.
from orchestrator.ray_executor import NODE_ID, check_nodes, classify, connect, nodes_to_come

os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the other one prints in spite of `verbose=0`

import ray
from ray import cloudpickle, tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from orchestrator.demands import Demands, fitted
from orchestrator.grid_file import Resources
from orchestrator.interrupts import Interrupts
from orchestrator.retry import GiveUp, cure, decide
from orchestrator.search import Finding, Search
from workers.job import Site
from workers.outcome import ErrorKind
from workers.store import Store
from workers.tuning import Trial, run_trial

if TYPE_CHECKING:
    from orchestrator.cluster.admission import Admission

EPOCH, HELD_OUT, ROW = "epoch", "held_out", "row"
"""What a trial reports: its epoch, its held-out accuracy, and its row as it stands."""

CRASHES = 2
"""How often a trial's process may die before the trial has failed."""

Observe = Callable[[Trial, Mapping[str, Any]], None]
"""Is told of each trial that ends, with its row."""


def run_trials(
    trials: Sequence[Trial],
    findings: Sequence[Finding],
    site: Site,
    demands: Demands,
    observe: Observe,
    check: Callable[[], None] = lambda: None,
    address: str | None = None,
    num_cpus: int | None = None,
    admission: Admission | None = None,
) -> None:
    """Run trials and record each in the store as it ends.

    Args:
        trials: what to run.
        findings: their searches, with the trials that have ended before.
        site: where store and data are.
        demands: what trials ask for, as their cells do.
        observe: is told of each trial that ends.
        check: is called all the while; the search ends with what it raises.
        address: of a Ray cluster; None for one embedded in this process.
        num_cpus: of the embedded cluster; None for all of this machine's.
        admission: asks the machines of a cluster whether they are alike.

    Raises:
        UserError: when the cluster cannot be reached, no node has what a trial asks for, or the
            nodes must not run trials of one search together.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; what has ended by then is in the store.
    """
    connect(address, num_cpus)
    try:
        check_nodes(list(demands.distinct(trial.cell for trial in trials).values()), admission)
        asked = frozenset() if admission is None or nodes_to_come() else admission.checked
        with (
            tempfile.TemporaryDirectory(prefix="rib-tune-") as scratch,
            Interrupts(on_first=lambda: None) as interrupts,
        ):
            recorder = Recorder(trials, Store(site.store), observe, check, interrupts)
            _tuner(trials, findings, site, demands, asked, recorder, scratch).fit()
            recorder.record()
    finally:
        ray.shutdown()


def _tuner(
    trials: Sequence[Trial],
    findings: Sequence[Finding],
    site: Site,
    demands: Demands,
    asked: frozenset[str],
    recorder: Recorder,
    scratch: str,
) -> tune.Tuner:
    on_worker = tune.with_parameters(
        _trainable,
        trials=list(trials),
        site=replace(site, ray_version=ray.__version__),
        demands=demands,
    )

    def bundle(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        return bundle_of(demands.of(trials[config["trial"]].cell).resources, asked)

    return tune.Tuner(
        tune.with_resources(on_worker, bundle),
        param_space={"trial": tune.grid_search(list(range(len(trials))))},
        tune_config=tune.TuneConfig(scheduler=PerSearch(trials, findings), reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=CRASHES),
            callbacks=[recorder],
        ),
    )


def bundle_of(
    resources: Resources, node_ids: frozenset[str] = frozenset()
) -> tune.PlacementGroupFactory:
    """Return what Tune reserves for a trial.

    Args:
        resources: that it asks for.
        node_ids: of the nodes that it may run on; none for any.
    """
    bundle = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory or 0}
    labels = dict(resources.labels)
    if node_ids:
        labels[NODE_ID] = f"in({','.join(sorted(node_ids))})"
    selector: dict[str, Any] = {"bundle_label_selector": [labels]} if labels else {}
    asked = {name: float(amount) for name, amount in bundle.items() if amount}
    return tune.PlacementGroupFactory([asked], **selector)


def _trainable(
    config: Mapping[str, Any], trials: Sequence[Trial], site: Site, demands: Demands
) -> None:
    """Run one trial on a worker, again where that may help, and record how it ended."""
    trial = trials[config["trial"]]
    resources = demands.of(trial.cell).resources
    if not resources.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray lets a process without a GPU see all of them

    def report(row: dict[str, Any]) -> None:
        accuracy = row["held_out_correct"] / row["held_out_total"]
        tune.report({EPOCH: row["epochs"], HELD_OUT: accuracy, ROW: row})

    row = _try_until_decided(trial, fitted(site, resources), report)
    Store(site.store).commit_trial(row)
    tune.report({ROW: row})


def _try_until_decided(
    trial: Trial, site: Site, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    history: list[ErrorKind] = []
    while True:
        row = run_trial(trial, site, report)
        if row.get("error_kind") is None:
            return row
        kind = ErrorKind(row["error_kind"])
        decision = decide(kind, history)
        if isinstance(decision, GiveUp):
            return row
        history.append(kind)
        time.sleep(decision.delay_s)
        trial = replace(trial, micro_batches=cure(history).micro_batches)


class PerSearch(FIFOScheduler):
    """Halves each search's trials among themselves."""

    def __init__(self, trials: Sequence[Trial], findings: Sequence[Finding]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trials = trials
        self.searches = {finding.search.search_id: finding.search for finding in findings}
        self.rungs = {finding.search.search_id: rungs_of(finding) for finding in findings}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        mine = self.trials[trial.config["trial"]]
        self.rungs[mine.search].on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        mine = self.trials[trial.config["trial"]]
        if not _is_on_the_way(self.searches[mine.search], result):
            return str(TrialScheduler.CONTINUE)
        action = self.rungs[mine.search].on_trial_result(tune_controller, trial, result)
        # The grid's own values are what the others are compared with: they run to the end.
        return str(TrialScheduler.CONTINUE if mine.number == 0 else action)


def rungs_of(finding: Finding) -> FIFOScheduler:
    """Return the rungs of a search, with what earlier trials got on them."""
    search = finding.search
    if search.tune.grace_epochs >= search.epochs:
        return FIFOScheduler()
    rungs = AsyncHyperBandScheduler(
        time_attr=EPOCH,
        metric=HELD_OUT,
        mode="max",
        max_t=search.epochs,
        grace_period=search.tune.grace_epochs,
        reduction_factor=search.tune.reduction_factor,
        stop_last_trials=False,
    )
    controller: Any = None  # is not asked anything
    for row in finding.rows:
        earlier: Any = SimpleNamespace(trial_id=f"{search.search_id}.{row['trial']}")
        rungs.on_trial_add(controller, earlier)
        for epoch, correct in enumerate(row["held_out_by_epoch"] or [], start=1):
            result = {EPOCH: epoch, HELD_OUT: correct / row["held_out_total"]}
            if _is_on_the_way(search, result):
                rungs.on_trial_result(controller, earlier, result)
    return rungs


def _is_on_the_way(search: Search, result: Mapping[str, Any]) -> bool:
    """Whether a report is of an epoch with others to come: stopping after the last spares none."""
    return EPOCH in result and result[EPOCH] < search.epochs


def _error_of(trial: Any) -> Exception:
    """Return why Tune's trial failed. It is in a file on this machine until Tune moves it."""
    if trial.pickled_error_file is None:
        return RuntimeError(Path(trial.error_file).read_text())
    error: Exception = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return error


class Recorder(tune.Callback):
    """Records the trials that cannot do it themselves: those stopped, and those that died.

    What goes wrong in a hook about one trial Tune only logs, so those hooks take notes, and what
    may fail is done at the end of a step.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        store: Store,
        observe: Observe,
        check: Callable[[], None],
        interrupts: Interrupts,
    ) -> None:
        self.trials, self.store, self.observe, self.check = trials, store, observe, check
        self.interrupts = interrupts
        self.rows: dict[int, dict[str, Any]] = {}
        self.ended: deque[tuple[Trial, dict[str, Any]]] = deque()

    def __getstate__(self) -> dict[str, Any]:
        """Have nothing pickled: Tune saves itself to be restored, and the store is restored from.

        What is told of trials may hold what cannot be pickled.
        """
        return {}

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **info: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        self.rows[trial.config["trial"]] = result[ROW]

    def on_trial_complete(self, *, trial: Any, **info: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        index = trial.config["trial"]
        self.ended.append((self.trials[index], self.rows[index]))

    def on_trial_error(self, *, trial: Any, **info: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        index = trial.config["trial"]
        error = _error_of(trial)
        row = {
            **self.trials[index].row(),
            **self.rows.get(index, {}),
            "state": "failed",
            "error_kind": str(classify(error)),
            "message": f"{type(error).__name__}: {error}",
        }
        self.ended.append((self.trials[index], row))

    def on_step_end(self, **info: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        self.record()

    def record(self) -> None:
        """Put into the store, and tell, what has ended since the last time."""
        self.check()
        while self.ended:
            trial, row = self.ended.popleft()
            if row["state"] in ("stopped", "failed"):
                self.store.commit_trial(row)
            self.observe(trial, row)
        if self.interrupts.is_asked:
            raise KeyboardInterrupt
