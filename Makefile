# Two commands for a fresh machine: `make demo` and `make test`. Each builds .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Silences the warning that setuptools gives at every editable installation, about folders named as packages are.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet
FOLDERS := kernels engine analysis benchmarks tests
DEMO ?= out/demo

.PHONY: demo test test-slow check bench gpu gpu-install gpu-tests gpu-bench gpu-delays sanitize wheels clean

demo: $(VENV)/.run
	$(BIN)/gatescope run --out $(DEMO)

# One process per core, each with a single thread.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/pytest tests -n auto --dist worksteal

test-slow: $(VENV)/.test
	$(BIN)/pytest tests -m slow

check: $(VENV)/.test
	mkdir -p .typing && ln -sfn .. .typing/gatescope
	$(BIN)/ruff check $(FOLDERS) setup.py
	$(BIN)/ruff format --check $(FOLDERS) setup.py
	$(BIN)/mypy -p gatescope.kernels -p gatescope.engine -p gatescope.analysis

bench: $(VENV)/.test
	$(BIN)/pytest benchmarks --benchmark-only

# For a machine that already has torch, triton and cupy. It installs only gatescope and, from the folder `wheels` that
# `make wheels` fills elsewhere, those of PACKAGES that the machine lacks. Tests, and the compilation of the kernels to be
# timed, share the GPU; the benchmarks, and tests of thousands of launches, have it to themselves. `make -k gpu` goes on
# after a failed test, and a kernel that hangs ends its process after three minutes.
PACKAGES := click cloudpickle defusedxml docstring-parser donfig execnet google-crc32c joblib nltk numcodecs pytest-xdist \
	pyyaml regex tqdm tree-sitter tree-sitter-c typeguard typing-extensions tyro zarr
PROCESSES ?= $(shell nproc)
ON_GPU := $(PYTHON) -m pytest -q -m "cuda and not slow" --continue-on-collection-errors \
	-o faulthandler_timeout=180 -o faulthandler_exit_on_timeout=true
PARALLEL := OMP_NUM_THREADS=1 $(ON_GPU) -n $(PROCESSES)
# The files whose kernels take long to compile, those first whose kernels have changed since they were last timed.
COMPILED := $(patsubst %,benchmarks/bench_%.py,sample extract kernels train lstm gru rnn)
TIMED := $(COMPILED) $(filter-out $(COMPILED),$(wildcard benchmarks/bench_*.py))
gpu: gpu-tests gpu-bench gpu-delays

gpu-install:
	if [ -d wheels ]; then $(PYTHON) -m pip install --quiet --no-index --no-deps --find-links wheels $(PACKAGES); fi
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .

gpu-tests: gpu-install
	$(PARALLEL) --dist worksteal tests -k "not thousand"

gpu-bench: gpu-install
	-$(PARALLEL) $(COMPILED) -k gatescope --benchmark-disable
	$(ON_GPU) $(TIMED) --benchmark-only

gpu-delays: gpu-install
	$(ON_GPU) tests/kernels -k thousand

# On a machine with a GPU: small shapes under NVIDIA's compute-sanitizer. racecheck sees only shared memory.
SANITIZER := compute-sanitizer --error-exitcode 1 \
	$(patsubst %,--kernel-name regex:%_kernel,forward backward sample resident)
sanitize:
	for tool in memcheck synccheck racecheck; do \
		PYTORCH_NO_CUDA_MEMORY_CACHING=1 $(SANITIZER) --tool $$tool $(PYTHON) -m pytest tests/kernels/test_fused_cuda.py \
			tests/kernels/test_sample_fused_cuda.py -m cuda -k small_shapes || exit 1; \
	done

# PACKAGES for a GPU machine's version of Python and Linux.
GPU_PYTHON ?= 3.12
wheels:
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version $(GPU_PYTHON) \
		--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
		--platform manylinux_2_5_x86_64 --platform manylinux1_x86_64 -c constraints.txt -d wheels $(PACKAGES)

clean:
	rm -rf $(VENV) .typing build dist wheels *.egg-info

$(VENV)/.python:
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'gatescope needs Python 3.11 or newer: make PYTHON=python3.x'"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip setuptools
	touch $@

$(VENV)/.run: $(VENV)/.python setup.py pyproject.toml constraints.txt
	$(INSTALL) -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(INSTALL) -c constraints.txt -e '.[test]'
	touch $@
