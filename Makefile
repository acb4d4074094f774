# make setup | demo | test | lint | weights | clean      (needs Python 3.11 or 3.12 with venv, and GNU make)
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.PHONY: help setup demo test lint weights clean

help:
	@sed -n 1p Makefile

setup: $(STAMP)

# The first interpreter that runs, is of the right version and can make environments; an existing .venv is kept.
$(STAMP): pyproject.toml constraints.txt
	@usable='import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'
	if ! { $(PY) -c "$$usable" && $(PY) -m pip --version; } >/dev/null 2>&1; then
	  found=""
	  for candidate in python3.12 python3.11 python3 python; do
	    if command -v $$candidate >/dev/null && $$candidate -c "$$usable" 2>/dev/null; then found=$$candidate; break; fi
	  done
	  if [ -z "$$found" ]; then
	    echo "error: expected Python 3.11 or 3.12 with the venv module, found none on PATH:" \
	         "install one (Debian, Ubuntu: apt-get install python3 python3-venv)" >&2
	    exit 2
	  fi
	  echo "making $(VENV) with $$found ($$($$found --version))"
	  $$found -m venv --clear $(VENV)
	fi
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install "$(TORCH)"
	echo "installing everything else that constraints.txt pins"
	$(PY) -m pip install --quiet -e ".[dev]" -c constraints.txt
	touch $@

# One to three episodes of each task with the shipped models, on validation seeds: videos, numbers and one page.
demo: $(STAMP)
	@rm -rf runs/demo
	drive="$(BIN)/worldmodel drive agent=planning seed=100000 video=true"
	$$drive task=jaco_reach episodes=3 out=runs/demo/jaco_reach
	$$drive task=jaco_push episodes=3 out=runs/demo/jaco_push
	$$drive task=navigate episodes=1 out=runs/demo/navigate
	$$drive task=jaco_rearrange episodes=1 out=runs/demo/jaco_rearrange
	$$drive task=jaco_place episodes=1 out=runs/demo/jaco_place
	$(PY) -m benchmarks.report runs/demo
	echo "look at runs/demo/index.html"

test: $(STAMP)
	$(PY) -m pytest -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

weights: $(STAMP)
	$(PY) -m benchmarks.weights

clean:
	rm -rf runs/demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
