# Two commands for newcomers: `make demo` and `make test`. They need Python 3.11 to 3.13 and make, nothing else.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
CONSTRAINTS := constraints-airflow-3.3.2.txt
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-cluster crash crash-quick bench lint types build install constraints clean
.DELETE_ON_ERROR:

## demo: a nightly customer sync into a local Voucherify, run by Airflow
demo: $(INSTALLED)
	$(PY) -m demo.run

## test: everything that needs nothing but the installation
test: $(INSTALLED)
	$(PY) -m pytest

## test-cluster: the tests that start a real scheduler and triggerer
test-cluster: $(INSTALLED)
	$(PY) tests/cluster/loopback_only.py $(PY) -m pytest -m cluster tests/cluster

## crash: kill a sync at nine moments, five times each, on a real Airflow with PostgreSQL, and count what arrived
crash: $(INSTALLED)
	$(PY) -m crash.run

## crash-quick: the same with one kill at each moment, without the yardstick
crash-quick: $(INSTALLED)
	$(PY) -m crash.run --kills 1 --without-yardstick

## bench: how full bodies are and how much memory a million rows take
bench: $(INSTALLED)
	$(PY) benchmarks/million_rows.py

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(INSTALLED)
	$(PY) -m mypy

## build: wheel and source distribution in dist/
build: $(INSTALLED)
	$(VENV)/bin/uv build --quiet

install: $(INSTALLED)

# uv installs the pinned packages in parallel; it is itself installed by pip, which every venv has.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@echo "Installing Airflow, the provider and the tools of its tests into $(VENV)"
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	test -x $(VENV)/bin/uv || $(PY) -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --quiet --python $(PY) --constraint $(CONSTRAINTS) --editable '.[parquet]' --group dev
	touch $@

## constraints: pin the newest versions that go with the supported Airflow
constraints: $(INSTALLED)
	echo 'apache-airflow==3.3.2' | $(VENV)/bin/uv pip compile pyproject.toml --group dev --extra parquet --constraint - \
	  --universal --python-version 3.11 --upgrade --no-header --no-annotate --no-emit-index-url --output-file $(CONSTRAINTS)

clean:
	rm -rf .demo build dist
