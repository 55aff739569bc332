"""Data and weights that lie at another place on each machine."""

import shutil
from pathlib import Path

import pytest

from orchestrator.grid import Grid, load_grid, load_stored_grid
from orchestrator.plan import expand
from orchestrator.sweep import site_of
from workers.errors import UserError

GRID = """
name: places
suite: digits-rib
data_root: {root}
models:
  - vit_digits
  - {{name: mine, architecture: resnet18, weights: "{weights}"}}
methods: [ft]
"""


def load(folder: Path, root: str, weights: str = "${RIB_WEIGHTS}/mine.safetensors") -> Grid:
    path = folder / "grid.yaml"
    path.write_text(GRID.format(root=root, weights=weights))
    return load_grid(path, str(folder / "store"))


@pytest.fixture
def here(digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of weights; the variables lead to it and to the data."""
    shutil.copy(next(digits_root.rglob("*.safetensors")), tmp_path / "mine.safetensors")
    monkeypatch.setenv("RIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("RIB_DATA", str(digits_root.parent))
    monkeypatch.setenv("RIB_FAST", "/fast")
    return tmp_path


def test_nodes_are_told_what_to_fill_in(here: Path, digits_root: Path) -> None:
    grid = load(here, "${RIB_DATA}/digits-rib")
    assert grid.data_root == digits_root
    assert site_of(grid).data_root == str(digits_root), "on this machine"
    assert site_of(grid, address="auto").data_root == "${RIB_DATA}/digits-rib"
    assert grid.models[1].file == "${RIB_WEIGHTS}/mine.safetensors"


def test_a_plain_path_is_the_same_on_all(here: Path, digits_root: Path) -> None:
    grid = load(here, str(digits_root), str(here / "mine.safetensors"))
    assert site_of(grid, address="auto").data_root == str(digits_root)
    assert grid.models[1].file == str(here / "mine.safetensors")


def test_a_variable_with_a_relative_path_means_this_machine_s(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("RIB_DATA", "data")
    grid = load(here, "${RIB_DATA}/digits")
    assert grid.data_on_nodes == str(here / "data" / "digits")


def test_places_are_no_part_of_an_identity(here: Path, digits_root: Path) -> None:
    plain = load(here, str(digits_root), str(here / "mine.safetensors"))
    filled = load(here, "${RIB_DATA}/digits-rib")
    ids = [[cell.cell_id for cell in expand(grid)] for grid in (plain, filled)]
    assert ids[0] == ids[1]


def test_a_stored_grid_is_read_where_nothing_is_set(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = load(here, "${RIB_DATA}/digits-rib")
    text = grid.to_yaml()
    assert "data_root: ${RIB_DATA}/digits-rib" in text
    assert load_stored_grid(text, grid.store).to_yaml() == text
    monkeypatch.delenv("RIB_DATA")
    monkeypatch.delenv("RIB_WEIGHTS")
    elsewhere = load_stored_grid(text, grid.store)
    assert [c.cell_id for c in expand(elsewhere)] != []
    assert elsewhere.models[1] == grid.models[1]
    assert elsewhere.data_on_nodes == "${RIB_DATA}/digits-rib"


def test_a_grid_file_needs_its_variables(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIB_DATA")
    monkeypatch.delenv("RIB_WEIGHTS")
    with pytest.raises(UserError) as caught:
        load(here, "${RIB_DATA}/digits-rib")
    said = str(caught.value)
    assert "data_root: the variable RIB_DATA in '${RIB_DATA}/digits-rib' is not set" in said


def cached(folder: Path, root: Path, image_cache: str) -> Grid:
    """A grid with a cache of images."""
    path = folder / "cached.yaml"
    lines = f"name: places\nsuite: digits-rib\ndata_root: {root}\nmodels: [vit_digits]\n"
    path.write_text(f"{lines}methods: [ft]\nimage_cache: {image_cache}\n")
    return load_grid(path, str(folder / "store"))


def test_each_machine_keeps_images_where_it_says(
    here: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = cached(here, digits_root, "{folder: '${RIB_FAST}/images', max_size: 2GiB}")
    for address in (None, "auto"):
        site = site_of(grid, address=address)
        assert (site.image_cache, site.image_cache_bytes) == ("${RIB_FAST}/images", 2 * 2**30)
    text = grid.to_yaml()
    monkeypatch.delenv("RIB_FAST")
    assert load_stored_grid(text, grid.store).to_yaml() == text


def test_a_plain_folder_for_images_is_told_in_full(
    here: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    site = site_of(cached(here, digits_root, "{folder: images}"))
    assert (site.image_cache, site.image_cache_bytes) == (str(here / "images"), 100 * 2**30)


def test_images_are_kept_nowhere_unless_it_is_said_where(here: Path, digits_root: Path) -> None:
    assert site_of(cached(here, digits_root, "null")).image_cache == ""


def test_a_cache_changes_no_identity(here: Path, digits_root: Path) -> None:
    plain = cached(here, digits_root, "null")
    kept = cached(here, digits_root, "{folder: images}")
    assert [c.cell_id for c in expand(plain)] == [c.cell_id for c in expand(kept)]
