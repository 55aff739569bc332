"""Running cells on Ray, and what Ray's errors mean. `rib run` imports ray here and nowhere else.

What this relies on (Ray 2.60): tasks with `max_retries=0` never run twice by themselves; GPU tasks
get a new process each unless `max_calls=0`; a task without GPUs sees all of them unless
CUDA_VISIBLE_DEVICES is emptied (ray-project/ray 62492); a task that fits nowhere waits for ever.
"""

from __future__ import annotations

import os
import pickle
import secrets
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orchestrator.cluster.settings  # noqa: F401  # first: ray reads what it sets

# isort: split
import ray
from ray import exceptions

from orchestrator.cluster import tokens
from orchestrator.executor import Work
from orchestrator.grid_file import Resources
from orchestrator.nodes import Memory, able_nodes, check_feasible, slots
from workers.errors import Problem, UserError
from workers.job import Job, Site
from workers.outcome import ErrorKind, Outcome
from workers.run import execute

if TYPE_CHECKING:
    from orchestrator.cluster.admission import Admission
    from orchestrator.cluster.guard import Unfit

NODE_ID = "ray.io/node-id"
"""The label by which Ray knows a node."""


class RayExecutor:
    """Runs each job as one Ray task, pinned to the CPUs and GPUs that Ray assigns it."""

    def __init__(
        self,
        site: Site,
        resources: Resources,
        address: str | None = None,
        num_cpus: int | None = None,
        work: Work = execute,
        admission: Admission | None = None,
    ) -> None:
        """Start an embedded Ray on this machine, or join the cluster at `address`.

        Args:
            site: where things are, for the workers.
            resources: what each cell is given.
            address: of a cluster.
            num_cpus: of the embedded Ray; None for all of this machine's.
            work: what is done with each job.
            admission: asks the machines of a cluster, and keeps cells off those that are unlike.

        Raises:
            UserError: when the cluster cannot be reached, no node has what a cell asks for, or
                the nodes must not run cells of one grid together.
        """
        connect(address, num_cpus)
        options = task_options(resources)
        try:
            check_feasible(resources, ray.nodes())
            self._slots = slots(resources, ray.cluster_resources())
            self._memory = Memory.of(resources, ray.nodes())
            if admission is not None:
                admission.check(able_nodes(resources, ray.nodes()), options.get("runtime_env"))
        except BaseException:
            ray.shutdown()
            raise
        self._admission, self._labels = admission, dict(resources.labels)
        self._unfit: set[str] = set()
        site = replace(site, ray_version=ray.__version__)
        self._site = ray.put(site if admission is None else pickle.dumps(site))
        guarded: Any = work if admission is None else admission.guarded(work)
        self._task: Any = ray.remote(max_retries=0, max_calls=0, **options)(guarded)
        self._running: dict[Any, Job] = {}
        self._finished: deque[Any] = deque()

    @property
    def capacity(self) -> int:
        # A few jobs more than can run at once, so that no worker waits for the driver.
        return 2 * self._slots + 16

    def submit(self, job: Job) -> None:
        memory = self._memory.for_job(job)
        name = f"{job.cell} {job.cell.cell_id}"
        task = self._task.options(name=name, memory=memory, **self._keeping_off())
        job_with = replace(job, memory=memory)
        sent = job_with if self._admission is None else pickle.dumps(job_with)
        self._running[task.remote(sent, self._site)] = job

    def _keeping_off(self) -> dict[str, Any]:
        """Return the options that keep a task off the machines that turned out to be unfit."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]} if self._unfit else set()
        if not alive - self._unfit:
            return {}  # rather fail on one of them, and say why, than wait for ever
        unfit = f"!in({','.join(sorted(self._unfit))})"
        return {"label_selector": {**self._labels, NODE_ID: unfit}}

    def wait_any(self, timeout_s: float | None = None) -> tuple[Job, Outcome] | None:
        if not self._running:
            raise LookupError("nothing is in flight")
        if not self._finished:
            ready, rest = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
            if ready and rest:  # take along all that finished meanwhile
                more, _ = ray.wait(rest, num_returns=len(rest), timeout=0)
                ready += more
            self._finished.extend(ready)
        if not self._finished:
            return None
        reference = self._finished.popleft()
        return self._running.pop(reference), self._outcome(reference)

    def _outcome(self, reference: Any) -> Outcome:
        found = _outcome_of(reference)
        if isinstance(found, Outcome):
            return found
        node_id, fault = found
        if node_id not in self._unfit and self._admission is not None:
            self._admission.tell(f"no more cells run on the node {node_id}: {fault}")
        self._unfit.add(node_id)
        return Outcome(error=ErrorKind.NODE_UNFIT, message=f"node {node_id}: {fault}")

    def cancel(self, job: Job) -> None:
        for reference, running in self._running.items():
            if running is job:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        self._running.clear()
        self._finished.clear()
        ray.shutdown()


def connect(address: str | None, num_cpus: int | None) -> None:
    """Start an embedded Ray on this machine, or join the cluster at `address`.

    Raises:
        UserError: when the cluster cannot be reached, there is no token to show to it, or Ray
            would ask for none.
    """
    tokens.ask_for_token(os.environ)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not ray.is_initialized():
        # Read the environment again: ray may have been imported before it was set above, and
        # would then fail, having started services that ask for a token which it does not send.
        raylet: Any = ray._raylet
        raylet.Config.initialize("")
    if address is None:
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            # Ray's services listen on every interface: let none in that lacks this token, which
            # lives as long as this process and is written nowhere.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # "local" never joins a cluster that happens to run here.
        ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **quiet)
        return
    tokens.need_token(os.environ)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        problem = Problem("--address", f"no Ray cluster answers at {address!r}: {reason}")
        raise UserError([problem]) from error


def task_options(resources: Resources) -> dict[str, Any]:
    """Return the Ray options of a task that gets these resources."""
    options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    if resources.memory is not None:
        options["memory"] = int(resources.memory)
    if resources.labels:
        options["label_selector"] = dict(resources.labels)
    if resources.gpus == 0:
        options["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
    return options


def _outcome_of(reference: Any) -> Outcome | Unfit:
    try:
        outcome: Outcome | Unfit = ray.get(reference)
    except exceptions.RayTaskError as error:  # raised in the task: say what, and where
        message = f"{type(error.cause).__name__}: {error.cause}"
        return Outcome(error=classify(error), message=message, traceback=str(error))
    except exceptions.RayError as error:
        return Outcome(error=classify(error), message=f"{type(error).__name__}: {error}")
    return outcome


def classify(error: Exception) -> ErrorKind:
    """Say what kind of failure an error of Ray's is."""
    if isinstance(error, exceptions.RayTaskError):  # first: it may be a subclass of its cause, too
        # A cell's own exceptions never get here (see `execute`); Ray's do, such as a lost argument.
        return (
            classify(error.cause) if isinstance(error.cause, exceptions.RayError) else ErrorKind.BUG
        )
    kinds: dict[type[Exception], ErrorKind] = {
        exceptions.OutOfMemoryError: ErrorKind.HOST_OOM,
        exceptions.NodeDiedError: ErrorKind.NODE_LOST,
        exceptions.ObjectLostError: ErrorKind.NODE_LOST,
        exceptions.OwnerDiedError: ErrorKind.NODE_LOST,
        exceptions.WorkerCrashedError: ErrorKind.WORKER_CRASH,
        exceptions.RayActorError: ErrorKind.WORKER_CRASH,
        exceptions.LocalRayletDiedError: ErrorKind.NODE_LOST,
        exceptions.OutOfDiskError: ErrorKind.STORAGE,
        exceptions.TaskCancelledError: ErrorKind.PREEMPTED,
        exceptions.RuntimeEnvSetupError: ErrorKind.USER,
        exceptions.TaskUnschedulableError: ErrorKind.USER,
    }
    for kind, meaning in kinds.items():
        if isinstance(error, kind):
            return meaning
    return ErrorKind.BUG
