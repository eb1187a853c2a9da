# `make run`: from a fresh clone to the report of the main job.
# `make test`: the tests, two to four minutes on two cores, the first time up to five.  `make test-all`: those marked `long`, too.
# `make test PYTHON=python3.13 VENV=.venv-3.13`: with another Python, which has a newer JAX; before each release too.
# `make lint`: format, lint and imports (`make style`, seconds), types (`make types`, a minute); before each commit too.
# `make docs`: every launch command of the documents, for real, in its config's debug size (ten minutes).
# `make constraints`: constraints.txt again, with the newest versions that requirements-dev.txt allows; test, then commit it.
# All make .venv first, with the versions in constraints.txt, so that they are the same a year from now.
.PHONY: run test test-all test-ci docs lint style types constraints clean
.DEFAULT_GOAL := run

# the first of these that really starts and is 3.11 to 3.13 (a version manager's shim may exist and fail)
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
PY := $(VENV)/bin/python

run: $(VENV)/.run
	$(PY) launch.py --config=configs/htnet_samm.py

test: $(VENV)/.test style
	$(PY) -m pytest -n 2 --dist worksteal --durations=15 -m "not long"

test-all: lint
	$(PY) -m pytest -n 2 --dist worksteal --durations=15

# what .ci/run has time for
test-ci: lint
	$(PY) -m pytest -n 2 --dist worksteal --durations=15 -m "not nightly"

docs: $(VENV)/.test
	FEXPR_RUN_DOCS=1 $(PY) -m pytest -n 2 --dist worksteal tests/test_docs.py tests/test_commands.py

lint: style types

style: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

# takes a minute; of one folder: .venv/bin/basedpyright --pythonpath .venv/bin/python fexpr/data
types: $(VENV)/.test
	$(VENV)/bin/basedpyright --pythonpath $(PY)

$(PY):
	@test -n "$(PYTHON)" || { echo "fexpr needs Python 3.11, 3.12 or 3.13; give it as: make PYTHON=/path/to/python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

constraints: $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	$(VENV)/bin/uv pip compile --quiet --universal --upgrade --python-version 3.11 --no-annotate --no-emit-index-url \
		--custom-compile-command "make constraints" -o constraints.txt requirements-dev.txt

$(VENV)/.run: requirements.txt constraints.txt $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -r requirements.txt
	touch $@

$(VENV)/.test: requirements-dev.txt requirements.txt constraints.txt $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -r requirements-dev.txt
	touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) runs
