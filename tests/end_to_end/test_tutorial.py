"""The tutorial, as it is written: its files are made, its commands are run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def run(command: str, folder: Path) -> str:
    """Run a line of the page with this interpreter and this project's `rib`."""
    words = shlex.split(command)
    program = {"python": [sys.executable], "rib": [sys.executable, "-m", "orchestrator.cli"]}
    path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*program[words[0]], *words[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    said = {}
    for language, title, text in BLOCK.findall(PAGE):
        if title:
            path = tmp_path / title
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif language == "sh":
            said |= {line: run(line, tmp_path) for line in text.strip().splitlines()}
    assert (
        "12 of 12" in said["rib plan shapes-grid.yaml"] or "10" in said["rib plan shapes-grid.yaml"]
    )
    board = said["rib run shapes-grid.yaml"]
    assert all(name in board for name in ("ft", "confidence-penalty", "soup"))
    rows = pd.read_parquet(tmp_path / "runs" / "shapes" / "accuracy")
    assert len(rows) == (1 + 3 * 3) * 4  # a baseline and 3 methods x 3 sets, each on 4 sets
    assert rows["n_total"].eq(120).all()
    before = rows[(rows.method == "pretrained") & (rows.eval_dataset == "val")]
    assert before["n_correct"].item() > 100, "the pre-trained model has learnt nothing"
