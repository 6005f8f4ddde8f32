# Everything is installed into .venv (Python) and .services (servers for the tests).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
PYTEST_ARGS ?=

.PHONY: help demo test services lint bench contracts clean install

help:            ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: install    ## the whole story on an embedded chain: publish, refuse, buy, infer, revoke
	@lonja demo

test: install    ## all tests; those that need a server are skipped unless `make services` installed it
	@pytest $(PYTEST_ARGS)

services:        ## anvil, forge, cast and Kubo into .services/
	@scripts/services

lint: install    ## style, types, layers
	@ruff check . && ruff format --check . && mypy && python scripts/lint_imports

bench: install   ## the figures of docs/benchmarks.md, measured here
	@python -m benchmarks

contracts: services ## build the contract, test it, write contracts/artifacts
	@scripts/contracts

clean:           ## all that was built; servers and settings stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis contracts/out contracts/cache

install: $(VENV)/.installed

$(VENV)/.dependencies: requirements/dev.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies pyproject.toml $(shell find . -name meson.build -not -path './.*' -not -path './build/*')
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
