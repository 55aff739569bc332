"""Paths that each machine fills in for itself."""

from pathlib import Path

import pytest

from workers.errors import DataError
from workers.paths import UnsetError, differs_by_machine, fill_in, place_here

HAS = {"RIB_DATA": "/data", "EMPTY": "", "HOME": "/home/somebody"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("/plain/path", "/plain/path"),
        ("${RIB_DATA}/imagenet", "/data/imagenet"),
        ("$RIB_DATA/imagenet", "/data/imagenet"),
        ("/x/${RIB_DATA}y", "/x//datay"),
        ("${EMPTY}x", "x"),
        ("${EMPTY:-/default}/x", "/default/x"),
        ("${NOT_THERE:-/default}/x", "/default/x"),
        ("${RIB_DATA:-/default}/x", "/data/x"),
        ("${NOT_THERE:-}/x", "/x"),
    ],
)
def test_variables_are_filled_in_as_by_a_shell(text: str, filled: str) -> None:
    assert fill_in(text, HAS) == filled


def test_a_leading_tilde_is_the_home_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert fill_in("~/data") == "/home/somebody/data"
    assert fill_in("/data/~") == "/data/~"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${A}/x", r"the variable A in '\$\{A\}/x' is not set"),
        ("$A/$B/$A", r"the variables A, B in '\$A/\$B/\$A' are not set"),
        ("/x$", "has a \\$ that begins no variable"),
        ("${A", "has a \\$ that begins no variable"),
    ],
)
def test_every_variable_that_is_not_set_is_named(text: str, said: str) -> None:
    with pytest.raises(UnsetError, match=said):
        fill_in(text, {})


def test_what_differs_by_machine() -> None:
    assert differs_by_machine("~/x")
    assert differs_by_machine("/x/$Y")
    assert not differs_by_machine("/x/y")


def test_a_place_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIB_DATA", "/here")
    assert place_here("${RIB_DATA}/x") == Path("/here/x")
    assert place_here("relative/x") == Path("relative/x")
    monkeypatch.setenv("RIB_DATA", "here")
    with pytest.raises(DataError, match="is 'here/x' here, which is not absolute"):
        place_here("${RIB_DATA}/x")
    monkeypatch.delenv("RIB_DATA")
    with pytest.raises(DataError, match=r"the variable RIB_DATA in .* is not set"):
        place_here("${RIB_DATA}/x")
