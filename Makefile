# Two commands for a newcomer: `make run` and `make test`. The first command that needs something installs it into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/first

.PHONY: run test test-all check format bench gpu docs clean

# The program alone; its stamp changes with what it depends on.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# ... and what the test suite needs (PyTorch is the largest part).
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# ... and what builds the site.
$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Softmax regression on MNIST; if MNIST is not available it says so and takes the built-in digits.
run: $(VENV)/.installed
	@if $(BIN)/gpureg data fetch mnist; then set=mnist; else set=digits; \
	  echo "MNIST is not available (see above): training on the built-in digits instead." >&2; fi; \
	$(BIN)/gpureg train --task softmax --dataset $$set --out $(OUT) --force

# The short suite: at most 8 minutes on 2 cores after installation. MNIST is fetched first, by gpureg itself: without it
# the tests that need it fail; they are never skipped. Two processes, and the tests of a file in one of them.
test: $(VENV)/.installed-dev
	$(BIN)/gpureg data fetch mnist
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Everything, with the tests marked `long` (see CONTRIBUTING.md).
test-all: $(VENV)/.installed-dev
	$(BIN)/gpureg data fetch mnist
	$(BIN)/python -m pytest --all

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
	GPUREG_REQUIRE_GPU=1 $(BIN)/python -m pytest --all tests/gpu tests/test_cuda_compile.py
	$(BIN)/python bench/gpu/run.py

# The site of docs/, in site/; a warning is an error. The reference pages must be what the program says of itself.
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/make/reference.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
