# Two commands: `make quickstart` runs a real grid, `make test` checks everything.
# Both set up .venv the first time and install nothing after that.

PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: quickstart test lint format docs bench chaos clean

quickstart: $(INSTALLED)
	$(BIN)/rib run grids/quickstart.yaml

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

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

# A short version of every benchmark; docs/performance.md has the long ones.
bench: $(INSTALLED) | data/digits-rib
	$(BIN)/python -m benchmarks.overhead --cells 100,1000 --tune 20 --snakemake 300 --repeat 1
	$(BIN)/python -m benchmarks.planning --cells 10000 --repeat 1
	$(BIN)/python -m benchmarks.store --cells 5000 --repeat 1
	$(BIN)/python -m benchmarks.makespan
	$(BIN)/python -m benchmarks.throughput --images 128 --repeat 1
	$(BIN)/python -m benchmarks.reuse --cells 100
	$(BIN)/python -m benchmarks.naive --models resnet_digits --downstream v2

data/digits-rib: | $(INSTALLED)
	$(BIN)/rib data make digits-rib --root $@

chaos: $(INSTALLED)
	$(BIN)/python -m tests.chaos --faults 200 --seed 7

clean:
	rm -rf .venv

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
