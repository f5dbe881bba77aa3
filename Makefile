# What CI runs is what you run. `make help` says what there is.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick consistency differences lab lab-quick lint format lock bench picture traces clean

help: ## what you can make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(READY) ## the 2017 demonstration: record it on the emulator, replay, report; the real one too
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh traces/demo.sh demo

test: $(READY) ## all tests, with coverage
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered

test-quick: $(READY) ## the tests that take seconds
	$(BIN)/pytest -q -m "not slow"

consistency: $(READY) ## verdicts against the emulator's truth: every scenario, 20 seeds each
	$(BIN)/python -m tests.emulator.consistency

differences: $(READY) ## evtrace diff: pairs of seeds, and a stage slowed down by a fifth; 100 of each scenario
	$(BIN)/python -m tests.diff.acceptance

lab: $(READY) ## record on a real Xen under QEMU (tests/lab/README.md): all of it, 15 to 20 minutes
	@sh tests/lab/tools.sh $(BIN)/python
	$(BIN)/python -m pytest -m lab tests/lab

lab-quick: $(READY) ## one experiment of it; skipped where there is no machine for it
	@sh tests/lab/tools.sh $(BIN)/python
	EVTRACE_LAB_OPTIONAL=1 $(BIN)/python -m pytest -m lab -k guest tests/lab/test_record.py

lint: $(READY) ## ruff, mypy, the floors of the house, the lock files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/uv lock --check --quiet
	$(BIN)/uv export --quiet --no-header --no-emit-project --format requirements-txt | diff requirements.txt -

format: $(READY) ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY) ## renew uv.lock and requirements.txt after a change of dependencies
	$(BIN)/uv lock
	$(BIN)/uv export --quiet --no-header --no-emit-project --format requirements-txt -o requirements.txt

bench: $(READY) ## the record walk, the replay and the start-up, as ratios within one run; the page
	$(BIN)/python tests/bench/bench.py
	$(BIN)/python -m tests.bench.page

picture: $(READY) ## docs/img/report.png, the page of a real capture; needs Chromium
	$(BIN)/python -m tests.browser.picture

traces: $(READY) ## the stored traces, by the commands in traces/*.toml; the same seed gives the same bytes
	$(BIN)/python -m tests.stored_traces

clean: ## remove what the targets above made
	rm -rf $(VENV) demo build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info

# A virtual environment of our own, filled from the hashed list and nothing else. The list is
# complete, so nothing is resolved: older pips meet `coverage[toml]` and want its newest version.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "evtrace needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || $(PYTHON) -m venv --without-pip $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m pip --python $(BIN)/python install --quiet pip || { \
	    echo "this Python has neither ensurepip nor pip: on Debian, apt install python3-venv"; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
