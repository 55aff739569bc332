"""What `rib data check` found, as tables and for JSON. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from orchestrator.data_check import DataCheck, SetCheck, Verdict
from workers.datasets.counts import Counts

_NAMED_FAULTS = 20
_STYLES = {Verdict.GOOD: "green"}


def check_tables(check: DataCheck) -> list[Table]:
    """Lay out a check: what is wrong, if anything, then a row per set."""
    faults = _faults_table(check)
    return [_sets_table(check)] if faults is None else [faults, _sets_table(check)]


def check_record(check: DataCheck) -> dict[str, Any]:
    """Return a check for JSON, with every problem and every bad file."""
    return {
        "suite": check.suite.name,
        "suite_version": check.suite.version,
        "root": str(check.root),
        "manifest": None if check.not_written else str(check.manifest),
        "ok": check.ok,
        "sets": [_set_record(one) for one in check.sets],
    }


def _set_record(check: SetCheck) -> dict[str, Any]:
    decoded = None if check.decoded is None else check.decoded.model_dump(mode="json")
    return {
        "set": check.spec.name,
        "verdict": check.verdict.value,
        "expected": asdict(check.expected),
        "found": None if check.found is None else asdict(check.found),
        "problems": [asdict(problem) for problem in check.problems],
        "notes": list(check.notes),
        "digest": check.digest,
        "decoded": decoded,
    }


def _sets_table(check: DataCheck) -> Table:
    title = f"{check.suite.name} version {check.suite.version} in {check.root}"
    table = Table(title=Text(title), title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    for header in ("set", "expected", "found", "verdict"):
        table.add_column(header)
    table.add_column("what to do", overflow="fold")
    for one in check.sets:
        table.add_row(
            Text(one.spec.name),
            Text("\n".join(_sizes(one.expected))),
            Text("\n".join(_found(one))),
            Text(one.verdict.value, _STYLES.get(one.verdict, "bold red")),
            Text("\n".join(_advice(one, check))),
        )
    table.caption = Text(_caption(check))
    return table


def _caption(check: DataCheck) -> str:
    good = sum(one.verdict is Verdict.GOOD for one in check.sets)
    kept = "no manifest" if check.not_written else f"manifest: {check.manifest}"
    return f"{good} of {len(check.sets)} sets are good; {kept}"


def _sizes(counts: Counts) -> Iterator[str]:
    yield "images not known" if counts.images is None else f"{counts.images:,} images"
    if counts.splits is not None and counts.splits > 1:
        yield f"{counts.splits} splits"
    if counts.classes is not None:
        yield f"{counts.classes:,} classes"
    if counts.indices not in (None, counts.classes):
        yield f"{counts.indices:,} label indices"


def _found(check: SetCheck) -> Iterator[str]:
    if check.found is None:
        yield "nothing"
        return
    yield from _sizes(check.found)
    if check.decoded is not None:
        some = check.decoded.images != check.found.images
        yield f"{check.decoded.images:,} decoded" if some else "all decoded"
        if check.decoded.bad_files:
            yield f"{len(check.decoded.bad_files):,} bad"


def _advice(check: SetCheck, whole: DataCheck) -> Iterator[str]:
    if check.verdict is Verdict.MISSING:
        yield f"unpack it to {whole.root / check.spec.folder}"
        return
    if check.verdict is Verdict.WRONG and check.digest is None:
        yield "put the folders right, or unpack the archive again"
    else:
        yield from dict.fromkeys(problem.hint for problem in check.problems if problem.hint)
    if check.decoded is not None:
        if check.decoded.bad_files:
            yield "get the bad images again, then check with --decode: it redoes no others"
        if check.found is not None and check.decoded.images != check.found.images:
            yield "check with --decode: it goes on where it was"
    yield from check.notes


def _faults_table(check: DataCheck) -> Table | None:
    table = Table(title="what is wrong", title_justify="left", box=SIMPLE_HEAD)
    table.caption_justify = "left"
    table.add_column("set")
    table.add_column("where", overflow="fold")
    table.add_column("what", overflow="fold")
    hidden = 0
    for one in check.sets:
        faults = list(_faults(one, check))
        for where, what in faults[:_NAMED_FAULTS]:
            table.add_row(Text(one.spec.name), Text(where), Text(what))
        hidden += len(faults[_NAMED_FAULTS:])
    if hidden:
        table.caption = f"and {hidden:,} more; all with --json"
    return table if table.row_count else None


def _faults(check: SetCheck, whole: DataCheck) -> Iterator[tuple[str, str]]:
    for problem in check.problems:
        is_told_below = check.digest is not None or not problem.hint
        hint = "" if is_told_below else f" ({problem.hint})"
        yield problem.where, problem.message + hint
    for bad in () if check.decoded is None else check.decoded.bad_files:
        yield str(whole.root / bad.file), bad.reason
