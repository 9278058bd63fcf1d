# Two commands for a newcomer: `make run` and `make test`. Everything is installed into .venv by the first that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/first

.PHONY: run test check format bench gpu clean

# The program alone; its stamp changes with what it depends on.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# ... and what the whole test suite needs (PyTorch among it: the largest part).
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Softmax regression on MNIST; where MNIST can't be had it says so and takes the digits that are built in.
run: $(VENV)/.installed
	@if $(BIN)/gpureg data fetch mnist; then set=mnist; else set=digits; \
	  echo "MNIST can't be had (see above): training on the built-in digits instead." >&2; fi; \
	$(BIN)/gpureg train --task softmax --dataset $$set --out $(OUT) --force

# MNIST is fetched first, by the product itself: the tests that need it fail without it, they are never skipped.
test: $(VENV)/.installed-dev
	$(BIN)/gpureg data fetch mnist
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	$(BIN)/python bench/report_job.py
	$(BIN)/python bench/sweep.py --quick
	$(BIN)/python bench/small_data.py --rounds 5
	$(BIN)/python bench/optimum.py --quick

# On a machine with a GPU: the tests that need one, the compile gate, and the benchmarks into bench/results/<card>.json.
gpu: $(VENV)/.installed-dev
	GPUREG_REQUIRE_GPU=1 $(BIN)/python -m pytest tests/gpu tests/test_cuda_compile.py
	$(BIN)/python bench/gpu/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
