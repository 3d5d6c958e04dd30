# `make run` installs and starts the app; `make test` installs what the tests need and runs them.
PYTHON ?= python3
BIN := .venv/bin
SIDE_BY_SIDE := -n logical --maxprocesses 4 $(MORE)

.PHONY: run demo test faults bad check audit lock bench format clean

run: .venv/installed
	$(BIN)/python app.py --open

demo: .venv/installed
	$(BIN)/python -m sdlora demo

test: .venv/tested
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder

faults: .venv/tested
	$(BIN)/python -m pytest -m faults $(SIDE_BY_SIDE) --dist worksteal

bad: .venv/tested
	$(BIN)/python -m pytest -m bad $(SIDE_BY_SIDE) --dist worksteal

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Needs the vulnerability service of PyPI, not only its packages.
audit: .venv/tested
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

# torch and what it brings differ by machine: the Dockerfile installs them.
LEFT_OUT := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime \
	nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
lock: .venv/tested
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile requirements.txt --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		$(LEFT_OUT:%=--no-emit-package %) --output-file requirements.lock

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
