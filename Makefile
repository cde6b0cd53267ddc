# slotmux: `make serve` and `make test` work on a fresh clone; `make help` lists the rest.
#   PYTHON=python3.12   interpreter for the virtual environment (3.11 or newer)
#   MODEL=file.gguf     model to serve, default: SmolLM2-135M-Instruct
#   MODELS=dir PEER=dir what `make bench` measures, and llama.cpp's tools to compare with
#   ARGS='...'          further options for slotmux or pytest

VENV := .venv
BIN := $(VENV)/bin
MODEL ?=
ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --progress-bar on

# The first interpreter that is new enough; PYTHON= overrules the search, not the check.
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p $(IS_NEW_ENOUGH) 2>/dev/null && echo $$p && break; done)
endif

define FETCH_DEFAULT_MODEL
from pathlib import Path
from slotmux.server.files.default_model import ensure_default_model
from slotmux.server.files.download import ConsoleProgress
with ConsoleProgress() as progress:
    ensure_default_model(Path("models"), progress)
endef
export FETCH_DEFAULT_MODEL

.DEFAULT_GOAL := help
.PHONY: help serve serve-ray test test-real test-vocabularies test-isa test-timing test-clients test-kills test-page
.PHONY: test-deploy test-ray webui fuzz check docs format bench bench-serve clean venv
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/.installed ## install, fetch the default model, serve on 127.0.0.1:8080
	@exec $(BIN)/slotmux serve $(MODEL) $(ARGS)

RAY := .cache/ray

serve-ray: $(RAY)/.installed ## REPLICAS=2 servers behind Ray Serve on 127.0.0.1:8000, each on CORES=1 of its own
	@exec $(RAY)/bin/python -m slotmux.deploy.ray.local replicas=$(or $(REPLICAS),2) \
		cores=$(or $(CORES),1) model=$(or $(MODEL),demo) $(ARGS)

test-ray: $(RAY)/.installed ## a Ray cluster of this machine: replicas killed, replaced, chosen by prefix
	@$(RAY)/bin/python -m pytest -W ignore -rs tests/cluster $(ARGS)

$(RAY)/.installed: pyproject.toml $(VENV)/.identity
	"$(PYTHON)" -m venv $(RAY)
	$(RAY)/bin/python -m pip --disable-pip-version-check install --editable '.[ray]' pytest pytest-asyncio
	@touch $@

test: $(VENV)/.installed-dev ## run every test that needs no downloaded model, on all cores
	@$(BIN)/python -m pytest -n logical --dist loadfile -m 'not real and not isa and not timing and not kills' $(ARGS)

test-real: $(VENV)/.installed-dev ## run the tests against real models (./models or SLOTMUX_TEST_MODELS)
	@[ -n "$$SLOTMUX_TEST_MODELS" ] || $(BIN)/python -c "$$FETCH_DEFAULT_MODEL"
	@$(BIN)/python -m pytest -m real -rs $(ARGS)

test-vocabularies: $(VENV)/.installed-dev ## llama.cpp's own vocabularies: VOCABULARIES=its folder models
	@SLOTMUX_TEST_VOCABULARIES="$(VOCABULARIES)" $(BIN)/python -m pytest -m real -rs \
		tests/runtime/tokenizer/test_vocabularies.py $(ARGS)

fuzz: $(VENV)/.installed-dev ## random crowds, each compared with itself alone: STEPS=100000 SEED=0
	@exec $(BIN)/python -m tests.fuzz --steps $(or $(STEPS),10000) --seed $(or $(SEED),0) $(ARGS)

test-timing: $(VENV)/.installed-dev ## the tests that judge time, for a quiet machine
	@JUDGE_TIME=1 $(BIN)/python -m pytest -m 'timing or timed' $(ARGS)

CLIENTS := .cache/clients
AGENTS := $(CLIENTS)/agents
CLIENT_LISTS := $(wildcard tests/clients/*/package.json tests/clients/requirements.txt \
	tests/clients/*/requirements.txt)
PIP_INTO = bin/python -m pip --disable-pip-version-check install -r
NPM_INTO := npm install --no-audit --no-fund --prefix

test-clients: $(VENV)/.installed $(CLIENTS)/.installed ## real clients from PyPI and npm against a real server (models as test-real)
	@$(CLIENTS)/bin/python -m pytest -rs tests/clients $(ARGS)

# Two environments: not all of PyPI's clients agree about versions. Programs of agents lie in packages
# for this platform, which their install scripts put in place.
$(CLIENTS)/.installed: $(CLIENT_LISTS) $(VENV)/.identity
	"$(PYTHON)" -m venv $(CLIENTS)
	$(CLIENTS)/$(PIP_INTO) tests/clients/requirements.txt
	"$(PYTHON)" -m venv $(AGENTS)
	$(AGENTS)/$(PIP_INTO) tests/clients/agents/requirements.txt
	@if command -v npm >/dev/null; then \
		cp tests/clients/node/package.json $(CLIENTS)/ && \
		cp tests/clients/agents/package.json $(AGENTS)/ && \
		$(NPM_INTO) $(CLIENTS) --ignore-scripts && $(NPM_INTO) $(AGENTS); \
	else echo "npm is not there: clients from npm are skipped"; fi
	@touch $@

WEBUI := .cache/webui

webui: $(WEBUI)/.installed ## build the page at / (server/assets/page) from server/webui; needs node
	@node server/webui/build.mjs

test-page: $(VENV)/.installed-dev $(WEBUI)/.installed ## the page at / in headless Chromium (needs node and chromium)
	@$(BIN)/python -m pytest -rs tests/webui $(ARGS)

$(WEBUI)/.installed: server/webui/package.json
	@mkdir -p $(WEBUI) && cp server/webui/package.json $(WEBUI)/
	npm install --prefix $(WEBUI) --no-audit --no-fund --ignore-scripts
	@touch $@

OPERATORS := .cache/operators

test-deploy: $(VENV)/.installed $(OPERATORS)/.installed ## deploy/ in nginx, HAProxy, Prometheus, and against published schemas
	@$(OPERATORS)/bin/python -m pytest -W ignore -rs tests/operators $(ARGS)

$(OPERATORS)/.installed: tests/operators/requirements.txt tests/operators/package.json tests/operators/crds.mjs $(VENV)/.identity
	"$(PYTHON)" -m venv $(OPERATORS)
	$(OPERATORS)/bin/python -m pip --disable-pip-version-check install -r tests/operators/requirements.txt
	@if command -v npm >/dev/null; then \
		cp tests/operators/package.json tests/operators/crds.mjs $(OPERATORS)/ && \
		npm install --prefix $(OPERATORS) --no-audit --no-fund --ignore-scripts; \
	else echo "npm is not there: schemas from npm are not looked at"; fi
	@touch $@

test-isa: $(VENV)/.installed-dev ## logits of every golden file on every instruction set, to the bit
	@$(BIN)/python -m pytest -m isa $(ARGS)

test-kills: $(VENV)/.installed-dev ## servers killed a hundred times while they write to disk
	@$(BIN)/python -m pytest -m kills -rP $(ARGS)

check: $(VENV)/.installed-dev ## formatting, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/.installed-dev ## apply formatting and safe lint fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-docs ## build the site of docs/ into build/site; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.installed ## speed of the models in MODELS=dir, beside the llama.cpp in PEER=dir
	@[ -n "$(MODELS)" ] || $(BIN)/python -c "$$FETCH_DEFAULT_MODEL"
	@exec $(BIN)/python -m tests.bench --models $(or $(MODELS),models) \
		$(if $(PEER),--peer $(PEER)) $(ARGS)

bench-serve: $(VENV)/.installed ## clients of a loaded server: MODEL=file, beside the llama-server in PEER=file
	@exec $(BIN)/python -m tests.bench.http.chats $(MODEL) $(if $(PEER),--peer $(PEER)) $(ARGS)

clean: ## remove the environment and all caches; models stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Runs always, costs three interpreter starts, writes only when it (re)builds. The identity says
# what the environment was built by and for: it is rebuilt when that changes (another PYTHON=, a
# moved checkout: console scripts hold absolute paths) and when its interpreter no longer runs. A
# working environment that something else made is adopted as it is.
venv:
	@if [ -z "$(PYTHON)" ]; then \
		echo "slotmux needs Python 3.11 or newer; say which with PYTHON=" >&2; exit 1; fi; \
	if ! "$(PYTHON)" $(IS_NEW_ENOUGH); then \
		echo "$(PYTHON) is older than Python 3.11, or does not run" >&2; exit 1; fi; \
	identity="$(CURDIR) $$("$(PYTHON)" -c 'import sys; print(sys.base_prefix, sys.version_info[:3])')"; \
	if "$(BIN)/python" $(IS_NEW_ENOUGH) 2>/dev/null && [ ! -e $(VENV)/.identity ]; then \
		echo "$$identity" >$(VENV)/.identity; fi; \
	if ! "$(BIN)/python" $(IS_NEW_ENOUGH) 2>/dev/null \
		|| [ "$$(cat $(VENV)/.identity)" != "$$identity" ]; then \
		if [ -L $(VENV) ]; then \
			echo "$(VENV) is a link to an environment of another checkout: remove the link" >&2; \
			exit 1; fi; \
		echo "creating $(VENV) with $(PYTHON)"; \
		"$(PYTHON)" -m venv --clear $(VENV) || { \
			echo "no virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
			exit 1; }; \
		echo "$$identity" >$(VENV)/.identity; \
	fi

$(VENV)/.identity: venv ;

$(VENV)/.installed: pyproject.toml $(VENV)/.identity
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.identity
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml $(VENV)/.identity
	$(PIP) --editable '.[docs]'
	@touch $@
