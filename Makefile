# `make run` installs and starts the app; `make help` lists the rest.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist worksteal $(MORE)

.PHONY: help run demo test faults bad check audit lock bench release format clean

help: ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

run: .venv/installed ## install what is needed and open the page
	$(BIN)/python app.py --open

demo: .venv/installed ## the whole main job on what is bundled, without a browser
	$(BIN)/python -m sdlora demo

test: .venv/tested ## all promises: real processes, a real browser, the fault table, bad files
	$(BIN)/python -m pytest -m "" $(SIDE_BY_SIDE)

faults: .venv/tested ## only this: kill, starve and damage real workers, every row of the fault table
	$(BIN)/python -m pytest -m faults $(SIDE_BY_SIDE)

bad: .venv/tested ## only this: every bad file and setting
	$(BIN)/python -m pytest -m bad $(SIDE_BY_SIDE)

check: .venv/tested ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Needs the vulnerability service of PyPI, not only its packages.
audit: .venv/tested ## known holes in the packages of the container
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

# torch and what it brings differ by machine: the Dockerfile installs them.
LEFT_OUT := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime \
	nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
lock: .venv/tested ## the exact packages of the container
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile requirements.txt --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		$(LEFT_OUT:%=--no-emit-package %) --output-file requirements.lock

bench: .venv/tested ## our trainer beside the floor (bench/README.md names the others)
	$(BIN)/python -m bench

release: .venv/installed ## a wheel in dist/ that starts by `pipx run` or `uvx` as `sdlora app`
	rm -rf build dist
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

format: .venv/tested ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what was built and installed
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info test-artefacts

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# One resolution for all packages. pip would compile them one after the other: that is done on all cores, while Chromium is fetched.
# A few packages bring files for other Pythons, which do not compile here.
.venv/tested: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	$(BIN)/python -m compileall -q -j 0 .venv/lib sdlora >/dev/null 2>&1 & \
		$(BIN)/python -m tests.chromium; wait
	touch .venv/installed $@
