.DEFAULT_GOAL := help
PYTHON ?= python

.PHONY: help install test quick long lint types format bench demo docs

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install:  ## install in editable mode with everything the tests need
	$(PYTHON) -m pip install -e ".[test,digits]"

test:  ## all tests
	$(PYTHON) -m pytest

quick:  ## tests that take seconds
	$(PYTHON) -m pytest -m "not slow"

long:  ## all tests, with those that take minutes
	LANDSCAPE_LONG_TESTS=1 $(PYTHON) -m pytest

lint:  ## ruff, lint and format
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .

types:  ## mypy, strict
	$(PYTHON) -m mypy

format:  ## rewrite in house style
	$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

bench:  ## speeds as ratios to peers in the same run
	$(PYTHON) -m pytest tests/benchmarks -s -p no:cacheprovider --override-ini=addopts=--import-mode=importlib

demo:  ## the main job, end to end
	$(PYTHON) -m landscape.cli demo

docs:  ## the pages, in build/docs (needs pip install ".[docs]")
	$(PYTHON) -m sphinx -W --keep-going -b html docs build/docs
