# One command each: `make demo` shows what binlogd does, `make test` proves it.
# Both set up all they need: a virtual environment in .venv, and MySQL from Debian's packages in a cache folder
# (BINLOGD_TEST_CACHE, by default binlogd-testbed in ~/.cache).

PYTHON  ?= python3
WORKERS ?= 4
VENV    := .venv
BIN     := $(VENV)/bin
HOT     := walk framing excerpt
# What is compiled is compiled once, below.
INSTALL := BINLOGD_PURE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint prepare bench bench-quick soak fuzz screenshots wheel docs deb

help:
	@echo "make demo      the failover story with real MySQL servers, less than a minute after the first download"
	@echo "make test      lint and all tests but the slow ones; PYTEST='-k name' is passed on"
	@echo "make test-all  lint and all tests"
	@echo "make lint      ruff, mypy, import-linter"
	@echo "make bench     speed beside MySQL's own, table and plots into docs/performance, 40 minutes;"
	@echo "               BENCH='--only serving --rounds 3' is passed on, and a part goes into bench-out"
	@echo "make bench-quick   the same with small loads into bench-out, 3 minutes"
	@echo "make soak      kill -9 under load, 200 rounds in a quarter of an hour, and nothing may be lost;"
	@echo "               SOAK='--rounds 20 --seed 7' is passed on"
	@echo "make fuzz      what strangers can send, by coverage-guided fuzzing: a table, and 1 when something is found;"
	@echo "               7 minutes, or FUZZ='--minutes 60 --jobs 2'"
	@echo "make screenshots   the pictures of the status page into docs/images, 5 minutes"
	@echo "make wheel     a wheel for this machine's Python and a source distribution, in dist/"
	@echo "make docs      configuration reference, man page and completions, made from the program"
	@echo "make deb       a Debian package for this machine's release, in dist/"
	@echo "make setup     only the virtual environment .venv"

setup: $(VENV)/.ready $(VENV)/.compiled

# The marker is the last thing made, so an interrupted setup is done again; and again when dependencies change.
$(VENV)/.ready: pyproject.toml
	@command -v $(PYTHON) >/dev/null || \
	  { echo "binlogd needs Python 3.11 or newer: sudo apt-get install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "binlogd needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V): name another, make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments: sudo apt-get install python3-venv" >&2; exit 2; }
	@echo "setting up $(VENV) with $$($(PYTHON) -V): a minute or a few, once" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) '.[dev]'
	@touch $@

# The hot modules, compiled beside their .py files; without a compiler, or with BINLOGD_PURE=1, they run as they are.
$(VENV)/.compiled: $(VENV)/.ready setup.py $(foreach name,$(HOT) machine,$(wildcard src/binlogd/binlog/$(name).*[yd] src/binlogd/binlog/$(name).h))
	@rm -f $(HOT:%=src/binlogd/binlog/%.*.so)
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

lint: setup
	$(BIN)/ruff check src tests testbed tools setup.py
	$(BIN)/ruff format --check src tests testbed tools setup.py
	$(BIN)/mypy
	$(BIN)/lint-imports

# One process fills the cache before pytest's workers all want the same of it.
prepare: setup $(VENV)/.compiled
	$(BIN)/python -m testbed.prepare

# What the hot modules are tested by runs a second time with the plain Python that they were compiled from.
PLAIN   := tests/binlog/test_walk.py tests/binlog/test_walk_boundaries.py tests/binlog/test_walk_marks.py \
           tests/binlog/test_machine.py \
           tests/binlog/test_framing.py tests/binlog/test_framing_outlet.py tests/receiver/test_stream.py \
           tests/sender/test_dump.py tests/sender/test_damage.py tests/store/test_recovery.py

# Lint beside the preparation, which waits for downloads most of the time.
test: setup
	@$(MAKE) --no-print-directory -j2 lint prepare
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow' $(PYTEST)
	BINLOGD_PURE=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow' $(PLAIN)

test-all: setup $(VENV)/.bench
	@$(MAKE) --no-print-directory -j2 lint prepare
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST)
	BINLOGD_PURE=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PLAIN)

demo: setup $(VENV)/.compiled
	@$(BIN)/python -m testbed.demo $(DEMO)

# What the plots need; nothing else does but their test.
$(VENV)/.bench: $(VENV)/.ready
	@$(INSTALL) '.[bench]'
	@touch $@

bench: setup $(VENV)/.compiled $(VENV)/.bench
	@$(BIN)/python -m testbed.bench $(BENCH)

bench-quick: setup $(VENV)/.compiled
	@$(BIN)/python -m testbed.bench --size quick $(BENCH)

soak: setup $(VENV)/.compiled
	@$(BIN)/python -m testbed.soak $(SOAK)

# atheris, which nothing else needs, has wheels for few versions of Python.
$(VENV)/.fuzz: $(VENV)/.ready
	@$(INSTALL) '.[fuzz]'
	@touch $@

fuzz: setup $(VENV)/.compiled $(VENV)/.fuzz
	@$(BIN)/python -m tests.fuzz $(FUZZ)

screenshots: setup $(VENV)/.compiled
	@$(BIN)/python -m testbed.screenshots $(SCREENSHOTS)

# Compiled where there is a compiler; BINLOGD_PURE=1 makes a wheel for every machine, in plain Python.
wheel: setup
	$(BIN)/python -m build

docs: setup
	@$(BIN)/python -m tools.documents

# With its own virtual environment, made with the machine's python3: for this release and architecture.
deb: setup
	@contrib/debian/build.sh dist
