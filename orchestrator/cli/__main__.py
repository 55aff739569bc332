"""`python -m orchestrator.cli`: the command line where `rib` is not on the path."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
