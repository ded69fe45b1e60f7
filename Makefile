# Works with GNU make 3.81 and a POSIX shell, which is what macOS has.

PYTHON ?= python3
VENV ?= .venv
KERAS_BACKEND ?= tensorflow
EXAMPLE ?= quickstart
BACKENDS := tensorflow jax torch
DEMO_OUTPUT := demo-output

# pip would compile every module of the backends; Python compiles what it imports, and
# must keep it: the tests start a hundred processes.
PIP_COMPILE ?= 0
PYTHONDONTWRITEBYTECODE :=
export PIP_COMPILE PYTHONDONTWRITEBYTECODE

bin := $(VENV)/bin
# compare_methods.py takes minutes even as a smoke run; its tests run a part of it, and
# those of the other lessons run their scripts, whose cells the notebooks have.
short := examples/quickstart.py
# An editable install holds the dependencies and the version as they were.
sources := pyproject.toml keras_dtkd/_version.py

.PHONY: help demo install test lint wheel wheel-test notebook notebook-test clean

help:
	@echo "make demo           examples/quickstart.py, into $(DEMO_OUTPUT)/;"
	@echo "                    KERAS_BACKEND picks the backend, EXAMPLE another lesson,"
	@echo "                    KERAS_DTKD_QUICK=1 a smoke run, two or three minutes"
	@echo "make install        the package with everything, into $(VENV)"
	@echo "make test           all tests on each backend; PYTEST_ARGS is handed on"
	@echo "make lint           ruff and mypy"
	@echo "make wheel          the wheel and the sdist, in dist/"
	@echo "make wheel-test     the wheel alone in a new environment, with JAX only"
	@echo "make notebook       examples/*.ipynb from examples/*.py"
	@echo "make notebook-test  are they up to date, and do the short ones run?"
	@echo "make clean          remove $(VENV) and all that was built"

demo: $(VENV)/.demo-$(KERAS_BACKEND)
	KERAS_BACKEND=$(KERAS_BACKEND) KERAS_DTKD_OUT=$(DEMO_OUTPUT) \
	  $(bin)/python examples/$(EXAMPLE).py

install: $(VENV)/.all

test: install
	PYTHON=$(bin)/python tools/test_backends.sh $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy keras_dtkd

wheel: $(VENV)/.dev
	rm -rf dist
	$(bin)/python -m build

wheel-test: $(VENV)/.dev
	PYTHON=$(bin)/python tools/wheel_test.sh

notebook: $(VENV)/.dev
	$(bin)/python tools/notebook.py

notebook-test: $(VENV)/.all
	$(bin)/python tools/notebook.py --check
	$(bin)/python tools/notebook.py --execute $(short)

clean:
	rm -rf $(VENV) $(DEMO_OUTPUT) build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(bin)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }

# The stamps make a second run quick; pip lies in every one, so that is order-only.
$(VENV)/.demo-%: $(sources) | $(bin)/pip
	@case " $(BACKENDS) " in *" $* "*) ;; *) \
	  echo "KERAS_BACKEND is \"$*\". Choose one of: $(BACKENDS)"; exit 1;; esac
	$(bin)/python -m pip install -e ".[$*,examples]"
	@touch $@

$(VENV)/.dev: $(sources) | $(bin)/pip
	$(bin)/python -m pip install -e ".[dev]"
	@touch $@

$(VENV)/.all: $(sources) | $(bin)/pip
	$(bin)/python -m pip install -e ".[all,dev]"
	@touch $@
