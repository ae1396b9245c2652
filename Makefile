# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
BUILT  := $(VENV)/.built
SOURCE := setup.py $(wildcard csrc/*/*)

.PHONY: demo test test-slow coverage fuzz lint bench build clean

demo: $(BUILT)
	$(PY) -m cpm_repro demo

test: $(BUILT)
	$(PY) -m pytest

# Tests that take minutes, or that train and score on the data in CPM_DATA.
test-slow: $(BUILT)
	$(PY) -m pytest -m "slow or data"

# Lines of cpm_repro that the ordinary tests run; fails below 90 %.
coverage: $(BUILT)
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

# Damaged files of every format, arguments, and the kernels under sanitizers, longer than `make test` does.
fuzz: $(BUILT)
	CPM_FUZZ_EXAMPLES=2000 $(PY) -m pytest --timeout 0 tests/caffe/test_caffe_fuzz.py \
		tests/trust/test_trust_files.py tests/trust/test_trust_command_line.py \
		tests/data/test_data_lmdb.py
	$(PY) -m pytest -m slow tests/csrc/test_csrc_fuzz.py tests/csrc/test_csrc_kernel_fuzz.py

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(BUILT)
	$(PY) -m cpm_repro bench

build: $(BUILT)

# Installed once, and again when the pinned versions change.
$(STAMP): requirements.lock
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip  # uv makes environments without
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

$(BUILT): $(STAMP) $(SOURCE)
	$(PY) setup.py --quiet build_ext --inplace
	CPM_EXTENSION=0 PYTHONWARNINGS=ignore $(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf build $(VENV) cpm_repro/*.so
