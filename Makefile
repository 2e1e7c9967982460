# Everything a developer or CI runs; `make` alone lists it. README has the plain commands for people without make.

VENV := .venv
PY := $(VENV)/bin/python
# Any Python can run the preflight, which picks the one for .venv; PYTHON=/path/to/python3 overrides its choice.
BOOTSTRAP := $(firstword $(foreach name,$(PYTHON) python3 python3.13 python3.12 python3.11 python,$(shell command -v $(name) 2>/dev/null)))
PYTEST := $(PY) -m pytest
# A file at a time for each worker, in their order, the longest first. One worker more than cores, for many tests wait for
# other processes; more than four would take more memory than they save minutes.
WORKERS := $(shell cores=$$(nproc); echo $$((cores < 4 ? cores + 1 : 4)))
PARALLEL := --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder
# Folders whose modules import no TensorFlow.
LIGHT := tests/contract tests/engine tests/repository tests/service
# Coverage counts the lines of contract/ and service/ that their own tests reach, servers in processes of their own
# included. On Python 3.14 sys.monitoring measures branches too, at a fraction of a trace function's cost.
MEASURED := tests/contract tests/service
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help venv demo serve test test-fast test-all test-docker coverage docs lint format bench lock clean

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*##/  make \1 #/p' Makefile | column -t -s '#'

venv:  ## the virtual environment, from requirements.lock; nothing to do while the lock is unchanged
	@test -n "$(BOOTSTRAP)" || { echo "No Python found. Fovea runs on Python 3.11, 3.12, 3.13. Debian and Ubuntu: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@"$(BOOTSTRAP)" scripts/preflight.py

demo: venv  ## sample images -> trained model -> HTTP answer, in under ten minutes
	@$(PY) scripts/demo.py

serve: venv  ## model server and gateway on http://127.0.0.1:8000, no Docker
	@$(PY) -m service up

test: lint  ## lint, types, layers, and the tests that need no Docker and no minutes
	$(PYTEST) -m "not slow and not docker" $(PARALLEL)

test-fast: venv  ## the edit loop: the tests that start no server and train nothing, in under 90 seconds
	$(PYTEST) -m fast $(PARALLEL) $(LIGHT)

test-all: lint  ## the long tests too: SDKs, notebooks, clusters, whole trainings, thousands of generated requests
	$(PYTEST) -m "not docker" --hypothesis-profile=random

coverage: venv  ## branch coverage of contract/ and service/ by their own tests, at least 90 %
	$(PYTEST) -m "not slow and not docker" $(PARALLEL) --cov --cov-report=term $(MEASURED)

test-docker: venv  ## the tests of images and compose, on the Docker engine that DOCKER_HOST or the default socket reaches
	$(PYTEST) -m docker

docs: venv  ## the documentation site in build/site, with search; a broken link fails it
	@test -x build/docs-venv/bin/mkdocs || { $(PY) -m venv build/docs-venv && \
	  build/docs-venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/docs/requirements.lock; }
	NO_MKDOCS_2_WARNING=1 build/docs-venv/bin/mkdocs build --strict --quiet --config-file deploy/docs/mkdocs.yml

lint: venv  ## ruff, mypy, import-linter
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: venv  ## put the code in its one shape
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

bench: venv  ## measure the service on this machine; README names the other benchmarks
	$(PY) -m benchmarks

lock:  ## resolve pyproject.toml into the lock files (needs uv)
	sh scripts/lock.sh

clean:  ## remove .venv and caches; models/, runs/ and datasets/ stay
	rm -rf build dist *.egg-info $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov
	find contract engine fovea pipeline service benchmarks scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
