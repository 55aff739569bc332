"""What Ray reads from the environment when it is imported. Import this first."""

from __future__ import annotations

import os

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent home
    "RAY_DEDUP_LOGS": "0",  # it would merge "epoch 1" and "epoch 2"
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A machine that is cut off closes no connection: Ray's own pings come after 5 minutes.
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "20000",
}

for _name, _value in {"RAY_AUTH_MODE": "token", **SETTINGS}.items():
    os.environ.setdefault(_name, _value)
