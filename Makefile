# The few commands of this repository. `make run` and `make test` work from a bare checkout.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KAFKA_LIBS := .cache/kafka/libs
KAFKA_POM := tests/support/kafka/pom.xml
PYTEST ?=
# The core is pure, so its own tests can reach all of it: they are judged alone, lines and branches.
CORE_COVERAGE := --cov=sagabus.coordinator.core --cov-fail-under=95 --cov-report=term-missing:skip-covered

# A worker that dies ends the run: one that takes its place may be given a last test and wait for another for ever.
TWO_AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
AT_ONCE := $(TWO_AT_ONCE)
LATER := simulation fuzz faults deployment

.DEFAULT_GOAL := help
.PHONY: help run test test-all $(LATER:%=ring-%) simulate check site format clean kafka

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name does; do \
	  printf '%-14s %s\n' "$$name" "$$does"; done

run: $(VENV)/installed ## show the order saga, on an embedded bus and database
	@$(BIN)/sagabus demo
	@echo "Next, a project of your own: . $(BIN)/activate && sagabus init ../library"

test: $(VENV)/installed-dev kafka check ## the checks, and the tests for people: a few minutes
	$(BIN)/python -m pytest tests/core --ring people -q -n 2 --max-worker-restart 0 $(CORE_COVERAGE)
	$(BIN)/python -m pytest --ring people --ignore=tests/core $(TWO_AT_ONCE) $(PYTEST)

test-all: test $(LATER:%=ring-%) ## the same, and then all other rings: half an hour (tests/README.md)

# Those that need the machine for themselves run one after the other.
ring-simulation ring-faults: AT_ONCE :=
$(LATER:%=ring-%): ring-%: $(VENV)/installed-dev kafka
	$(BIN)/python -m pytest --ring $* $(AT_ONCE) $(PYTEST)

simulate: $(VENV)/installed-dev ## 10,000 runs of a simulated deployment, then every bug that was put in on purpose
	$(BIN)/python -m tests.simulation --seeds 10000
	$(BIN)/python -m tests.simulation --mutants

check: $(VENV)/installed-dev ## run the linters and type checkers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory --jobs=2 types-mypy types-pyright

types-%:
	$(BIN)/$*

site: $(VENV)/installed-dev ## build the pages of docs/ as a site, in build/site; a link that leads nowhere fails it
	$(BIN)/python -m sphinx --builder html --conf-dir docs/site --doctree-dir build/doctrees \
	  --fail-on-warning --keep-going --quiet . build/site
	@echo "open build/site/index.html"

format: $(VENV)/installed-dev ## let ruff write the files as it wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove all that these commands made
	rm -rf $(VENV) .cache .sagabus .coverage build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. A change of pyproject.toml installs anew.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "sagabus needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1)"; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "installing sagabus and what it needs into $(VENV): a minute or two"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing sagabus and its tools into $(VENV): some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/installed

# The jars of a real Kafka broker. Without Java or Maven the tests on it are left out, and the run says so at its end.

kafka:
	@if ls $(KAFKA_LIBS)/kafka_*.jar >/dev/null 2>&1; then :; \
	elif command -v mvn >/dev/null 2>&1; then \
	  echo "fetching the Kafka broker of the tests into $(KAFKA_LIBS)"; \
	  rm -rf $(KAFKA_LIBS) $(KAFKA_LIBS).part; \
	  mvn --batch-mode --quiet --file $(KAFKA_POM) dependency:copy-dependencies \
	    -DoutputDirectory="$(CURDIR)/$(KAFKA_LIBS).part" && mv $(KAFKA_LIBS).part $(KAFKA_LIBS) \
	    || echo "!! Maven could not fetch it (see above): the tests on a real Kafka will be left out."; \
	else \
	  echo "!! no Maven: the tests on a real Kafka will be left out."; \
	  echo "!! On Debian and Ubuntu: apt-get install maven default-jre-headless"; \
	fi
