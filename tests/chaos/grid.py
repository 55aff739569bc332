"""The grid that is run under fire, and once in peace: real cells on the embedded suite."""

from __future__ import annotations

from pathlib import Path

import yaml

SMALL = {"models": ["resnet_digits"], "downstream": ["v2", "a"], "evaluate": ["val", "v2", "c"]}
FULL = {
    "models": ["resnet_digits", "vit_digits"],
    "downstream": ["v2", "a", "r"],
    "evaluate": ["val", "v2", "a", "r", "c"],
}
MIN_FREE = "12MiB"
DISK_BYTES = 128 * 2**20


def write_grid(path: Path, data: Path, small: bool, gpus: int) -> Path:
    """Write the grid; a cell's numbers do not depend on whether it asks for a GPU.

    Every cell saves a training state after each of its epochs.
    """
    grid = {
        "name": "chaos",
        "suite": "digits-rib",
        "data_root": str(data),
        **(SMALL if small else FULL),
        "methods": ["ft", "lwf", {"method": "soup", "members": ["pretrained", "ft", "lwf"]}],
        "recipe": {"warmup_steps": 2, "epochs": 8, "batch_size": 32, "precision": "fp32"},
        "resources": {"cpus": 1, "gpus": gpus, "state_seconds": 0},
        "min_free": MIN_FREE,
    }
    path.write_text(yaml.safe_dump(grid, sort_keys=False))
    return path
