"""A user's mistakes: each has one clear message and exit code 2, and leaves nothing behind."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.orchestrator.rib import rib
from workers.store import Store

# Each key stands on the line of its place here; a case that adds a key adds line 12.
GOOD = {
    "name": "bad",
    "suite": "digits-rib",
    "data_root": "ROOT",
    "store": "TMP/store",
    "models": "[resnet_digits]",
    "methods": "[ft]",
    "downstream": "[v2, a]",
    "evaluate": "[val, v2, a]",
    "seeds": "[0]",
    "recipe": "{epochs: 1, precision: fp32}",
    "resources": "{}",
}
OOD = "(allowed: a, c, cartoon, drawing, objectnet, r, sketch, v2)"


@dataclass(frozen=True)
class Case:
    """A mistake and what is said of it."""

    what: str
    says: list[str]
    """The start of every line that is printed after the grid's name, in order."""
    keys: dict[str, str | None] = field(default_factory=dict)
    """What takes the place of keys of GOOD; None leaves one out."""
    text: str | bytes | None = None
    """What takes the place of the whole grid."""

    def grid(self) -> str | bytes:
        if self.text is not None:
            return self.text
        keys = {**GOOD, **self.keys}
        return "".join(f"{key}: {value}\n" for key, value in keys.items() if value is not None)


GRIDS = [
    # ---- names
    Case(
        "an unknown suite",
        [":2: suite: unknown suite 'digit-rib' (did you mean 'digits-rib'?)"],
        {"suite": "digit-rib"},
    ),
    Case(
        "an unknown model, near one of the suite's",
        [":5: models[0]: unknown model 'resnet_digit' (did you mean 'resnet_digits'?)"],
        {"models": "[resnet_digit]"},
    ),
    Case(
        "an unknown model, near one of timm's",
        [
            ":5: models[1]: unknown model 'resnet50.tv_in1kk' (did you mean 'resnet50.tv",
        ],
        {"models": "[vit_digits, resnet50.tv_in1kk]"},
    ),
    Case(
        "an unknown architecture",
        [
            ":5: models[0]: unknown architecture 'test_resnt' (did you mean 'test_resnet'?)",
            ":5: models[0]: there is no weights file TMP/no.safetensors",
        ],
        {"models": "[{name: x, architecture: test_resnt, weights: TMP/no.safetensors}]"},
    ),
    Case(
        "a weights file without its architecture",
        [":5: models[0]: a weights file needs both 'architecture' and 'weights'"],
        {"models": "[{name: x, weights: TMP/no.safetensors}]"},
    ),
    Case(
        "an unknown method",
        [":6: methods[1]: unknown method 'lwff' (did you mean 'lwf'?)"],
        {"methods": "[ft, lwff]"},
    ),
    Case(
        "an unknown hyper-parameter",
        [":6: methods[0].strenght: unknown key (did you mean 'strength'?)"],
        {"methods": "[{method: l2sp, strenght: 2}]"},
    ),
    Case(
        "a method that cannot be had here",
        [
            ":6: methods[0]: unknown method 'flyp' (it needs the text tower of a CLIP model, "
            "and timm's models have none)"
        ],
        {"methods": "[flyp]"},
    ),
    Case(
        "a hyper-parameter of a method that has none",
        [":6: methods[0].strength: unknown key"],
        {"methods": "[{method: ft, strength: 2}]"},
    ),
    Case(
        "an unknown key",
        [":12: recipes: unknown key (did you mean 'recipe'?)"],
        {"recipes": "{epochs: 1}"},
    ),
    Case(
        "an unknown key of the recipe",
        [":10: recipe.epoch: unknown key (did you mean 'epochs'?)"],
        {"recipe": "{epoch: 1}"},
    ),
    Case(
        "an unknown key of the resources",
        [":11: resources.gpu: unknown key (did you mean 'gpus'?)"],
        {"resources": "{gpu: 1}"},
    ),
    Case(
        "a cache of images",
        [
            ":12: image_cache.folder: this key is missing",
            ":12: image_cache.size: unknown key (did you mean 'max_size'?)",
        ],
        {"image_cache": "{size: 1GiB}"},
    ),
    Case(
        "a cache of images at a place that is not known",
        [":12: image_cache.folder: the variable RIB_NOT_SET in '$RIB_NOT_SET/x' is not set"],
        {"image_cache": "{folder: $RIB_NOT_SET/x, max_size: 0}"},
    ),
    Case(
        "an unknown key of a model's transform",
        [":5: models[0].transform.crop: unknown key (did you mean 'crop_pct'?)"],
        {"models": "[{name: resnet_digits, transform: {crop: 0.9}}]"},
    ),
    Case(
        "unknown data sets",
        [
            ":7: downstream[1]: unknown data set 'sketsch' (did you mean 'sketch'?)",
            f":8: evaluate[0]: unknown data set 'imagenet-a' {OOD.replace('v2)', 'v2, val)')}",
        ],
        {"downstream": "[v2, sketsch]", "evaluate": "[imagenet-a]"},
    ),
    Case(
        "the ID set as a downstream one",
        [f":7: downstream[0]: 'val' is the ID set: nothing is fine-tuned on it {OOD}"],
        {"downstream": "[val]"},
    ),
    Case(
        "the name of the grid",
        [":1: name: should be letters, digits and . _ + -, and begin with a letter or digit"],
        {"name": "../up"},
    ),
    # ---- types
    Case(
        "text for a number",
        [":10: recipe.lr: should be a valid number, not 'fast'"],
        {"recipe": "{lr: fast}"},
    ),
    Case(
        "a number in quotes",
        [":10: recipe.epochs: should be a valid integer, not '10'"],
        {"recipe": "{epochs: '10'}"},
    ),
    Case(
        "true for a whole number",
        [":10: recipe.epochs: should be a valid integer, not true"],
        {"recipe": "{epochs: true}"},
    ),
    Case(
        "a fraction for a whole number",
        [":9: seeds[1]: should be a valid integer, not 1.5"],
        {"seeds": "[0, 1.5]"},
    ),
    Case(
        "a name for a list of methods",
        [":6: methods: should be a list, not 'ft'"],
        {"methods": "ft"},
    ),
    Case(
        "a name for a list of sets",
        [":7: downstream: should be a list of names, or 'all', not 'v2'"],
        {"downstream": "v2"},
    ),
    Case(
        "a list for a mapping",
        [":10: recipe: should be a mapping of keys to values, not [1]"],
        {"recipe": "[1]"},
    ),
    Case(
        "a number for a model and nothing for a method",
        [
            ":5: models[1]: should be a mapping of keys to values, not 3",
            ":6: methods[0]: should be a mapping of keys to values, not null",
        ],
        {"models": "[vit_digits, 3]", "methods": "[null]"},
    ),
    Case(
        "a value that is not one of a few",
        [":10: recipe.optimizer: should be 'sgd' or 'adamw', not 'adam'"],
        {"recipe": "{optimizer: adam}"},
    ),
    # ---- ranges
    Case(
        "a learning rate of 0",
        [":10: recipe.lr: should be greater than 0, not 0"],
        {"recipe": "{lr: 0}"},
    ),
    Case(
        "a learning rate that is no number",
        [":10: recipe.lr: should be a finite number, not NaN"],
        {"recipe": "{lr: .nan}"},
    ),
    Case(
        "no epoch",
        [":10: recipe.epochs: should be greater than or equal to 1, not 0"],
        {"recipe": "{epochs: 0}"},
    ),
    Case(
        "a negative seed and one too large",
        [
            ":9: seeds[0]: should be greater than or equal to 0, not -1",
            ":9: seeds[1]: should be less than 9223372036854775808, not 99999999999999999999",
        ],
        {"seeds": "[-1, 99999999999999999999]"},
    ),
    Case(
        "a negative number of GPUs",
        [":11: resources.gpus: should be greater than or equal to 0, not -1"],
        {"resources": "{gpus: -1}"},
    ),
    Case(
        "one and a half GPUs",
        [":11: resources.gpus: should be a whole number when it is above 1, not 1.5"],
        {"resources": "{gpus: 1.5}"},
    ),
    Case(
        "memory that is no size",
        [":11: resources.memory: could not parse value and unit"],
        {"resources": "{memory: lots}"},
    ),
    Case(
        "a hyper-parameter out of range",
        [":6: methods[0].temperature: should be greater than 0, not 0"],
        {"methods": "[{method: lwf, temperature: 0}]"},
    ),
    Case(
        "a transform out of range",
        [
            ":5: models[0].transform.input_size[1]: should be greater than or equal to 1, not 0",
            ":5: models[0].transform.crop_pct: should be less than or equal to 1, not 2",
            ":5: models[0].transform.mean: list should have at least 3 items",
            ":5: models[0].transform.std: every number should be above 0, not [1, 1, 0]",
        ],
        {
            "models": "[{name: resnet_digits, transform: "
            "{crop_pct: 2, input_size: [3, 0, 32], mean: [0.5], std: [1, 1, 0]}}]"
        },
    ),
    # ---- repeats, gaps
    Case(
        "the same model twice",
        [":5: models[1]: the model 'resnet_digits' is there twice"],
        {"models": "[resnet_digits, resnet_digits]"},
    ),
    Case(
        "the same model under two names",
        [":5: models[1]: 'again' is the same as another model here"],
        {
            "models": "[vit_digits, {name: again, architecture: vit_tiny_patch16_224, "
            "weights: ROOT/models/vit_digits.safetensors, arguments: {img_size: 32, patch_size: 8, "
            "embed_dim: 64, depth: 4, num_heads: 4, global_pool: avg, class_token: false, "
            "num_classes: 10}, transform: {input_size: [3, 32, 32], crop_pct: 1.0, "
            "interpolation: bicubic, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}]"
        },
    ),
    Case(
        "the same method twice",
        [":6: methods[1]: the method 'ft' is there twice (give variants of a method a name each)"],
        {"methods": "[ft, ft]"},
    ),
    Case(
        "the same seed twice",
        [":9: seeds[2]: 0 is there twice"],
        {"seeds": "[0, 1, 0]"},
    ),
    Case(
        "the same data set twice",
        [":7: downstream[1]: 'v2' is there twice", ":8: evaluate[1]: 'a' is there twice"],
        {"downstream": "[v2, v2]", "evaluate": "[a, a]"},
    ),
    Case(
        "empty lists",
        [
            ":5: models: should not be empty",
            ":7: downstream: should not be empty",
            ":6: methods: should not be empty",
            ":9: seeds: should not be empty",
            ":8: evaluate: should not be empty",
        ],
        dict.fromkeys(("models", "methods", "downstream", "seeds", "evaluate"), "[]"),
    ),
    Case(
        "missing keys",
        [
            f": the key {key!r} is missing"
            for key in ("name", "suite", "data_root", "models", "methods")
        ],
        dict.fromkeys(("name", "suite", "data_root", "models", "methods")),
    ),
    Case(
        "a model without a name",
        [
            ":5: models[0].name: this key is missing",
            ":5: models[0].nam: unknown key (did you mean 'name'?)",
        ],
        {"models": "[{nam: resnet_digits}]"},
    ),
    Case(
        "a method without a name",
        [":6: methods[0]: the key 'method' is missing (such as: method: ft)"],
        {"methods": "[{strength: 1}]"},
    ),
    # ---- soups and variants
    Case(
        "a soup of an unknown member",
        [":6: methods[0]: 'soup' needs the unknown method 'lwff' (did you mean 'lwf'?)"],
        {"methods": "[{method: soup, members: [ft, lwff]}]"},
    ),
    Case(
        "a soup of itself",
        [":6: methods[0]: 'soup' needs itself: soup -> soup"],
        {"methods": "[{method: soup, members: [ft, soup]}]"},
    ),
    Case(
        "soups of each other",
        [
            ":6: methods[0]: 'one' needs itself: one -> two -> one",
            ":6: methods[1]: 'two' needs itself: two -> one -> two",
        ],
        {
            "methods": "[{name: one, method: soup, members: [ft, two]}, "
            "{name: two, method: soup, members: [lwf, one]}]"
        },
    ),
    Case(
        "a method for a model that is not in the grid",
        [":6: methods[0].only_models: 'vit*' is the name of no model of this grid"],
        {"methods": "[{method: ft, only_models: ['vit*']}]"},
    ),
    Case(
        "a method for something else than names of models",
        [":6: methods[0].only_models: should be a list of models' names or patterns of them"],
        {"methods": "[{method: ft, only_models: 3}]"},
    ),
    Case(
        "a soup of one",
        [":6: methods[0]: a soup needs at least two members"],
        {"methods": "[{method: soup, members: [ft]}]"},
    ),
    Case(
        "a soup of the same twice",
        [":6: methods[0].members: members repeat: ft"],
        {"methods": "[{method: soup, members: [ft, lwf, ft]}]"},
    ),
    Case(
        "a variant that is no other",
        [":6: methods[1]: 'strong' is the same as 'l2sp': their cells are one"],
        {"methods": "[l2sp, {name: strong, method: l2sp, strength: 1}]"},
    ),
    Case(
        "a variant named like another method",
        [":6: methods[0]: 'lwf' is the name of another method than 'l2sp' (choose a name of"],
        {"methods": "[{name: lwf, method: l2sp}]"},
    ),
    Case(
        "a variant whose name --only could not name",
        [":6: methods[0]: 'a,b' is no name for a method"],
        {"methods": "[{name: 'a,b', method: l2sp}]"},
    ),
    # ---- YAML
    Case(
        "a list at the top",
        [": a grid is a mapping of keys to values, this is a list"],
        text="- name: x\n",
    ),
    Case("nothing", [": a grid is a mapping of keys to values, this is empty"], text="# only\n"),
    Case(
        "a syntax error",
        [":2: is not valid YAML: while parsing a flow sequence, expected ',' or ']', but got ':'"],
        text="models: [a\nsuite: b\n",
    ),
    Case(
        "two documents",
        [":2: is not valid YAML: expected a single document"],
        text="name: a\n---\nname: b\n",
    ),
    Case(
        "keys given twice",
        [":2: recipe.lr: this key is given twice", ":3: name: this key is given twice"],
        text="name: a\nrecipe: {lr: 1, lr: 2}\nname: b\n",
    ),
    Case(
        "a tag that runs a program",
        [":1: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/ap"],
        text="name: !!python/object/apply:os.system ['touch TMP/ran']\n",
    ),
    Case(
        "a tag that makes an object",
        [":2: could not determine a constructor for the tag '!cell' (only plain values are"],
        text="name: a\nmodels: !cell {}\n",
    ),
    Case(
        "an alias of what it is a part of",
        [":1: models[0]: an alias of what it is a part of"],
        text="models: &loop [*loop]\n",
    ),
    Case("lists without end", [": is nested too deeply"], text="a: " + "[" * 5000),
    Case("not text", [": cannot be read: 'utf-8' codec can't decode"], text=b"name: caf\xe9\n"),
    Case("a null byte", [": is not valid YAML: special characters are"], text="name: a\0\n"),
    # ---- paths
    Case(
        "environment variables that are not set",
        [
            ":3: data_root: the variable RIB_NOT_SET in '$RIB_NOT_SET/digits' is not set",
            ":4: store: the variable RIB_NOT_SET in '${RIB_NOT_SET}/store' is not set",
        ],
        {"data_root": "$RIB_NOT_SET/digits", "store": "${RIB_NOT_SET}/store"},
    ),
    Case(
        "a file for a data root",
        [":3: data_root: TMP/grid.yaml is a file, not a folder"],
        {"data_root": "TMP/grid.yaml"},
    ),
    Case(
        "a data root below a file",
        [":3: data_root: TMP/grid.yaml is a file, not a folder"],
        {"data_root": "TMP/grid.yaml/digits"},
    ),
]


@pytest.fixture(autouse=True)
def _set_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIB_NOT_SET", raising=False)


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def write_grid(case: Case, folder: Path, root: Path) -> Path:
    content = case.grid()
    data = content if isinstance(content, bytes) else content.encode()
    data = data.replace(b"TMP", str(folder).encode()).replace(b"ROOT", str(root).encode())
    path = folder / "grid.yaml"
    path.write_bytes(data)
    return path


def check_complaint(output: str, expected: list[str]) -> None:
    """Check that the lines are as many as expected, and begin as expected."""
    lines = output.splitlines()
    assert "Traceback" not in output
    for line, start in zip(lines, expected, strict=False):
        assert line.startswith(start)
    assert len(lines) == len(expected), output


@pytest.mark.parametrize("command", [["plan"], ["run", "--executor", "inline"]], ids=lambda c: c[0])
@pytest.mark.parametrize("case", GRIDS, ids=lambda case: case.what)
def test_a_bad_grid(
    case: Case,
    command: list[str],
    digits_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_grid(case, tmp_path, digits_root)
    assert rib(*command, path) == 2
    printed = capsys.readouterr()
    says = [f"rib: {path}{text.replace('TMP', str(tmp_path))}" for text in case.says]
    check_complaint(printed.err, says)
    assert printed.out == ""
    assert everything(tmp_path) == {"grid.yaml"}


def test_all_mistakes_of_a_grid_are_told_at_once(
    digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {
        "name": "a/b",
        "suite": "digits",
        "data_root": "$RIB_NOT_SET",
        "models": "[resnet_digits, {name: x, crop: 1}]",
        "methods": "[fft, {method: lwf, alpha: x}, {method: soup, members: [ft, lpft]}, ft, ft]",
        "downstream": "[]",
        "seeds": "[-1, 0, true]",
        "recipe": "{lr: 0, epoch: 2}",
        "resources": "{gpus: -1}",
        "extra": "1",
    }
    path = write_grid(Case("", [], keys), tmp_path, digits_root)
    assert rib("plan", path) == 2
    printed = capsys.readouterr().err
    expected = {
        ":1: name",
        ":2: suite",
        ":3: data_root",
        ":5: models[1].crop",
        ":6: methods[0]",
        ":6: methods[1].alpha",
        ":6: methods[2]",
        ":6: methods[4]",
        ":7: downstream",
        ":9: seeds[0]",
        ":9: seeds[2]",
        ":10: recipe.lr",
        ":10: recipe.epoch",
        ":11: resources.gpus",
        ":12: extra",
    }
    told = [line.removeprefix(f"rib: {path}") for line in printed.splitlines()]
    places = [":".join(text.split(":")[:3]) for text in told]
    assert set(places) == expected
    assert len(places) == len(expected), "something is told twice"


# ------------------------------------------------------------------------------ command lines

COMMANDS: list[tuple[str, list[str], list[str]]] = [
    (
        "a grid that is not there",
        ["plan", "TMP/grids.yaml"],
        ["rib: TMP/grids.yaml: cannot be read: no such file"],
    ),
    ("a folder for a grid", ["plan", "TMP"], ["rib: TMP: cannot be read: [Errno 21]"]),
    (
        "an unknown key to choose by",
        ["run", "TMP/grid.yaml", "--only", "metod=ft"],
        ["rib: --only: unknown key 'metod' (did you mean 'method'?)"],
    ),
    (
        "values to choose by that the grid has not",
        ["plan", "TMP/grid.yaml", "--only", "method=lwf,downstream=v2,downstream=r,seed=one"],
        [
            "rib: --only: the grid has no method 'lwf' (",
            "rib: --only: the grid has no downstream 'r' (allowed: a, v2)",
            "rib: --only: the grid has no seed 'one' (allowed: 0)",
        ],
    ),
    (
        "a choice without a value",
        ["plan", "TMP/grid.yaml", "--only", "ft"],
        ["rib: --only: unknown key 'ft' (allowed: cell, downstream, method, model, seed)"],
    ),
    (
        "a store that is a file",
        ["run", "TMP/grid.yaml", "--store", "TMP/grid.yaml"],
        ["rib: store TMP/grid.yaml: TMP/grid.yaml is a file, not a folder"],
    ),
    (
        "a store below a file",
        ["plan", "TMP/grid.yaml", "--store", "TMP/grid.yaml/store"],
        ["rib: store TMP/grid.yaml/store: TMP/grid.yaml is a file, not a folder"],
    ),
    (
        "a folder of other things for a store",
        ["run", "TMP/grid.yaml", "--store", "TMP"],
        ["rib: store TMP: the folder has other things in it and is no store (name an empty or a"],
    ),
    *(
        (
            f"{command} of a folder that is not there",
            [command, "TMP/none"],
            ["rib: store TMP/none: there is no store here"],
        )
        for command in ("resume", "status", "report", "matrix")
    ),
    *(
        (
            f"{command} of a folder that is no store",
            [command, "TMP"],
            ["rib: store TMP: there is no store here"],
        )
        for command in ("resume", "status", "report", "matrix")
    ),
    *(
        (
            f"{command} of a file that is no table",
            [command, "TMP/grid.yaml"],
            ["rib: store TMP/grid.yaml: is a file, not a folder (a table of accuracies ends in"],
        )
        for command in ("resume", "status", "report", "matrix")
    ),
    (
        "a table that is not there",
        ["report", "TMP/none.csv"],
        ["rib: TMP/none.csv: is not a file"],
    ),
    (
        "a table with mistakes",
        ["report", "TMP/bad.csv"],
        [
            "rib: TMP/bad.csv, line 3: method 'ft' has no downstream (only pretrained has none)",
            "rib: TMP/bad.csv, line 4: accuracy_percent is '101' (a number from 0 to 100;",
        ],
    ),
    (
        "a table without its columns",
        ["matrix", "TMP/columns.csv"],
        [
            "rib: TMP/columns.csv: no column 'downstream' (",
            "rib: TMP/columns.csv: no column 'accuracy_percent' (did you mean 'accuracy'?)",
        ],
    ),
    (
        "a suite that cannot be made",
        ["data", "make", "digits-rip", "--root", "TMP/root"],
        ["rib: SUITE: cannot make 'digits-rip' (did you mean 'digits-rib'?)"],
    ),
    (
        "a file to make a suite in",
        ["data", "make", "digits-rib", "--root", "TMP/grid.yaml"],
        ["rib: --root: TMP/grid.yaml is a file, not a folder"],
    ),
    (
        "a folder of other things to make a suite in",
        ["data", "make", "digits-rib", "--root", "TMP"],
        ["rib: TMP: is not empty (choose an empty folder, or delete it to make the suite again)"],
    ),
]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [case[1:] for case in COMMANDS],
    ids=[case[0] for case in COMMANDS],
)
def test_a_bad_command_line(
    arguments: list[str],
    says: list[str],
    digits_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_grid(Case("", []), tmp_path, digits_root)
    header = "method,downstream,eval_dataset,accuracy_percent\n"
    (tmp_path / "bad.csv").write_text(header + "ft,a,b,1\nft,,b,12\nft,b,a,101\n")
    (tmp_path / "columns.csv").write_text("method,eval_dataset,accuracy\nft,a,50\n")
    before = everything(tmp_path)
    assert rib(*(argument.replace("TMP", str(tmp_path)) for argument in arguments)) == 2
    printed = capsys.readouterr()
    check_complaint(printed.err, [text.replace("TMP", str(tmp_path)) for text in says])
    assert printed.out == ""
    assert everything(tmp_path) == before


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_store_of_another_version_of_the_suite(
    command: str, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_grid(Case("", []), tmp_path, digits_root)
    Store(str(tmp_path / "store")).create("digits-rib", "0")
    before = everything(tmp_path)
    assert rib(command, path) == 2
    expected = (
        f"rib: store {tmp_path}/store: it holds digits-rib version 0, the grid is for digits-rib "
        "version 1 (name another store: their numbers must not be mixed)"
    )
    check_complaint(capsys.readouterr().err, [expected])
    assert everything(tmp_path) == before


@pytest.mark.parametrize("command", ["resume", "status", "report", "matrix"])
def test_the_grid_of_a_store_whose_suite_has_moved_on(
    command: str, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "store"))
    store.create("digits-rib", "0")
    store.write_grid(write_grid(Case("", []), tmp_path, digits_root).read_text())
    assert rib(command, store.uri) == 2
    expected = f"rib: store {store.uri}: it holds digits-rib version 0, the grid is for"
    check_complaint(capsys.readouterr().err, [expected])


# ------------------------------------------------------------------------------ data and weights


@pytest.fixture
def root(digits_root: Path, tmp_path: Path) -> Path:
    """The part of the suite that GOOD reads, in hard links: unlink a file before writing it."""
    copy = tmp_path / "root"
    for folder in ("val", "digitsv2-matched-frequency-format-val", "digits-a", "models"):
        shutil.copytree(digits_root / folder, copy / folder, copy_function=os.link)
    return copy


def replace_file(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def delete_sets(root: Path) -> None:
    shutil.rmtree(root / "digits-a")
    shutil.rmtree(root / "val")


def add_class_folders(root: Path) -> None:
    (root / "val" / "d10").mkdir()
    (root / "digitsv2-matched-frequency-format-val" / "10").mkdir()
    (root / "digits-a" / "d0").mkdir()  # a class of the suite, but not of this set


def delete_class_folder(root: Path) -> None:
    shutil.rmtree(root / "val" / "d7")


def empty_class_folder(root: Path) -> None:
    shutil.rmtree(root / "val" / "d7")
    (root / "val" / "d7").mkdir()


def delete_image(root: Path) -> None:
    min((root / "val" / "d7").iterdir()).unlink()


def damage_images(root: Path) -> None:
    for folder, data in (("digits-a/d7", b"no image"), ("val/d7", b"")):
        first = min((root / folder).iterdir())
        replace_file(first, data)
        first.rename(first.with_name("first.png"))
    last = max((root / "val" / "d9").iterdir())
    replace_file(last, last.read_bytes()[:200])
    last.rename(last.with_name("last.png"))


def swap_weights(root: Path) -> None:
    weights = root / "models" / "resnet_digits.safetensors"
    replace_file(weights, (root / "models" / "vit_digits.safetensors").read_bytes())


def damage_weights(root: Path) -> None:
    replace_file(root / "models" / "resnet_digits.safetensors", b"no weights")


def delete_weights(root: Path) -> None:
    (root / "models" / "resnet_digits.safetensors").unlink()


def leave(root: Path) -> None:
    pass


WEIGHTS = "ROOT/models/resnet_digits.safetensors"

DATA: list[tuple[Callable[[Path], None], str, list[str]]] = [
    (
        delete_sets,
        "[resnet_digits]",
        [
            "ROOT/digits-a: there is no such folder",
            "ROOT/val: there is no such folder",
        ],
    ),
    (
        add_class_folders,
        "[resnet_digits]",
        [
            "ROOT/digits-a/d0: is no class of this data set (",
            "ROOT/digitsv2-matched-frequency-format-val/10: is no class of this data set (",
            "ROOT/val/d10: is no class of this data set (did you mean 'd1'?)",
        ],
    ),
    (
        delete_class_folder,
        "[resnet_digits]",
        ["ROOT/val: 1 class folders are missing: d7"],
    ),
    (empty_class_folder, "[resnet_digits]", ["ROOT/val/d7: has no image in it"]),
    (
        delete_image,
        "[resnet_digits]",
        ["ROOT/val: 199 images, 200 expected (unpack the archive again:"],
    ),
    (
        damage_images,
        "[resnet_digits]",
        [
            "ROOT/digits-a/d7/first.png: this image does not decode: cannot identify image",
            "ROOT/val/d7/first.png: this image does not decode: cannot identify image",
            "ROOT/val/d9/last.png: this image does not decode: ",
        ],
    ),
    (
        swap_weights,
        "[resnet_digits]",
        [f"{WEIGHTS}: does not fit test_resnet: conv1.0.weight is missing; "],
    ),
    (
        damage_weights,
        "[resnet_digits]",
        [f"{WEIGHTS}: cannot be read as safetensors: "],
    ),
    (
        delete_weights,
        "[resnet_digits]",
        [f"{WEIGHTS}: there is no such weights file (models entry 'resnet_digits')"],
    ),
    (
        leave,
        f"[{{name: mine, architecture: test_resnet, weights: {WEIGHTS}}}]",
        [
            f"{WEIGHTS}: does not fit test_resnet: fc.weight has shape [10, 96], "
            "the architecture has [1000, 96]; fc.bias has shape [10], the architecture has [1000]: "
            "its head is for 10 classes, the model's for 1000 (models entry 'mine')"
        ],
    ),
    (
        leave,
        "[{name: vit_digits, arguments: {widht: 3}}]",
        ["models entry 'vit_digits': vit_tiny_patch16_224 cannot be built with {'img_size': 32,"],
    ),
    (
        leave,
        "[test_vit.r160_in1k]",
        ["models entry 'test_vit.r160_in1k': it has 1000 outputs, digits-rib has 10 classes"],
    ),
]


@pytest.mark.parametrize(
    ("change", "models", "says"),
    DATA,
    ids=[f"{change.__name__} {models}" for change, models, _ in DATA],
)
def test_bad_data(
    change: Callable[[Path], None],
    models: str,
    says: list[str],
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(root)
    path = write_grid(Case("", [], {"models": models}), tmp_path, root)
    assert rib("run", path, "--executor", "inline") == 2
    printed = capsys.readouterr()
    check_complaint(printed.err, [f"rib: {text.replace('ROOT', str(root))}" for text in says])
    assert printed.out == ""
    assert not (tmp_path / "store").exists()


def test_bad_data_and_bad_weights_are_told_at_once(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "digits-a")
    damage_weights(root)
    path = write_grid(Case("", []), tmp_path, root)
    assert rib("run", path, "--executor", "inline") == 2
    told = capsys.readouterr().err
    assert "digits-a" in told
    assert "resnet_digits" in told


# ------------------------------------------------------------------------------ methods on models


def test_methods_that_models_cannot_have(
    digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = "[lora, {method: surgical, layers: [99]}, {method: lp, also_train: [cls_token]}]"
    path = write_grid(
        Case("", [], {"methods": methods, "models": "[resnet_digits]"}), tmp_path, digits_root
    )
    assert rib("run", path, "--executor", "inline") == 2
    told = capsys.readouterr().err
    assert "method 'lora' on model 'resnet_digits': the architecture has no attention" in told
    assert "method 'surgical' on model 'resnet_digits': the architecture has layers -6 to 5" in told
    assert "method 'lp' on model 'resnet_digits': no parameter matches also_train" in told
    assert "Traceback" not in told
    assert not (tmp_path / "store").exists()


# ------------------------------------------------------------------------------ resources


def test_more_gpus_than_this_machine_has(
    digits_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = write_grid(Case("", [], {"resources": "{gpus: 1000}"}), tmp_path, digits_root)
    assert rib("run", path, "--executor", "inline") == 2
    told = capsys.readouterr().err
    assert "rib: resources.gpus: a cell asks for 1000, this machine has none" in told
    assert "Traceback" not in told
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_more_gpus_than_any_node_of_ray_has(digits_root: Path, tmp_path: Path) -> None:
    path = write_grid(Case("", [], {"resources": "{gpus: 1000}"}), tmp_path, digits_root)
    command = [sys.executable, "-m", "orchestrator", "run", str(path), "--cpus", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "rib: resources.gpus: a cell asks for 1000, no node has more than " in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "store").exists()
