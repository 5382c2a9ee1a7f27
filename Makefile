# Needs Python 3.11 or later, with venv, and GNU make 3.81 or later. Nothing has to be activated.
# Settings of an import are environment variables (envrc-template): make run IMPORT_COUNT=20
# Another Python than the one found: make test PYTHON=python3.12

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-browser chaos bench check format lock upgrade pgcli clean
.DELETE_ON_ERROR:

VENV := .venv
LOCKS := requirements/runtime.txt requirements/dev.txt requirements/bench.txt

# `dbos start` runs the `python` on PATH, whatever virtual environment it was called from.
IN_VENV = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)"

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r target text; do \
	    printf '  make %-12s %s\n' "$$target" "$$text"; done

run: $(VENV)/runtime.stamp  ## import the 5,000 users of data/data.json
	@$(IN_VENV) dbos start

test: $(VENV)/dev.stamp  ## run the tests (some: ARGS="-k takeover")
	@$(IN_VENV) pytest $(ARGS)

test-long: $(VENV)/dev.stamp  ## run the long tests: more moments, longer outages
	@$(IN_VENV) pytest -m long --timeout=900 $(ARGS)
	@$(IN_VENV) HYPOTHESIS_PROFILE=long pytest --timeout=3600 tests/integration/test_records.py $(ARGS)

test-browser: $(VENV)/dev.stamp  ## look at the report with a real Chromium
	@$(IN_VENV) pytest -m "browser and not long" --numprocesses=0 $(ARGS)

chaos: $(VENV)/dev.stamp  ## import under random failures (SEED=7 ROUNDS=50, or MINUTES=20)
	@$(IN_VENV) python -m chaos

bench: $(VENV)/dev.stamp $(VENV)/bench.stamp  ## measure against others (USERS=2000 ROUNDS=1)
	@$(IN_VENV) python -m benchmarks.run --users $(or $(USERS),50000) --rounds $(or $(ROUNDS),3)

check: $(VENV)/dev.stamp  ## lint, check the format, the types and who imports whom
	@$(IN_VENV) ruff check
	@$(IN_VENV) ruff format --check
	@$(IN_VENV) mypy
	@$(IN_VENV) tach check

format: $(VENV)/dev.stamp  ## put the code into its form
	@$(IN_VENV) ruff check --fix
	@$(IN_VENV) ruff format

pgcli: $(VENV)/dev.stamp  ## open the database in pgcli (ARGS="-c 'SELECT 1'")
	@$(IN_VENV); export PATH; settings=$$(python integration.py postgres env) && \
	    eval "$$settings" && pgcli $(ARGS)

lock: $(VENV)/dev.stamp  ## pin what pyproject.toml asks for, keeping what fits
	@$(IN_VENV) requirements/lock $(LOCKS)

upgrade: $(VENV)/dev.stamp  ## pin the newest versions that pyproject.toml allows
	@$(IN_VENV) requirements/lock --upgrade $(LOCKS)

clean:  ## remove .venv and the caches; the database stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .tach
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Without pip, which `ensurepip` then brings: so an interrupted set-up just goes on.
$(VENV)/bin/python:
	@python=$$(sh requirements/find-python $(PYTHON)) && echo "Making $(VENV) with $$python" && \
	    "$$python" -m venv --clear --without-pip $(VENV)

$(VENV)/%.stamp: requirements/%.txt $(VENV)/bin/python
	@echo "Installing $< into $(VENV), which takes a minute"
	@$(VENV)/bin/python -m ensurepip --default-pip >/dev/null
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-input \
	    --require-hashes --requirement $<
	@touch $@
