PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Else each of the many processes that tests start would compile all of shake again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv demo test matrix lint format docs bench profile sanitize fuzz clean
.DEFAULT_GOAL := help

help: ## Show what can be made.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## Set up .venv with everything that the other targets need.

$(READY): setup.cfg pyproject.toml setup.py $(wildcard shake/codec/_native/*)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip>=22' # the first that can -e us
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## Migrate a table between two embedded servers (ARGS=--once: and end).
	@bin/shake-demo $(ARGS)

test: lint ## Lint, then run the tests (ARGS='-k page').
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)

matrix: $(READY) ## Test migrations on MongoDB 4.4, 5.0 and 6.0.
	$(BIN)/python -m pytest -m matrix --numprocesses 2 $(ARGS) tests/test_matrix.py tests/test_replacing.py

lint: $(READY) ## Check format, style and types.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(READY) ## Format, and mend what can be mended.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(READY) ## Build the documentation into build/site, and check its links.
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

bench: $(READY) ## Run the benchmarks (ARGS='full --rounds 1').
	$(BIN)/python -m benchmarks $(ARGS)

profile: $(READY) ## Copy under a sampling profiler: flame graphs in build/profile (ARGS=--help).
	$(BIN)/python -m benchmarks.flames $(ARGS)

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1
SANITIZED := build/sanitized

sanitize: $(READY) ## Run the codec's tests with its C under address and undefined behaviour checks.
	CFLAGS='$(SANITIZE)' $(BIN)/python setup.py --quiet build --force \
	  --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONMALLOC=malloc SHAKE_CODEC=native $(BIN)/python -m pytest -p no:cacheprovider \
	  -o pythonpath='$(SANITIZED)/lib .' --timeout 900 -k 'not servers' tests/test_codec*.py $(ARGS)

FUZZ := $(filter-out %/module.c,$(wildcard shake/codec/_native/*.c))

fuzz: ## Throw damaged pages at the C codec, under the same checks (ARGS=-max_total_time=60).
	@mkdir -p build
	$(CC) -std=c11 $(SANITIZE) -DSHAKE_DRIVER $(FUZZ) -o build/fuzz
	$(CC) -std=c11 $(SANITIZE) -DSHAKE_DRIVER -DSHAKE_PORTABLE $(FUZZ) -o build/fuzz-portable
	build/fuzz $(ARGS)
	build/fuzz-portable $(ARGS)

clean: ## Remove all that was made here.
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f shake/codec/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
