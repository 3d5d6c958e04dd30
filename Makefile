# `make run` installs and starts the app; `make test` installs what the tests need and runs them.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run demo test faults check bench format clean

run: .venv/installed
	$(BIN)/python app.py --open

demo: .venv/installed
	$(BIN)/python -m sdlora demo

test: .venv/tested
	$(BIN)/python -m pytest

faults: .venv/tested
	$(BIN)/python -m pytest -m faults

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/tested
	$(BIN)/python -m bench

format: .venv/tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info test-artefacts

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/tested: .venv/installed pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	$(BIN)/python -m tests.chromium
	touch $@
