# All commands for newcomers and CI. Needs Python 3.10 to 3.13, pip and make; everything else goes into .venv*.

PYTHON ?= python3
# Airflow 2.11 runs on Python 3.10 to 3.12: the first of these that works here is taken.
PYTHON_OLD ?= $(firstword $(foreach p,python3.10 python3.11 python3.12 $(PYTHON),$(shell $(p) -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' >/dev/null 2>&1 && echo $(p))))
# The day as of which Airflow 2.11's dependencies are resolved.
OLD_DAY := 2026-04-15

PIP := -m pip --disable-pip-version-check --quiet --no-input
NEW := .venv
OLD := .venv-2.11
DIST := .venv-dist
S3 := .venv-s3
# The days as of which the Airflow releases in between are resolved.
DAY_3.0 := 2025-10-01
DAY_3.1 := 2026-03-25
DAY_3.2 := 2026-06-15

.PHONY: help demo ui pictures test test-quick test-rest test-full test-old test-pages test-s3 test-all coverage lint audit dist docs soak soak-short explore bench bench-readers bench-triggerer bench-list bench-progress bench-dataset bench-import mutants pins clean

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(NEW)/.demo-ready ## a DAG imports files into Milvus and waits for them deferred; a second import fails (40 s)
	$(NEW)/bin/python -m dev.demo --dags example_dags --home .demo

# ARGS is added to the command, such as ARGS="--port 8080".
ui: $(NEW)/.demo-ready ## Airflow in your browser, beside a local import server, until Ctrl-C
	$(NEW)/bin/python -m dev.ui --dags example_dags --home .ui $(ARGS)

test: lint test-quick ## lint, types, and the unit, contract and Airflow tests on the newest Airflow (6 minutes)

# Continues where `make test` ends: tests marked as full, more random examples, other clients, and whole deployments.
test-full: test test-rest test-old test-pages test-s3 docs soak-short ## that, more examples, Airflow 2.11, whole deployments, a browser, faults, the docs, a short soak (40 minutes)

lint: $(NEW)/.test-ready ## ruff, mypy, the layers of the package, and spelling
	$(NEW)/bin/ruff check .
	$(NEW)/bin/ruff format --check .
	$(NEW)/bin/mypy
	$(NEW)/bin/lint-imports
	$(NEW)/bin/codespell

# Most tests of waits wait, so that five processes fit on two cores. The longest tests come first.
PYTEST := bin/python -m pytest --dist loadgroup -n
test-quick: $(NEW)/.test-ready
	$(NEW)/$(PYTEST) 5 -m "not full" --hypothesis-profile=quick tests/airflow tests/contract tests/unit

test-rest: $(NEW)/.test-ready
	ZILLIZ_INSTALL_CLIENTS=1 $(NEW)/$(PYTEST) 3 -m "full or hypothesis" tests

test-old: $(OLD)/.test-ready
	$(OLD)/$(PYTEST) 3 --hypothesis-profile=quick tests/unit tests/airflow tests/e2e/test_airflow_2.py

test-pages: $(NEW)/.test-ready ## the pages that show imports, in a browser, on Airflow 3.1 and 3.2
	$(NEW)/bin/python tests/matrix.py --pages

test-s3: $(S3)/.test-ready ## datasets that are listed over S3, in an environment of its own (half a minute)
	$(S3)/bin/python -m pytest tests/contract/test_object_storage.py

coverage: $(NEW)/.test-ready ## branch coverage of the unit, contract and Airflow tests
	$(NEW)/$(PYTEST) 4 --cov --cov-report=term:skip-covered tests/airflow tests/contract tests/unit

# ONLY names Airflow series or pairs, such as "3.1 3.2-py3.12".
test-all: $(NEW)/.test-ready ## the tests on every supported Airflow and Python, and the README's table of them (an hour)
	$(NEW)/bin/python tests/matrix.py $(foreach pair,$(ONLY),--only $(pair))

soak: $(NEW)/.test-ready ## half an hour of 500 waits in a real Airflow, with a server that misbehaves at random
	$(NEW)/bin/python tests/soak.py --home .soak

soak-short: $(NEW)/.test-ready
	$(NEW)/bin/python tests/soak.py --home .soak --minutes 5

explore: $(NEW)/.test-ready ## every combination of two faults around a submit, in 500 settings (20 minutes)
	$(NEW)/bin/python -m tests.exploration.explorer --faults 2
	$(NEW)/bin/python -m tests.exploration.datasets --faults 2

# Asks PyPI about each pinned release; fails if PyPI cannot be reached.
audit: $(NEW)/.audit-ready ## known vulnerabilities of what a user installs
	$(NEW)/bin/pip-audit --strict --no-deps --disable-pip -r requirements/demo.txt

# Builds the wheel from the sdist, so that an incomplete sdist fails.
dist: $(DIST)/.dist-ready ## the wheel and the sdist of a release, checked, in dist
	rm -rf dist
	$(DIST)/bin/python -m build --no-isolation
	$(DIST)/bin/twine check --strict dist/*

docs: $(NEW)/.docs-ready ## the documentation as a site, in .site
	NO_MKDOCS_2_WARNING=1 $(NEW)/bin/mkdocs build --strict

pictures: $(NEW)/.test-ready ## retake the docs' pictures (needs Debian's chromium)
	ZILLIZ_PICTURES=docs/pictures $(NEW)/bin/python -m pytest tests/e2e/test_browser.py tests/e2e/test_progress_page.py

bench: $(NEW)/.bench-ready ## what 1 to 10,000 waits and processes that share a key cost, compared with other providers (an hour and a half)
	$(NEW)/bin/python benchmarks/bench_polling.py --picture docs/polling.png
	$(NEW)/bin/python benchmarks/bench_fleet.py --picture docs/fleet.png
	$(MAKE) bench-readers

bench-readers: $(NEW)/.bench-ready ## time and memory of the local server's file readers for a million rows of each format (a few minutes)
	$(NEW)/bin/python benchmarks/bench_readers.py --import

bench-triggerer: $(NEW)/.demo-ready ## 1,000 deferred tasks in a real Airflow (12 minutes: two processes for each task)
	$(NEW)/bin/python benchmarks/bench_triggerer.py

bench-list: $(NEW)/.test-ready ## one task for 1,000 jobs beside 1,000 mapped tasks, on PostgreSQL (25 minutes)
	$(NEW)/bin/python benchmarks/bench_list.py

bench-progress: $(NEW)/.test-ready ## 1,000 waits with and without the XCom of their progress, on PostgreSQL (half an hour)
	$(NEW)/bin/python benchmarks/bench_progress.py

bench-dataset: $(NEW)/.test-ready ## a dataset of 50 jobs in one task beside 50 mapped tasks, on PostgreSQL (10 minutes)
	$(NEW)/bin/python benchmarks/bench_dataset.py

bench-import: $(NEW)/.demo-ready ## modules and time that importing the sensor costs (4 s)
	$(NEW)/bin/python benchmarks/bench_import.py

MODULE ?= airflow_zilliz/_submit/submit_once.py
TESTS ?= tests/unit/$(subst _,,$(notdir $(patsubst %/,%,$(dir $(MODULE)))))/test_$(notdir $(MODULE))
COUNT ?= 100
SEED ?= 0
JOBS ?= 1
mutants: $(NEW)/.test-ready ## which mutants of MODULE the TESTS miss; also COUNT=100, SEED=0, JOBS=1
	$(NEW)/bin/python tests/mutation.py $(MODULE) $(TESTS) --count $(COUNT) --seed $(SEED) -j $(JOBS)

$(NEW)/.demo-ready: requirements/demo.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 to 3.13 is needed, this is " + sys.version) if not (3, 10) <= sys.version_info < (3, 14) else None'
	$(PYTHON) -m venv $(NEW)
	$(NEW)/bin/python $(PIP) install --no-deps -r requirements/demo.txt
	$(NEW)/bin/python $(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(NEW)/.test-ready: $(NEW)/.demo-ready requirements/dev.txt
	$(NEW)/bin/python $(PIP) install --no-deps -r requirements/dev.txt
	touch $@

$(NEW)/.audit-ready: $(NEW)/.demo-ready requirements/audit.txt
	$(NEW)/bin/python $(PIP) install --no-deps -r requirements/audit.txt
	touch $@

$(NEW)/.docs-ready: $(NEW)/.test-ready requirements/docs.txt
	$(NEW)/bin/python $(PIP) install --no-deps -r requirements/docs.txt
	touch $@

$(NEW)/.bench-ready: $(NEW)/.demo-ready requirements/bench.txt
	$(NEW)/bin/python $(PIP) install --no-deps -r requirements/bench.txt
	touch $@

$(DIST)/.dist-ready: requirements/dist.txt
	$(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python $(PIP) install --no-deps -r requirements/dist.txt
	touch $@

$(S3)/.test-ready: requirements/s3.txt pyproject.toml
	$(PYTHON) -m venv $(S3)
	$(S3)/bin/python $(PIP) install --no-deps -r requirements/s3.txt
	$(S3)/bin/python $(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(OLD)/.test-ready: requirements/airflow-2.11.txt pyproject.toml
	@test -n "$(PYTHON_OLD)" || { echo "Airflow 2.11 needs Python 3.10, 3.11 or 3.12: set PYTHON_OLD to one. 'make test' needs none of them"; exit 1; }
	$(PYTHON_OLD) -m venv $(OLD)
	$(OLD)/bin/python $(PIP) install --no-deps -r requirements/airflow-2.11.txt
	$(OLD)/bin/python $(PIP) install --no-deps --no-build-isolation -e .
	touch $@

UV := uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header --no-emit-index-url --no-emit-find-links
# The oldest common-compat that this package takes is newer than Airflow 3.0.
COMPAT := --exclude-newer-package apache-airflow-providers-common-compat=2026-06-01
pins: ## renew requirements/*.txt (needs uv)
	$(UV) requirements/dev.in -o requirements/dev.txt
	$(UV) requirements/demo.in -c requirements/dev.txt -o requirements/demo.txt
	$(UV) requirements/bench.in -c requirements/dev.txt -o requirements/bench.txt
	$(UV) requirements/audit.in -c requirements/dev.txt -o requirements/audit.txt
	$(UV) requirements/docs.in -c requirements/dev.txt -o requirements/docs.txt
	$(UV) requirements/dist.in -o requirements/dist.txt
	$(UV) requirements/s3.in -o requirements/s3.txt
	$(foreach v,3.0 3.1 3.2,$(UV) --exclude-newer $(DAY_$(v)) $(COMPAT) requirements/airflow-$(v).in -o requirements/airflow-$(v).txt;)
	$(UV) --exclude-newer $(OLD_DAY) requirements/airflow-2.11.in -o requirements/airflow-2.11.txt

clean: ## remove the environments and all generated files
	rm -rf $(NEW) $(OLD) $(DIST) $(S3) .venvs dist .demo .ui .soak .site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
