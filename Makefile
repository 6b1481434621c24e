# Two commands set everything up on a machine that has Python 3.11 or newer: `make run`, `make test`.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TORCH := torch==2.13.0
# Flower looks for its own programs on the PATH only.
ON_PATH := PATH="$(CURDIR)/$(BIN):$$PATH"

# A second thread of PyTorch's in each of several processes slows all of them down.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install run test test-system test-slow test-gpu check format lint types imports \
	constraints clean

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with everything needed to run and to test

$(INSTALLED): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "daafl needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 install"; exit 2; }
	@echo "Installing into $(VENV); the first time takes a few minutes."
	@# A system Python may come without ensurepip; its own pip can then fill the environment.
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation \
		$(TORCH) --editable '.[torch,data,simulation,he,proofs,dev]'
	@touch $@

run: install ## Train the quickstart federation, show its report (ARGS="seed=1")
	$(ON_PATH) $(BIN)/daafl run experiment=quickstart $(ARGS)

test: install ## Run the fast tests on two cores (ARGS="-k name" selects)
	$(ON_PATH) $(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

test-system: install ## Run the tests that start real servers
	$(ON_PATH) $(BIN)/python -m pytest -m system $(ARGS)

test-slow: install ## Run the tests that take minutes
	$(ON_PATH) $(BIN)/python -m pytest -m slow $(ARGS)

test-gpu: install ## Run the tests that need a CUDA device
	$(ON_PATH) $(BIN)/python -m pytest -m gpu $(ARGS)

check: lint types imports test ## Run every check of the fast stage

format: install ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: install ## Check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## Check the types of the package as it is installed
	$(BIN)/python tools/link_types.py
	$(BIN)/mypy

imports: install ## Check that imports go one way
	$(BIN)/python tools/link_types.py
	@# Its cache remembers an import of a module that did not exist yet, and ignores the module later.
	cd .types && $(CURDIR)/$(BIN)/lint-imports --no-cache --config ../pyproject.toml

constraints: ## Resolve every extra afresh and rewrite constraints.txt
	tools/write_constraints '$(TORCH)'

clean: ## Remove the environment, the caches and what builds left
	rm -rf $(VENV) .types build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
