"""Published tables of accuracies: CSV or Parquet, with every mistake and its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from orchestrator.accuracies import ACCURACY_COLUMNS, BASELINE, KEY
from workers.errors import Problem, UserError, nearest

_TYPES = dict.fromkeys(KEY, "str") | {"seed": "int64"}
_REQUIRED = ["method", "downstream", "eval_dataset", "accuracy_percent"]
_OPTIONAL = ["model", "seed"]


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
    accuracies["downstream"] = accuracies["downstream"].mask(accuracies["downstream"] == "")
    return accuracies


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
