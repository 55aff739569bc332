"""Leaderboards and matrices for programs: frames, and their CSV, JSON and Parquet.

Numbers have full precision; what is missing is an empty field or null.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.matrix import Matrix
from orchestrator.remarks import Remarks

_LISTS = ("missing_cells", "contaminated", "contaminated_cells")


def leaderboard_frame(board: pd.DataFrame, remarks: Remarks) -> pd.DataFrame:
    """Put the remarks beside a leaderboard.

    Returns:
        The leaderboard with the columns scoring, canary (each model's verdict) and
        contaminated_cells (the cells behind mRI, RI and ID whose accuracy is contaminated).
    """
    contaminated = pd.Series([remarks.contamination.pairs] * len(board), board.index, dtype=object)
    canary = board["model"].map(remarks.verdict)
    return board.assign(scoring=remarks.scoring, canary=canary, contaminated_cells=contaminated)


def matrix_frame(matrix: Matrix, remarks: Remarks) -> pd.DataFrame:
    """Put a matrix, its baseline, RI and the remarks in one frame.

    Returns:
        Columns model, method, downstream (missing for the baseline, which comes first), a column
        per evaluation set in percent, RI in points (missing for the baseline), contaminated (the
        sets whose accuracy in this row is), scoring and canary; then the limits of the interval of
        each number, and the standard deviation over seeds, as <number> low, high and sd.
    """
    sets = matrix.sets
    downstream = [None, *sets.ood]
    frame = pd.DataFrame({"model": matrix.model, "method": matrix.method, "downstream": downstream})
    frame[list(sets.names)] = np.vstack([matrix.baseline, matrix.accuracy])
    frame["RI"] = [np.nan, *(matrix.numbers[f"RI {name}"] for name in sets.ood)]
    frame["contaminated"] = [list(remarks.contamination.sets(name)) for name in downstream]
    frame["scoring"] = remarks.scoring
    frame["canary"] = remarks.verdict(matrix.model)
    limits = {
        "low": (matrix.baseline_low, matrix.low),
        "high": (matrix.baseline_high, matrix.high),
        "sd": (np.full(len(sets.names), np.nan), matrix.deviation),
    }
    beside = {
        f"{name} {limit}": np.append(before[k], tuned[:, k])
        for k, name in enumerate(sets.names)
        for limit, (before, tuned) in limits.items()
    }
    for limit in limits:
        values = (matrix.numbers[f"RI {name} {limit}"] for name in sets.ood)
        beside[f"RI {limit}"] = np.array([np.nan, *values])
    return pd.concat([frame, pd.DataFrame(beside)], axis=1)


def to_csv(frame: pd.DataFrame) -> str:
    """Write a frame as CSV; lists are joined with "; "."""
    flat = frame.copy()
    for name in flat.columns.intersection(list(_LISTS)):
        flat[name] = flat[name].map("; ".join)
    return flat.to_csv(index=False, lineterminator="\n")


def to_json(frame: pd.DataFrame) -> str:
    """Write a frame as a JSON list of records."""
    plain = frame.astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    return json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_parquet(frame: pd.DataFrame) -> bytes:
    """Write a frame as a Parquet file; lists stay lists of texts."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # Of a column without values pyarrow cannot tell the type.
    fields = [pa.field(field.name, _type(field), field.nullable) for field in table.schema]
    typed = table.cast(pa.schema(fields, table.schema.metadata))
    sink = pa.BufferOutputStream()
    pq.write_table(typed, sink, compression="zstd")
    return bytes(sink.getvalue())


def _type(field: pa.Field) -> pa.DataType:
    if field.name in _LISTS:
        return pa.list_(pa.string())
    return pa.string() if pa.types.is_null(field.type) else field.type
