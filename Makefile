# Needs Python 3.11 or newer and make, nothing else.

PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# A few processes at once: most tests wait for servers that they start.
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal
# Dependency groups need pip 25.1.
PIP_VERSION := 26.3

.DEFAULT_GOAL := help
.PHONY: help setup run check docs format test bench bench-peers

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.tests ## Make .venv with everything that runs and checks Relay

run: .venv/.runtime ## Serve a demo on 127.0.0.1:8000 (PORT=8123 make run for another port)
	@$(BIN)/relay demo

test: .venv/.tests ## Run all tests
	$(PYTEST)

check: .venv/.tests ## Everything that must be green: format, lint, types, imports, tests, coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit/core --cov=relay_middleware/core --cov-fail-under=100
	$(PYTEST) --cov --cov-fail-under=92

docs: .venv/.tests ## Run every command and example of the documentation
	$(BIN)/pytest tests/docs

bench: .venv/.tests ## Measure what a request costs (QUICK=1 make bench takes under a minute)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

bench-peers: .venv/.tests ## The same beside LiteLLM's proxy and Portkey's gateway, which it installs in ~/.cache
	$(BIN)/python -m benchmarks.versus $(if $(QUICK),--quick)

format: .venv/.tests ## Format the code and apply safe corrections
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Stamps: what is installed already is not asked for again.
.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Relay needs Python 3.11 or newer; name one: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.runtime: pyproject.toml constraints.txt | .venv/bin/python
	@# Here and not where .venv is made: a set-up that was interrupted there goes on here.
	$(PIP) install pip==$(PIP_VERSION)
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

.venv/.tests: .venv/.runtime
	$(PIP) install --constraint constraints.txt --group test --group lint
	@touch $@
