# Everything this project can do on a machine with python3 (3.11 or later), venv and make. `make` alone lists it.

.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# The newest Python here that will do; `make PYTHON=/path/to/python3.13 test` names one.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --require-hashes
# More than there are cores: many tests wait for a clock.
WORKERS ?= 4
say = @echo "· $(1)"

.PHONY: help demo test check fmt browser screenshots acceptance beyond faults servers anywhere soak bench bench-quick docs tables lock clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'

demo: $(VENV)/runtime ## See it work: both flows, a killed consumer, balanced books; no Docker, no Redis, no network
	@$(BIN)/millrace demo $(ARGS)

test: $(VENV)/all ## All tests that need no Docker, ten to twenty minutes on two cores; ARGS='-k name' for some
	@$(BIN)/python -m pytest -q -n $(WORKERS) -m 'not docker' tests/unit tests/contracts tests/integration tests/acceptance tests/faults/test_model.py tests/faults/test_power_model.py $(ARGS)

check: $(VENV)/all ## Lint, format, types, and who may import whom
	$(call say,ruff)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --diff --quiet . | head -50; echo "run: make fmt"; exit 1; }
	$(call say,mypy)
	@$(BIN)/mypy --no-error-summary
	$(call say,import-linter)
	@$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }

fmt: $(VENV)/all ## Format the code, and mend what can be mended
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

browser: $(VENV)/all ## The page in a real Chromium (Debian: apt install chromium): by keyboard, on a phone, with axe
	@$(BIN)/python -m pytest -q -n 2 tests/browser $(ARGS)

screenshots: $(VENV)/all ## Take the pictures of the page and of commands in the docs anew, of flows that run; some minutes, with Chromium
	@$(BIN)/python -m docs.terminals
	@$(BIN)/python -m docs.screenshots

acceptance: $(VENV)/all ## The real stack in Docker: up, scale, kill, restart, count
	@$(BIN)/python -m pytest -q -m docker tests/acceptance $(foreach file,$(BEYOND),--ignore $(file)) $(ARGS)

beyond: $(VENV)/all ## Beyond one machine: a swarm of three engines (as root, with dockerd), and the Helm chart (with npm); ten minutes
	@MILLRACE_SWARM=required MILLRACE_DOCKER=required $(BIN)/python -m pytest -q -m docker $(BEYOND) $(ARGS)
BEYOND := tests/acceptance/test_swarm.py tests/acceptance/test_autoscaled_swarm.py tests/acceptance/test_chart.py

faults: $(VENV)/all ## Kill, cut and fill everything there is, count the records again, print fault × invariant; minutes
	@$(BIN)/python -m pytest -q -n 2 tests/faults $(ARGS)

servers: $(VENV)/all ## The queue and its faults on Redis 7.0 and 8.0 (on Valkey 9 the others run them); Linux with Docker, ten minutes
	@for server in $(SERVERS); do tests/servers/fetch $$server >/dev/null || exit 1; done
	@failed=; for server in $(SERVERS); do echo "· $$server"; \
		MILLRACE_SEQUENCES=60 $(BIN)/python -m pytest -q -n $(WORKERS) --server $$server tests/servers $(ON_EACH) $(ARGS) || failed+=" $$server"; \
		done; echo "· valkey-9"; $(BIN)/python -m pytest -q -n $(WORKERS) --server valkey-9 tests/servers $(ARGS) || failed+=" valkey-9"; \
		[[ -z $$failed ]] || { echo "make servers: failed on$$failed"; exit 1; }
SERVERS := redis-7.0 redis-8.0
# On Valkey 9, the one in the wheel, `make test` and `make faults` run these.
ON_EACH := tests/contracts/test_queue_contract.py tests/contracts/test_scripts_contract.py tests/contracts/test_requests_contract.py \
	tests/contracts/test_redis_contract.py tests/contracts/test_redis_source_contract.py tests/integration/test_acl.py \
	tests/integration/test_preflight.py tests/integration/test_cluster.py tests/integration/test_sentinel.py \
	tests/faults/test_model.py tests/faults/test_power_model.py tests/faults/test_redis_faults.py \
	'tests/faults/test_power_loss.py::test_a_power_cut_of_redis_loses_no_record_of_a_source[redis list-acknowledge-write]'

anywhere: $(VENV)/all ## A flow's whole life on six servers, alone, by socket, TLS and ACL, Cluster and Sentinel; Linux with apt-get and Docker, 15 minutes
	@failed=; for server in $(SERVERS) $(MORE_SERVERS) valkey-9; do echo "· $$server"; \
		$(BIN)/python -m pytest -q -n 2 --server $$server tests/servers $(ARGS) || failed+=" $$server"; \
		done; [[ -z $$failed ]] || { echo "make anywhere: failed on$$failed"; exit 1; }
MORE_SERVERS := redict-7.3 valkey-8.0 valkey-8.1

soak: $(VENV)/all ## The queue against its model, for hours if you like: SEQUENCES=20000
	@MILLRACE_SEQUENCES=$(or $(SEQUENCES),3000) $(BIN)/python -m pytest -q -n $(WORKERS) tests/faults/test_model.py tests/faults/test_power_model.py $(ARGS)

bench: $(VENV)/bench/ready ## Millrace beside its peers, every row of docs/how-to/benchmarks.md; half an hour; ARGS='--only 3' for one
	@$(VENV)/bench/bin/python -m bench $(ARGS)

bench-quick: $(VENV)/bench/ready ## The same, smaller: fails on a wrong answer, never on a time; two minutes
	@$(VENV)/bench/bin/python -m bench --quick $(ARGS)

# Not --quiet, by which mkdocs doesn't count its warnings. What Material says of a successor stays unsaid.
docs: $(VENV)/docs/ready ## The documentation as a site with search, in build/site; fails at a link that leads nowhere
	$(call say,mkdocs)
	@NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build

tables: $(VENV)/all ## Write the docs' tables of sources and sinks anew, from their classes
	@$(BIN)/python -m docs.tables

lock: $(VENV)/runtime ## Resolve all dependencies anew into requirements/
	$(call say,resolving)
	@test -x $(VENV)/uv/bin/uv || { $(BIN)/python -m venv $(VENV)/uv && $(VENV)/uv/bin/python -m pip install -qq 'uv>=0.9,<1'; }
	@$(RESOLVE) pyproject.toml --extra all -o requirements/all.txt
	@$(RESOLVE) pyproject.toml -c requirements/all.txt -o requirements/base.txt
	@$(RESOLVE) --group build -c requirements/all.txt -o requirements/build.txt
	@for extra in $(EXTRAS); do \
	  $(RESOLVE) pyproject.toml --extra $$extra -c requirements/all.txt -o requirements/$$extra.txt && \
	  $(BIN)/python requirements/subtract requirements/$$extra.txt requirements/base.txt || exit 1; done
	@$(RESOLVE) pyproject.toml --extra all --group dev -c requirements/all.txt -c requirements/build.txt -o requirements/dev.txt
	@$(RESOLVE) pyproject.toml bench/requirements.in -c requirements/all.txt -o bench/requirements.txt
	@$(RESOLVE) --group docs -c requirements/all.txt -c requirements/dev.txt -o requirements/docs.txt
	@printf -- '-r %s.txt\n' $(EXTRAS) > requirements/all.txt
	@$(BIN)/python requirements/subtract requirements/dev.txt requirements/all.txt requirements/build.txt
	@$(BIN)/python requirements/subtract bench/requirements.txt requirements/base.txt
EXTRAS = aws delta duckdb kafka keda objects otel pandas polars postgres schedule ui websocket
# No address of any index ends up in the files: they hold on every machine, whatever its pip is told.
RESOLVE = $(VENV)/uv/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

clean: ## Remove what make, the tests and the tools left here; never data/
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv/runtime and .venv/all are stamps: a second call is instant, and a changed lock installs again.
$(VENV)/pip:
	@[[ -n "$(PYTHON)" ]] || { echo "Millrace needs Python 3.11 or later, and there is none on the PATH: install it (Debian: apt install python3 python3-venv), or say make PYTHON=/path/to/python3.13 …"; exit 1; }
	$(call say,making $(VENV) with $$($(PYTHON) --version))
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/runtime: requirements/base.txt requirements/build.txt pyproject.toml | $(VENV)/pip
	$(call say,installing what Millrace needs: a minute the first time)
	@$(PIP) -r requirements/base.txt -r requirements/build.txt
	@$(BIN)/python -m pip --disable-pip-version-check install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/all: $(wildcard requirements/*.txt) $(VENV)/runtime
	$(call say,installing what its tests and checks need)
	@$(PIP) -r requirements/dev.txt
	@touch $@

# Apart, since the peers bring dependencies of their own.
$(VENV)/bench/ready: bench/requirements.txt requirements/build.txt pyproject.toml | $(VENV)/pip
	$(call say,installing what the benchmarks measure against: half a minute)
	@$(PYTHON) -m venv --clear $(VENV)/bench
	@$(VENV)/bench/bin/python -m pip --disable-pip-version-check install -qq --require-hashes -r bench/requirements.txt -r requirements/build.txt
	@$(VENV)/bench/bin/python -m pip --disable-pip-version-check install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/docs/ready: requirements/docs.txt | $(VENV)/pip
	$(call say,installing what builds the documentation)
	@$(PYTHON) -m venv --clear $(VENV)/docs
	@$(VENV)/docs/bin/python -m pip --disable-pip-version-check install -qq --require-hashes -r requirements/docs.txt
	@touch $@
