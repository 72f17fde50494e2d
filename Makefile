# One folder, .venv, holds everything; the stamp file makes a second install do nothing.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := bundles/digits
PORT ?= 3000

.PHONY: install serve demo test test-clients test-bare lint bench bench-mlserver requirements bento clean
install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(DEMO)/manifest.json

$(DEMO)/manifest.json: | $(STAMP)
	$(BIN)/python examples/digits/train.py
	$(BIN)/guardhouse fit examples/digits/gateway.yaml --out $(DEMO)

serve: demo
	$(BIN)/guardhouse serve $(DEMO) --config examples/digits/gateway.yaml --port $(PORT)

test: $(STAMP)
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(PYTEST_ARGS)
	$(BIN)/coverage report --include='guards/*' --fail-under=95 --format=total

# KServe's client pins versions that do not fit this project's: it gets an environment of its own.
CLIENTS := .venv-clients
$(CLIENTS)/.installed:
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet kserve==0.20.0
	touch $@

test-clients: $(STAMP) $(CLIENTS)/.installed
	GUARDHOUSE_KSERVE=$(CURDIR)/$(CLIENTS)/bin/python $(BIN)/python -m pytest $(PYTEST_ARGS) tests/protocols/test_clients.py

# The library with its own four dependencies and no extra: what needs one is skipped.
BARE := .venv-bare
$(BARE)/.installed: constraints.txt
	$(PYTHON) -m venv $(BARE)
	$(BARE)/bin/python -m pip install --quiet -c constraints.txt torch numpy pydantic safetensors pytest hypothesis
	touch $@

test-bare: $(BARE)/.installed
	PYTHONPATH=$(CURDIR) $(BARE)/bin/python -m pytest -p no:cacheprovider $(PYTEST_ARGS) tests/guards tests/laws tests/conformance

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# MLServer beside the others in the serving benchmark, from here on: its pins do not fit this project's.
MLSERVER := .venv-mlserver
bench-mlserver: $(STAMP) $(MLSERVER)/.installed
$(MLSERVER)/.installed: constraints.txt
	$(PYTHON) -m venv $(MLSERVER)
	$(MLSERVER)/bin/python -m pip install --quiet mlserver==1.7.1 "$$(grep '^torch==' constraints.txt)"
	touch $@

requirements: $(STAMP)
	$(BIN)/python tools/requirements.py

bento: $(STAMP)
	$(BIN)/bentoml build

clean:
	rm -rf $(VENV) bundles build dist
