# Two commands for newcomers: `make demo` and `make test`. They need Python 3.11 or later and make, nothing else.

# uv trusts what the system trusts, as pip does: its own certificates do not include that of a proxy that inspects TLS.
# Older versions of uv know the second name only.
export UV_SYSTEM_CERTS ?= true
export UV_NATIVE_TLS ?= true

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
TEST_IN_PARALLEL := $(PY) -m pytest --numprocesses logical --dist worksteal
CONSTRAINTS := constraints/airflow-3.3.2.txt
INSTALLED := $(VENV)/.installed
BROWSER_INSTALLED := $(VENV)/.installed-browser
DOCS_INSTALLED := $(VENV)/.installed-docs
SCALE_OUT_INSTALLED := $(VENV)/.installed-scale-out
FUZZ_INSTALLED := $(VENV)/.installed-fuzz
PEERS := .bench/.installed
DRIVERS := $(VENV)/.installed-drivers

.PHONY: help demo docs test test-drivers test-cluster test-browser test-versions screenshots syncs-page probe-page crash crash-quick scale-out \
  scale-out-check scale-out-quick bench bench-quick bench-growth lint types build install constraints clean faults faults-check faults-random history secrets \
  secrets-leak fuzz load load-quick small-syncs
.DELETE_ON_ERROR:

## help: what can be made
help:
	@sed -n "s/^## //p" $(MAKEFILE_LIST)

## demo: a nightly customer sync into a local Voucherify, run by Airflow
demo: $(INSTALLED)
	$(PY) -m harness.demo.run

## test: everything that needs nothing but the installation
test: $(INSTALLED)
	$(TEST_IN_PARALLEL)

## test-cluster: the tests that start a real scheduler and triggerer
test-cluster: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m pytest -m cluster tests/cluster

## test-browser: the tests that use Airflow through a browser; they need Chromium (Debian: apt-get install chromium)
test-browser: $(BROWSER_INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m pytest -m browser tests/browser

## screenshots: the same, replacing the pictures in docs/images
screenshots: $(BROWSER_INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m pytest -m browser tests/browser --screenshots

## syncs-page: how long the page of all syncs takes with many runs; writes docs/syncs-page.md
syncs-page: $(BROWSER_INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.syncs_page.run --write

## probe-page: what the probe finds out of the local Voucherify; writes the table in docs/probe.md
probe-page: $(INSTALLED)
	$(PY) -m harness.probe_page

## test-versions: the tests on Airflow 2.11 and 3.0 to 3.3 and each of their Pythons, or on PAIRS="2.11-py3.12 ..." alone
test-versions: $(INSTALLED)
	$(PY) -m harness.versions $(PAIRS)

## test-drivers: the tests of MySQL, DuckDB and Polars, which need MariaDB, the headers of its client and a C compiler
test-drivers: $(DRIVERS)
	$(TEST_IN_PARALLEL) tests/sync/test_rows_in_memory.py \
	  $(patsubst %,tests/provider/test_%.py,mysql duckdb outcome_tables database bulk_load state_table)
	$(TEST_IN_PARALLEL) -k "mariadb or duckdb" tests/readme/test_history_queries.py \
	  $(patsubst %,tests/provider/test_%.py,exported_table read_back_in_history nightly_changes)

## crash: interrupt a sync at nineteen moments, five times each, on a real Airflow with PostgreSQL, and count what arrived
crash: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.crash.run

## crash-quick: the same once at each moment, without the yardstick
crash-quick: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.crash.run --kills 1 --without-yardstick

## scale-out: two million rows over one and two Celery workers, of which one is killed; writes docs/scale-out.md. It
## needs PostgreSQL and Redis (Debian: apt-get install postgresql redis-server)
scale-out: $(SCALE_OUT_INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.scale_out.run --write

## scale-out-check: the same without writing the page
scale-out-check: $(SCALE_OUT_INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.scale_out.run

## scale-out-quick: the same with fewer rows, and two syncs instead of five
scale-out-quick: $(SCALE_OUT_INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.scale_out.run --quick

## faults: everything that can go wrong between a sync and Voucherify, one at a time; writes docs/faults.md
faults: $(INSTALLED)
	$(PY) -m harness.faults.run --write

## faults-check: the same without writing the page
faults-check: $(INSTALLED)
	$(PY) -m harness.faults.run

## faults-random: the same mixed, over 500 syncs
faults-random: $(INSTALLED)
	$(PY) -m harness.faults.random_run --syncs 500

## history: a week of nights in Airflow, and what the queries of docs/history-queries.md answer; writes that page
history: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.history.run

## bench: CPU, memory, requests and GETs beside the floor and the peers; writes docs/performance.md
bench: $(INSTALLED) $(PEERS)
	$(PY) -m harness.benchmarks.run

## bench-quick: the same with fewer rows; fails where a target is missed by far
bench-quick: $(INSTALLED) $(PEERS)
	$(PY) -m harness.benchmarks.run --quick --check

## bench-growth: two nights of ten million rows, with tables; half an hour, 20 GB; writes docs/ten-million-rows.md
bench-growth: $(INSTALLED)
	$(PY) -m harness.benchmarks.growth

## secrets: whole syncs on a real Airflow with PostgreSQL, then a search for secrets in everything that they left
secrets: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.leaks.run

## secrets-leak: the same with a task that leaks on purpose, which must be found
secrets-leak: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.leaks.run --leak

## fuzz: atheris on every parser, half a minute each
fuzz: $(FUZZ_INSTALLED)
	$(PY) -m harness.fuzz.run

## load: 2,000 deferred tasks in one triggerer for ten minutes; writes docs/load.md
load: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.load.run --write

## load-quick: the same for 40 seconds; fails where a target is missed by far
load-quick: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.load.run --quick

## small-syncs: where each second of a sync of 1,000 rows goes, on a real Airflow; writes docs/small-syncs.md
small-syncs: $(INSTALLED)
	$(PY) -m harness.loopback_only $(PY) -m harness.small_sync.run --write

## docs: the documentation as a site in build/site; a warning is an error, and so is a page that needs another host
docs: $(DOCS_INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	$(PY) -m docs_site.check build/site

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-logo --no-cache

types: $(INSTALLED)
	$(PY) -m mypy

## build: wheel and source distribution in dist/
build: $(INSTALLED)
	$(VENV)/bin/uv build --quiet

install: $(INSTALLED)

NO_VENV = $(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv

# uv installs the pinned packages in parallel; it is itself installed by pip, which every venv has.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@echo "Installing Airflow, the provider and the tools of its tests into $(VENV)"
	@test -x $(VENV)/bin/pip || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(NO_VENV)"; exit 1; }
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	test -x $(VENV)/bin/uv || $(PY) -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --quiet --python $(PY) --constraint $(CONSTRAINTS) --editable '.[local,parquet]' --group dev --group lint
	touch $@

$(BROWSER_INSTALLED): $(INSTALLED)
	$(VENV)/bin/uv pip install --quiet --python $(PY) --constraint $(CONSTRAINTS) --group browser
	touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(VENV)/bin/uv pip install --quiet --python $(PY) --constraint $(CONSTRAINTS) --group docs
	touch $@

$(SCALE_OUT_INSTALLED): $(INSTALLED)
	$(VENV)/bin/uv pip install --quiet --python $(PY) --constraint $(CONSTRAINTS) --group scale-out
	touch $@

$(FUZZ_INSTALLED): $(INSTALLED)
	$(VENV)/bin/uv pip install --quiet --python $(PY) --constraint $(CONSTRAINTS) --group fuzz
	touch $@

# What the benchmarks compare with has an environment of its own: the official SDK is no part of an Airflow.
$(PEERS): harness/benchmarks/requirements-peers.txt | $(INSTALLED)
	test -x .bench/bin/python || $(VENV)/bin/uv venv --quiet --python $(PY) .bench
	$(VENV)/bin/uv pip install --quiet --python .bench/bin/python --requirement harness/benchmarks/requirements-peers.txt
	touch $@

$(DRIVERS): $(INSTALLED)
	$(VENV)/bin/uv pip install --quiet --python $(PY) --constraint $(CONSTRAINTS) --group drivers
	touch $@

## constraints: pin the newest versions that go with the newest supported Airflow (older ones: harness/versions.py --pin)
constraints: $(INSTALLED)
	$(PY) -m harness.versions --pin 3.3

clean:
	rm -rf .demo build dist
