"""`python -m orchestrator`: the command line, where `rib` is not on the path."""

from orchestrator.cli import main

main()
