"""Where texts stand in a list of texts: this joins rows and cells, be there millions of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def places_of(texts: pd.Series[str], known: Iterable[str]) -> NDArray[np.int64]:
    """Return the place of each text among those that are known; -1 where it is not.

    Args:
        texts: null is not known. Each text is looked up once where they are categories.
        known: each of them once.
    """
    ids = texts.astype("category")
    names = pa.array(ids.cat.categories, pa.string())
    found = pc.index_in(names, pa.array(list(known), pa.string())).fill_null(-1)
    return np.append(found.to_numpy(), -1)[ids.cat.codes.to_numpy()]  # the code of null is -1
