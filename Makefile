PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Without compiled files, each process that a test starts would compile all of shake again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv demo servers test slow browser matrix ray lint format docs generated wheels bench profile sanitize fuzz clean
.DEFAULT_GOAL := help

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## Install everything that the other targets need into .venv.

$(READY): setup.cfg pyproject.toml setup.py $(wildcard shake/codec/_native/*)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip>=22' # the first that installs this project with -e
	rm -f shake/codec/*.so # one of another kind would hide the new one
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## Migrate a table between two embedded servers (ARGS=--once ends by itself).
	@bin/shake-demo $(ARGS)

servers: $(READY) ## Start the embedded servers until Ctrl-C; prints a configuration for them.
	@$(BIN)/python -m tools.servers

test: lint ## Lint, then run the tests (ARGS='-k page').
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)
	@$(call browser,$@)

# Says so where there is no browser for the status page. $(1) is the target.
define browser
{ command -v chromium || command -v chromium-browser; } > /dev/null && command -v chromedriver > /dev/null || \
  echo 'make $(1): THE STATUS PAGE WAS NOT TESTED IN A BROWSER: chromium or chromedriver is missing.'
endef

# Each process of pytest reads all the files that it is given.
SLOW = $(shell grep --files-with-matches mark.slow tests/test_*.py)

slow: $(READY) ## Run the tests that take the longest, which `make test` leaves out.
	$(BIN)/python -m pytest -m slow --numprocesses 5 --dist worksteal $(ARGS) $(SLOW)

browser: $(READY) ## Test the status page in a real browser (chromium and chromedriver).
	@$(call browser,$@)
	$(BIN)/python -m pytest -m browser --numprocesses 2 --dist worksteal $(ARGS) tests/test_browser.py

matrix: $(READY) ## Test migrations on MongoDB 4.4, 5.0 and 6.0.
	$(BIN)/python -m pytest -m matrix --numprocesses 2 $(ARGS) tests/test_matrix.py tests/test_replacing_by_name.py

.venv/.ray: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[ray]'
	@touch $@

ray: .venv/.ray ## Test nodes on a real Ray cluster on this machine.
	$(BIN)/python -m pytest -m ray $(ARGS) tests/test_nodes_ray.py

lint: $(READY) ## Check format, style and types of all code.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(READY) ## Format the code, and fix what can be fixed.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.venv/.docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

docs: .venv/.docs ## Build the documentation into build/site, and check its links.
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

generated: $(READY) ## Write the files that are made of the code: man pages, completion, key lists.
	$(BIN)/python -m tools.generate

.venv/.release: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[release]'
	@touch $@

wheels: .venv/.release ## Build sdist and wheels into dist, check them, and try them where nothing is.
	@mkdir -p build
	$(BIN)/python -m tools.wheels > build/wheels.log 2>&1 || { cat build/wheels.log; exit 1; }
	$(BIN)/python -m pytest -m wheel $(ARGS) tests/test_wheel.py

bench: $(READY) ## Run the benchmarks (ARGS='full --rounds 1').
	$(BIN)/python -m benchmarks $(ARGS)

profile: $(READY) ## Copy under a sampling profiler: flame graphs in build/profile (ARGS=--help).
	$(BIN)/python -m benchmarks.flames $(ARGS)

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1
SANITIZED := build/sanitized

# Ends a recipe without an error where the compiler has no sanitizers. $(1) is the recipe's target.
define sanitizers
mkdir -p build; { echo 'int main(void) { return 0; }' > build/probe.c && \
  $(CC) -std=c11 $(SANITIZE) build/probe.c -o build/probe && build/probe; } 2> build/probe.log || \
  { echo 'make $(1): NOTHING WAS CHECKED: $(CC) has no sanitizers (see build/probe.log).'; exit 0; }
endef

sanitize: $(READY) ## Test the C codec under address and undefined behaviour checks.
	@$(call sanitizers,$@); set -ex; \
	libasan="$$($(CC) -print-file-name=libasan.so)"; \
	test -e "$$libasan" || { echo 'make $@: NOTHING WAS CHECKED: $(CC) has no libasan.so.'; exit 0; }; \
	CC='$(CC)' CFLAGS='$(SANITIZE)' $(BIN)/python setup.py --quiet build --force \
	  --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib; \
	LD_PRELOAD="$$libasan" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONMALLOC=malloc SHAKE_CODEC=native $(BIN)/python -m pytest -p no:cacheprovider \
	  -o pythonpath='$(SANITIZED)/lib .' --timeout 900 --numprocesses 2 -k 'not servers' \
	  tests/test_codec*.py $(ARGS)

NATIVE := shake/codec/_native
FUZZ := -I$(NATIVE) $(wildcard tests/fuzz/*.c) \
  $(filter-out $(wildcard $(NATIVE)/module*.c),$(wildcard $(NATIVE)/*.c))

fuzz: ## Feed damaged pages and documents to the C codec under these checks (ARGS=-max_total_time=60).
	@$(call sanitizers,$@); set -ex; \
	$(CC) -std=c11 $(SANITIZE) -DSHAKE_DRIVER $(FUZZ) -o build/fuzz; \
	$(CC) -std=c11 $(SANITIZE) -DSHAKE_DRIVER -DSHAKE_PORTABLE $(FUZZ) -o build/fuzz-portable; \
	build/fuzz $(ARGS) & other=$$!; \
	build/fuzz-portable $(ARGS); \
	wait $$other

clean: ## Remove everything that make has created.
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f shake/codec/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
