"""Rows of one key that are there twice: which counts, and which contradict each other."""

from datetime import UTC, datetime
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.cells import row
from workers import repeats
from workers.repeats import contradicting, distinct
from workers.schemas import KEYS, TABLES
from workers.tables import to_dictionaries


def accuracy(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=TABLES["accuracy"])


def test_the_first_of_a_key_counts() -> None:
    rows = accuracy(
        row("b", n_correct=1),
        row("a", n_correct=2),
        row("b", n_correct=3),
        row("b", "c", corruption="fog", severity=1),
        row("b", epoch=1),  # a row of a curve has another key
        row("a", n_correct=2),
    )
    assert distinct(rows, "accuracy").to_pylist() == [rows.to_pylist()[i] for i in (0, 1, 3, 4)]


def test_the_last_word_on_a_try_counts_wherever_it_stands() -> None:
    def said(state: str, minute: int | None) -> dict[str, object]:
        at = None if minute is None else datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
        return {"cell_id": "c", "attempt": 1, "state": state, "finished_at": at}

    words = [said("running", None), said("done", 5), said("failed", 3)]
    for order in (words, words[::-1], [words[1], words[0], words[2]]):
        rows = pa.Table.from_pylist(order, schema=TABLES["attempts"])
        assert distinct(rows, "attempts")["state"].to_pylist() == ["done"]
        assert contradicting(rows, "attempts") == []


def test_rows_contradict_the_first_of_their_key() -> None:
    rows = accuracy(
        row("a", n_correct=1),
        row("b", n_correct=1),
        row("a", n_correct=1, device="another"),  # says the same of what counts
        row("b", n_correct=2),
        row("c"),
        row("b", n_correct=2, attempt=3),
        row("b", n_correct=1, loss=0.5),
    )
    assert contradicting(rows, "accuracy") == [3, 5, 6]
    assert contradicting(rows.slice(0, 3), "accuracy") == []
    assert contradicting(rows.slice(0, 0), "accuracy") == []


TEXT = st.sampled_from([None, "a", "b", "c"])
SEVERITY = st.sampled_from([None, 1, 5])


@given(
    st.lists(st.tuples(TEXT, SEVERITY, TEXT), max_size=40),
    st.integers(0, 40),
    st.booleans(),
    st.sampled_from([0, repeats.TABLE_BYTES]),
)
def test_one_row_of_each_key_is_kept_whatever_the_chunks(keys, at, is_encoded, table_bytes):
    """Texts as strings or as dictionaries, each chunk with one of its own, as files have them."""
    columns = {
        **{name: [None] * len(keys) for name in KEYS["accuracy"]},
        "cell_id": [key[0] for key in keys],
        "severity": [key[1] for key in keys],
        "eval_dataset": [key[2] for key in keys],
    }
    schema = pa.schema([TABLES["accuracy"].field(name) for name in KEYS["accuracy"]])
    rows = pa.table(columns, schema).append_column("n", pa.array(range(len(keys)), pa.int64()))
    if is_encoded:
        parts = [to_dictionaries(part) for part in (rows[:at], rows[at:])]
        rows = pa.concat_tables(parts).unify_dictionaries()
    firsts = {key: n for n, key in reversed(list(enumerate(keys)))}
    with patch.object(repeats, "TABLE_BYTES", table_bytes):
        assert distinct(rows, "accuracy")["n"].to_pylist() == sorted(firsts.values())


def test_more_keys_than_a_number_can_tell_apart():
    """Of 10,000 values in each of five or more columns, 10^20 keys could be made, above 2^63."""
    n = 10_000
    rows = pa.table({name: [f"{number:05d}" for number in range(n)] for name in KEYS["accuracy"]})
    assert distinct(rows, "accuracy").num_rows == n
    assert distinct(pa.concat_tables([rows, rows[n - 1 :]]), "accuracy").num_rows == n
