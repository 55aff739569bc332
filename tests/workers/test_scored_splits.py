"""What is kept of splits: on a disk and in S3, nothing is lost, doubled or believed untrue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cells import row
from tests.s3 import CREDENTIALS, S3, serving
from workers.scored_splits import FOLDER, Place, ScoredSplits, spent
from workers.storage import Storage
from workers.store import Store

CELL = "c0ffee"
NAMES = ("n_correct", "n_total", "loss", "corruption", "severity", "eval_dataset", "cell_id")


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with serving() as found:
        yield found


@pytest.fixture(params=["disk", "s3"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "disk":
        return Storage(str(tmp_path))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    s3: S3 = request.getfixturevalue("server")
    s3.plan()
    return Storage(s3.uri(request.node.name.replace("[", "-").replace("]", "")))


def split(number: int, eval_dataset: str = "c", **other: Any) -> tuple[Place, dict[str, Any]]:
    made = row(CELL, eval_dataset, corruption="fog", severity=number, loss=0.1 * number, **other)
    return (eval_dataset, number), made


def shown(found: Any) -> dict[str, Any] | None:
    return None if found is None else {name: found[name] for name in NAMES}


def test_what_one_keeps_another_finds(storage: Storage) -> None:
    mine, others = ScoredSplits(storage, CELL), ScoredSplits(storage, CELL)
    mine.look()
    assert mine.claims == frozenset()
    others.claim(("c", 3), "cpu")
    others.keep([split(7)])
    mine.keep([split(0), split(1), split(0, "val")])
    mine.look()
    assert shown(mine.find(("c", 7))) == shown(split(7)[1])
    assert mine.find(("c", 3)) is None
    assert mine.claims == {("c", 3)}
    assert mine.claimed_on(("c", 3)) == "cpu"
    assert mine.claimed_on(("c", 4)) == ""
    others.look()
    for place, made in (split(0), split(1), split(0, "val")):
        assert shown(others.find(place)) == shown(made)

    mine.withdraw()
    assert not others.is_claimed(("c", 3))
    mine.clear()
    assert list(storage.walk(FOLDER)) == []


def test_cells_have_nothing_to_do_with_each_other(storage: Storage) -> None:
    mine, another = ScoredSplits(storage, CELL), ScoredSplits(storage, "another")
    mine.keep([split(1)])
    another.look()
    assert another.find(("c", 1)) is None
    another.clear()
    mine.look()
    assert mine.find(("c", 1)) is not None


def test_only_what_the_table_has_is_cleared_up(storage: Storage) -> None:
    store = Store(storage.uri)
    store.create("s", "1")
    kept = ScoredSplits(storage, CELL)
    kept.keep([split(1), split(2)])
    kept.keep([split(3)])
    kept.claim(("c", 4), "cpu")
    storage.write(f"{FOLDER}/{CELL}/c.0009.rows", b"nonsense")
    store.commit_accuracy(CELL, "c", [split(1)[1], split(3)[1]])
    folder = f"{FOLDER}/{CELL}"
    gone = {f"{folder}/c.0003.rows", f"{folder}/c.0004.claim", f"{folder}/c.0009.rows"}
    assert set(spent(storage)) == gone
    assert store.needs_sweeping
    store.sweep()
    assert list(storage.walk(FOLDER)) == [f"{folder}/c.0001.rows"]
    assert not store.needs_sweeping


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    groups=st.lists(
        st.lists(st.tuples(st.sampled_from(["val", "c", "my.set-1"]), st.integers(0, 74))),
        max_size=6,
    ),
)
def test_rows_come_back_as_they_were_and_no_flipped_bit_is_believed(
    data: st.DataObject, groups: list[list[Place]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    storage = Storage(str(tmp_path_factory.mktemp("splits")))
    kept = ScoredSplits(storage, CELL)
    expected: dict[Place, Any] = {}
    for group in groups:
        rows = [
            split(number, name, n_correct=len(expected)) for name, number in dict.fromkeys(group)
        ]
        rows = [one for one in rows if one[0] not in expected]
        if rows:
            kept.keep(rows)
            expected |= dict(rows)
    found = ScoredSplits(storage, CELL)
    found.look()
    for place, made in expected.items():
        assert shown(found.find(place)) == shown(made)
    if not expected:
        return
    path = Path(storage.path(data.draw(st.sampled_from(sorted(storage.walk(FOLDER))))))
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    again = ScoredSplits(storage, CELL)
    again.look()
    missing = [place for place in expected if again.find(place) is None]
    assert missing
    for place in expected.keys() - set(missing):
        assert shown(again.find(place)) == shown(expected[place])
