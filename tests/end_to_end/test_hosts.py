"""A cluster of several hosts, from its start scripts to the store, with one of them cut off."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.hosts import PROJECT, Host, Network, network, reason_against

GRID = """
name: hosts
suite: digits-rib
data_root: ${{RIB_DATA}}
store: {store}
models: [resnet_digits]
downstream: [v2, a]
methods: [ft, l2sp, ema]
evaluate: [val, v2]
resources: {{gpus: {gpus}, state_seconds: 0}}
recipe: {{warmup_steps: 2, epochs: 40, batch_size: 32, precision: fp32}}
"""
TOKEN = "5ecre7" * 10 + "cafe"
COUNTS = ["cell_id", "eval_dataset", "n_correct", "n_correct_unmasked", "n_total", "loss"]
QUICK_TO_NOTICE = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A head that takes seconds, not a minute, to give up a node that it does not hear from."""

HAS_JOBS = importlib.util.find_spec("aiohttp_cors") is not None


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> Iterator[Network]:
    if not os.environ.get("RIB_TEST_HOSTS"):
        pytest.skip("makes network namespaces: asked for by RIB_TEST_HOSTS=1")
    if reason := reason_against():
        pytest.fail(reason)
    folder = tmp_path_factory.mktemp("net")
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o644)  # the first to read it closes it
    with network(folder, digits_root, RAY_AUTH_TOKEN_PATH=str(token), RIB_PRETEND_GPUS="1") as made:
        yield made


def start_head(net: Network) -> Host:
    head = net.add("head", **QUICK_TO_NOTICE)
    head.start(PROJECT / "docker" / "start-head.sh", "--num-cpus=0", *SMALL)
    return head


def start_worker(net: Network, name: str) -> Host:
    worker = net.add(name, RIB_HEAD=f"{net.hosts[0].address}:6379")
    worker.start(PROJECT / "docker" / "start-worker.sh", "--num-cpus=1", "--num-gpus=1", *SMALL)
    return worker


SMALL = ("--object-store-memory=80000000",)


def until(what: str, condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def reaches(host: Host, address: str, port: int) -> bool:
    program = f"import socket; socket.create_connection(({address!r}, {port}), 1).close()"
    return host.run(sys.executable, "-c", program)[0] == 0


def status_without_token(host: Host) -> int:
    """Ask the Jobs API without a token; return what it answers."""
    program = (
        "import urllib.request as u, urllib.error as e\n"
        "try: print(u.urlopen('http://127.0.0.1:8265/api/jobs/').status)\n"
        "except e.HTTPError as error: print(error.code)"
    )
    return int(host.run(sys.executable, "-c", program)[1])


def rows(store: Path, table: str) -> pd.DataFrame:
    files = sorted((store / table).glob("*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files]) if files else pd.DataFrame()


def counts(store: Path) -> pd.DataFrame:
    found = rows(store, "accuracy")
    order = ["cell_id", "eval_dataset", "corruption", "severity"]
    return found.sort_values(order)[COUNTS].reset_index(drop=True)


def running_on(store: Path) -> list[str]:
    """Return the names of the hosts on which cells train."""
    tries = rows(store, "attempts")
    if tries.empty:
        return []
    trains = (tries["state"] == "running") & tries["downstream"].notna()
    return [str(name) for name in tries[trains]["host"]]


def all_of(job: subprocess.Popen[str], seconds: float = 300.0) -> str:
    """Return all that a job prints until it ends."""
    try:
        return job.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired as slow:
        job.kill()
        said = (slow.output or b"").decode(errors="replace")
        pytest.fail(f"it has not ended in {seconds:g} s, and said:\n{said}")


@pytest.mark.slow
@pytest.mark.skipif(not HAS_JOBS, reason="no Jobs API: it comes with rib-orchestrator[cluster]")
@pytest.mark.timeout(600)
def test_a_host_is_cut_off_and_another_joins(
    hosts: Network, tmp_path: Path, digits_root: Path
) -> None:
    store, alone = tmp_path / "store", tmp_path / "alone"
    grid, inline = tmp_path / "grid.yaml", tmp_path / "inline.yaml"
    grid.write_text(GRID.format(store=store, gpus=1))
    inline.write_text(GRID.format(store=alone, gpus=0))
    undisturbed = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "run", inline, "--executor", "inline"],
        env={**os.environ, "RIB_DATA": str(digits_root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        head = start_head(hosts)
        workers = [start_worker(hosts, "first"), start_worker(hosts, "second")]
        until("the head takes jobs", lambda: reaches(head, "127.0.0.1", 8265))
        assert not reaches(workers[0], head.address, 8265), "the dashboard is the head's alone"
        assert status_without_token(head) in (401, 403)
        token = Path(head.environment["RAY_AUTH_TOKEN_PATH"])
        assert token.stat().st_mode & 0o777 == 0o600

        job = head.popen("rib", "submit", grid)
        until("a cell trains", lambda: bool(running_on(store)) or job.poll() is not None)
        assert job.poll() is None, job.communicate()[0]
        (lost,) = [w for w in workers if w.environment["RIB_HOST"] == running_on(store)[0]]
        hosts.cut_off(lost)
        lost.stop()  # as without power: nobody hears of it, and it writes nothing any more
        third = start_worker(hosts, "third")
        out = all_of(job)
        assert job.returncode == 0, out
        assert undisturbed.wait(300) == 0
    finally:
        undisturbed.kill()
        undisturbed.wait()

    pd.testing.assert_frame_equal(counts(store), counts(alone))
    assert "2 nodes have the driver's code, data, weights and store" in out
    assert "node_lost" in out
    tries = rows(store, "attempts")
    assert third.environment["RIB_HOST"] in set(tries["host"]), "who joined later ran cells, too"
    written = [path for path in store.rglob("*") if path.is_file()]
    logs = [path for host in hosts.hosts for path in (host.home / "ray").rglob("*.log")]
    assert logs
    for path in [*written, *logs, *(host.log for host in hosts.hosts)]:
        assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in out
