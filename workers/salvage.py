"""What stays of a merged file when a part of it is damaged or wrong: the rows of all other cells.

Without it, one bad bit would cost as many cells as there are in the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.compaction import packed
from workers.schemas import KEYS
from workers.storage import Storage
from workers.tables import DamagedTableError, check_columns, merged_name, read_file


def keep_sound_rows(storage: Storage, name: str) -> str | None:
    """Write what still reads of a damaged merged file, row group by row group, to another.

    Every page has a checksum, so that what reads is what was written. Where the file's footer is
    gone, as in one that is cut short, nothing can be read.

    Returns:
        The name of the new file; None where nothing is damaged, or nothing reads.

    Raises:
        StorageError: when the storage refuses.
    """
    table = name.partition("/")[0]
    data = storage.read(name)
    if merged_name(table, data) == name:
        return None
    groups = list(_sound_groups(data, table))
    return _write(storage, table, pa.concat_tables(groups)) if groups else None


def take_out(storage: Storage, name: str, owners: Collection[str]) -> None:
    """Move the rows of some cells out of a sound merged file, to `damaged/`.

    Args:
        storage: of the store.
        name: of the file.
        owners: the cells, or what the table's key begins with.

    Raises:
        DamagedTableError: when the file is not sound.
        FileNotFoundError: when it is not there.
        StorageError: when the storage refuses.
    """
    table = name.partition("/")[0]
    rows = read_file(storage, table, name)
    is_meant = pc.is_in(rows[KEYS[table][0]], pa.array(list(owners), pa.string()))
    kept = rows.filter(pc.invert(is_meant))
    if kept.num_rows:
        _write(storage, table, kept)
    data = packed(rows.filter(is_meant))
    aside = merged_name(table, data).replace("/", ".")
    storage.write(f"damaged/{aside}", data)
    storage.delete(name)


def _sound_groups(data: bytes, table: str) -> Iterator[pa.Table]:
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        check_columns(file.schema_arrow, table)
        n_groups = file.num_row_groups
    except (OSError, ValueError, pa.ArrowException, DamagedTableError):
        return
    for number in range(n_groups):
        try:
            yield file.read_row_group(number)
        except (OSError, ValueError, pa.ArrowException):
            continue


def _write(storage: Storage, table: str, rows: pa.Table) -> str:
    data = packed(rows)
    name = merged_name(table, data)
    storage.write(name, data)
    storage.flush_folder(table)
    return name
