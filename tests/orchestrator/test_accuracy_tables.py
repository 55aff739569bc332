"""Published tables of accuracies: no guessed value, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from orchestrator.accuracies import ACCURACY_COLUMNS
from orchestrator.accuracy_tables import read_accuracies
from workers.errors import UserError

HEADER = "method,downstream,eval_dataset,accuracy_percent\n"


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, name: str = "paper.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path) -> list[str]:
    with pytest.raises(UserError) as raised:
        read_accuracies(path)
    return [str(problem).replace(f"{path}", path.name) for problem in raised.value.problems]


def test_a_table_without_model_and_seed(table):
    frame = read_accuracies(table(HEADER + "pretrained,,id,80\nft,a,b,70.25\n"))
    assert list(frame.columns) == ACCURACY_COLUMNS
    assert frame["model"].tolist() == ["paper", "paper"]
    assert frame["seed"].tolist() == [0, 0]
    assert frame["downstream"].isna().tolist() == [True, False]
    assert frame["accuracy"].tolist() == [80.0, 70.25]


def test_model_and_seed_are_read_and_other_columns_ignored(table):
    frame = read_accuracies(
        table(
            "\ufeffseed, note ,model,method,downstream,eval_dataset,accuracy_percent\r\n"
            ",as it came,vit,pretrained,,id, 80 \r\n"
            "\r\n"
            '1,"a\nnote",vit,NA,nan,null,70\r\n'
        )
    )
    assert frame["seed"].tolist() == [0, 1]
    assert frame.iloc[1].tolist() == ["vit", "NA", 1, "nan", "null", 70.0]


def test_repeated_rows_count_once(table):
    assert len(read_accuracies(table(HEADER + "ft,a,b,70\nft,a,b,70.0\n"))) == 1


def test_parquet_reads_like_csv(tmp_path, table):
    csv = table(HEADER + "pretrained,,id,79.2\nft,a,b,70.3\n")
    parquet = tmp_path / "paper.parquet"
    pd.read_csv(csv).to_parquet(parquet)
    pd.testing.assert_frame_equal(read_accuracies(parquet), read_accuracies(csv), check_exact=True)


def test_parquet_rows_are_named(tmp_path):
    path = tmp_path / "paper.parquet"
    frame = pd.DataFrame({"method": ["ft"], "downstream": [None], "eval_dataset": ["b"]})
    frame.assign(accuracy_percent=float("nan")).to_parquet(path)
    assert problems(path) == [
        "paper.parquet, row 1: method 'ft' has no downstream (only pretrained has none)",
        "paper.parquet, row 1: accuracy_percent is '' "
        "(a number from 0 to 100; leave the row out where there is none)",
    ]


def test_every_problem_is_reported_at_once_with_its_line(table):
    path = table(
        "model,seed," + HEADER + "vit,0,pretrained,a,id,80\n"
        "vit,0,ft,,b,70\n"
        "\n"
        "vit,0,,a,b,71\n"
        "vit,0,ft,a,,72\n"
        ",0,ft,a,b,73\n"
        "vit,x,ft,a,b,74\n"
        "vit,0.5,ft,a,b,75\n"
        "vit,0,ft,a,b,79%\n"
        "vit,0,ft,a,b,\n"
        "vit,0,ft,a,b,100.1\n"
        "vit,0,ft,a,b,-1\n"
        "vit,0,ft,a,b,nan\n"
        "vit,0,ft,a,b,79,2\n"
        "vit,0,ft,a,b,70\n"
        "vit,0,ft,a,b,71\n"
    )
    hint = "(a number from 0 to 100; leave the row out where there is none)"
    assert problems(path) == [
        "paper.csv, line 15: 7 values under 6 columns",
        "paper.csv, line 2: pretrained has downstream 'a' "
        "(the baseline is fine-tuned on nothing: leave it empty)",
        "paper.csv, line 3: method 'ft' has no downstream (only pretrained has none)",
        "paper.csv, line 5: method is empty",
        "paper.csv, line 6: eval_dataset is empty",
        "paper.csv, line 7: model is empty",
        "paper.csv, line 8: seed 'x' is not an integer",
        "paper.csv, line 9: seed '0.5' is not an integer",
        f"paper.csv, line 10: accuracy_percent is '79%' {hint}",
        f"paper.csv, line 11: accuracy_percent is '' {hint}",
        f"paper.csv, line 12: accuracy_percent is '100.1' {hint}",
        f"paper.csv, line 13: accuracy_percent is '-1' {hint}",
        f"paper.csv, line 14: accuracy_percent is 'nan' {hint}",
        "paper.csv, line 17: 71 contradicts 70 at paper.csv, line 16",
    ]


def test_baselines_of_two_seeds_must_agree(table):
    path = table("seed," + HEADER + "0,pretrained,,id,80\n1,pretrained,,id,81\n")
    assert problems(path) == ["paper.csv, line 3: 81 contradicts 80 at paper.csv, line 2"]


def test_fractions_are_not_percents(table):
    path = table(HEADER + "pretrained,,id,0.80\nft,a,b,1.0\n")
    assert problems(path) == [
        "paper.csv: no accuracy_percent is above 1 (multiply fractions by 100)"
    ]


def test_missing_columns_are_all_named(table):
    assert problems(table("method,accuracy,eval_set\nft,1,a\n")) == [
        "paper.csv: no column 'downstream' (allowed: accuracy, eval_set, method)",
        "paper.csv: no column 'eval_dataset' (did you mean 'eval_set'?)",
        "paper.csv: no column 'accuracy_percent' (did you mean 'accuracy'?)",
    ]


def test_a_column_named_twice_is_ambiguous(table):
    header = HEADER.replace("\n", ",accuracy_percent\n")
    assert problems(table(header + "ft,a,b,1,2\n")) == [
        "paper.csv: 2 columns are named 'accuracy_percent'"
    ]


@pytest.mark.parametrize("text", ["", HEADER])
def test_an_empty_table_is_a_problem(table, text):
    assert problems(table(text))


@pytest.mark.parametrize("name", ["absent.csv", "absent.parquet", "folder.csv", "folder.parquet"])
def test_a_file_that_is_not_there(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.parquet").mkdir()
    (problem,) = problems(tmp_path / name)
    assert problem.startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["broken.csv", "broken.parquet"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'method,"\n', b"PAR1 and no more"])
def test_a_file_that_is_something_else(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert all(problem.startswith(f"{name}: ") for problem in problems(path))
