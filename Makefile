# Two commands are all that a fresh machine needs: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed

.DEFAULT_GOAL := help
.PHONY: help run test faults bench bench-smoke lint format setup setup-dev clean requirements

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## Start a master and two nodes, and print their addresses
	@exec $(BIN)/python manage.py runcluster $(ARGS)

test: setup-dev ## Run the whole test suite
	$(BIN)/python -m pytest $(ARGS)

MINUTES ?= 10
NODES ?= 5
REPLICAS ?= 3
faults: setup-dev ## Break a cluster at random for MINUTES=10, and count what is lost (SEED=, NODES=, REPLICAS=)
	$(BIN)/python -m tests.faults.thrash --minutes $(MINUTES) --nodes $(NODES) --replicas $(REPLICAS) $(if $(SEED),--seed $(SEED))

bench: setup-dev ## Measure the system beside the machine's limits (ARGS="--only put-small --rounds 3")
	$(BIN)/python -m bench.run $(ARGS)

bench-smoke: setup-dev ## The same with as little of each as shows that it works
	$(BIN)/python -m bench.run --smoke $(ARGS)

lint: setup-dev ## Check style, types and the borders between the applications
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check

format: setup-dev ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(RUNTIME) ## Make .venv with the pinned requirements

setup-dev: $(DEVELOPMENT) ## The same, with what tests and checks need

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Mini-Dropbox needs Python 3.11 or newer: make run PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python cannot make a virtual environment here; on Debian: apt install python3-venv"; exit 1; }

$(RUNTIME): requirements.txt | $(BIN)/python
	@echo "Installing what Mini-Dropbox needs into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(DEVELOPMENT): requirements-dev.txt $(RUNTIME)
	@echo "Installing what the tests need into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

requirements: ## Resolve requirements*.in anew (needs uv)
	uv pip compile --quiet --universal --no-header --python-version 3.11 requirements.in -o requirements.txt
	uv pip compile --quiet --universal --no-header --python-version 3.11 -c requirements.txt requirements-dev.in -o requirements-dev.txt

clean: ## Remove the virtual environment and caches; your data stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
