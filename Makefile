# make demo    set everything up and see three peers learn from each other
# make test    every check and every test
# make soak    run seeds of a simulated network in which everything goes wrong, on all cores (SEEDS=0-999)
# make bench   measure
# make clean   remove all that was made

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
PIP := -m pip install --quiet --disable-pip-version-check
VERSIONS := 3.11 3.12 3.13

# The first of these names on PATH that runs, is new enough and can make a virtual environment. A name alone proves little: it may be a shim.
working = $(shell for p in $$(type -ap $(1)); do \
	"$$p" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

.NOTPARALLEL:
.PHONY: help demo test check suite versions soak bench clean $(VERSIONS:%=unit-%)

help:
	@sed -n 's/^# make/make/p' Makefile

# ARGS: for `chinwag demo`, as in `make demo ARGS="--seconds 20 --json"`
demo: .venv/installed
	@.venv/bin/chinwag demo $(ARGS)

test: check suite versions

check: .venv/tools
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

suite: .venv/tools
	@.venv/bin/python -m pytest -q

versions: $(VERSIONS:%=unit-%)

$(VERSIONS:%=unit-%): unit-%: .venv/tools
	@if .venv/bin/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$*")'; then \
		echo "Python $*: ran the whole suite above"; \
	elif [ -z "$(call working,python$*)" ]; then \
		echo "Python $*: not on this machine, left out"; \
	else \
		$(MAKE) .venv-$*/tools && echo "Python $*: unit tests" && .venv-$*/bin/python -m pytest -q tests/protocol tests/peer; \
	fi

SEEDS ?= 0-199

soak: .venv/tools
	@OPENBLAS_NUM_THREADS=1 .venv/bin/python -m scenarios.everything $(SEEDS)

bench: .venv/tools
	@.venv/bin/python -m benchmarks

clean:
	rm -rf .venv .venv-* build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@python="$(call working,python3 python3.13 python3.12 python3.11)"; \
	if [ -z "$$python" ]; then echo "Chinwag needs Python 3.11 or newer, with venv (on Debian: apt install python3-venv)."; exit 1; fi; \
	"$$python" -m venv .venv || { rm -rf .venv; exit 1; }

.venv/installed: setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing into .venv" >&2
	@.venv/bin/python $(PIP) --editable .
	@touch $@

.venv/tools: setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing into .venv, with the tools for tests" >&2
	@.venv/bin/python $(PIP) --editable '.[test]'
	@touch .venv/installed $@

$(VERSIONS:%=.venv-%/bin/python): .venv-%/bin/python:
	@"$(call working,python$*)" -m venv .venv-$* || { rm -rf .venv-$*; exit 1; }

$(VERSIONS:%=.venv-%/tools): .venv-%/tools: setup.cfg pyproject.toml | .venv-%/bin/python
	@echo "Installing into .venv-$*" >&2
	@.venv-$*/bin/python $(PIP) --editable '.[test]'
	@touch $@
