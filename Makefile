# One command each: `make demo` shows what binlogd does, `make test` proves it.
# Both set up all they need: a virtual environment in .venv and MySQL from Debian's packages in a cache folder.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: setup demo test lint

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "binlogd needs Python 3.11 or newer with venv: apt-get install python3 python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

lint: setup
	$(BIN)/ruff check src tests testbed
	$(BIN)/ruff format --check src tests testbed
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup lint
	$(BIN)/python -m pytest

demo: setup
	$(BIN)/python -m testbed.demo
