"""What is in a cell's identity and what is not, its JSON, and the seeds derived from it."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.cell import BASELINE, Cell, Model, Siblings, canonical_json, digest

MODEL = Model(
    name="small",
    architecture="test_vit.r160_in1k",
    weights="sha256:00ff",
    pretraining="IN-1K",
    arguments={"num_classes": 10, "img_size": 32},
    transform={"crop_pct": 1.0, "mean": [0.5, 0.5, 0.5]},
    file="models/small.safetensors",
)
BASE = Cell("s", "1", MODEL, BASELINE, 1, BASELINE)
CELL = Cell(
    suite="s",
    suite_version="1",
    model=MODEL,
    method="l2sp",
    method_version=1,
    label="l2sp",
    downstream="v2",
    hyperparameters={"strength": 1.0, "other": "x"},
    recipe={"lr": 1e-3, "epochs": 10, "precision": "fp32"},
    seed=3,
)
SOUP = replace(CELL, method="soup", label="soup", recipe=None, parents=(BASE, CELL))


def with_model(**changes: Any) -> Cell:
    return replace(CELL, model=replace(MODEL, **changes))


@pytest.mark.parametrize(
    "other",
    [
        replace(CELL, label="l2sp-strong"),
        with_model(name="another name"),
        with_model(pretraining="IN-21K"),
        with_model(file="/elsewhere/weights.safetensors"),
        with_model(file=None),
        with_model(arguments={"img_size": 32, "num_classes": 10}),
        with_model(transform={"crop_pct": 1.0, "mean": (0.5, 0.5, 0.5)}),
        replace(CELL, hyperparameters={"other": "x", "strength": 1.0}),
        replace(CELL, recipe={"precision": "fp32", "epochs": 10, "lr": 1e-3}),
    ],
)
def test_names_places_and_the_order_of_keys_are_no_part_of_it(other: Cell) -> None:
    assert other.cell_id == CELL.cell_id
    assert other == CELL
    assert hash(other) == hash(CELL)


OTHERS = [
    replace(CELL, suite="t"),
    replace(CELL, suite_version="2"),
    replace(CELL, method="ft"),
    replace(CELL, method_version=2),
    replace(CELL, downstream="a"),
    replace(CELL, downstream=None),
    replace(CELL, hyperparameters={"strength": 1.1, "other": "x"}),
    replace(CELL, hyperparameters={"strength": 1.0}),
    replace(CELL, recipe={"lr": 1e-3, "epochs": 11, "precision": "fp32"}),
    replace(CELL, recipe={"lr": 1e-3, "epochs": 10, "precision": "bf16"}),
    replace(CELL, recipe=None),
    replace(CELL, seed=4),
    with_model(architecture="test_vit"),
    with_model(weights="sha256:00fe"),
    with_model(arguments={"num_classes": 10}),
    with_model(transform={"crop_pct": 0.9, "mean": [0.5, 0.5, 0.5]}),
    with_model(transform={}),
    replace(CELL, parents=(BASE,)),
    SOUP,
    replace(SOUP, parents=(CELL, BASE)),
    replace(SOUP, parents=(BASE, replace(CELL, seed=4))),
    replace(SOUP, parents=(BASE, replace(CELL, parents=(BASE,)))),
]


def test_everything_else_is_part_of_it() -> None:
    ids = [cell.cell_id for cell in (CELL, BASE, *OTHERS)]
    assert len(set(ids)) == len(ids)
    assert all(other != CELL for other in OTHERS)


def test_every_field_is_accounted_for() -> None:
    """A field that is added has to be put into the identity, or listed here as left out."""
    asked = replace(CELL, skip_undecodable=True, accept_images=5)
    assert set(vars(asked)) - {"cell_id"} - set(asked.identity()) == {"label"}
    keyed = replace(MODEL, key="state_dict_ema")
    assert set(vars(keyed)) - set(keyed.identity()) == {"name", "pretraining", "file"}


def test_what_is_asked_for_about_its_images_makes_another_cell_and_comes_back_from_json() -> None:
    choices: list[dict[str, Any]] = [
        {},
        {"skip_undecodable": True},
        {"accept_images": 5},
        {"accept_images": 6},
        {"skip_undecodable": True, "accept_images": 5},
    ]
    cells = [replace(CELL, **choice) for choice in choices]
    assert len({cell.cell_id for cell in cells}) == len(choices)
    assert [Cell.from_json(cell.to_json()).cell_id for cell in cells] == [
        cell.cell_id for cell in cells
    ]
    assert [cell.data_choices for cell in cells] == choices


def test_the_label_of_a_parent_is_no_part_of_it() -> None:
    renamed = replace(SOUP, parents=(replace(BASE, label="PRE"), replace(CELL, label="EWC")))
    assert renamed.cell_id == SOUP.cell_id


@pytest.mark.parametrize(
    "cell",
    [
        CELL,
        BASE,
        SOUP,
        replace(CELL, skip_undecodable=True),
        replace(CELL, accept_images=7499),
        replace(CELL, skip_undecodable=True, accept_images=0),
        replace(CELL, suite='quo"te\\', method="méthode", downstream="集合\n", seed=-1),
    ],
)
def test_the_id_is_the_hash_of_the_canonical_json(cell: Cell) -> None:
    text = json.dumps(cell.identity(), sort_keys=True, separators=(",", ":"))
    assert cell.cell_id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_sibling_is_a_cell_with_another_seed_and_other_parents() -> None:
    asked = replace(CELL, skip_undecodable=True, accept_images=7499)
    assert asked.cell_id  # known by then, and not the sibling's
    siblings = Siblings(asked)
    for parents in ((), (BASE,), (BASE, SOUP)):
        sibling, expected = siblings.cell(7, parents), replace(asked, seed=7, parents=parents)
        assert sibling.cell_id == expected.cell_id != asked.cell_id
        assert vars(sibling) == vars(expected), "with its id, which is known by now"
    assert asked.seed == CELL.seed


def test_other_hyperparameters_make_another_id() -> None:
    cells = [replace(CELL, hyperparameters={"strength": n}) for n in range(10_000)]
    ids = [cell.cell_id for cell in cells]
    assert len(set(ids)) == len(ids)
    assert ids[7] == replace(CELL, hyperparameters={"strength": 7}).cell_id


def test_the_id_is_the_same_in_another_process() -> None:
    """Python's own hashes are salted anew in every process."""
    code = "import sys; from workers.cell import Cell; print(Cell.from_json(sys.argv[1]).cell_id)"
    ran = subprocess.run(
        [sys.executable, "-c", code, SOUP.to_json()], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == SOUP.cell_id


@pytest.mark.parametrize("cell", [BASE, CELL, SOUP], ids=["baseline", "cell", "soup"])
def test_json_and_pickle_give_the_same_cell_back(cell: Cell) -> None:
    for back in (Cell.from_json(cell.to_json()), pickle.loads(pickle.dumps(cell))):  # noqa: S301
        assert back.cell_id == cell.cell_id
        assert back.to_json() == cell.to_json()
        assert (back.label, back.model.name, back.model.file) == (
            cell.label,
            "small",
            "models/small.safetensors",
        )
        assert [parent.cell_id for parent in back.parents] == [p.cell_id for p in cell.parents]
        assert str(back) == str(cell)


def test_json_with_unknown_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="epoch"):
        Cell.from_json(json.dumps({**json.loads(CELL.to_json()), "epoch": 3}))


def test_parents_count_by_what_they_are() -> None:
    assert [parent["suite"] for parent in json.loads(SOUP.to_json())["parents"]] == ["s", "s"]
    assert SOUP.identity()["parents"] == [BASE.cell_id, CELL.cell_id]
    assert BASE.is_baseline
    assert not CELL.is_baseline


def test_seeds_differ_by_purpose_and_by_cell() -> None:
    purposes = ["train", "fisher", "order"]
    seeds = [cell.derive_seed(p) for cell in (CELL, SOUP, replace(CELL, seed=4)) for p in purposes]
    assert len(set(seeds)) == 9
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert CELL.derive_seed("train") == replace(CELL, label="x").derive_seed("train")
    text = f"{CELL.cell_id}/train".encode()
    assert CELL.derive_seed("train") == int(hashlib.sha256(text).hexdigest()[:16], 16) // 2


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)
    assert json.loads(canonical_json(value)) == value
    assert digest(value) == digest(backwards)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_not_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"lr": bad})
    with pytest.raises(ValueError, match="JSON"):
        _ = replace(CELL, hyperparameters={"strength": bad}).cell_id
