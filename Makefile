PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help venv demo test lint format bench clean
.DEFAULT_GOAL := help

help: ## Show what can be made.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## Set up .venv with everything that the other targets need.

$(READY): setup.cfg pyproject.toml setup.py $(wildcard shake/codec/_native/*)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip>=22' # the first that can -e us
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## Migrate a table between two embedded servers (ARGS=--once: and end).
	@bin/shake-demo $(ARGS)

test: lint ## Lint, then run the tests (ARGS='-k page').
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## Check format, style and types.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(READY) ## Format, and mend what can be mended.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(READY) ## Run the benchmarks (ARGS=--help).
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove all that was made here.
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
