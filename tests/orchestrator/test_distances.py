"""`rib distance` on real images and models: measured once, resumed, failed aloud, correlated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestrator.distances import cells_of, distance_frame
from orchestrator.grid import load_grid
from tests.embedded import bench_of, cell_of, embedded_model
from tests.orchestrator.rib import rib
from workers.distance.otdd import labelled_set, otdd
from workers.frozen import features_of
from workers.store import Store

pytest.importorskip("ot")

GRID = """
name: distances
suite: digits-rib
data_root: {root}
store: {store}
models: [resnet_digits]
downstream: {sets}
methods: [ft]
evaluate: [val]
recipe: {{warmup_steps: 2, epochs: 1, batch_size: 32, precision: fp32}}
distance: {distance}
"""


@pytest.fixture
def written(tmp_path: Path, digits_root: Path) -> Any:
    def write(sets: str = "[v2, a]", **distance: Any) -> Path:
        path = tmp_path / "grid.yaml"
        values = json.dumps({"samples": 100, **distance})
        text = GRID.format(root=digits_root, store=tmp_path / "store", sets=sets, distance=values)
        path.write_text(text)
        return path

    return write


def table(grid: Path) -> pd.DataFrame:
    loaded = load_grid(grid)
    return distance_frame(Store(loaded.store), loaded)


def files(grid: Path, folder: str) -> dict[str, bytes]:
    found = Path(load_grid(grid).store, folder).glob("*")
    return {path.name: path.read_bytes() for path in found}


def run(grid: Path) -> int:
    return rib("distance", grid, "--executor", "inline")


def test_a_distance_is_that_of_the_models_features(
    written: Any, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written("[a]", samples=1000)
    assert rib("distance", grid, "--executor", "inline", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["distances"]

    model = embedded_model("resnet_digits", digits_root)
    bench = bench_of(cell_of("pretrained", model), digits_root, tmp_path / "other")
    sets = {}
    for name in ("val", "a"):
        source = bench.source(bench.dataset(name))
        features = features_of(bench.pretrained(), source, bench.normalise)
        sets[name] = labelled_set(features, source.labels, "diagonal")
    mean_cost = float(sets["val"].own_cost.mean())
    assert row["mean_cost"] == pytest.approx(mean_cost, rel=1e-5)
    found = otdd(sets["val"], sets["a"], 0.1 * mean_cost)
    assert row["value"] == pytest.approx(found.value, rel=1e-4)
    assert row["value"] > 0
    assert row["relative"] == row["value"] / row["mean_cost"]
    assert row["epsilon_cost"] == pytest.approx(0.1 * row["mean_cost"])

    assert (row["reference"], row["downstream"], row["model"]) == ("val", "a", "resnet_digits")
    assert (row["samples_reference"], row["samples_downstream"]) == (200, 84)
    assert (row["classes_reference"], row["classes_downstream"]) == (10, 6)
    assert row["dimensions"] == features.shape[1]
    assert row["marginal_error"] <= row["tolerance"] == 1e-6
    assert row["weights_digest"] == model.weights
    assert row["reference_digest"] == bench.dataset("val").digest
    assert row["solver"].startswith("POT ")
    assert row["converged"] is True


def test_epsilon_may_be_in_the_unit_of_the_cost(written: Any) -> None:
    assert run(written("[a]", epsilon=0.1)) == 0
    relative = table(written("[a]", epsilon=0.1))
    epsilon = 0.1 * float(relative["mean_cost"].iloc[0])
    grid = written("[a]", epsilon=epsilon, unit="cost")
    assert run(grid) == 0
    assert table(grid)["value"].tolist() == pytest.approx(relative["value"].tolist(), rel=1e-9)


def test_what_is_done_is_not_done_again_and_its_attempts_are_recorded(written: Any) -> None:
    grid = written("[v2]")
    assert run(grid) == 0
    first = files(grid, "distances")
    wider = written("[v2, a]", max_iterations=5000)  # no other distances for that
    assert run(wider) == 0
    assert run(wider) == 0
    both = files(wider, "distances")
    assert len(both) == 2
    assert first.items() <= both.items()
    attempts = pd.read_parquet(Path(load_grid(wider).store, "attempts"))
    assert attempts["method"].tolist() == ["otdd", "otdd"]
    assert attempts["state"].tolist() == ["done", "done"]
    assert set(attempts["cell_id"]) == {cell.cell_id for cell in cells_of(load_grid(wider))}
    assert (table(wider)[["samples_reference", "samples_downstream"]] <= 100).all().all()
    # The ID set's own problem was solved once.
    assert len([name for name in files(wider, "shared") if name.startswith("otdd-own")]) == 1
    assert rib("verify", load_grid(wider).store) == 0


def test_a_distance_without_a_converged_solver_is_a_failure(
    written: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written(max_iterations=3)
    assert run(grid) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "v2: user: UnconvergedError: transport of a set with itself" in said
    found = table(grid)
    assert found["state"].tolist() == ["failed", "failed"]
    assert found["value"].isna().all()
    assert found["message"].str.contains("Sinkhorn has not converged").all()
    assert files(grid, "distances") == {}
    attempts = pd.read_parquet(Path(load_grid(grid).store, "attempts"))
    assert len(attempts) == 2  # asking again would give the same
    # With more iterations they are the same distances, and come out.
    again = written()
    assert [c.cell_id for c in cells_of(load_grid(again))] == found["cell_id"].tolist()
    assert run(again) == 0
    assert table(again)["state"].tolist() == ["done", "done"]
    assert table(again)["attempt"].tolist() == [2, 2]


def test_other_settings_are_other_distances_and_the_same_ones_are_found_again(
    written: Any,
) -> None:
    values = {}
    for seed in (0, 1):
        grid = written("[v2]", samples=60, seed=seed)
        assert run(grid) == 0
        values[seed] = table(grid)["value"].tolist()
    shrunk = written("[v2]", samples=60, covariance="shrunk")
    assert run(shrunk) == 0
    assert len({*values[0], *values[1], *table(shrunk)["value"]}) == 3
    assert table(written("[v2]", samples=60))["value"].tolist() == values[0]


def test_other_data_are_not_mixed_in(
    written: Any, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written("[v2]")
    assert run(grid) == 0
    own = tmp_path / "digits"
    shutil.copytree(digits_root, own)
    image = next((own / "val").glob("*/*"))
    image.rename(image.with_name(f"renamed-{image.name}"))
    wider = written("[v2, a]")
    wider.write_text(wider.read_text().replace(str(digits_root), str(own)))
    capsys.readouterr()
    assert run(wider) == 2
    assert "data set val: distances in the store are of another copy" in capsys.readouterr().err


def test_the_correlation_is_with_what_cells_lose_on_the_id_set(
    written: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written("[v2, a, sketch, objectnet]")
    assert run(grid) == 0
    assert "no cell of the grid has been scored on val" in capsys.readouterr().err
    assert rib("run", grid, "--executor", "inline") == 0
    capsys.readouterr()
    assert rib("distance", grid, "--executor", "inline", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["correlations"]
    assert (found["model"], found["method"], found["n"]) == ("resnet_digits", "ft", 4)
    rows = pd.read_parquet(Path(load_grid(grid).store, "accuracy"))
    on_id = rows[rows["eval_dataset"] == "val"].set_index("downstream")
    accuracy = 100 * on_id["n_correct"] / on_id["n_total"]
    before = float(accuracy[accuracy.index.isna()].iloc[0])
    frame = table(grid).set_index("downstream")
    drops = [before - accuracy[name] for name in frame.index]
    expected = np.corrcoef(frame["value"], drops)[0, 1]
    assert found["pearson"]["value"] == pytest.approx(expected)


@pytest.mark.slow
def test_on_ray_it_is_the_same(written: Any, tmp_path: Path) -> None:
    grid = written()
    assert run(grid) == 0
    inline = table(grid)
    assert rib("distance", grid, "--cpus", "1", "--store", tmp_path / "ray") == 0
    on_ray = distance_frame(Store(str(tmp_path / "ray")), load_grid(grid))
    assert on_ray["value"].tolist() == inline["value"].tolist()
    assert on_ray["ray_version"].str.len().gt(0).all()


def test_pot_is_asked_for_before_anything_starts(
    written: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    grid = written()
    assert run(grid) == 2
    assert "POT is not installed (pip install 'rib-orchestrator[distance]')" in (
        capsys.readouterr().err
    )
    assert not Path(load_grid(grid).store).exists()


@pytest.mark.parametrize(
    ("distance", "says"),
    [
        ({"model": "vit"}, "distance.model: the grid has no model 'vit'"),
        ({"samples": 19}, "distance.samples: 19 images are too few: 10 classes need 2 each"),
        ({"epsilon": 0}, "distance.epsilon: should be greater than 0, not 0"),
        ({"unit": "points"}, "distance.unit: should be 'id-cost' or 'cost', not 'points'"),
        ({"epsilom": 1}, "distance.epsilom: unknown key (did you mean 'epsilon'?)"),
    ],
)
def test_mistakes_in_the_grid_are_told(
    written: Any, distance: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written(**distance)
    assert run(grid) == 2
    assert says in capsys.readouterr().err
    assert not (grid.parent / "store").exists()


def test_a_class_of_one_image_is_told(
    written: Any, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "digits"
    shutil.copytree(digits_root, own)
    folder, *_ = sorted((own / "digits-a").iterdir())
    for image in sorted(folder.iterdir())[1:]:
        image.unlink()
    grid = written("[a, v2]")
    text = grid.read_text().replace(str(digits_root), str(own))
    grid.write_text(text + f"accept_images: {{a: {84 - 13}}}\n")
    assert run(grid) == 1
    found = table(grid).set_index("downstream")
    assert found.loc["a", "error_kind"] == "data"
    assert f"fewer than 2 images in the sample: {folder.name}" in found.loc["a", "message"]
    assert found.loc["v2", "state"] == "done"
