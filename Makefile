# From a bare Python 3.11 with make: `make demo`, `make test`. The environment follows the lock.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := $(shell sed -n 's/.*"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml | head -n 1)
# Named after what it was made from: a changed lock asks for another stamp.
STAMP := $(VENV)/.from-$(shell cat requirements.lock pyproject.toml | cksum | tr ' ' '-')
# Native libraries that each start a thread per core slow each other down.
test test-slow: export OMP_NUM_THREADS = 1
PYTEST_ARGS ?= -n 2

.PHONY: demo test test-slow apk android-test lint lock venv clean

demo: $(STAMP)
	$(BIN)/pockethdr demo

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# Both fetch their tools, and install Debian packages where they may; see android_demo/README.md.
apk: $(STAMP)
	$(BIN)/python -W ignore -m android_demo.ci.build_apk
	$(BIN)/python -m pytest tests/test_android_app.py tests/test_android_check_api.py

android-test: $(STAMP)
	$(BIN)/python -W ignore -m android_demo.ci.android_test
	$(BIN)/python -m pytest tests/test_android_parity.py

# mypy cannot follow an editable install, and what users import is the built package anyway.
lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	rm -rf build $(VENV)/built
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target $(VENV)/built .
	cd $(VENV)/built && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml \
	  --cache-dir $(CURDIR)/.mypy_cache -p pockethdr

venv: $(STAMP)

# The lock first, torch second, so that torch finds its own dependencies at the locked versions.
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	rm -f $(VENV)/.from-*
	@echo "installing the locked packages into $(VENV): some minutes, the first time"
	$(BIN)/pip install --quiet --require-hashes --no-deps --only-binary :all: -r requirements.lock
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/pip check
	touch $@

# Needs a CPU build of torch within pip's reach: see docs/decisions/001-lock-and-torch.md.
lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet pip-tools==7.6.2
	cp requirements.lock $(VENV)-lock/out  # what is pinned stays, unless pyproject.toml forbids it
	$(VENV)-lock/bin/pip-compile --quiet --extra dev --generate-hashes --strip-extras --no-annotate \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
	  --unsafe-package torch --unsafe-package pockethdr --output-file $(VENV)-lock/out pyproject.toml
	{ sed -n '/^#/p;/^[^#]/q' requirements.lock; grep -v '^#' $(VENV)-lock/out | grep .; } > $(VENV)-lock/new
	mv $(VENV)-lock/new requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
