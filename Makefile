# `make demo` and `make test` work on a fresh machine; `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: audit help libraries virtual-libraries setup demo test test-slicer check lint format export baselines evaluate adopt results bench viewer-bench torture
# The set-up of one target must not run beside that of another.
.NOTPARALLEL:

PYTHON ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
TORTURE_ARGS ?=
EVALUATE_ARGS ?=
TASK ?= headneck-ct
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

# `make test` runs of tests/slicer what needs no environment of its own; this runs all of it.
slicer-pytest = bin/pytest -c tests/slicer/environments.ini --rootdir . --confcutdir . $(PYTEST_ARGS)
test-slicer: libraries setup  ## run the tests of the 3D Slicer module, in two environments of their own
	@scripts/slicer-environments
	QT_QPA_PLATFORM=offscreen .venv-slicer/$(slicer-pytest) tests/slicer --ignore tests/slicer/browser
	.venv-trame/$(slicer-pytest) tests/slicer/browser

check: lint test  ## lint, types and tests: what a change has to pass

lint: setup  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

audit: setup  ## ask for known weaknesses of the installed packages; fails if there are any
	@.venv/bin/python scripts/audit.py

format: setup  ## let ruff mend and format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

DATA ?= $(or $(SPARSESEG_DATA),../shared/data)
RUNS ?= runs
RESULTS := benchmarks/results
TASKS := brain-mr headneck-ct hippocampus-mr
METHODS := dense stp dtop svit apformer
recipes = $(foreach m,$(2),napari_sparseseg/training/recipes/$(1)-$(m).toml)
SHIPPED := $(foreach t,$(TASKS),$(call recipes,$(t),$(METHODS)))
# Trained for the comparison only: they are not shipped.
COMPARED := $(call recipes,hippocampus-mr,truncated none svit-published) $(call recipes,headneck-ct,longer apformer-published)

export: setup  ## register the models of finished training runs (RUNS=...)
	.venv/bin/python -m napari_sparseseg.training.export $(SHIPPED) --runs $(RUNS) --weights weights
	.venv/bin/python -m napari_sparseseg.training.export $(COMPARED) --runs $(RUNS) --weights $(RUNS)/models
	mkdir -p $(RESULTS)/training
	for log in $(RUNS)/*/log.csv; do run=$$(dirname $$log); name=$$(basename $$run); \
	  cp $$log $(RESULTS)/training/$$name.csv; \
	  if [ -f $$run/curve.png ]; then cp $$run/curve.png $(RESULTS)/training/$$name.png; fi; done

baselines: setup  ## train MONAI's UNETR and DynUNet on a task (TASK=..., DATA=..., RUNS=...)
	for name in monai-unetr monai-dynunet; do \
	  .venv/bin/python -m benchmarks.quality.rival_training $(TASK) $$name --data $(DATA) --runs $(RUNS); done

evaluate: $(addprefix evaluate-,$(TASKS)) results  ## measure every registered model (DATA=..., RUNS=...)

evaluate-%: setup
	.venv/bin/python -m benchmarks.quality measure $* --data $(DATA) --runs $(RUNS) $(EVALUATE_ARGS)

adopt: setup  ## make the recommended settings of a task the defaults of its models (TASK=...)
	.venv/bin/python -m benchmarks.quality adopt $(TASK)

results: setup  ## write docs/results.md, its plots and the model cards from what was measured
	.venv/bin/python -m benchmarks.quality page

bench: setup  ## measure every claim on speed and write docs/performance.md (DATA=..., BENCH_ARGS=...)
	.venv/bin/python -m benchmarks.speed measure --data $(DATA) $(BENCH_ARGS)
	.venv/bin/python -m benchmarks.speed page

viewer-bench: virtual-libraries setup  ## measure how fluid the slices of a large scan are (DATA=...)
	scripts/virtual-display .venv/bin/python -m benchmarks.viewer --data $(DATA)

torture: virtual-libraries setup  ## try all that may go wrong, write docs/reliability.md (DATA=..., TORTURE_ARGS=...)
	OMP_NUM_THREADS=1 scripts/virtual-display .venv/bin/python -m benchmarks.torture run --data $(DATA) $(TORTURE_ARGS)
