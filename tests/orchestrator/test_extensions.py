"""Suites and methods of a user's own: what is wrong with them is said, what they were is kept."""

import sys
from pathlib import Path

import pytest
import yaml

from orchestrator.distances import measure
from orchestrator.extensions import check_unchanged, find_suite, load_suite, stored_declaration
from orchestrator.grid import load_grid, load_stored_grid
from orchestrator.sql import query
from orchestrator.sweep import check_store, read_plan, run
from tests.cells import row
from workers.errors import UserError
from workers.method_files import MethodFile
from workers.methods import Method, methods
from workers.store import Store
from workers.suites import suites

METHOD = """
from typing import ClassVar
from workers.methods.base import FineTuning


class Own(FineTuning):
    name: ClassVar[str] = "NAME"
    version: ClassVar[int] = 3

    def loss(self, step):
        return 2 * step.cross_entropy()
"""


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other test know what is adopted here."""
    methods()
    monkeypatch.setattr("workers.suites._ADOPTED", {})
    monkeypatch.setattr("workers.method_files._ADOPTED", {})
    monkeypatch.setattr(Method, "registered", dict(Method.registered))


def declare(folder: Path, name: str, **changes: object) -> Path:
    """Write a suite of three classes and two OOD sets, with other values for some keys."""
    value = {
        "name": name,
        "classes": ["x", "y", "z"],
        "id": {"name": "val"},
        "ood": [{"name": "one"}, {"name": "two"}],
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def grid_file(folder: Path, suite: str, **changes: object) -> Path:
    value = {
        "name": "own",
        "suite": suite,
        "data_root": str(folder / "data"),
        "store": str(folder / "store"),
        "models": ["resnet18.tv_in1k"],
        "methods": ["ft"],
        **changes,
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_suite(path)
    return [str(problem).replace(f"{path}:", "") for problem in caught.value.problems]


def test_a_declared_suite_is_what_the_file_says(tmp_path: Path) -> None:
    split_up = {
        "name": "two",
        "folder": "deep/two",
        "layout": "corruption_folders",
        "corruptions": ["fog", "snow"],
        "severities": [1, 3],
        "images": 12,
        "derived_from": "val",
    }
    ood = [{"name": "one", "classes": ["z", "x"]}, split_up]
    suite = load_suite(declare(tmp_path, "whole", ood=ood, version="7"))
    one, two = suite.ood
    assert (suite.name, suite.version, suite.space.ids) == ("whole", "7", ("x", "y", "z"))
    assert (one.folder, one.classes, one.splits) == ("one", ("z", "x"), ((None, None),))
    assert two.splits == (("fog", 1), ("fog", 3), ("snow", 1), ("snow", 3))
    assert (two.folder, two.n_images) == ("deep/two", 12)
    assert suite.contaminates("two") == ("val",)
    assert suites()["whole"] is suite


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classes": ["x", "x", "y"]}, "the class 'x' is there twice"),
        ({"ood": [{"name": "one"}, {"name": "one"}]}, "the set 'one' is there twice"),
        ({"ood": [{"name": "one"}]}, "ood"),
        ({"ood": [{"name": "a/b"}, {"name": "two"}]}, "should be letters, digits"),
        (
            {"ood": [{"name": "one", "folder": "../out"}, {"name": "two"}]},
            "not below the data root",
        ),
        ({"ood": [{"name": "one", "folder": "/etc"}, {"name": "two"}]}, "not below the data root"),
        ({"ood": [{"name": "one", "classes": ["w"]}, {"name": "two"}]}, "has not: ['w']"),
        ({"ood": [{"name": "one", "derived_from": "three"}, {"name": "two"}]}, "is no other set"),
        ({"ood": [{"name": "one", "severities": [1]}, {"name": "two"}]}, "go with the layout"),
        ({"ood": [{"name": "one", "layout": "objectnet"}, {"name": "two"}]}, "layout"),
        ({"colour": "red"}, "unknown key"),
    ],
)
def test_what_is_wrong_with_a_suite_is_said(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    told = problems_of(declare(tmp_path, "wrong", **changes))
    assert len(told) == 1
    assert says in told[0]


def test_a_suite_of_a_name_that_is_taken(tmp_path: Path) -> None:
    assert "there is a suite of this name here" in problems_of(declare(tmp_path, "digits-rib"))[0]


def test_a_suite_s_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        find_suite(str(tmp_path / "none.yaml"))


def test_a_grid_holds_its_suite(tmp_path: Path) -> None:
    """Where the store is read, the file that declares the suite need not be."""
    path = declare(tmp_path, "kept", ood=[{"name": "one", "images": 5}, {"name": "two"}])
    grid = load_grid(grid_file(tmp_path, str(path)))
    path.unlink()
    stored = load_stored_grid(grid.to_yaml(), grid.store)
    assert stored.suite == grid.suite
    assert stored.downstream == ("one", "two")


def test_a_changed_suite_needs_another_version(tmp_path: Path) -> None:
    (tmp_path / "now").mkdir()
    ood = [{"name": "new"}, {"name": "one"}, {"name": "two"}]
    grid = load_grid(grid_file(tmp_path, str(declare(tmp_path, "moving", ood=ood))))
    store = Store(grid.store)
    check_store(store, grid)
    store.create(grid.suite.name, grid.suite.version)
    check_store(store, grid)
    store.write_grid(grid.to_yaml())
    check_store(store, grid)
    was = yaml.safe_load(grid.to_yaml())
    was["suite"]["ood"] = was["suite"]["ood"][1:]
    store.write_grid(yaml.safe_dump(was))
    check_store(store, grid)  # the new one has been added
    was["suite"]["classes"] = ["x", "y", "w"]
    was["suite"]["ood"][1]["images"] = 3
    store.write_grid(yaml.safe_dump(was))
    for look in (read_plan, measure, run):
        with pytest.raises(UserError, match="the set 'two' and the classes changed"):
            look(grid)
    was["suite"]["version"] = "0"
    store.write_grid(yaml.safe_dump(was))
    check_unchanged(grid.suite, stored_declaration(store))


def test_sql_knows_a_stores_own_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file of it, and though this process has never heard of it."""
    ood = [
        {"name": "one"},
        {"name": "c", "layout": "corruption_folders", "corruptions": ["fog"], "severities": [1, 3]},
    ]
    grid = load_grid(grid_file(tmp_path, str(declare(tmp_path, "asked", ood=ood))))
    store = Store(grid.store)
    store.create(grid.suite.name, grid.suite.version)
    store.write_grid(grid.to_yaml())
    splits = {
        "val": [(None, None, 3)],
        "one": [(None, None, 1)],
        "c": [("fog", 1, 4), ("fog", 3, 1)],
    }
    for name, counted in splits.items():
        rows = [
            row("cell", name, corruption=corruption, severity=severity, n_correct=n)
            for corruption, severity, n in counted
        ]
        store.commit_accuracy("cell", name, rows)
    monkeypatch.setattr("workers.suites._ADOPTED", {})
    assert "asked" not in suites()
    found = query(store, "select eval_dataset, accuracy from accuracies").table.to_pylist()
    assert {one["eval_dataset"]: one["accuracy"] for one in found} == {
        "val": 75.0,
        "one": 25.0,
        "c": (100.0 + 25.0) / 2,
    }


def test_one_process_knows_one_suite_of_a_name(tmp_path: Path) -> None:
    load_suite(declare(tmp_path, "single"))
    with pytest.raises(UserError, match="raise its version, and start a new process"):
        load_suite(declare(tmp_path, "single", classes=["x", "y"]))


def test_a_method_from_a_file_is_a_method(tmp_path: Path) -> None:
    source = tmp_path / "own.py"
    source.write_text(METHOD.replace("NAME", "own-a"))
    path = grid_file(tmp_path, "imagenet-rib", methods=["own-a"], method_files=[str(source)])
    grid = load_grid(path)
    assert grid.methods[0].kind is methods()["own-a"]
    assert grid.methods[0].kind.version == 3
    stored = load_stored_grid(grid.to_yaml(), grid.store)
    assert stored.method_files == grid.method_files
    assert "cross_entropy" not in grid.to_yaml(), "a store holds no code"


def test_a_changed_file_s_methods_take_the_old_ones_place(tmp_path: Path) -> None:
    source = tmp_path / "own.py"
    source.write_text(METHOD.replace("NAME", "own-b"))
    before = MethodFile.read(source)
    before.adopt()
    source.write_text(METHOD.replace("NAME", "own-b").replace("= 3", "= 4"))
    MethodFile.read(source).adopt()
    assert methods()["own-b"].version == 4
    grid = grid_file(
        tmp_path,
        "imagenet-rib",
        methods=["own-b"],
        method_files=[{"path": str(source), "digest": before.digest}],
    )
    with pytest.raises(UserError, match="is not the file that the grid was run with"):
        load_grid(grid)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def broken(:\n", "own.py:1: is not valid Python"),
        ("raise RuntimeError('no')\n", "does not run: RuntimeError: no"),
        ("x = 1\n", "has no method"),
        (METHOD.replace("NAME", "ft"), "two methods are named 'ft'"),
        (None, "cannot read"),
    ],
)
def test_what_is_wrong_with_a_file_of_methods_is_said(
    tmp_path: Path, text: str | None, says: str
) -> None:
    source = tmp_path / "own.py"
    if text is not None:
        source.write_text(text)
    before, modules = methods(), set(sys.modules)
    with pytest.raises(UserError) as caught:
        load_grid(grid_file(tmp_path, "imagenet-rib", method_files=[str(source)]))
    assert says in str(caught.value)
    assert methods() == before
    assert modules == set(sys.modules)
