"""`rib report --format html`, once or again and again while a grid runs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from orchestrator.cli.printing import tell
from orchestrator.cli.results import warn_of_mixed
from workers.errors import Problem, UserError
from workers.storage import StorageError

if TYPE_CHECKING:
    from orchestrator.report_data import ReportData


@dataclass(frozen=True)
class Page:
    """Which page is written, and where to."""

    source: str
    out: Path | None
    """None for standard output."""
    id_name: str | None = None
    mixed_data: bool = False
    unmasked: tuple[str, ...] = ()
    from_counts: bool = False

    def read(self) -> ReportData:
        """Gather what it shows, as things stand; see `orchestrator.report_data.gather`."""
        from orchestrator.report_data import gather

        return gather(self.source, self.id_name, self.mixed_data, self.unmasked, self.from_counts)


def write_once(page: Page) -> ReportData:
    """Write the page as things stand, and say what was compared all the same."""
    data = page.read()
    warn_of_mixed(data.results)
    _write(page.out, data, every=None)
    return data


def watch(page: Page, every: float) -> ReportData:
    """Write the page anew every so many seconds until nothing of the grid is still to come.

    What stands in the file is a whole page at any time. It loads itself anew, all but the last one,
    which is also written on Ctrl-C. When a store cannot be read for a while, the page stays.

    Raises:
        UserError: as reading does the first time; when there is nothing to watch, or no file.
    """
    _check_can_watch(page)
    data = page.read()
    warn_of_mixed(data.results)
    complaint = ""
    try:
        while data.run is not None and not data.run.is_over:
            _write(page.out, data, every)
            sleep(every)
            try:
                data, complaint = page.read(), ""
            except (UserError, StorageError) as error:
                if str(error) != complaint:
                    complaint = str(error)
                    tell(f"rib: {complaint}; the page stays as it is")
    finally:
        _write(page.out, data, every=None)
    return data


def _check_can_watch(page: Page) -> None:
    from orchestrator.results import TABLE_SUFFIXES

    problems = []
    if page.out is None:
        problems.append(Problem("--watch", "there is no file to keep", "name one with --out"))
    if Path(page.source).suffix.lower() in TABLE_SUFFIXES and Path(page.source).is_file():
        problems.append(Problem("--watch", "a published table does not change"))
    if problems:
        raise UserError(problems)


def _write(out: Path | None, data: ReportData, every: float | None) -> None:
    from orchestrator.report.html import render

    text = render(data, every)
    if out is None:
        sys.stdout.write(text)
        return
    encoded = text.encode()
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.write_bytes(encoded)
        part.replace(out)
    except OSError as error:
        raise UserError([Problem("--out", f"cannot write {out}: {error.strerror}")]) from error
    finally:
        part.unlink(missing_ok=True)
    done = ""
    if data.run is not None and every is not None:
        states = data.run.states["state"]
        done = f", {states.eq('done').sum()} of {len(states)} cells done"
    tell(f"wrote {out} ({len(encoded) / 2**10:,.0f} KiB){done}")
