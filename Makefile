# `make` or `make help` lists what there is to make.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format native-test clean

PYTEST := .venv/bin/pytest
NATIVE_BUILD := build/sanitized

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: ## Install what is needed, and the project into .venv; does nothing when nothing changed.
	@tools/setup.sh

demo: setup ## Run the experiments of the hotel's search on this machine.
	$(PYTEST) experiments/ -k search

test: setup ## Run the tests that need nothing but this machine.
	$(PYTEST) tests --ignore=tests/cluster --ignore=tests/packaging

lint: setup ## Check style, types and the direction of imports.
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup ## Write the code as the formatter has it.
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

clean: ## Remove what was built and what runs left; `rm -r .tools` removes the fetched Prometheus, too.
	rm -rf .venv build dist .aefm aefm-report.json .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
