"""Numbers in place of a column's values: what is compared where rows go into the millions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def codes_of(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Give the distinct values of a column numbers: 0 is null, the first value is 1.

    Args:
        column: if it has dictionaries, they are unified.
    """
    if column.null_count == len(column):
        return np.zeros(len(column), dtype=np.int64)
    indices = pc.fill_null(dictionary_of(column).indices, -1)
    return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64) + 1


def dictionary_of(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return a column as places in a list of its distinct values."""
    return column.combine_chunks().dictionary_encode()
