"""`rib export`: read back with each tool's own reader; twice is once; and nothing leaves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.export import EXPORTERS, export, model_cards, tensorboard
from orchestrator.export.cells import ExportedCell, read_source, slug
from tests.orchestrator.rib import rib
from tests.stores import SUITE, counts, drawn_store
from workers.cell import Cell
from workers.store import CHECKPOINT, Store

Capture = pytest.CaptureFixture[str]

GRID = """
name: exported
suite: digits-rib
data_root: {root}
models: [resnet_digits]
downstream: [a, c]
methods: [ft]
recipe: {{warmup_steps: 1, epochs: 2, batch_size: 64, precision: fp32}}
"""


@pytest.fixture(scope="module")
def store(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A baseline and two fine-tuned cells, of which one has its checkpoint."""
    store = drawn_store(tmp_path_factory.mktemp("drawn") / "store", digits_root, GRID)
    source = read_source(store)
    store.save_artifact(source.cells[1].cell.cell_id, CHECKPOINT, b"weights")
    return store


@pytest.fixture
def cells(store: Store) -> tuple[ExportedCell, ...]:
    return read_source(store).cells


@pytest.fixture
def unfinished(store: Store, tmp_path: Path) -> Store:
    """The same, where the last cell lacks a split of one set and the first has no row at all."""
    other = Store(str(shutil.copytree(store.uri, tmp_path / "unfinished")))
    first, _, last = (one.cell.cell_id for one in read_source(store).cells)
    path = Path(other.storage.path(f"accuracy/{last}.parquet"))
    rows = pq.read_table(path)
    is_gone = pa.compute.equal(rows["eval_dataset"], "v2")
    pq.write_table(rows.filter(pa.compute.invert(is_gone)), path)
    other.storage.delete(f"accuracy/{first}.parquet")
    return other


def percent(cell: Cell, name: str) -> float:
    by_corruption: dict[str | None, list[float]] = {}
    for corruption, severity in SUITE.splits()[name]:
        drawn = counts(cell, f"{name}{corruption}{severity}")
        share = 100 * drawn["n_correct"] / drawn["n_total"]
        by_corruption.setdefault(corruption, []).append(share)
    means = [sum(values) / len(values) for values in by_corruption.values()]
    return sum(means) / len(means)


# ---------------------------------------------------------------------- what exporters are given


def test_cells_have_their_results(cells: tuple[ExportedCell, ...]) -> None:
    baseline, tuned, other = cells
    assert [one.is_complete for one in cells] == [True, True, True]
    assert [one.has_checkpoint for one in cells] == [False, True, False]
    assert baseline.cell.is_baseline
    for one in cells:
        assert one.accuracies == pytest.approx({n: percent(one.cell, n) for n in SUITE.splits()})
        assert one.before == baseline.accuracies
        assert set(one.unmasked) == set(SUITE.splits())
    drawn = [counts(tuned.cell, f"val{e}") for e in (1, 2)]
    shares = {e + 1: 100 * d["n_correct"] / d["n_total"] for e, d in enumerate(drawn)}
    assert tuned.curves == {e: {"val": pytest.approx(share)} for e, share in shares.items()}
    assert [row["epoch"] for row in other.training] == [1, 2]
    assert other.contaminated == ("val", "cartoon", "drawing")
    assert tuned.contaminated == ()
    assert tuned.provenance["device"] == "cpu"
    assert tuned.provenance["dataset_digest.val"] == SUITE.name
    assert tuned.settings["recipe.epochs"] == 2
    assert tuned.settings["downstream"] == "a"


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "/abs", "..", "", "a/b\\c", "x\n\x1b[2J", "ä" * 300, "-rf", ".hid"]
)
def test_names_of_folders_are_safe(
    text: str, cells: tuple[ExportedCell, ...], tmp_path: Path
) -> None:
    hostile = replace(
        cells[1], cell=replace(cells[1].cell, model=replace(cells[1].cell.model, name=text))
    )
    folder = tmp_path / hostile.folder
    assert folder.resolve().parent == tmp_path.resolve()
    assert not hostile.folder.startswith((".", "-"))
    assert len(hostile.folder) < 120
    assert hostile.folder != cells[1].folder
    assert "/" not in slug(text)
    folder.mkdir()


# ---------------------------------------------------------------------- TensorBoard


def events_of(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def test_tensorboard(store: Store, cells: tuple[ExportedCell, ...], tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    for _ in range(2):
        assert rib("export", store.uri, "--to", "tensorboard", "--out", tmp_path / "tb") == 0
    assert sorted(p.name for p in (tmp_path / "tb").iterdir()) == sorted(c.folder for c in cells)
    for one in cells:
        (file,) = (tmp_path / "tb" / one.folder).iterdir()
        events = events_of(file)
        for name in SUITE.splits():
            (value,) = events.Scalars(f"accuracy/{name}")
            assert value.value == pytest.approx(percent(one.cell, name), rel=1e-6)
    events = events_of(tmp_path / "tb" / cells[1].folder)
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1.0), (2, 0.5)]
    assert [e.step for e in events.Scalars("curve/val")] == [1, 2]
    assert events.Scalars("train/accuracy")[0].value == pytest.approx(51.0)
    gain = percent(cells[1].cell, "v2") - percent(cells[0].cell, "v2")
    assert events.Scalars("gain/v2")[0].value == pytest.approx(gain, rel=1e-5)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["method"].string_value == "ft"
    assert settings["recipe.epochs"].number_value == 2
    assert settings["seed"].number_value == 0


# ---------------------------------------------------------------------- Weights & Biases


def records_of(path: Path) -> Iterator[Any]:
    """Read a run's file: LevelDB's log format, of wandb's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # a block's rest is too short for a header
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full, or the last part
            yield Record.FromString(parts)
            parts = b""


def key_of(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def test_weights_and_biases(store: Store, cells: tuple[ExportedCell, ...], tmp_path: Path) -> None:
    out = tmp_path / "wb"
    for _ in range(2):
        assert rib("export", store.uri, "--to", "wandb", "--out", out) == 0
    runs = sorted(out.iterdir())
    assert [run.name for run in runs] == sorted(f"offline-run-{c.cell.cell_id}" for c in cells)
    for one in cells:
        (file,) = (out / f"offline-run-{one.cell.cell_id}").glob("*.wandb")
        records = list(records_of(file))
        (run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
        assert (run.run_id, run.project) == (one.cell.cell_id, "exported")
        assert run.display_name == str(one.cell)
        config = {u.key: json.loads(u.value_json) for u in run.config.update}
        assert config["method"] == one.cell.label
        assert config["seed"] == 0
        summary = {
            key_of(u): json.loads(u.value_json)
            for r in records
            if r.WhichOneof("record_type") == "summary"
            for u in r.summary.update
        }
        for name in SUITE.splits():
            assert summary[f"accuracy/{name}"] == pytest.approx(percent(one.cell, name))
        history = [
            {key_of(i): json.loads(i.value_json) for i in r.history.item}
            for r in records
            if r.WhichOneof("record_type") == "history"
        ]
        losses = {h["_step"]: h["train/loss"] for h in history if "train/loss" in h}
        assert losses == ({} if one.cell.is_baseline else {1: 1.0, 2: 0.5})


# ---------------------------------------------------------------------- MLflow


@pytest.fixture(scope="module")
def mlflow_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: making MLflow's tables takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


def test_mlflow(store: Store, cells: tuple[ExportedCell, ...], mlflow_out: Path) -> None:
    out = mlflow_out
    for _ in range(2):
        assert rib("export", store.uri, "--to", "mlflow", "--out", out) == 0
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("exported")
    runs = {
        run.data.tags["rib.cell_id"]: run for run in client.search_runs([experiment.experiment_id])
    }
    assert len(runs) == len(client.search_runs([experiment.experiment_id])) == len(cells)
    for one in cells:
        run = runs[one.cell.cell_id]
        assert run.info.run_name == str(one.cell)
        assert run.info.status == "FINISHED"
        assert run.data.params["method"] == one.cell.label
        for name in SUITE.splits():
            assert run.data.metrics[f"accuracy/{name}"] == pytest.approx(percent(one.cell, name))
    history = client.get_metric_history(runs[cells[1].cell.cell_id].info.run_id, "train/loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 1.0), (2, 0.5)]
    assert runs[cells[2].cell.cell_id].data.tags["contaminated"] == "val, cartoon, drawing"


# ---------------------------------------------------------------------- model cards


def test_model_cards(store: Store, cells: tuple[ExportedCell, ...], tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    out = tmp_path / "cards"
    for _ in range(2):
        assert rib("export", store.uri, "--to", "model-card", "--out", out) == 0
    (folder,) = out.iterdir()  # one cell has a checkpoint
    one = cells[1]
    assert folder.name == one.folder
    card = ModelCard.load(folder / "README.md")
    assert card.data.model_name == str(one.cell)
    assert card.data.library_name == "timm"
    assert {r.dataset_type: r.metric_value for r in card.data.eval_results} == pytest.approx(
        {name: percent(one.cell, name) for name in SUITE.splits()}, abs=1e-4
    )
    assert {r.task_type for r in card.data.eval_results} == {"image-classification"}
    gain = percent(one.cell, "v2") - percent(cells[0].cell, "v2")
    assert f"{gain:+.2f}" in card.text
    assert f"artifacts/{one.cell.cell_id}/{CHECKPOINT}" in card.text
    assert "recipe.epochs" in card.text.replace("\\", "")


def test_a_card_marks_what_is_contaminated(
    store: Store, cells: tuple[ExportedCell, ...], tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    assert model_cards.write(read_source(store), [replace(cells[2], has_checkpoint=True)], tmp_path)
    card = ModelCard.load(tmp_path / cells[2].folder / "README.md")
    marked = {r.dataset_type for r in card.data.eval_results if r.dataset_args["contaminated"]}
    assert marked == {"val", "cartoon", "drawing"}
    assert "| cartoon† |" in card.text
    assert "† contaminated" in card.text


# ---------------------------------------------------------------------- names of anybody's


EVIL = 'x": [1]\n---\nlicense: "mit"\n![i](http://127.0.0.1:9/x)|<script>alert(1)</script>\x1b[2J'


def test_hostile_names_change_nothing_but_names(
    store: Store, cells: tuple[ExportedCell, ...], mlflow_out: Path, tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard
    from mlflow import MlflowClient

    from orchestrator.export import mlflow_runs, weights_and_biases

    model = replace(cells[1].cell.model, name=EVIL, pretraining=EVIL)
    cell = replace(cells[1].cell, model=model, label=EVIL)
    one = replace(cells[1], cell=cell, provenance={"device": EVIL, EVIL: "x"})
    source = replace(read_source(store), grid=EVIL)
    for place in ("tb", "wb", "cards"):
        (tmp_path / place).mkdir()
    tensorboard.write(source, [one], tmp_path / "tb")
    events = events_of(tmp_path / "tb" / one.folder)
    assert len(events.Scalars("accuracy/val")) == 1
    weights_and_biases.write(source, [one], tmp_path / "wb")
    (file,) = tmp_path.glob("wb/*/*.wandb")
    (run,) = (r.run for r in records_of(file) if r.WhichOneof("record_type") == "run")
    assert run.display_name == str(one.cell)
    mlflow_runs.write(source, [one], mlflow_out)
    mlflow_runs.write(source, [one], mlflow_out)
    client = MlflowClient(f"sqlite:///{mlflow_out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(" ".join(EVIL.split()))
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params["method"] == EVIL
    model_cards.write(source, [one], tmp_path / "cards")
    card = ModelCard.load(tmp_path / "cards" / one.folder / "README.md")
    assert card.data.model_name == str(one.cell)
    assert card.data.get("license") is None
    for active in ("<script>", "![i]", "\x1b"):
        assert active not in card.text
    made = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert made == {"tb", "wb", "cards"}


# ---------------------------------------------------------------------- what is left out


def test_only_finished_cells_unless_asked(
    unfinished: Store, cells: tuple[ExportedCell, ...], tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "tb"
    assert rib("export", unfinished.uri, "--to", "tensorboard", "--out", out) == 1
    assert "2 cells are left out" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == [cells[1].folder]
    command = ["export", unfinished.uri, "--to", "tensorboard", "--out", out, "--incomplete"]
    assert rib(*command, "--json") == 1  # the baseline has nothing to export
    said = json.loads(capsys.readouterr().out)
    assert (said["n_cells"], said["n_left_out"]) == (2, 1)
    events = events_of(out / cells[2].folder)
    tags = events.Tags()["scalars"]
    assert "accuracy/c" in tags
    assert "accuracy/v2" not in tags  # never a mean over some of its splits
    assert "gain/c" not in tags  # nothing to compare it with


@pytest.mark.parametrize(
    ("to", "package"),
    [("tensorboard", "tensorboardX"), ("wandb", "wandb"), ("mlflow", "sqlalchemy")],
)
def test_a_tool_that_is_not_installed(
    store: Store,
    to: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert rib("export", store.uri, "--to", to, "--out", tmp_path / "out") == 2
    assert f"pip install rib-orchestrator[{to}]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_mistakes(store: Store, tmp_path: Path, capsys: Capture) -> None:
    assert rib("export", tmp_path, "--to", "model-card", "--out", tmp_path / "out") == 2
    assert "there is no store here" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert rib("export", store.uri, "--to", "model-card", "--out", tmp_path / "file") == 2
    assert "cannot write" in capsys.readouterr().err
    assert rib("export", store.uri, "--to", "excel", "--out", tmp_path / "out") == 2


# ---------------------------------------------------------------------- nothing leaves

PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all")]
PROXIES += [name.upper() for name in PROXIES]

MARKS = ("pytest", "ci", "github", "do_not_track", "mlflow", "wandb", "no_proxy")
"""How variables begin that keep a tool quiet."""


@contextmanager
def watched_proxy() -> Iterator[tuple[str, list[bytes]]]:
    """Listen where programs look for a way out, and take note of who comes."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    asked.append(client.recv(200))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_nothing_is_sent(store: Store, tmp_path: Path) -> None:
    """Whatever goes out goes through a proxy, which Python and Go look for alike.

    In a process of its own, which does not look like a test: tools keep quiet in those.
    """
    code = """
import sys
from pathlib import Path
from orchestrator.export import EXPORTERS, export
from workers.store import Store
for name in EXPORTERS:
    export(Store(sys.argv[1]), name, Path(sys.argv[2], name))
"""
    ask = "import urllib.request, contextlib\nwith contextlib.suppress(OSError):\n    "
    ask += "urllib.request.urlopen('https://example.org', timeout=5)\n"
    with watched_proxy() as (proxy, asked):
        proxies = dict.fromkeys(PROXIES, proxy)
        kept = {k: v for k, v in os.environ.items() if not k.lower().startswith(MARKS)}
        environment = {**kept, **proxies, "HOME": str(tmp_path)}

        def run(program: str) -> None:
            command = [sys.executable, "-c", program, store.uri, str(tmp_path / "out")]
            subprocess.run(command, env=environment, check=True, timeout=180)

        run(code)
        assert asked == []
        assert {p.name for p in (tmp_path / "out").iterdir()} == set(EXPORTERS)
        run(ask)
        assert asked  # who goes out is seen


def test_it_is_the_same_from_python(store: Store, tmp_path: Path) -> None:
    done = export(store, "model-card", tmp_path)
    assert (done.n_cells, done.n_left_out) == (1, 0)
