"""A checkpoint that is cut short, changed or gone is made again, and changes no number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.embedded import cell_of, embedded_model
from workers.cell import Cell
from workers.job import Job, Site
from workers.run import execute
from workers.storage import Storage
from workers.store import CHECKPOINT, Store

Damage = Callable[[Path], object]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def change(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-4] ^= 64
    file.write_bytes(data)


def checkpoint(store: Store, cell: Cell) -> Path:
    return Path(store.storage.path(f"artifacts/{cell.cell_id}/{CHECKPOINT}"))


def counts(store: Store, cell: Cell) -> list[dict[str, object]]:
    columns = ["cell_id", "eval_dataset", "n_correct", "n_total", "loss"]
    rows: list[dict[str, object]] = store.scan("accuracy", columns).table.to_pylist()
    return [row for row in rows if row["cell_id"] == cell.cell_id]


@pytest.mark.parametrize("damage", [cut, change, Path.unlink])
def test_a_member_of_a_soup_that_is_lost_is_trained_again(
    digits_root: Path, tmp_path: Path, damage: Damage
) -> None:
    model = embedded_model("resnet_digits", digits_root)
    soup = cell_of("soup", model, members=("pretrained", "ft"))
    (member,) = (parent for parent in soup.parents if not parent.is_baseline)
    site = Site(store=str(tmp_path / "store"), data_root=str(digits_root))
    store = Store(site.store)

    assert execute(Job(member, ("val",)), site).ok
    assert execute(Job(soup, ("val",)), site).ok
    before = counts(store, soup), counts(store, member)
    whole = checkpoint(store, member).read_bytes()

    damage(checkpoint(store, member))
    checkpoint(store, soup).unlink()
    outcome = execute(Job(soup, ("val",), attempt=2), site)
    assert outcome.ok, outcome.traceback
    assert (counts(store, soup), counts(store, member)) == before
    assert checkpoint(store, member).read_bytes() == whole
    gone = damage is Path.unlink
    aside = [] if gone else [f"artifacts.{member.cell_id}.{CHECKPOINT}"]
    assert store.storage.names("damaged") == aside

    damage(checkpoint(store, member))  # its own, where an evaluation is asked for later
    assert execute(Job(member, ("v2",), attempt=2), site).ok
    assert checkpoint(store, member).read_bytes() == whole


def test_a_storage_that_damages_all_it_takes_is_not_trained_for_without_end(
    digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = embedded_model("resnet_digits", digits_root)
    soup = cell_of("soup", model, members=("pretrained", "ft"))
    site = Site(store=str(tmp_path / "store"), data_root=str(digits_root))
    write = Storage.write

    def short(self: Storage, name: str, data: bytes, flush: bool = True) -> None:
        write(self, name, data[:-1] if name.endswith(CHECKPOINT) else data, flush)

    monkeypatch.setattr(Storage, "write", short)
    outcome = execute(Job(soup, ("val",)), site)
    assert outcome.error == "storage"
    assert "is lost" in outcome.message
