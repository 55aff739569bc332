"""Compaction: the same rows in fewer files, whoever dies, reads or commits meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cells import row
from workers import compaction
from workers.repeats import VALUES
from workers.schemas import ACCURACY, KEYS
from workers.storage import Storage
from workers.store import Store
from workers.tables import is_merged

TABLES = ("accuracy", "attempts", "history")
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path)


def make_store(folder: Path) -> Store:
    store = Store(str(folder / "store"))
    store.create("s", "1")
    return store


def rows_of(cell_id: str, name: str) -> list[dict[str, Any]]:
    """A cell's rows on a set, the same whenever they are made; `a` has two splits."""
    n_correct = sum(f"{cell_id}{name}".encode()) % 5
    splits: list[dict[str, Any]] = [{}]
    if name == "a":
        splits = [{"corruption": "fog", "severity": s} for s in (1, 2)]
    return [row(cell_id, name, n_correct=n_correct, **split) for split in splits]


def fill(store: Store, *cells: str) -> None:
    for cell_id in cells:
        for name in ("val", "v2", "a"):
            store.commit_accuracy(cell_id, name, rows_of(cell_id, name))
        store.seal(cell_id, ["val", "v2", "a"])


def shown(store: Store, table: str) -> set[tuple[Any, ...]]:
    """What a table says of each key; each key once."""
    names = [*KEYS[table], *VALUES[table]]
    scan = store.scan(table, names)
    assert scan.damaged == ()
    rows = [tuple(r.values()) for r in scan.table.to_pylist()]
    assert len({r[: len(KEYS[table])] for r in rows}) == len(rows)
    return set(rows)


def files_of(store: Store, table: str = "accuracy") -> list[str]:
    return store.storage.names(table)


def merged_files(store: Store, table: str = "accuracy") -> list[Path]:
    return [Path(store.storage.path(f"{table}/{n}")) for n in files_of(store, table)]


# ---------------------------------------------------------------------- what it does


def test_many_files_become_one_with_the_same_rows(store: Store) -> None:
    fill(store, "c1", "c2", "c3")
    store.commit_accuracy("c4", "val", rows_of("c4", "val"))  # not sealed
    store.commit_attempt({"cell_id": "c1", "attempt": 1, "state": "done"})
    store.commit_attempt({"cell_id": "c1", "attempt": 2, "state": "done"})
    before = store.scan("accuracy").table.sort_by([(k, "ascending") for k in KEYS["accuracy"]])
    accuracy, attempts, history, _ = store.compact()
    assert (accuracy.n_before, accuracy.n_after, accuracy.n_rows) == (4, 1, 13)
    assert (attempts.n_before, attempts.n_after) == (2, 1)
    assert (history.n_before, history.n_after) == (0, 0)
    (name,) = files_of(store)
    assert is_merged(name)
    assert accuracy.written == [f"accuracy/{name}"]
    after = store.scan("accuracy").table.sort_by([(k, "ascending") for k in KEYS["accuracy"]])
    assert after.equals(before)
    assert set(store.committed().splits) == {"c1", "c2", "c3", "c4"}


def test_doing_it_again_does_nothing(store: Store) -> None:
    fill(store, "c1", "c2")
    store.compact()
    files = files_of(store)
    assert all(not c.merged and not c.written for c in store.compact())
    assert files_of(store) == files


def test_the_name_is_that_of_the_bytes(store: Store) -> None:
    fill(store, "c1", "c2")
    store.compact()
    (path,) = merged_files(store)
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert path.name == f"merged-{digest}.parquet"


def test_what_comes_later_joins_it(store: Store) -> None:
    fill(store, "c1", "c2")
    store.compact()
    store.commit_accuracy("c1", "sketch", [row("c1", "sketch")])
    store.seal("c1", ["sketch"])
    fill(store, "c3")
    store.sweep()
    assert len(files_of(store)) == 3
    before = shown(store, "accuracy")
    store.compact()
    assert len(files_of(store)) == 1
    assert shown(store, "accuracy") == before
    assert len(before) == 13


def test_too_few_files_are_left_alone(store: Store) -> None:
    fill(store, "c1", "c2")
    store.compact(at_least=3)
    assert files_of(store) == ["c1.parquet", "c2.parquet"]
    store.compact(at_least=2)
    assert len(files_of(store)) == 1


def test_cells_that_run_are_left_alone(store: Store) -> None:
    fill(store, "c1", "c2", "c3")
    store.commit_attempt({"cell_id": "c2", "attempt": 1, "state": "running"})
    store.commit_attempt({"cell_id": "c3", "attempt": 1, "state": "done"})
    store.compact(is_busy=lambda cell_id: cell_id == "c2")
    assert [n for n in files_of(store) if not is_merged(n)] == ["c2.parquet"]
    assert files_of(store, "attempts") == ["c2.0001.parquet", "c3.0001.parquet"]


def test_a_merged_file_is_closed_and_then_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "ROWS", 8)
    monkeypatch.setattr(compaction, "FILES_AT_ONCE", 1)
    fill(store, *(f"c{i}" for i in range(5)))  # 4 rows each
    before = shown(store, "accuracy")
    assert store.compact()[0].n_after == 3
    full = [p for p in merged_files(store) if pq.read_metadata(p).num_rows == 8]
    assert len(full) == 2
    for path in full:
        assert len(set(pq.read_table(path)["cell_id"].to_pylist())) == 2  # whole cells
    fill(store, "c9")
    store.compact()
    assert set(full) < set(merged_files(store))
    assert len(files_of(store)) == 3
    assert shown(store, "accuracy") > before
    assert len(shown(store, "accuracy")) == 24


def test_others_read_it_beside_small_files(store: Store) -> None:
    fill(store, "c1", "c2")
    store.compact()
    fill(store, "c3")
    folder = store.storage.path("accuracy")
    totals = {"c1": 4, "c2": 4, "c3": 4}
    frame = pd.read_parquet(folder)
    assert list(frame.columns) == ACCURACY.names
    assert frame["model"].dtype == "str"  # and no category
    assert frame.groupby("cell_id").size().to_dict() == totals
    query = f"select cell_id, count(*)::int from '{folder}/*.parquet' group by 1"
    assert dict(duckdb.execute(query).fetchall()) == totals
    assert ds.dataset(folder).to_table().num_rows == 12
    assert pl.read_parquet(f"{folder}/*.parquet").group_by("cell_id").len().height == 3


def test_a_column_of_a_later_version_is_kept(store: Store) -> None:
    fill(store, "c1", "c2")
    later = pa.Table.from_pylist([row("c3")], schema=ACCURACY)
    later = later.append_column("calibration", pa.array([0.25]))
    path = Path(store.storage.path("accuracy/c3.parquet"))
    pq.write_table(later, path)
    for _ in range(2):
        store.compact()
        (merged,) = merged_files(store)
        assert pq.read_table(merged)["calibration"].drop_null().to_pylist() == [0.25]
        fill(store, "c4")


def test_an_older_version_is_kept_away(store: Store) -> None:
    about = Path(store.storage.path("store.json"))
    about.write_text(about.read_text().replace('"schema": 2', '"schema": 1'))
    store.compact()
    assert store.about()["schema"] == 1  # there is nothing that it would not know
    fill(store, "c1", "c2")
    store.compact()
    assert store.about() == {"schema": 2, "suite": "s", "suite_version": "1"}


# ---------------------------------------------------------------------- what is there twice


def test_copies_that_say_the_same_become_one(store: Store) -> None:
    """As of a worker that was thought dead: another machine, another time, the same counts."""
    fill(store, "c1", "c2")
    store.compact()
    late = [r | {"device": "another", "attempt": 2} for r in rows_of("c1", "a")]
    store.commit_accuracy("c1", "a", late)
    before = shown(store, "accuracy")
    found = store.compact()[0]
    assert found.contradictions == []
    assert shown(store, "accuracy") == before
    (path,) = merged_files(store)
    table = pq.read_table(path)
    assert table.num_rows == 8
    assert set(table["device"].to_pylist()) == {None}


def test_a_contradiction_is_named_and_stays(store: Store) -> None:
    fill(store, "c1", "c2")
    store.compact()
    before = shown(store, "accuracy")
    store.commit_accuracy("c1", "v2", [row("c1", "v2", n_correct=99)])
    fill(store, "c3")
    found = store.compact()[0]
    assert found.contradictions == ["accuracy/c1.v2.parquet"]
    assert "c1.v2.parquet" in files_of(store)
    assert len(files_of(store)) == 2
    assert shown(store, "accuracy") >= before
    assert store.compact()[0].contradictions == ["accuracy/c1.v2.parquet"]


def test_the_last_word_on_a_try_wins_over_the_merged_one(store: Store) -> None:
    def say(attempt: int, state: str, minute: int | None) -> None:
        at = None if minute is None else START + timedelta(minutes=minute)
        words = {"cell_id": "c", "attempt": attempt, "state": state, "finished_at": at}
        store.commit_attempt(words)

    say(1, "running", None)
    say(2, "running", None)
    store.compact()
    say(1, "failed", 1)
    say(2, "failed", 2)
    assert {s for *_, s in shown(store, "attempts")} == {"failed"}
    store.compact()
    assert {s for *_, s in shown(store, "attempts")} == {"failed"}
    say(1, "done", 3)  # it was not dead
    assert shown(store, "attempts") == {("c", 1, "done"), ("c", 2, "failed")}
    store.compact()
    assert shown(store, "attempts") == {("c", 1, "done"), ("c", 2, "failed")}


def test_a_cell_that_is_trained_again_has_that_history(store: Store) -> None:
    def train(cell_id: str, epochs: int, loss: float) -> None:
        rows = [{"cell_id": cell_id, "epoch": e + 1, "loss": loss} for e in range(epochs)]
        store.commit_history(cell_id, rows)

    train("c1", 3, 0.5)
    train("c2", 1, 0.5)
    store.compact()
    train("c1", 2, 0.25)  # stops earlier, on another machine
    expected = {("c1", 1, 0.25), ("c1", 2, 0.25), ("c2", 1, 0.5)}
    for _ in range(2):
        assert {r[:3] for r in shown(store, "history")} == expected
        store.compact()


# ---------------------------------------------------------------------- damage


def damage(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.95, 0.9999])
def test_a_bit_that_is_wrong_is_seen(store: Store, place: float) -> None:
    fill(store, "c1", "c2")
    store.compact()
    fill(store, "c3")
    path = next(p for p in merged_files(store) if is_merged(p.name))
    damage(path, place)
    scan = store.scan("accuracy", ["cell_id"])
    assert scan.damaged == (f"accuracy/{path.name}",)
    committed = store.committed()
    assert committed.damaged == scan.damaged
    assert set(committed.splits) == {"c3"}
    found = store.compact()[0]
    assert list(found.damage) == [f"accuracy/{path.name}"]
    assert path.exists()


def test_damage_in_a_part_costs_that_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "ROWS_OF_A_GROUP", 4)  # a cell each
    cells = [f"c{i}" for i in range(10)]
    fill(store, *cells)
    before = shown(store, "accuracy")
    store.compact()
    (path,) = merged_files(store)
    assert pq.read_metadata(path).num_row_groups == 10
    damage(path, 0.25)
    store.set_aside(store.committed().damaged)
    left = shown(store, "accuracy")
    lost = {cell_id for cell_id, *_ in before - left}
    assert left < before
    assert len(lost) == 1
    assert store.storage.names("damaged") == [f"accuracy.{path.name}"]
    fill(store, *lost)  # as the next run does
    assert shown(store, "accuracy") == before
    store.compact()
    assert shown(store, "accuracy") == before


def test_a_file_that_is_cut_short_costs_its_cells_and_no_more(store: Store) -> None:
    fill(store, "c1", "c2")
    before = shown(store, "accuracy")
    store.compact()
    (path,) = merged_files(store)
    path.write_bytes(path.read_bytes()[:-100])
    store.set_aside(store.committed().damaged)
    assert shown(store, "accuracy") == set()
    fill(store, "c1", "c2")
    assert shown(store, "accuracy") == before


def test_the_rows_of_one_cell_are_taken_out(store: Store) -> None:
    fill(store, "c1", "c2", "c3")
    store.compact()
    (path,) = merged_files(store)
    name = f"accuracy/{path.name}"
    store.set_aside([name], {name: ["c2"]})
    assert {cell_id for cell_id, *_ in shown(store, "accuracy")} == {"c1", "c3"}
    assert not path.exists()
    (aside,) = store.storage.names("damaged")
    taken = pq.read_table(store.storage.path(f"damaged/{aside}"))
    assert set(taken["cell_id"].to_pylist()) == {"c2"}
    assert taken.num_rows == 4


# ---------------------------------------------------------------------- dying


class DiedError(BaseException):
    """The process is gone."""


class Dying(Storage):
    """Dies before or after the change that it is told of; moves as an object store does."""

    def __init__(self, uri: str, steps: int) -> None:
        super().__init__(uri)
        self.steps = steps

    def step(self) -> None:
        if self.steps == 0:
            raise DiedError
        self.steps -= 1

    def write(self, name: str, data: bytes | pa.Buffer, flush: bool = True) -> None:
        self.step()
        super().write(name, data, flush)
        self.step()

    def move(self, source: str, target: str) -> None:
        self.step()
        super().write(target, super().read(source))
        self.step()
        super().delete(source)
        self.step()

    def delete(self, name: str) -> None:
        self.step()
        super().delete(name)
        self.step()


CELLS, SETS = ("c1", "c2", "c3"), ("val", "v2", "a")
deaths = st.one_of(st.none(), st.integers(0, 12))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from(CELLS), st.sampled_from(SETS), st.none()),
        st.tuples(st.just("try"), st.sampled_from(CELLS), st.integers(1, 2), st.none()),
        st.tuples(st.just("train"), st.sampled_from(CELLS), st.integers(1, 3), st.none()),
        st.tuples(st.just("seal"), st.sampled_from(CELLS), st.none(), deaths),
        st.tuples(st.just("sweep"), st.none(), st.none(), deaths),
        st.tuples(st.just("compact"), st.sampled_from([None, *CELLS]), st.none(), deaths),
        st.tuples(st.just("compact"), st.sampled_from([None, *CELLS]), st.none(), deaths),
    ),
    max_size=14,
)


class Model:
    """What the tables have to say."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = {t: {} for t in TABLES}
        self.clock = 0

    def take(self, table: str, row: dict[str, Any]) -> None:
        key = tuple(row.get(name) for name in KEYS[table])
        self.tables[table][key] = (*key, *(row.get(name) for name in VALUES[table]))

    def do(self, store: Store, kind: str, what: Any, other: Any) -> None:
        """Commit something, and take note of it."""
        self.clock += 1
        if kind == "commit":
            rows = rows_of(what, other)
            store.commit_accuracy(what, other, rows)
            for row in rows:
                self.take("accuracy", row)
        elif kind == "try":
            state = ("failed", "done", "diverged")[self.clock % 3]
            at = START + timedelta(minutes=self.clock)
            said = {"cell_id": what, "attempt": other, "state": state, "finished_at": at}
            store.commit_attempt(said)
            self.take("attempts", said)
        else:
            rows = [
                {"cell_id": what, "epoch": e + 1, "loss": float(self.clock)} for e in range(other)
            ]
            store.commit_history(what, rows)
            history = self.tables["history"]
            self.tables["history"] = {k: v for k, v in history.items() if k[0] != what}
            for row in rows:
                self.take("history", row)


def change(store: Store, kind: str, cell_id: str | None) -> None:
    if kind == "seal":
        store.seal(str(cell_id), SETS)
    elif kind == "sweep":
        store.sweep()
    else:
        store.compact(is_busy=lambda cell: cell == cell_id)


@settings(max_examples=120, deadline=None)
@given(steps=steps)
def test_no_order_of_events_and_deaths_loses_or_makes_a_row(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, Any, int | None]]
) -> None:
    store = make_store(tmp_path_factory.mktemp("store"))
    model = Model()
    for kind, what, other, death in steps:
        if kind in ("commit", "try", "train"):
            model.do(store, kind, what, other)
        elif death is None:
            change(store, kind, what)
        else:
            mortal = Store(store.uri)
            mortal.storage = Dying(store.uri, death)
            with suppress(DiedError):
                change(mortal, kind, what)
        for table in TABLES:
            assert shown(store, table) == set(model.tables[table].values()), (table, kind)
    store.sweep()
    store.compact()
    for table in TABLES:
        files = merged_files(store, table)
        assert len(files) <= 1
        rows = [r for path in files for r in pq.read_table(path, columns=KEYS[table]).to_pylist()]
        assert len(rows) == len(model.tables[table])  # nor is any there twice
        assert shown(store, table) == set(model.tables[table].values())


# ---------------------------------------------------------------------- reading meanwhile


class Interrupted(Storage):
    """Something happens in the middle of a reader's call; of a listing it shows half and half."""

    def __init__(self, uri: str, calls: int, event: Callable[[], None]) -> None:
        super().__init__(uri)
        self.calls, self.event = calls, event

    def is_time(self) -> bool:
        self.calls -= 1
        return self.calls == -1

    def names(self, folder: str, suffix: str = "") -> list[str]:
        before = super().names(folder, suffix)
        if not self.is_time():
            return before
        self.event()
        after = super().names(folder, suffix)
        return sorted({n for n in before if is_early(n)} | {n for n in after if not is_early(n)})

    def read(self, name: str) -> bytes:
        if self.is_time():
            self.event()
        return super().read(name)


def is_early(name: str) -> bool:
    """Where in a folder a file is: anywhere. A merged file's place was passed before it came."""
    return is_merged(name) or hashlib.sha256(name.encode()).digest()[0] % 2 == 0


@pytest.mark.parametrize("calls", range(16))
def test_a_reader_never_misses_a_row(tmp_path: Path, calls: int) -> None:
    """What happens to a reader at its nth call: seals, a compaction, and another one on top."""
    store = make_store(tmp_path)
    fill(store, "c1", "c2")
    store.compact()
    fill(store, "c3", "c4")
    for name in SETS:
        store.commit_accuracy("c5", name, rows_of("c5", name))
    before = shown(store, "accuracy")
    assert len(before) == 20

    def event() -> None:
        store.seal("c5", SETS)
        store.compact()
        fill(store, "c6")
        store.compact()

    reader = Store(store.uri)
    reader.storage = Interrupted(store.uri, calls, event)
    assert shown(reader, "accuracy") >= before


@pytest.mark.parametrize("calls", range(8))
def test_a_reader_never_misses_a_row_of_a_seal(tmp_path: Path, calls: int) -> None:
    """A part joins a sealed file that was read already."""
    store = make_store(tmp_path)
    store.commit_accuracy("c1", "val", rows_of("c1", "val"))
    store.seal("c1", ["val"])
    store.commit_accuracy("c1", "v2", rows_of("c1", "v2"))
    store.commit_accuracy("c1", "a", rows_of("c1", "a"))
    before = shown(store, "accuracy")
    reader = Store(store.uri)
    reader.storage = Interrupted(store.uri, calls, lambda: store.seal("c1", SETS))
    assert shown(reader, "accuracy") == before


def test_a_listing_that_shows_neither_the_parts_nor_the_merged_file(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    fill(store, "c1", "c2")
    before = shown(store, "accuracy")

    class Unlucky(Storage):
        is_first = True

        def names(self, folder: str, suffix: str = "") -> list[str]:
            before = super().names(folder, suffix)
            if not self.is_first:
                return before
            self.is_first = False
            store.compact()
            return sorted(set(before) & set(super().names(folder, suffix)))

    reader = Store(store.uri)
    reader.storage = Unlucky(store.uri)
    assert shown(reader, "accuracy") == before


def test_what_is_committed_meanwhile_stays(store: Store) -> None:
    """A worker's last word, and a part that it writes again, after the compaction has read them."""
    fill(store, "c1", "c2")
    for attempt in (1, 2):
        store.commit_attempt({"cell_id": "c1", "attempt": attempt, "state": "running"})

    class Late(Storage):
        def write(self, name: str, data: bytes | pa.Buffer, flush: bool = True) -> None:
            super().write(name, data, flush)
            if is_merged(name) and name.startswith("attempts/"):
                said = {"cell_id": "c1", "attempt": 1, "state": "done", "finished_at": START}
                Store(self.uri).commit_attempt(said)

    store.storage = Late(store.uri)
    store.compact()
    assert [n for n in files_of(store, "attempts") if not is_merged(n)] == ["c1.0001.parquet"]
    assert shown(store, "attempts") == {("c1", 1, "done"), ("c1", 2, "running")}


def test_who_compacts_again_and_again_reads_little_of_it_again(store: Store) -> None:
    """Sizes in cells, a step each: files that are more than twice as large are left alone."""
    sizes = []
    for step in range(8):
        fill(store, f"step{step}")
        fill(store, f"more{step}")  # a group of two: one small file alone is left as it is
        store.compact(sparing=True)
        rows = [pq.read_metadata(path).num_rows for path in merged_files(store)]
        sizes.append(sorted(n // 8 for n in rows))
    assert sizes == [[1], [2], [3], [1, 3], [5], [1, 5], [2, 5], [8]]
    before = shown(store, "accuracy")
    assert len(before) == 8 * 2 * 4
    fill(store, "last")
    store.compact()  # by hand: everything
    assert len(merged_files(store)) == 1
    assert len(shown(store, "accuracy")) == len(before) + 4
