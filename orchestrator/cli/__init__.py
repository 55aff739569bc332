"""`rib`: wiring and printing. Nothing else in this project prints.

Results go to standard output, progress and complaints to standard error. Exit codes: 0 everything
asked for is done; 1 some cells failed or something is missing; 2 the input is wrong; 130
interrupted.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer

from orchestrator.cli import (
    cluster,
    compact,
    data,
    distances,
    export,
    figures,
    grids,
    models,
    rescore,
    results,
    retry,
    sql,
    submit,
    tune,
    verify,
)
from orchestrator.cli.printing import tell
from workers.errors import UserError

INTERRUPTED = 130

app = typer.Typer(
    name="rib",
    help="Run ImageNet-RIB grids on Ray and read their results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(grids.app)
app.add_typer(retry.app)
app.add_typer(submit.app)
app.add_typer(tune.app)
app.add_typer(distances.app)
app.add_typer(figures.app)
app.add_typer(results.app)
app.add_typer(rescore.app)
app.add_typer(sql.app)
app.add_typer(export.app)
app.add_typer(verify.app)
app.add_typer(compact.app)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(cluster.app, name="cluster")


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        cluster.show_machines(error)
        for problem in error.problems:
            tell(f"rib: {problem}")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stopped:
        # Typer makes an exit of Ctrl-C in a command.
        if isinstance(stopped, SystemExit) and stopped.code != INTERRUPTED:
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once more says nothing new
        tell("rib: interrupted; run the same command again to go on")
        sys.exit(INTERRUPTED)
    except Exception as error:
        from orchestrator.lease import LeaseLostError
        from workers.storage import StorageError

        if not isinstance(error, StorageError | LeaseLostError):
            raise
        tell(f"rib: {error}")
        sys.exit(1)
    sys.exit(0)
