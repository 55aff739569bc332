"""Run a module as `python -m` does, and say last on stderr how much memory its process took.

python -m benchmarks.peak MODULE [ARGUMENT...]
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Return the most memory that this process has held.

    The kernel's own mark: `getrusage` counts what a parent held before it became this program.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def main() -> None:
    sys.argv = sys.argv[1:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        print(peak_bytes(), file=sys.stderr)


if __name__ == "__main__":
    main()
