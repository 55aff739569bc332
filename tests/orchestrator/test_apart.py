"""Questions that a process of their own answers."""

import math
import os
import sys

import pytest

from orchestrator.apart import apart
from tests.orchestrator import questions
from workers.errors import UserError


def test_the_answer_is_what_the_function_returns() -> None:
    assert apart(math.hypot, 3.0, 4.0) == 5.0


def test_what_is_imported_to_answer_is_not_imported_here() -> None:
    before = set(sys.modules)
    process, has_it = apart(questions.import_there, "wsgiref.validate")
    assert has_it
    assert process != os.getpid()
    assert "wsgiref.validate" not in set(sys.modules) - before


def test_an_exception_is_raised_as_it_was_there() -> None:
    with pytest.raises(UserError, match="models: no good") as caught:
        apart(questions.complain, where="models")
    assert [problem.where for problem in caught.value.problems] == ["models"]


def test_what_is_printed_there_is_not_taken_for_the_answer() -> None:
    assert apart(questions.chatter) == "the answer"


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(ChildProcessError, match=r"questions\.die"):
        apart(questions.die)
