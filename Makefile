# Two commands matter: `make run` serves the laptop configuration, `make test` runs everything.

# The distribution's Python before one that was built by hand: it is optimised by profile, and takes a fifth less time for each message.
PYTHON ?= $(or $(shell for each in /usr/bin/python3 python3; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
# Twice as many as processors: with half as many again a fifth of their time was left over, since tests wait for each other's processes, disks and databases.
PYTEST_ARGS ?= -n $(shell processors=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((processors * 2))) --dist worksteal

.PHONY: run test lint bench peers lock clean

run: $(VENV)/.run
	@$(BIN)/relay serve --config config/local.toml

test: $(VENV)/.test peers
	@$(BIN)/pytest $(PYTEST_ARGS)

lint: $(VENV)/.test
	@$(BIN)/ruff check .

bench: $(VENV)/.test peers
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench.scale
	@$(BIN)/python -m bench.crash
	@$(BIN)/python -m bench.imports
	@$(BIN)/python -m bench.audience
	@$(BIN)/python -m bench.broadcasts
	@$(BIN)/python -m bench.workflows
	@$(BIN)/python -m bench.pages

# The real programs that tests talk to: installed on Debian as root, looked for elsewhere.
peers:
	@.ci/peers

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Relay needs Python 3.11 or newer: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/peers venv
	@echo 'creating $(VENV)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python constraints.txt pyproject.toml
	@echo 'installing locked dependencies'
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(BIN)/python constraints.txt pyproject.toml
	@echo 'installing locked dependencies and what the tests need'
	@$(BIN)/pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@ $(VENV)/.run

# Newest versions that pyproject.toml allows, tried in an environment of their own, become the pins.
lock:
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/pip install --quiet --quiet --disable-pip-version-check '.[test]'
	@build/lock/bin/pip freeze --exclude relay-mta > constraints.txt
	@rm -rf build/lock

clean:
	@rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
