# `make` or `make help` lists what there is to make.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cluster native-test fuzz test-packaging test-oldest test-neighbours test-sdks bars lint format docs clean

PYTEST := .venv/bin/pytest
NATIVE_BUILD := build/sanitized
FUZZ_BUILD := build/fuzz
# How long `make fuzz` takes for each of its targets, and which those are.
FUZZ_SECONDS = 60
FUZZ_TARGETS = $(notdir $(wildcard native/fuzz/corpus/*))
# Those that need nothing but this machine.
TESTS = tests/unit tests/plugin tests/native tests/docs tests/local
# What the oldest pytest and xdist are tried with.
OLDEST = tests/plugin
NEIGHBOURS = pytest-html pytest-randomly pytest-repeat pytest-rerunfailures pytest-timeout pytest-metadata jinja2 markupsafe
SDKS = googleapis-common-protos $(addprefix opentelemetry-, api sdk semantic-conventions proto proto-json \
	$(addprefix exporter-, http-transport otlp-common otlp-proto-common otlp-proto-http otlp-json-common otlp-json-http))
# The system's, or the wheel's where set-up had to install that.
CMAKE = $(firstword $(wildcard .venv/bin/cmake) cmake)
CTEST = $(firstword $(wildcard .venv/bin/ctest) ctest)

# The engine that set-up built, whatever else is on PATH.
test test-cluster bars: export AEFM_WRK = $(CURDIR)/.venv/bin/aefm-wrk

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: ## Install what is needed, and the project into .venv; does nothing when nothing changed.
	@tools/setup.sh

demo: setup ## Run the experiments of the hotel's search on this machine.
	$(PYTEST) experiments/ -k search

test: setup ## Run the tests that need nothing but this machine.
	$(PYTEST) -n 4 -m "not alone" $(TESTS)
	$(PYTEST) -m alone $(TESTS)

test-cluster: setup ## Run the tests on a Kubernetes cluster; AEFM_TEST_CLUSTER names the program that starts one.
	@test -n "$(AEFM_TEST_CLUSTER)" || { echo "AEFM_TEST_CLUSTER is not set: expected a program that starts a cluster, see tests/cluster/conftest.py" >&2; exit 2; }
	$(PYTEST) tests/cluster

native-test: setup ## Run the tests of the C code under AddressSanitizer and UndefinedBehaviorSanitizer.
	$(CMAKE) -S . -B $(NATIVE_BUILD) -DAEFM_TESTS=ON -DAEFM_SANITIZE=ON -DAEFM_WERROR=ON --log-level=WARNING
	$(CMAKE) --build $(NATIVE_BUILD) --parallel 2 -- --quiet
	$(CTEST) --test-dir $(NATIVE_BUILD) --output-on-failure

fuzz: setup ## Fuzz what reads the bytes of others, FUZZ_SECONDS each, with clang, which it installs on Debian.
	tools/setup.sh fuzz
	$(CMAKE) -S . -B $(FUZZ_BUILD) -DCMAKE_C_COMPILER=clang -DAEFM_TESTS=ON -DAEFM_SANITIZE=ON --log-level=WARNING
	$(CMAKE) --build $(FUZZ_BUILD) --parallel 2 --target $(FUZZ_TARGETS:%=fuzz_%) -- --quiet
	for name in $(FUZZ_TARGETS); do \
	  echo "===== $$name, for $(FUZZ_SECONDS) s"; mkdir -p $(FUZZ_BUILD)/corpus/$$name; \
	  $(FUZZ_BUILD)/native/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=8192 -verbosity=0 \
	    -print_final_stats=1 -artifact_prefix=$(FUZZ_BUILD)/ $(FUZZ_BUILD)/corpus/$$name native/fuzz/corpus/$$name || exit 1; \
	done

test-packaging: setup ## Build and install the project in every way there is; needs a package index.
	$(PYTEST) tests/packaging

test-oldest: setup ## Run the plugin's tests on the oldest pytest and xdist that are admitted; needs a package index.
	tools/environment.sh oldest pytest==8.2.0 pytest-xdist==3.6.1
	build/environments/oldest/bin/python -m pytest -n 4 $(OLDEST)

test-neighbours: setup ## Run small experiments beside other plugins of pytest; needs a package index.
	tools/environment.sh neighbours $(NEIGHBOURS)
	build/environments/neighbours/bin/python -m pytest -p no:randomly tests/neighbours

test-sdks: setup ## Have OpenTelemetry's SDKs for Python and JavaScript export to a run; needs package indexes.
	tools/environment.sh sdks $(SDKS)
	build/environments/sdks/bin/python -m pytest tests/sdks

bars: setup ## Measure what the project promises, and run the tests ten times in a row; takes hours, on an idle machine.
	for name in start_up cases doses scrapes blame drivers intake traces mesh engine; do .venv/bin/python benchmarks/$$name.py || exit 1; done
	AEFM_TRACE_EXAMPLES=10000 $(PYTEST) tests/unit/test_traces.py tests/unit/test_critical_path.py tests/unit/test_trace_statistics.py
	$(MAKE) test-oldest
	tools/environment.sh neighbours $(NEIGHBOURS)
	for turn in 1 2 3 4 5 6 7 8 9 10; do \
	  case $$turn in 4|5|6) how="-p no:randomly -p xdist -n 2" ;; 7|8|9) how="-p randomly" ;; *) how="-p no:randomly" ;; esac; \
	  echo "===== tests, run $$turn of 10: $$how"; \
	  build/environments/neighbours/bin/python -m pytest -n 4 $$how -m "not alone" $(TESTS) || exit 1; \
	  build/environments/neighbours/bin/python -m pytest $$how -m alone $(TESTS) || exit 1; \
	done
	@[ -z "$$AEFM_TEST_CLUSTER" ] || AEFM_BARS=1 AEFM_KILLS=5 $(PYTEST) tests/cluster

lint: setup ## Check style, types and the direction of imports.
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup ## Write the code as the formatter has it.
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

docs: setup ## Write the reference pages of docs/ from the code.
	.venv/bin/python tools/reference.py

clean: ## Remove what was built and what runs left; `rm -r .tools` removes the fetched Prometheus, too.
	rm -rf .venv build dist .aefm aefm-report.json .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
