"""Running cells on Ray, and what Ray's errors mean. `rib run` imports ray here and nowhere else.

What this relies on (Ray 2.60): tasks with `max_retries=0` never run twice by themselves; GPU tasks
get a new process each unless `max_calls=0`; a task without GPUs sees all of them unless
CUDA_VISIBLE_DEVICES is emptied (ray-project/ray 62492); a task that fits nowhere waits for ever.
"""

from __future__ import annotations

import math
import os
import pickle
import secrets
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orchestrator.cluster.settings  # noqa: F401  # first: ray reads what it sets

# isort: split
import ray
from ray import exceptions
from ray.util import metrics

from orchestrator.cluster import tokens
from orchestrator.demands import Demand, Demands, fitted
from orchestrator.executor import Work
from orchestrator.grid_file import Resources
from orchestrator.nodes import (
    Memory,
    Node,
    able_nodes,
    check_feasible,
    free_slots,
    slots,
    why_waiting,
)
from workers.cell import Cell
from workers.errors import Problem, UserError
from workers.helping import help_out
from workers.job import Job, Site
from workers.outcome import ErrorKind, Outcome
from workers.release import release
from workers.run import execute

if TYPE_CHECKING:
    from orchestrator.cluster.admission import Admission
    from orchestrator.cluster.guard import Unfit

NODE_ID = "ray.io/node-id"
"""The label by which Ray knows a node."""

NO_GPU = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
"""The environment of a cell that sees no GPU."""

AUTOSCALES = "RIB_AUTOSCALES"
"""Set to 1 where the cluster adds nodes by itself: what no node has now is then not refused."""

LOOK_S = 10.0
"""How long what is known of a cluster's nodes is taken to hold, in seconds."""


class RayExecutor:
    """Runs each job as one Ray task, pinned to the CPUs and GPUs that Ray assigns it."""

    has_queue = True
    instruments: Any = metrics

    def __init__(
        self,
        site: Site,
        demands: Demands,
        address: str | None = None,
        num_cpus: int | None = None,
        work: Work = execute,
        admission: Admission | None = None,
        expected: Iterable[Demand] | None = None,
    ) -> None:
        """Start an embedded Ray on this machine, or join the cluster at `address`.

        Args:
            site: where things are, for the workers.
            demands: what cells ask for.
            address: of a cluster.
            num_cpus: of the embedded Ray; None for all of this machine's.
            work: what is done with each job.
            admission: asks the machines of a cluster, and keeps cells off those that are unlike.
            expected: the classes of cells that are to run; None for cells that ask for the usual.

        Raises:
            UserError: when the cluster cannot be reached, no node has what a cell asks for, or
                the nodes must not run cells of one grid together.
        """
        expected = [Demand(demands.usual)] if expected is None else list(expected)
        connect(address, num_cpus)
        try:
            check_nodes(expected, admission)
        except BaseException:
            ray.shutdown()
            raise
        self._demands, self._admission = demands, admission
        self._site = replace(site, ray_version=ray.__version__)
        lasting = ending_spoilt(work)
        self._work: Any = lasting if admission is None else admission.guarded(lasting)
        self._cluster = Cluster()
        self._classes: dict[str, _Class] = {}
        self._running: dict[Any, Job] = {}
        self._finished: deque[Any] = deque()

    def lane(self, cell: Cell) -> str:
        lane = self._demands.key(cell)
        if lane not in self._classes:
            demand, is_guarded = self._demands.of(cell), self._admission is not None
            self._classes[lane] = _Class(demand, self._site, self._work, self._cluster, is_guarded)
        return lane

    def capacity(self, lane: str) -> int:
        # A few jobs more than can run at once, so that no worker waits for the driver.
        return 2 * self._classes[lane].slots + 16

    def idle(self, lane: str) -> int:
        resources = self._classes[lane].demand.resources
        return free_slots(resources, self._cluster.fit_nodes(), free_resources())

    def submit(self, job: Job) -> None:
        self._running[self._classes[self.lane(job.cell)].start(job)] = job

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
        if node_id not in self._cluster.unfit and self._admission is not None:
            self._admission.tell(f"no more cells run on the node {node_id}: {fault}")
        self._cluster.unfit.add(node_id)
        return Outcome(error=ErrorKind.NODE_UNFIT, message=f"node {node_id}: {fault}")

    def cancel(self, job: Job) -> None:
        for reference, running in self._running.items():
            if running is job:
                ray.cancel(reference, force=True)

    def why_waiting(self, lane: str) -> str:
        return why_waiting(self._classes[lane].demand, self._cluster.fit_nodes(), free_resources())

    def close(self) -> None:
        self._running.clear()
        self._finished.clear()
        ray.shutdown()


class Cluster:
    """The nodes of the Ray that this process is in, as they were not long ago."""

    def __init__(self) -> None:
        self.unfit: set[str] = set()
        """Ids of nodes that turned out not to be alike."""
        self._nodes: list[Node] = []
        self.looked_at = -math.inf

    @property
    def nodes(self) -> list[Node]:
        """Those that live or have lived; an autoscaler, say, adds to them."""
        now = time.monotonic()
        if now - self.looked_at > LOOK_S:
            self._nodes, self.looked_at = ray.nodes(), now
        return self._nodes

    def fit_nodes(self) -> list[Node]:
        """Return the nodes that live now and are not unfit."""
        return [n for n in ray.nodes() if n["Alive"] and n["NodeID"] not in self.unfit]

    def keeping_off(self) -> dict[str, str]:
        """Return the labels that keep a task off the nodes that are unfit."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]} if self.unfit else set()
        if not alive - self.unfit:
            return {}  # rather fail on one of them, and say why, than wait for ever
        return {NODE_ID: f"!in({','.join(sorted(self.unfit))})"}


class _Class:
    """The cells that ask for the same: the task that they are, and what it is given."""

    def __init__(
        self, demand: Demand, site: Site, work: Any, cluster: Cluster, is_guarded: bool
    ) -> None:
        self.demand = demand
        self._cluster, self._resources, self._is_guarded = cluster, demand.resources, is_guarded
        self._site = ray.put(self._sent(fitted(site, demand.resources)))
        options = task_options(demand.resources)
        self._task: Any = ray.remote(max_retries=0, max_calls=0, **options)(work)
        self._memory = Memory.of(demand.resources, cluster.nodes)
        self._slots, self._counted_at = 0, -math.inf

    @property
    def slots(self) -> int:
        """How many of them can run at once."""
        nodes = self._cluster.nodes
        if self._counted_at != self._cluster.looked_at:
            self._slots = slots(self._resources, nodes)
            self._counted_at = self._cluster.looked_at
        return self._slots

    def start(self, job: Job) -> Any:
        """Submit a job; return the reference of its outcome."""
        memory, keeping_off = self._memory.for_job(job), self._cluster.keeping_off()
        # Named after its method: Ray's metrics have a series for each name, and this process grows.
        options: dict[str, Any] = {"name": job.cell.label, "memory": memory}
        if keeping_off:
            options["label_selector"] = {**self._resources.labels, **keeping_off}
        return self._task.options(**options).remote(
            self._sent(replace(job, memory=memory)), self._site
        )

    def _sent(self, value: Job | Site) -> Any:
        """Return a value as the task takes it: a guarded one looks into none before its check."""
        return pickle.dumps(value) if self._is_guarded else value


def ending_spoilt(work: Work) -> Work:
    """Return work that ends its process where no other cell should run in that.

    What came of the job is in the store by then, and counts (`orchestrator.lost_tries`).
    """

    def run(job: Job, site: Site) -> Outcome:
        name_process(job.cell)
        outcome = (help_out if job.helps else work)(job, site)
        if outcome.error is ErrorKind.WORKER_CRASH or not release():
            os._exit(1)
        return outcome

    return run


def name_process(cell: Cell) -> None:
    """Give this process the name of its cell, until the task ends and Ray names it again."""
    raylet: Any = ray._raylet
    raylet.setproctitle(f"ray::{cell} {cell.cell_id}")


def check_nodes(expected: Sequence[Demand], admission: Admission | None) -> None:
    """Check that there are nodes for each class of cells, and that these nodes are alike.

    Raises:
        UserError: when no node has what a cell asks for, or the nodes must not run cells of one
            grid together.
    """
    nodes = ray.nodes()
    check_feasible(expected, [*nodes, *nodes_to_come()])
    if admission is not None:
        # Where no cell sees a GPU, they find the processes warm that have answered.
        on_gpus = any(demand.resources.gpus for demand in expected)
        admission.check(able_nodes(expected, nodes), None if on_gpus else NO_GPU)


def free_resources() -> dict[str, dict[str, float]]:
    """Return what nothing uses now of each node's resources, by its id."""
    found: Any = ray._private.state.available_resources_per_node()
    return {str(node_id): dict(has) for node_id, has in found.items()}


def nodes_to_come() -> list[Node]:
    """Return a node that has whatever is asked for, where an autoscaler may add one; else none.

    Ray does not say which nodes an autoscaler can add, nor whether there is one.
    """
    if os.environ.get(AUTOSCALES) != "1":
        return []
    anything = dict.fromkeys(("CPU", "GPU", "memory"), math.inf)
    return [{"Alive": True, "Resources": anything, "Labels": None}]


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
        options["runtime_env"] = NO_GPU
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
