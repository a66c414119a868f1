# Everything a developer does, by one word each; `make` alone lists the words.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
TORCH ?= 2.13.0
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK_VENV := .venv-lock
CODE := src tests tools examples $(wildcard benchmarks)

# One thread per process: the tests run in several processes, and more threads only fight.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

# Tests of one file stay in one process, so that a fixture of that file is made once.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: help setup test test-slow check format demo demo-lm bench wheel lock clean

help:  ## List the words that make knows
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## Make .venv with the locked packages, if it is missing or stale

# pip, not uv or poetry: pip prefers a CPU build of torch where one is configured.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is older than 3.11; say which to use: make setup PYTHON=python3.12"; \
	    exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

test: $(STAMP)  ## Run the quick tests
	$(PYTEST) -m "not slow"

# pytest leaves with 5 where no test is marked slow, which is no failure.
test-slow: $(STAMP)  ## Run the tests marked slow
	$(PYTEST) -m slow --durations=10 || [ $$? -eq 5 ]

check: $(STAMP)  ## Check format, lint, types, size caps, layers, circles and names
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/python tools/check_caps.py $(CODE)
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_imports.py tests/test_structure.py

format: $(STAMP)  ## Format the code, and mend what lint can mend
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

demo: $(STAMP)  ## Forget some digits, and show what was forgotten
	$(BIN)/expunge demo

demo-lm: $(STAMP)  ## Forget some invented people with a small language model, and show it
	$(BIN)/expunge demo --lm

bench: $(STAMP)  ## Measure speed and memory, one benchmark after another
	@for file in benchmarks/*.py; do \
	    [ -e "$$file" ] || { echo "benchmarks/ holds no benchmark"; exit 1; }; \
	    echo "== $$file"; env -u OMP_NUM_THREADS $(BIN)/python "$$file"; \
	done

wheel: $(STAMP)  ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# The CPU build adds "+cpu" to its version, which no other index knows. The CUDA packages are left
# out, since only some machines take them: torch itself names those that it needs. The CUDA build of
# torch asks for setuptools below 82, which the CPU build does not say.
lock:  ## Install the newest allowed packages afresh, and pin them in requirements.lock
	$(PYTHON) -m venv --clear $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet torch==$(TORCH) 'setuptools<82' -e '.[dev]'
	{ echo "# Written by \`make lock\`; do not edit."; \
	  $(LOCK_VENV)/bin/python -m pip freeze --all --exclude-editable --exclude pip \
	    | sed -E 's/^(torch==[0-9.]+)\+[a-z0-9]+.*/\1/' \
	    | grep -vE '^(cuda|nvidia|triton)'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf $(LOCK_VENV)

clean:  ## Remove what make and the tools made
	rm -rf $(VENV) $(LOCK_VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
