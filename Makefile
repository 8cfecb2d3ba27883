# `make demo` and `make test` work on a fresh machine; `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help libraries virtual-libraries setup demo test check lint format export evaluate bench
# The set-up of one target must not run beside that of another.
.NOTPARALLEL:

PYTHON ?=
PYTEST_ARGS ?=
export PYTHON

# X11, Wayland or macOS: is there a screen to open napari on?
SCREEN := $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname -s))

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "PYTHON=... names the Python for .venv, PYTEST_ARGS=... goes to pytest."

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
MODELS := $(foreach m,dense stp,napari_sparseseg/training/recipes/brain-mr-$(m).toml)
TRAINING := .venv/bin/python -m napari_sparseseg.training
RESULTS := benchmarks/results

export: setup  ## register the models of finished training runs (RUNS=...)
	$(TRAINING).export $(MODELS) --runs $(RUNS) --weights weights
	mkdir -p $(RESULTS)/training
	for r in $(RUNS)/*/; do cp $$r/log.csv $(RESULTS)/training/$$(basename $$r).csv; \
	  cp $$r/curve.png $(RESULTS)/training/$$(basename $$r).png; done

evaluate: setup  ## measure the registered models and write their cards (DATA=...)
	$(TRAINING).evaluate $(MODELS) --data $(DATA) --out $(RESULTS)/brain-mr.json
	$(TRAINING).card $(MODELS) --results $(RESULTS)/brain-mr.json --logs $(RESULTS)/training

bench: setup  ## measure the slider and write docs/performance.md
	.venv/bin/python benchmarks/slider.py --out $(RESULTS)/slider.json --page docs/performance.md
