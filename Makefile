# Two commands for a newcomer: `make fit` and `make test`. Each sets up the environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: fit test test-all lint venv
fit: .venv/installed
	$(BIN)/python -m baa.fit --config conf/quickstart.yaml

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-all: .venv/installed
	$(BIN)/pytest -m ""

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

venv: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
