"""Calling `rib` in this process, which is much faster than starting one."""

import sys
from unittest import mock

import pytest

from orchestrator.cli import main


def rib(*arguments: object) -> int:
    """Run a command line; return its exit code. What is raised, a user would see as a traceback."""
    command = ["rib", *map(str, arguments)]
    with mock.patch.object(sys, "argv", command), pytest.raises(SystemExit) as stopped:
        main()
    code = stopped.value.code
    assert isinstance(code, int)
    return code
