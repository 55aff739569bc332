"""`rib sql`: DuckDB over a store, which it can read and nothing else.

The query is the user's own; what is in the store may be anybody's. DuckDB is handed the rows as
Arrow tables and opens nothing itself: before the query runs, access to files, the network and
extensions is switched off and the configuration locked, so that neither the query nor anything that
it meets can read, write, attach or load something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import pyarrow as pa

from orchestrator.extensions import stored_declaration
from workers.errors import Problem, UserError
from workers.schemas import TABLES
from workers.store import Store
from workers.suites import suites

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_LOCKS = (
    "set temp_directory = ''",
    "set autoinstall_known_extensions = false",
    "set autoload_known_extensions = false",
    "set allow_community_extensions = false",
    "set enable_external_access = false",
    "set lock_configuration = true",
)

SPLITS = "splits"
SPLIT_COLUMNS = pa.schema(
    [("eval_dataset", pa.string()), ("corruption", pa.string()), ("severity", pa.int64())]
)

_CELL = "cell_id, suite, model, pretraining, downstream, method, seed"

DERIVED = {
    "final": "select * exclude (epoch) from accuracy where epoch is null",
    "curves": "select * from accuracy where epoch is not null",
    "accuracies": f"""
        with scored as (
            select final.*, 100.0 * n_correct / n_total as percent,
                100.0 * n_correct_unmasked / n_total as unmasked
            from final join {SPLITS}
            on final.eval_dataset = {SPLITS}.eval_dataset
                and final.corruption is not distinct from {SPLITS}.corruption
                and final.severity is not distinct from {SPLITS}.severity
            where n_total > 0 and n_correct is not null
        ), by_corruption as (
            select {_CELL}, eval_dataset, corruption, avg(percent) as percent,
                case when count(unmasked) = count(*) then avg(unmasked) end as unmasked,
                count(*) as n_splits, sum(n_correct) as n_correct, sum(n_total) as n_total
            from scored group by all
        )
        select {_CELL}, eval_dataset, avg(percent) as accuracy,
            case when count(unmasked) = count(*) then avg(unmasked) end as accuracy_unmasked,
            sum(n_correct)::bigint as n_correct, sum(n_total)::bigint as n_total
        from by_corruption group by all
        having sum(n_splits) = (
            select count(*) from {SPLITS} where {SPLITS}.eval_dataset = by_corruption.eval_dataset
        )
    """,
}
"""Views that are made of others, in the order in which they are.

accuracies: of each finished cell and set that has all of its splits, in percent: the mean over the
severities of each corruption, then over the corruptions, as in `orchestrator.accuracies`.
"""

_NEEDS = {"final": {"accuracy"}, "curves": {"accuracy"}, "accuracies": {"accuracy", SPLITS}}


@dataclass(frozen=True)
class Answer:
    """What a query gave."""

    table: pa.Table
    is_cut: bool = False
    """Whether there are more rows than were asked for."""
    damage: Mapping[str, str] = field(default_factory=dict)
    """Files that could not be read, and whose rows are not in it."""


def query(store: Store, sql: str, limit: int | None = None) -> Answer:
    """Ask DuckDB something about a store.

    Args:
        store: to ask about.
        sql: one statement that reads.
        limit: the most rows to give out; None: all.

    Raises:
        UserError: when DuckDB is not installed, or there is something wrong with the query.
        StorageError: when the store cannot be read.
    """
    duckdb = _duckdb()
    store.about()
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": "false"})
    with connection:
        _check_statement(connection, sql)
        damage = _register(connection, store, _used(sql))
        for lock in _LOCKS:
            connection.execute(lock)
        try:
            found = connection.sql(sql)
            if found is None:
                raise UserError([_refusal()])
            rows = (found if limit is None else found.limit(limit + 1)).to_arrow_table()
        except duckdb.Error as error:
            raise _mistake(str(error)) from error
    is_cut = limit is not None and rows.num_rows > limit
    return Answer(rows.slice(0, limit) if is_cut else rows, is_cut, damage)


def views() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and columns of every view."""
    for name, schema in TABLES.items():
        yield name, schema.names
    yield SPLITS, SPLIT_COLUMNS.names
    accuracy = TABLES["accuracy"].names
    yield "final", [name for name in accuracy if name != "epoch"]
    yield "curves", accuracy
    cell = _CELL.split(", ")
    counts = ["accuracy", "accuracy_unmasked", "n_correct", "n_total"]
    yield "accuracies", [*cell, "eval_dataset", *counts]


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError as error:
        hint = "pip install rib-orchestrator[sql]"
        raise UserError([Problem("rib sql", "DuckDB is not installed", hint)]) from error
    module: ModuleType = duckdb
    return module


def _check_statement(connection: DuckDBPyConnection, sql: str) -> None:
    """Check that this is one statement that reads.

    Raises:
        UserError: when it is not.
    """
    import duckdb

    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise _mistake(str(error)) from error
    reading = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
    if len(statements) != 1 or statements[0].type not in reading:
        raise UserError([_refusal()])


def _refusal() -> Problem:
    return Problem("rib sql", "takes one statement that reads", "a SELECT, DESCRIBE or EXPLAIN")


def _used(sql: str) -> set[str]:
    """Return the views that a query may use: those that it names; all, where it names none."""
    known = [name for name, _ in views()]
    words = set(re.findall(r"\w+", sql.lower()))
    used = words.intersection(known) or set(known)
    return used.union(*(_NEEDS.get(name, set()) for name in used))


def _register(connection: DuckDBPyConnection, store: Store, used: set[str]) -> dict[str, str]:
    """Give DuckDB the rows that it needs; return the files that are damaged."""
    damage: dict[str, str] = {}
    for name in TABLES:
        if name in used:
            scan = store.scan(name, encoded=True)
            connection.register(name, scan.table)
            damage |= scan.damage
    if SPLITS in used:
        connection.register(SPLITS, _splits(store))
    for name, sql in DERIVED.items():
        if _NEEDS[name] <= used:
            connection.execute(f"create view {name} as {sql}")
    return damage


def _splits(store: Store) -> pa.Table:
    """Return the splits of the store's suite; none where nothing here says what it is."""
    declared = stored_declaration(store)
    suite = suites().get(store.about()["suite"]) if declared is None else declared.suite()
    rows = [
        {"eval_dataset": name, "corruption": corruption, "severity": severity}
        for name, pairs in (suite.splits() if suite else {}).items()
        for corruption, severity in pairs
    ]
    return pa.Table.from_pylist(rows, SPLIT_COLUMNS)


def _mistake(message: str) -> UserError:
    """Make a user's mistake of what DuckDB says, with all that could have been asked for."""
    listed = "\n".join(f"  {name}: {', '.join(columns)}" for name, columns in views())
    return UserError([Problem("rib sql", f"{message}\nThe views and their columns:\n{listed}")])
