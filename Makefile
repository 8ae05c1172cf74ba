# Every target sets up what it needs: system packages (as root), a virtual environment in .venv, the build.
SHELL := /bin/bash -o pipefail
PYTHON ?= python3
VENV   := .venv
BIN    := $(abspath $(VENV))/bin
VM     := build-vm
BUILD  := $(abspath $(VENV))/build
SOURCES := $(shell find src libmemprot libmemprot_malloc -type f -not -name '*.pyc') meson.build meson.options pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help run test neighbours test-vm load fuzz lint bench cross format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(BIN)/python:
	./tools/system-packages $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/tools: $(BIN)/python pyproject.toml
	$(BIN)/python tools/requirements.py build project numpy test | $(BIN)/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
	@touch $@

$(VENV)/built: $(VENV)/tools $(SOURCES)
	PATH="$(BIN):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall -Cbuild-dir=$(BUILD) .
	@touch $@

$(VENV)/lint $(VENV)/bench: $(VENV)/%: $(VENV)/built
	$(BIN)/python tools/requirements.py $* | $(BIN)/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
	@touch $@

run: $(VENV)/built  ## set up, then run memprot on three programs that corrupt memory
	$(BIN)/python examples/overrun/run.py

test: $(VENV)/built  ## set up, then run every test
	PATH="$(BIN):$$PATH" $(BIN)/meson test -C $(BUILD) --quiet --print-errorlogs
	$(BIN)/python -m pytest $(TESTS)

$(VENV)/neighbours: $(VENV)/built
	-@./tools/system-packages --neighbours $(PYTHON)
	$(BIN)/python tools/requirements.py neighbours | $(BIN)/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
	@touch $@

neighbours: $(VENV)/neighbours  ## install what memprot shares processes with (Java, PyTorch, gdb and more), run the tests of that
	MEMPROT_NEIGHBOURS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -rs $(or $(TESTS),tests/neighbours tests/programs/test_seeded_bugs.py)

$(VM)/version: tests/vm/prepare.py
	@$(PYTHON) tests/vm/prepare.py $(VM)

$(VM)/init: tests/vm/init.c $(VM)/version
	cc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wpedantic -Werror -static -o $@ $<

test-vm: $(VENV)/built $(VM)/init  ## run the tests that need protection keys, in a virtual machine that has them
	$(BIN)/python tests/vm/run.py $(VM) -- $(BIN)/python -m pytest -p no:cacheprovider \
		$(or $(TESTS),tests/vm/guest tests/kernel/test_second_writers.py tests/kernel/test_calls_keys.py tests/kernel/differential -k 'not differential or (world and keys)')
# Once more where a process may write its read-only memory through /proc, which memprot then does.
	$(BIN)/python tests/vm/run.py $(VM) --kernel-options proc_mem.force_override=always -- \
		$(BIN)/python -m pytest -p no:cacheprovider $(or $(TESTS),tests/vm/guest -k 'changes_nothing or keeps')

load: $(VENV)/built  ## 10 million faults over 16 threads, with forks meanwhile; about 10 minutes
	MEMPROT_LOAD_FAULTS=$(or $(FAULTS),10000000) $(BIN)/python -m pytest -s --timeout=3600 $(or $(TESTS),tests/programs/test_load.py)

fuzz: $(VENV)/built  ## random calls and random programs against the kernel, for minutes
	MEMPROT_FUZZ=1 $(BIN)/python -m pytest -rP --timeout=3600 $(or $(TESTS),tests/kernel/test_fuzz_*.py tests/kernel/test_check.py tests/kernel/test_diagnosis_against_model.py)
	$(BIN)/python -m tests.kernel.differential.long_run --operations 200000

lint: $(VENV)/lint  ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files '*.c' '*.h' | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/lint  ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.c' '*.h' | xargs $(BIN)/clang-format -i

bench: $(VENV)/bench  ## measure the speed targets, both sides in one run
	$(BIN)/python benchmarks/run.py

cross: $(VENV)/built  ## compile the C core for aarch64
	./tools/system-packages --cross $(PYTHON)
	PATH="$(BIN):$$PATH" $(BIN)/meson setup --reconfigure --cross-file tools/aarch64.ini -Dpython=false build-aarch64
	PATH="$(BIN):$$PATH" $(BIN)/meson compile -C build-aarch64

clean:  ## remove the virtual environment and every build
	rm -rf $(VENV) $(VM) build-aarch64
