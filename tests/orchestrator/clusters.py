"""Ray clusters of several nodes on this machine, with GPUs and labels that are only said to be."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray

import orchestrator.cluster.settings  # noqa: F401  # it sets what ray reads

SMALL = 100_000_000
"""Bytes of a node's object store."""


@contextmanager
def cluster_of(*nodes: dict[str, Any]) -> Iterator[Any]:
    """Start a head that takes no cells and these nodes; give out Ray's `Cluster`.

    Args:
        nodes: arguments of its `add_node`.
    """
    from ray.cluster_utils import Cluster

    # As `connect` does: Ray keeps the token that a process has shown first.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    raylet: Any = ray._raylet  # type: ignore[attr-defined]
    raylet.Config.initialize("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIB_PRETEND_GPUS", "1")
        head = {"num_cpus": 0, "object_store_memory": SMALL, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head)
        try:
            for node in nodes:
                cluster.add_node(object_store_memory=SMALL, **node)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
