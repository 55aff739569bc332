"""Halving: trials of a search against each other only, the grid's own values always to the end."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError

from orchestrator.grid_file import Resources
from orchestrator.interrupts import Interrupts
from orchestrator.search import Finding, Search, findings_of, searches_of, to_run
from orchestrator.tuner import PerSearch, Recorder, bundle_of
from tests.orchestrator.test_tune_space import grid_of
from workers.outcome import ErrorKind
from workers.store import Store
from workers.tuning import Trial

SPACE = {"recipe": {"lr": {"log_uniform": [1e-4, 1e-1]}}}
NO_CONTROLLER: Any = None


def searches(tmp_path: Path, **tune: Any) -> list[Search]:
    value = {"space": SPACE, "trials": 5, "reduction_factor": 2, **tune}
    grid = grid_of(tmp_path, value, methods=["ft", "l2sp"], recipe={"epochs": 4})
    return searches_of(grid)


class Race:
    """Reports of trials to the scheduler, as Tune would pass them on."""

    def __init__(self, findings: list[Finding]) -> None:
        self.trials = to_run(findings)
        self.scheduler = PerSearch(self.trials, findings)
        self.tunes = [
            SimpleNamespace(trial_id=f"t{index}", config={"trial": index})
            for index in range(len(self.trials))
        ]
        for trial in self.tunes:
            self.scheduler.on_trial_add(NO_CONTROLLER, trial)

    def says(self, search: Search, number: int, epoch: int, held_out: float) -> str:
        """Report an epoch of a trial; return what it is told to do."""
        index = next(
            index
            for index, trial in enumerate(self.trials)
            if (trial.search, trial.number) == (search.search_id, number)
        )
        result = {"epoch": epoch, "held_out": held_out}
        return self.scheduler.on_trial_result(NO_CONTROLLER, self.tunes[index], result)


def test_a_trial_behind_the_better_half_of_its_search_is_stopped(tmp_path: Path) -> None:
    ft, _ = found = searches(tmp_path)
    race = Race(findings_of(found, []))
    assert race.says(ft, 1, 1, 0.8) == "CONTINUE"  # the first there
    assert race.says(ft, 2, 1, 0.5) == "STOP"
    assert race.says(ft, 3, 1, 0.8) == "CONTINUE"  # the median of 0.8 and 0.5 is 0.65
    assert race.says(ft, 4, 1, 0.6) == "STOP"  # the median of 0.8, 0.5 and 0.8 is 0.8


def test_trials_of_different_searches_are_never_compared(tmp_path: Path) -> None:
    ft, l2sp = found = searches(tmp_path)
    race = Race(findings_of(found, []))
    for number in (1, 2, 3):
        assert race.says(ft, number, 1, 0.9) == "CONTINUE"
    assert race.says(l2sp, 1, 1, 0.1) == "CONTINUE"
    assert race.says(l2sp, 2, 1, 0.05) == "STOP"


def test_the_grid_s_own_values_run_to_the_end_and_are_competition(tmp_path: Path) -> None:
    ft, _ = found = searches(tmp_path)
    race = Race(findings_of(found, []))
    assert race.says(ft, 1, 1, 0.9) == "CONTINUE"
    assert race.says(ft, 0, 1, 0.2) == "CONTINUE"
    assert race.says(ft, 2, 1, 0.5) == "STOP"  # the median of 0.9 and 0.2 is 0.55
    assert race.says(ft, 0, 2, 0.2) == "CONTINUE"


def test_after_the_last_epoch_nothing_is_left_to_stop(tmp_path: Path) -> None:
    ft, _ = found = searches(tmp_path)
    race = Race(findings_of(found, []))
    for number, held_out in ((1, 0.9), (2, 0.1)):
        assert race.says(ft, number, 4, held_out) == "CONTINUE"


@pytest.mark.parametrize("grace", [4, 9])
def test_with_enough_grace_nothing_is_stopped(tmp_path: Path, grace: int) -> None:
    ft, _ = found = searches(tmp_path, grace_epochs=grace)
    race = Race(findings_of(found, []))
    for epoch in (1, 2, 3):
        for number, held_out in ((1, 0.9), (2, 0.1), (3, 0.05)):
            assert race.says(ft, number, epoch, held_out) == "CONTINUE"


def test_trials_of_an_earlier_run_are_competition(tmp_path: Path) -> None:
    ft, _ = found = searches(tmp_path)
    rows = [
        {
            "search": ft.search_id,
            "trial": number,
            "state": "done",
            "held_out_by_epoch": [right, 0, 0, 0],
            "held_out_correct": 0,
            "held_out_total": 10,
        }
        for number, right in ((0, 9), (1, 8))
    ]
    race = Race(findings_of(found, rows))
    assert race.says(ft, 2, 1, 0.5) == "STOP"
    assert race.says(ft, 3, 1, 0.9) == "CONTINUE"


# ------------------------------------------------------------------ what the driver records


def recorder_of(trial: Trial, store: Store, told: list[tuple[Trial, Any]]) -> Recorder:
    interrupts = Interrupts(on_first=lambda: None)
    return Recorder(
        [trial], store, lambda *what: told.append(what), check=lambda: None, interrupts=interrupts
    )


def test_a_trial_whose_process_died_is_recorded_with_what_is_known(tmp_path: Path) -> None:
    trial = searches(tmp_path)[0].trials[1]
    told: list[tuple[Trial, Any]] = []
    store = Store(str(tmp_path / "store"))
    recorder = recorder_of(trial, store, told)
    pickled = tmp_path / "error.pkl"
    pickled.write_bytes(cloudpickle.dumps(ActorDiedError()))
    dead = SimpleNamespace(config={"trial": 0}, pickled_error_file=str(pickled), error_file=None)
    row = {**trial.row(), "state": "stopped", "epochs": 1, "held_out_correct": 3}
    recorder.on_trial_result(iteration=1, trials=[], trial=dead, result={"row": row})
    recorder.on_trial_error(iteration=2, trials=[], trial=dead)
    recorder.on_step_end(iteration=2, trials=[])
    (kept,) = store.scan("tuning").table.to_pylist()
    assert (kept["state"], kept["error_kind"]) == ("failed", ErrorKind.WORKER_CRASH)
    assert (kept["epochs"], kept["trial"], kept["search"]) == (1, 1, trial.search)
    assert told[0][0] == trial


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_heeded_between_two_steps_with_what_ended_recorded(
    sent: signal.Signals, tmp_path: Path
) -> None:
    trial = searches(tmp_path)[0].trials[1]
    told: list[tuple[Trial, Any]] = []
    store = Store(str(tmp_path / "store"))
    recorder = recorder_of(trial, store, told)
    stopped = SimpleNamespace(config={"trial": 0})
    row = {**trial.row(), "state": "stopped", "epochs": 1, "held_out_correct": 3}
    with recorder.interrupts:
        recorder.on_step_end(iteration=1, trials=[])
        os.kill(os.getpid(), sent)
        recorder.on_trial_result(iteration=2, trials=[], trial=stopped, result={"row": row})
        recorder.on_trial_complete(iteration=2, trials=[], trial=stopped)
        with pytest.raises(KeyboardInterrupt):
            recorder.on_step_end(iteration=2, trials=[])
    assert [kept["trial"] for kept in store.scan("tuning").table.to_pylist()] == [1]
    assert len(told) == 1


def test_what_a_trial_is_given() -> None:
    asked = bundle_of(Resources(gpus=0.5, cpus=3, memory=1000, labels={"zone": "a"}))
    assert asked.bundles == [{"CPU": 3.0, "GPU": 0.5, "memory": 1000.0}]
    assert bundle_of(Resources()).bundles == [{"CPU": 1.0}]
