# Every target stands alone: it makes .venv and installs into it what is missing, then does its work.
# Needed beforehand: Python 3.11 or newer, and make.

PYTHON ?= python3
CONFIG ?= examples/01_digits/config.yaml

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# One thread per process: results do not depend on the number of cores, and small tensors are fastest so.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
IN_PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install train test test-long check format examples wheel-test docs bench bench-quick soak clean

help:  ## list the targets
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv and install the project with what developing it takes

train: $(STAMP)  ## train example 1, or another one: make train CONFIG=examples/…/config.yaml
	$(BIN)/emloop-mtl train $(CONFIG)

test: $(STAMP)  ## run the tests that take seconds
	$(PYTEST) -m "not long and not soak" $(IN_PARALLEL)

test-long: $(STAMP)  ## run the tests that make test leaves out because they take longer: kills, signals, broken configs
	$(PYTEST) -m long $(IN_PARALLEL)

soak: $(STAMP)  ## run the tests that take minutes
	$(PYTEST) -m soak --timeout 3600 $(IN_PARALLEL)

check: $(STAMP)  ## check format, lint, types and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py
	$(PYTEST) tests/test_architecture.py

format: $(STAMP)  ## format the code and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

examples: $(STAMP)  ## train every example
	@set -e; for config in examples/*/config.yaml; do echo "== $$config"; $(BIN)/emloop-mtl train "$$config"; done
	@set -e; for program in examples/*/library.py; do echo "== $$program"; $(BIN)/python "$$program"; done

wheel-test: $(STAMP)  ## build wheel and source distribution, install the wheel elsewhere and train with it
	$(BIN)/python tests/wheel/run.py

docs: $(STAMP)  ## build the manual and its reference into site/
	$(BIN)/python docs/build_site.py

bench: $(STAMP)  ## measure the cost of the engine beside loops by hand, into benchmarks/results.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks $(if $(PEERS_PYTHON),--peers-python $(PEERS_PYTHON))

bench-quick: $(STAMP)  ## check that what make bench compares is the same work
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks --quick

clean:  ## remove .venv and all that was built; log/ stays
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./log -prune -o -type d -name __pycache__ -exec rm -rf {} +

$(BIN)/python:
	$(if $(filter yes,$(shell command -v $(PYTHON) >/dev/null && \
	$(PYTHON) -c 'import sys; print("yes" if sys.version_info >= (3, 11) else "no")')),,$(error \
	Python 3.11 or newer is needed, '$(PYTHON)' is \
	$(shell command -v $(PYTHON) >/dev/null && $(PYTHON) --version || echo not there); try make PYTHON=python3.12))
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Pinned build tools and no isolated build environment: what builds the project is what constraints.txt says.
$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) pip setuptools
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
