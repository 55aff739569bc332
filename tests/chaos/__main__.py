"""Kill, freeze, fill up and cut short what a grid runs on, and compare what comes out.

Exit codes: 0 when the stores are the undisturbed run's and nothing is left behind; 1 when not; 2
when the options are wrong.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import KINDS
from tests.chaos.grid import DISK_BYTES
from tests.chaos.rounds import Chaos, Options, Report
from tests.chaos.sandbox import PROJECT, isolate, sandbox

err = Console(stderr=True)


def main() -> int:
    """Run the chaos test."""
    arguments = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    is_isolated = isolate("tests.chaos", sys.argv[1:])
    options = options_of(arguments, is_isolated)
    start = time.monotonic()

    def tell(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - start), 60)
        line = f"{minutes:3d}:{seconds:02d} {text}"
        err.print(line, markup=False, highlight=False, soft_wrap=True)

    with sandbox(is_isolated, DISK_BYTES, arguments.keep) as box:
        report = Chaos(options, box, tell).run()
    if arguments.json:
        Console().print_json(json.dumps(record(options, report)))
    else:
        from tests.chaos.table import table

        Console(width=None if sys.stdout.isatty() else 100).print(table(options, report))
    for finding in report.findings:
        err.print(f"found: {finding}", markup=False, highlight=False, soft_wrap=True)
    return 1 if report.findings else 0


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=20, help="how many have to hit")
    parser.add_argument("--seed", type=int, default=0, help="decides their kinds and targets")
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two, on average")
    parser.add_argument("--nodes", type=int, default=3, help="nodes that take cells, one each")
    parser.add_argument("--frozen", type=float, default=35.0, help="seconds a worker is stopped")
    parser.add_argument("--kinds", help=f"only these, of {','.join(KINDS)}")
    parser.add_argument("--small", action="store_true", help="a grid of fewer cells")
    parser.add_argument("--data", type=Path, default=PROJECT / "data" / "digits-rib")
    parser.add_argument("--keep", type=Path, help="a folder for the logs and the stores")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    if arguments.faults < 1 or arguments.nodes < 1 or arguments.every <= 0:
        parser.error("--faults and --nodes have to be 1 or more, --every above 0")
    unknown = set(kinds_of(arguments)) - set(KINDS)
    if unknown:
        parser.error(f"--kinds: unknown {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return arguments


def kinds_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    return tuple(KINDS) if arguments.kinds is None else tuple(arguments.kinds.split(","))


def options_of(arguments: argparse.Namespace, is_isolated: bool) -> Options:
    """Return the options, without the kinds that are not possible here."""
    kinds = kinds_of(arguments)
    impossible = [kind for kind in kinds if KINDS[kind].needs_isolation and not is_isolated]
    if impossible:
        err.print(f"not possible without a mount namespace: {', '.join(impossible)}")
    return Options(
        faults=arguments.faults,
        seed=arguments.seed,
        every=arguments.every,
        nodes=arguments.nodes,
        frozen=arguments.frozen,
        kinds=tuple(kind for kind in kinds if kind not in impossible),
        data=arguments.data.resolve(),
        small=arguments.small,
    )


def record(options: Options, report: Report) -> dict[str, object]:
    """Return what `--json` prints."""
    return {
        "options": {**asdict(options), "data": str(options.data)},
        # Not asdict of it all: that would count the pairs of its counters.
        **{field.name: getattr(report, field.name) for field in fields(report)},
        "comparison": asdict(report.comparison),
        "findings": report.findings,
    }


if __name__ == "__main__":
    sys.exit(main())
