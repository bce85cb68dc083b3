# Two commands, each from a fresh clone with Python >= 3.10 and make only:
#   make demo    environment in .venv, install, the main job on a simulated scan
#   make test    environment in .venv, install, tests
# And for those who change it: make lint, style and types; make docs, the site in site/index.html; make results, the measured tables of README.md and
# docs/results.md from the record of the embedded checkpoint.
# All install again when pyproject.toml or constraints.txt change. Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint docs results clean

demo: $(INSTALLED)
	$(BIN)/diffusionct demo --out demo_output

# Tiny networks gain nothing from threads, and two that wait for a busy core take ten times as long.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs site

results: $(INSTALLED)
	$(BIN)/python benchmarks/results.py

# One install, so that the constraints hold for every package.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "Python >= 3.10 is needed, $(PYTHON) is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) demo_output site
