"""Where accuracies come from: the store's counts, or a published table.

Both give the frame that `orchestrator.reduce` ranks, with one row per value:

- `model`: label of the pre-trained model
- `method`: how it was fine-tuned; `pretrained` is the baseline
- `seed`: integer; a baseline counts for every seed of its model
- `downstream`: the set it was fine-tuned on; missing for the baseline
- `eval_dataset`: the set it was evaluated on
- `accuracy`: top-1 accuracy in percent
"""

from __future__ import annotations

import csv
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from orchestrator.mixtures import mixtures
from workers.errors import Problem, UserError, nearest

BASELINE = "pretrained"
CELL = ["model", "method", "seed", "downstream"]
KEY = [*CELL, "eval_dataset"]
ACCURACY_COLUMNS = [*KEY, "accuracy"]

_TYPES = dict.fromkeys(KEY, "str") | {"seed": "int64"}

Splits = Mapping[str, Sequence[tuple[str | None, int | None]]]
"""The (corruption, severity) pairs that each set must have; [(None, None)] for a plain set."""

Scoring = Literal["masked", "unmasked"]
"""Whether the arg-max is over the set's own classes or over the whole label space."""

_SPLIT = ["eval_dataset", "corruption", "severity"]
_CORRECT: dict[Scoring, str] = {"masked": "n_correct", "unmasked": "n_correct_unmasked"}
_COUNTS = [*_CORRECT.values(), "n_total"]
_NO_SEVERITY = -1

_REQUIRED = ["method", "downstream", "eval_dataset", "accuracy_percent"]
_OPTIONAL = ["model", "seed"]


class ConflictingRows(ValueError):  # noqa: N818
    """Two rows claim different values for one key, so neither can be trusted."""


def accuracies_from_rows(
    rows: pd.DataFrame,
    splits: Splits,
    scoring: Scoring = "masked",
    *,
    mixed_data: bool = False,
) -> pd.DataFrame:
    """Reduce the store's final rows to one accuracy per cell and evaluation set.

    A split's accuracy is 100 * correct / total. A set with corruptions is the mean over the
    severities of each corruption, then over the corruptions. A set that lacks any split of
    `splits` gives no accuracy (see `missing_splits`), never a shorter mean. Rows of sets and
    splits that `splits` does not name are left out.

    Args:
        rows: of the store's accuracy table.
        splits: what each set's accuracy is made of.
        scoring: which counts of correct predictions are meant.
        mixed_data: take rows together that are of different copies of a set, or of different
            weights of a model.

    Returns:
        Accuracies in percent, sorted by key.

    Raises:
        UserError: rows are mixed and `mixed_data` does not allow it (see `orchestrator.mixtures`).
        ConflictingRows: rows of one key differ in their counts, or come from several cells.
        ValueError: a count is missing or outside 0..n_total, or n_total is 0.
    """
    if not mixed_data and (mixed := mixtures(rows[rows["epoch"].isna()], splits)):
        raise UserError(mixed)
    counted = _final_counts(rows)
    correct = counted[_CORRECT[scoring]]
    _check_counts(counted, correct)
    counted["accuracy"] = 100.0 * correct.astype("float64") / counted["n_total"]

    wanted = _split_table(splits)
    # In the order of `splits`, so that a mean does not depend on the order of the rows.
    scored = counted.drop(columns=_COUNTS).merge(wanted, on=_SPLIT)
    scored = scored.sort_values("position", kind="stable")
    corruptions = scored.groupby([*KEY, "corruption"], as_index=False, sort=False)
    per_corruption = corruptions.agg(accuracy=("accuracy", "mean"), n=("accuracy", "size"))
    sets = per_corruption.groupby(KEY, as_index=False)
    per_set = sets.agg(accuracy=("accuracy", "mean"), n=("n", "sum"))
    n_wanted = per_set["eval_dataset"].map(wanted["eval_dataset"].value_counts())
    complete = per_set[per_set["n"] == n_wanted]
    return _with_missing_values(complete[ACCURACY_COLUMNS].reset_index(drop=True))


def missing_splits(rows: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """List the splits that a cell with at least one final row still lacks.

    Returns:
        Columns model, method, seed, downstream, eval_dataset, corruption, severity: one row per
        missing split, in the order of `splits` within a cell.

    Raises:
        ConflictingRows: as `accuracies_from_rows`.
    """
    counted = _final_counts(rows)
    cells = counted[CELL].drop_duplicates().sort_values(CELL)
    every = cells.merge(_split_table(splits), how="cross")
    found = every.merge(counted[[*CELL, *_SPLIT]], how="left", indicator="found")
    missing = found.loc[found["found"] == "left_only", [*CELL, *_SPLIT]]
    return _with_missing_values(missing.reset_index(drop=True))


def read_accuracies(path: str | Path) -> pd.DataFrame:
    """Read a published table: CSV, or Parquet where the name ends in `.parquet`.

    Columns method, downstream (empty for `pretrained`), eval_dataset and accuracy_percent, and
    perhaps model (default: the file's name without its ending) and seed (default: 0); others are
    ignored. A value that is not known has no row.

    Returns:
        Accuracies in percent, in the file's order, each key once.

    Raises:
        UserError: the file cannot be read or used, with every problem and its line or row.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError([Problem(str(path), "is not a file")])
    table, problems = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    _check_columns(table, path)
    table["accuracy"] = table["accuracy_percent"].map(_number)
    problems += _row_problems(table)
    if 0 < table["accuracy"].max() <= 1:
        hint = "multiply fractions by 100"
        problems.append(Problem(str(path), "no accuracy_percent is above 1", hint))
    if problems:
        raise UserError(problems)
    table["seed"] = table["seed"].map(_number)
    accuracies = table[ACCURACY_COLUMNS].astype(_TYPES).drop_duplicates(ignore_index=True)
    return _with_missing_values(accuracies)


def unique_rows(frame: pd.DataFrame, key: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Drop repeated rows; what is left has each key once.

    Raises:
        ConflictingRows: rows of one key differ in `values`. The message names the first such key.
    """
    distinct = frame.drop_duplicates([*key, *values])
    clashes = distinct[distinct.duplicated(list(key), keep=False)]
    if clashes.empty:
        return distinct
    first = distinct.merge(clashes[list(key)].head(1), on=list(key))
    claims = " and ".join(_pairs(row) for row in first[list(values)].to_dict("records"))
    raise ConflictingRows(f"{_pairs(first[list(key)].iloc[0].to_dict())} has both {claims}")


def _final_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Take the rows after the last epoch, each split once; "" and -1 stand for null."""
    final = rows.loc[rows["epoch"].isna(), [*CELL, "cell_id", *_SPLIT, *_COUNTS]].copy()
    for column in ("downstream", "corruption"):
        final[column] = final[column].astype(object).fillna("")
    final["severity"] = final["severity"].fillna(_NO_SEVERITY)
    final = final.astype(_TYPES | {"corruption": "str", "severity": "int64"})
    unique_rows(final, CELL, ["cell_id"])
    return unique_rows(final.drop(columns="cell_id"), [*CELL, *_SPLIT], _COUNTS)


def _check_counts(counted: pd.DataFrame, correct: pd.Series) -> None:
    total = counted["n_total"]
    sound = (total > 0) & (correct >= 0) & (correct <= total)
    bad = counted[~sound.fillna(False).astype(bool)]
    if not bad.empty:
        where = _pairs(bad[[*CELL, *_SPLIT]].iloc[0].to_dict())
        raise ValueError(
            f"{len(bad)} rows have impossible counts, the first of them {where}: "
            f"{correct[bad.index[0]]} correct of {total[bad.index[0]]}"
        )


def _split_table(splits: Splits) -> pd.DataFrame:
    """List the wanted splits, each once, as the columns of _SPLIT and their position."""
    listed = [
        (name, corruption or "", _NO_SEVERITY if severity is None else severity)
        for name, pairs in splits.items()
        for corruption, severity in dict.fromkeys(pairs)
    ]
    return pd.DataFrame(listed, columns=_SPLIT).assign(position=range(len(listed)))


def _with_missing_values(frame: pd.DataFrame) -> pd.DataFrame:
    """Undo the "" and -1 of `_final_counts`."""
    restored = frame.copy()
    for column in restored.columns.intersection(["downstream", "corruption"]):
        restored[column] = restored[column].mask(restored[column] == "")
    if "severity" in restored:
        severity = restored["severity"].astype("Int64")
        restored["severity"] = severity.mask(severity == _NO_SEVERITY)
    return restored


def _pairs(record: Mapping[Hashable, Any]) -> str:
    """Write a row as "name=value, ..." without its nulls."""
    return ", ".join(
        f"{name}={value}"
        for name, value in record.items()
        if pd.notna(value) and value not in ("", _NO_SEVERITY)
    )


def _read_csv(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Read every field as text, indexed by where it stands; report rows of the wrong length."""
    rows: dict[str, list[str]] = {}
    problems: list[Problem] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for fields in reader:
                where = f"{path}, line {reader.line_num}"
                if len(fields) == len(header):
                    rows[where] = [field.strip() for field in fields]
                elif fields:
                    message = f"{len(fields)} values under {len(header)} columns"
                    problems.append(Problem(where, message))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, "CSV in UTF-8", error) from error
    return pd.DataFrame.from_dict(rows, orient="index", columns=header, dtype=object), problems


def _read_parquet(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Read every value as text, indexed by where it stands; "" for null."""
    try:
        table = pd.read_parquet(path).astype(object)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise _unreadable(path, "Parquet", error) from error
    text = table.where(table.notna(), "").astype(str).apply(lambda column: column.str.strip())
    return text.set_axis([f"{path}, row {n}" for n in range(1, len(text) + 1)]), []


def _unreadable(path: Path, kind: str, error: Exception) -> UserError:
    return UserError([Problem(str(path), f"cannot be read as {kind}: {error}")])


def _check_columns(table: pd.DataFrame, path: Path) -> None:
    """Require the columns that every table has, and fill in those that it may lack."""
    found = [str(name) for name in table.columns]
    problems = [
        Problem(str(path), f"no column {name!r}", nearest(name, found))
        for name in _REQUIRED
        if name not in found
    ] + [
        Problem(str(path), f"{found.count(name)} columns are named {name!r}")
        for name in [*_REQUIRED, *_OPTIONAL]
        if found.count(name) > 1
    ]
    if table.empty and not problems:
        problems = [Problem(str(path), "no row can be read")]
    if problems:
        raise UserError(problems)
    if "model" not in found:
        table["model"] = path.stem
    if "seed" not in found:
        table["seed"] = "0"
    table["seed"] = table["seed"].mask((table["seed"] == "") & (table["method"] == BASELINE), "0")


def _row_problems(table: pd.DataFrame) -> Iterator[Problem]:
    first: dict[tuple[str, ...], tuple[str, float]] = {}
    for where, row in zip(table.index, table.to_dict("records"), strict=True):
        for name in ("model", "method", "eval_dataset"):
            if not row[name]:
                yield Problem(where, f"{name} is empty")
        if row["method"] == BASELINE and row["downstream"]:
            message = f"{BASELINE} has downstream {row['downstream']!r}"
            yield Problem(where, message, "the baseline is fine-tuned on nothing: leave it empty")
        if row["method"] not in ("", BASELINE) and not row["downstream"]:
            hint = f"only {BASELINE} has none"
            yield Problem(where, f"method {row['method']!r} has no downstream", hint)
        if not _number(row["seed"]).is_integer():
            yield Problem(where, f"seed {row['seed']!r} is not an integer")
        if not 0 <= row["accuracy"] <= 100:
            hint = "a number from 0 to 100; leave the row out where there is none"
            yield Problem(where, f"accuracy_percent is {row['accuracy_percent']!r}", hint)
            continue
        seed = "" if row["method"] == BASELINE else row["seed"]
        key = (row["model"], row["method"], seed, row["downstream"], row["eval_dataset"])
        line, accuracy = first.setdefault(key, (where, row["accuracy"]))
        if accuracy != row["accuracy"]:
            yield Problem(where, f"{row['accuracy']:g} contradicts {accuracy:g} at {line}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
