"""What a store holds of each cell, summed up from the keys."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.committed import Committed
from workers.schemas import ACCURACY, KEYS

SCHEMA = pa.schema([ACCURACY.field(name) for name in KEYS["accuracy"]])

keys = st.tuples(
    st.sampled_from(["c1", "c2", "c3", "c4"]),
    st.sampled_from([None, None, 0, 1]),
    st.sampled_from(["val", "v2", "c"]),
    st.sampled_from([None, "fog", "blur"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([0.1, 1.0]),
    st.sampled_from([0, 1]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(keys, max_size=40))
def test_it_is_what_the_rows_say_one_by_one(rows: list[tuple[object, ...]]) -> None:
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, r, strict=True)) for r in rows], SCHEMA)
    expected: dict[str, dict[str, set[tuple[object, object]]]] = {}
    epochs: dict[str, dict[tuple[object, ...], set[tuple[object, object]]]] = {}
    for cell_id, epoch, eval_dataset, corruption, severity, *part in rows:
        if epoch is None:
            sets = expected.setdefault(str(cell_id), {})
            sets.setdefault(str(eval_dataset), set()).add((corruption, severity))
        else:
            of_cell = epochs.setdefault(str(cell_id), {})
            key = (eval_dataset, epoch, *part)
            of_cell.setdefault(key, set()).add((corruption, severity))
    found = Committed.of(table, ["c9"], ["accuracy/bad.parquet"], {"c1": {"val"}})
    assert found.splits == expected
    assert found.epochs == {
        cell_id: {key: len(splits) for key, splits in of_cell.items()}
        for cell_id, of_cell in epochs.items()
    }
    assert found.predictions == {"c1": {"val"}}
    assert found.checkpoints == {"c9"}
    assert found.damaged == ("accuracy/bad.parquet",)
    for cell_id, sets in expected.items():
        for name, splits in sets.items():
            assert found.has(cell_id, name, splits)
            assert not found.has(cell_id, name, [*splits, ("rain", 1)])
