# Two commands: `make quickstart` runs a real grid, `make test` checks everything.
# Both set up .venv the first time and install nothing after that.

PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: quickstart test lint format docs bench chaos clean

quickstart: $(INSTALLED)
	$(BIN)/rib run grids/quickstart.yaml

test: lint
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)
	$(BIN)/python -m orchestrator.grid_keys > docs/grid-keys.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo site/index.html

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.overhead

chaos: $(INSTALLED)
	$(BIN)/python -m tests.chaos --faults 200 --seed 7

clean:
	rm -rf .venv

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
