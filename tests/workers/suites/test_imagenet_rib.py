"""What the suite says of ImageNet-RIB, against timm's code, the poster and published facts."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from timm.data import ImageNetInfo

from orchestrator.set_names import IMAGENET_RIB
from tests.imagenet_archives import PUBLISHED_COUNTS
from workers.suites import suites

SUITE = suites()["imagenet-rib"]
A = SUITE.dataset("imagenet-a").classes or ()
R = SUITE.dataset("imagenet-r").classes or ()
POSTER = Path(__file__).resolve().parents[2] / "data" / "poster_vit_b16_augreg_in1k.csv"


def test_its_sets_are_those_that_published_tables_name() -> None:
    assert SUITE.id.name == IMAGENET_RIB.id
    assert SUITE.ood_names == IMAGENET_RIB.ood


def test_logit_k_is_timm_s_class_k() -> None:
    """timm's own code, which is not used, says which class every logit stands for."""
    info = ImageNetInfo("imagenet-1k")
    assert len(SUITE.space) == info.num_classes() == 1000
    assert list(SUITE.space.ids) == info.label_names()
    assert list(SUITE.space.names) == info.label_descriptions()


@pytest.mark.parametrize(
    ("index", "class_id", "name"),
    [
        (0, "n01440764", "tench, Tinca tinca"),
        (10, "n01530575", "brambling, Fringilla montifringilla"),
        (134, "n02012849", "crane"),
        (517, "n03126707", "crane"),
        (999, "n15075141", "toilet tissue, toilet paper, bathroom tissue"),
    ],
)
def test_some_classes_that_everybody_knows(index: int, class_id: str, name: str) -> None:
    assert SUITE.space.index[class_id] == index
    assert SUITE.space.names[index] == name


def test_a_and_r_have_200_classes_each_and_share_86() -> None:
    assert len(set(A)) == len(set(R)) == 200
    assert len(set(A) & set(R)) == 86
    assert set(A) | set(R) <= set(SUITE.space.ids)


def test_a_and_r_are_the_subsets_whose_logits_timm_lists() -> None:
    """timm ships each subset twice: by WordNet id, which is used, and by logit."""
    folder = Path(timm.__file__).parent / "data" / "_info"
    for classes, name in ((A, "a"), (R, "r")):
        listed = [int(k) for k in (folder / f"imagenet_{name}_indices.txt").read_text().split()]
        assert sorted(SUITE.space.index[class_id] for class_id in classes) == sorted(listed)


def test_counts_are_the_published_ones() -> None:
    counts = {name: spec.n_images for name, spec in SUITE.evaluation_sets.items()}
    assert counts == PUBLISHED_COUNTS
    objectnet = SUITE.dataset("objectnet")
    assert (objectnet.n_classes, objectnet.n_indices) == (113, 125)
    assert objectnet.options["border"] == 2


def test_c_has_15_corruptions_of_5_severities_and_no_other_set_has_splits() -> None:
    splits = SUITE.dataset("imagenet-c").splits
    assert len(splits) == len(set(splits)) == 75
    corruptions = {corruption for corruption, _ in splits}
    assert len(corruptions) == 15
    assert not corruptions & {"gaussian_blur", "saturate", "spatter", "speckle_noise"}
    assert {severity for _, severity in splits} == {1, 2, 3, 4, 5}
    assert sum(len(spec.splits) for spec in SUITE.evaluation_sets.values()) == 8 + 75


def test_sets_made_from_val_contaminate_it_and_each_other() -> None:
    made = {"imagenet-c", "imagenet-cartoon", "imagenet-drawing"}
    for name in SUITE.ood_names:
        others = (made | {"imagenet-1k"}) - {name} if name in made else set()
        assert set(SUITE.contaminates(name)) == others


def test_objectnet_alone_may_not_be_tuned_on() -> None:
    clauses = {name: spec.no_tuning for name, spec in SUITE.evaluation_sets.items()}
    clause = clauses.pop("objectnet")
    assert clause is not None
    assert clause.name == "objectnet-no-tuning-clause"
    assert "tune" in clause.reason
    assert not any(clauses.values())


# ---------------------------------------------------------------------------- published figures


def test_there_are_figures_for_19_models_of_timm_on_5_sets() -> None:
    assert len(SUITE.published) == 19
    names = {"imagenet-1k", "imagenet-v2", "imagenet-a", "imagenet-r", "imagenet-sketch"}
    for model, figures in SUITE.published.items():
        assert timm.is_model_pretrained(model), model
        if model == "resnet50.tv_in1k":
            assert set(figures) == names - {"imagenet-a"} | {"imagenet-cartoon", "imagenet-drawing"}
        else:
            assert set(figures) == names
        # Every model gets worse from ImageNet to V2; a slip of a column would not.
        assert 100 > figures["imagenet-1k"] > figures["imagenet-v2"] + 8
        assert figures["imagenet-v2"] > figures["imagenet-r"] > figures["imagenet-sketch"] > 0


def test_the_poster_s_pretrained_row_agrees_within_the_canary_s_tolerance() -> None:
    with POSTER.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "pretrained"]
    poster = {row["eval_dataset"]: float(row["accuracy_percent"]) for row in rows}
    figures = SUITE.published["vit_base_patch16_224.augreg_in1k"]
    assert len(figures) == 5
    assert {name: poster[name] for name in figures} == pytest.approx(figures, abs=0.2)


# ---------------------------------------------------------------------------- cost


def test_knowing_the_suites_loads_nothing_heavy() -> None:
    """`rib plan` reads them each time; timm and torch take seconds."""
    code = (
        "import sys; from workers.suites import suites; assert len(suites()) >= 2; "
        "print(*sorted({'torch', 'timm', 'numpy', 'PIL', 'pandas', 'pydantic'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
