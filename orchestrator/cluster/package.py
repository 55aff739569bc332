"""What is sent to a cluster with a job: the grid file, and this project's code if asked for."""

from __future__ import annotations

import importlib.metadata
import re
import secrets
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from orchestrator.cluster.facts import PROJECT
from orchestrator.extensions import is_path
from orchestrator.grid_file import GridFile, parse_grid_file
from orchestrator.yaml_source import Document, Location, read_yaml
from workers.errors import Problem, UserError
from workers.paths import differs_by_machine

GRID, DISTRIBUTION = "grid.yaml", "rib-orchestrator"


def read_for_elsewhere(path: Path, store: str | None) -> GridFile:
    """Read a grid that is run on another machine, where its paths mean something.

    Its keys, types and ranges are checked here, the rest where it runs.

    Raises:
        UserError: with every problem found.
    """
    document = read_yaml(path)
    file, problems = parse_grid_file(document)
    problems += _homeless(file, store, document)
    if problems:
        raise UserError(problems)
    return file


def _homeless(file: GridFile, store: str | None, document: Document) -> list[Problem]:
    """Name the paths that would be looked for in the job's own folder, which goes when it ends."""
    written: dict[Location, str | None] = {
        ("data_root",): file.data_root,
        ("data_manifest",): file.data_manifest,
    }
    for index, model in enumerate(file.models or ()):
        written["models", index, "weights"] = model.weights
    if isinstance(file.suite, str) and is_path(file.suite):
        written["suite",] = file.suite
    for index, entry in enumerate(file.method_files):
        written["method_files", index] = entry.path
    places = {document.where(key): path for key, path in written.items() if path is not None}
    if store is None:
        places[document.where(("store",))] = file.store or f"runs/{file.name}"
    else:
        places["--store"] = store
    hint = "name a folder that every node has or sees, such as ${RIB_DATA}/x, or an s3://..."
    return [
        Problem(where, f"{path!r} is relative to a folder of this machine", hint)
        for where, path in places.items()
        if not (path.startswith("/") or "://" in path or differs_by_machine(path))
    ]


def pack(grid: Path, folder: Path, with_code: bool) -> None:
    """Put what is sent into a folder.

    The code goes with what says its version, so that rows carry the version that made them.
    """
    shutil.copy(grid, folder / GRID)
    if not with_code:
        return
    top = Path(__file__).resolve().parents[2]
    for package in PROJECT:
        shutil.copytree(
            top / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    metadata = importlib.metadata.distribution(DISTRIBUTION)
    about = folder / f"{DISTRIBUTION.replace('-', '_')}-{metadata.version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(metadata.read_text("METADATA") or "")


def entrypoint(options: Sequence[str], with_code: bool) -> str:
    """Return the command of a job."""
    rib = ["python", "-m", "orchestrator"] if with_code else ["rib"]
    return shlex.join([*rib, "run", GRID, "--address", "auto", *options])


def job_id_of(name: str) -> str:
    """Return an id for a job that runs a grid of some name."""
    return f"rib-{re.sub('[^A-Za-z0-9_-]', '-', name)[:40]}-{secrets.token_hex(4)}"
