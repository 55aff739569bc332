"""What a machine answers: on real data, weights and stores."""

import pickle
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster import questions
from orchestrator.cluster.facts import facts_here
from orchestrator.cluster.guard import fault_here
from orchestrator.cluster.questions import Probe, Question, answer, probe_name, try_store
from tests.embedded import SUITE, embedded_model
from workers.datasets import read_dataset
from workers.digests import file_digest


@pytest.fixture
def question(digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Question:
    monkeypatch.setenv("RIB_DATA", str(digits_root))
    monkeypatch.setattr(questions, "LOOK_S", 0.3)
    model = embedded_model("resnet_digits", digits_root)
    return Question(SUITE, {}, "${RIB_DATA}", ("a", "v2"), (model,), str(tmp_path / "store"))


def test_digests_are_those_of_the_data_and_the_file(question: Question, digits_root: Path) -> None:
    with Probe(question.store, "p"):
        found = answer(replace(question, probe="p"), "node")
    assert found.datasets == {
        name: read_dataset(SUITE, SUITE.dataset(name), digits_root).digest for name in ("a", "v2")
    }
    (model,) = question.models
    assert found.weights == {model.name: file_digest(digits_root / str(model.file))}
    assert found.data_faults == found.weight_faults == ()
    assert found.store_fault == ""
    assert found.gpus is None


def test_a_suite_of_the_user_s_own_need_not_be_known_here(question: Question) -> None:
    own = replace(SUITE, name="declared-elsewhere")
    assert answer(replace(question, suite=own), "node").datasets.keys() == {"a", "v2"}


def test_an_unset_variable_is_named(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIB_DATA")
    found = answer(question, "node")
    assert found.data_faults == ("the variable RIB_DATA in '${RIB_DATA}' is not set",)
    assert "the variable RIB_DATA" in found.weight_faults[0]


def test_data_that_are_not_there_are_named(
    question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIB_DATA", str(tmp_path / "none"))
    found = answer(question, "node")
    assert found.data_faults == (f"there is no folder {tmp_path / 'none'}",)
    assert found.datasets == {}
    (tmp_path / "none").mkdir()
    found = answer(question, "node")
    assert [fault.split(":")[0] for fault in found.data_faults] == ["a", "v2"]


# ---------------------------------------------------------------------- the store


def test_a_shared_store_is_seen_from_both_ends_and_nothing_is_left(tmp_path: Path) -> None:
    store = tmp_path / "deep" / "store"
    with Probe(str(store), "p") as trial:
        assert try_store(str(store), "p", "node") == ""
        assert trial.sees("node")
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_a_store_stays(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{}")
    with Probe(str(tmp_path), "p"):
        assert try_store(str(tmp_path), "p", "node") == ""
    assert list(tmp_path.iterdir()) == [tmp_path / "store.json"]


def test_another_folder_of_the_same_name_is_no_shared_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "LOOK_S", 0.3)
    here, there = tmp_path / "here", tmp_path / "there"
    with Probe(str(here), "p"):
        assert try_store(str(there), "p", "node") == "it does not see what the driver writes there"
    assert not there.exists(), "nothing was written"


def test_a_store_that_shows_nothing_of_a_node_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "LOOK_S", 0.3)
    with Probe(str(tmp_path / "s"), "p") as trial:
        assert not trial.sees("node")


def test_what_shows_late_is_waited_for(tmp_path: Path) -> None:
    with Probe(str(tmp_path), "p") as trial:
        late = threading.Timer(0.3, (tmp_path / probe_name("p", "node")).write_text, ["p"])
        late.start()
        assert trial.sees("node")


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in try_store(str(tmp_path / "file" / "store"), "p", "node")


# ---------------------------------------------------------------------- who joins later


def test_a_machine_that_joins_later_is_asked_the_same(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = facts_here()
    digests = answer(question, "driver").datasets
    store = Path(question.store)
    store.mkdir()
    asked = pickle.dumps(question)
    assert fault_here(ours, asked, digests, "late") == "the store: it does not see the store"
    (store / "store.json").write_text("{}")
    assert fault_here(ours, asked, digests, "late") == ""
    assert "another copy" in fault_here(ours, asked, {**digests, "a": "other"}, "late")
    older = {**ours, "versions": {**ours["versions"], "torch": "1.0"}}
    assert "there, 1.0 here" in fault_here(older, b"not even read", digests, "late")
    monkeypatch.delenv("RIB_DATA")
    assert "the variable RIB_DATA" in fault_here(ours, asked, digests, "late")
