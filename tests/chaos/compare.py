"""Whether two stores hold the same, told with pandas from their files alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

KEYS = {
    "accuracy": ["cell_id", "epoch", "eval_dataset", "corruption", "severity"],
    "history": ["cell_id", "epoch"],
}
CIRCUMSTANCES = {
    "accuracy": ["attempt", "started_at", "finished_at", "git_commit", "ray_version"],
    "history": ["seconds", "finished_at"],
}
"""Columns that say when, where and by what a row was made; all others have to be equal."""


@dataclass
class Comparison:
    """What a store has in common with the undisturbed run's, and what not."""

    rows: int = 0
    """Accuracy rows that were compared."""
    epochs: int = 0
    """Rows of the training history that were compared."""
    checkpoints: int = 0
    """Files of weights that were compared, byte by byte."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Rows that the undisturbed run does not have."""
    different: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.foreign, *self.different]

    def add(self, other: Comparison) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def compare(store: Path, undisturbed: Path) -> Comparison:
    """Compare every row and every checkpoint of a store with an undisturbed run's."""
    found = Comparison()
    found.rows = _compare_table("accuracy", store, undisturbed, found)
    found.epochs = _compare_table("history", store, undisturbed, found)
    for path in sorted(undisturbed.glob("artifacts/*/model.safetensors")):
        name = path.relative_to(undisturbed)
        if not (store / name).exists():
            _note_missing_checkpoint(store, name, found)
            continue
        found.checkpoints += 1
        if _digest(path) != _digest(store / name):
            found.different.append(f"{name}: other weights")
    return found


def tries(store: Path) -> pd.DataFrame:
    """Return a store's tries at cells; of files that do not read, none."""
    rows = []
    for path in sorted((store / "attempts").glob("*.parquet")):
        try:
            rows.append(pd.read_parquet(path))
        except (OSError, ValueError):
            continue
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame({"cell_id": []})


def _compare_table(table: str, store: Path, undisturbed: Path, found: Comparison) -> int:
    keys = KEYS[table]
    ours, theirs = _rows(store / table, keys), _rows(undisturbed / table, keys)
    assert theirs.index.is_unique
    assert len(theirs)
    for where, rows in (
        (found.doubled, ours[ours.index.duplicated()]),
        (found.lost, theirs[~theirs.index.isin(ours.index)]),
        (found.foreign, ours[~ours.index.isin(theirs.index)]),
    ):
        where.extend(f"{table} {key}" for key in rows.index)
    both = ours[~ours.index.duplicated() & ours.index.isin(theirs.index)]
    expected = theirs.loc[both.index]
    for column in theirs.columns.difference(CIRCUMSTANCES[table]):
        are_null = both[column].isna() & expected[column].isna()
        is_equal = (both[column] == expected[column]).fillna(False) | are_null
        found.different.extend(
            f"{table} {key}: {column} is {both.at[key, column]!r}, "
            f"undisturbed {expected.at[key, column]!r}"
            for key in both.index[~is_equal.astype(bool)]
        )
    return len(both)


def _rows(folder: Path, keys: list[str]) -> pd.DataFrame:
    """Read every row of every file of a table, those with the same key included."""
    files = sorted(folder.glob("*.parquet"))
    # Types that have nulls: an integer column is one of integers in every file.
    frames = [pd.read_parquet(path, dtype_backend="numpy_nullable") for path in files]
    rows = pd.concat(frames, ignore_index=True)
    texts = (rows[key].astype("string").fillna("") for key in keys)
    return rows.set_index(pd.Index([" ".join(key) for key in zip(*texts, strict=True)]))


def _note_missing_checkpoint(store: Path, name: Path, found: Comparison) -> None:
    """A checkpoint that was damaged, and that nothing needs any more, is not made again."""
    if not (store / "damaged" / str(name).replace("/", ".")).exists():
        found.lost.append(f"{name}: gone")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
