# `make demo` and `make test` work on a fresh machine; `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help libraries virtual-libraries setup demo test check lint format export evaluate bench \
	evaluate-brain evaluate-hippocampus
# The set-up of one target must not run beside that of another.
.NOTPARALLEL:

PYTHON ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
export PYTHON

# X11, Wayland or macOS: is there a screen to open napari on?
SCREEN := $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname -s))

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "PYTHON=... names the Python for .venv, PYTEST_ARGS=... goes to pytest, BENCH_ARGS=... to the benchmark."

libraries:
	@scripts/system-libraries

virtual-libraries:
	@scripts/system-libraries --virtual

setup: libraries  ## make .venv and install everything into it
	@scripts/setup

ifneq ($(SCREEN),)
demo: setup  ## segment the sample scan in napari; with no screen, write demo-output/
	.venv/bin/python -m napari_sparseseg.plugin.demo
else
demo: virtual-libraries setup
	@echo "==> No screen here: the demo runs on a virtual one and writes demo-output/"
	scripts/virtual-display .venv/bin/python -m napari_sparseseg.plugin.demo --output demo-output
	@ls -l demo-output
endif

test: virtual-libraries setup  ## run every test, those of the window on a virtual screen
	scripts/virtual-display .venv/bin/pytest --no-xvfb $(PYTEST_ARGS)

check: lint test  ## lint, types and tests: what a change has to pass

lint: setup  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: setup  ## let ruff mend and format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

DATA ?= ../shared/data
RUNS ?= runs
TRAINING := .venv/bin/python -m napari_sparseseg.training
RESULTS := benchmarks/results
METHODS := dense stp dtop svit apformer
recipes = $(foreach m,$(2),napari_sparseseg/training/recipes/$(1)-$(m).toml)
BRAIN := $(call recipes,brain-mr,$(METHODS))
HIPPOCAMPUS := $(call recipes,hippocampus-mr,$(METHODS))
# Trained for the comparison only: they are not shipped.
COMPARED := $(call recipes,hippocampus-mr,truncated none svit-published)

export: setup  ## register the models of finished training runs (RUNS=...)
	$(TRAINING).export $(BRAIN) $(HIPPOCAMPUS) --runs $(RUNS) --weights weights
	$(TRAINING).export $(COMPARED) --runs $(RUNS) --weights $(RUNS)/models
	mkdir -p $(RESULTS)/training
	for log in $(RUNS)/*/log.csv; do run=$$(dirname $$log); name=$$(basename $$run); \
	  cp $$log $(RESULTS)/training/$$name.csv; cp $$run/curve.png $(RESULTS)/training/$$name.png; done

evaluate: evaluate-brain evaluate-hippocampus  ## measure every registered model (DATA=..., RUNS=...)

evaluate-brain: setup  ## measure the brain-mr models and write their cards
	$(TRAINING).evaluate $(BRAIN) --data $(DATA) --out $(RESULTS)/brain-mr.json
	$(TRAINING).card $(BRAIN) --results $(RESULTS)/brain-mr.json --logs $(RESULTS)/training

evaluate-hippocampus: setup  ## measure the hippocampus-mr models, write docs/hippocampus.md and cards
	$(TRAINING).evaluate_scans $(HIPPOCAMPUS) $(COMPARED) --data $(DATA)/hippocampus \
	  --others $(RUNS)/models --out $(RESULTS)/hippocampus-mr.json
	$(TRAINING).scans_page $(RESULTS)/hippocampus-mr.json --out docs/hippocampus.md
	$(TRAINING).card $(HIPPOCAMPUS) --results $(RESULTS)/hippocampus-mr.json --logs $(RESULTS)/training

bench: setup  ## measure every claim on speed and write docs/performance.md (DATA=..., BENCH_ARGS=...)
	.venv/bin/python -m benchmarks.speed measure --data $(or $(SPARSESEG_DATA),$(DATA)) $(BENCH_ARGS)
	.venv/bin/python -m benchmarks.speed page
