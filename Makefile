# Two commands for a fresh machine: `make demo` and `make test`. Each builds .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Silences the warning that setuptools gives at every editable installation, about folders named as packages are.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet
FOLDERS := kernels engine analysis benchmarks tests
DEMO ?= out/demo

.PHONY: demo test test-slow check bench gpu gpu-install gpu-tests gpu-bench sanitize wheels clean

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

# For a machine that already has torch, triton and cupy. It installs only gatescope, and the packages that `make wheels`
# fetched elsewhere if the machine has no network. Tests, and the compilation of the kernels to be timed, share the GPU;
# tests of thousands of launches, and the benchmarks, have it to themselves. `make -k gpu` runs the benchmarks even after a
# failed test.
PROCESSES ?= $(shell nproc)
ON_GPU := $(PYTHON) -m pytest -q -m "cuda and not slow"
PARALLEL := OMP_NUM_THREADS=1 $(ON_GPU) -n $(PROCESSES)
gpu: gpu-tests gpu-bench

gpu-install:
	if [ -d wheels ]; then $(PYTHON) -m pip install --quiet --no-index --no-deps wheels/*.whl; fi
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .

gpu-tests: gpu-install
	$(PARALLEL) --dist worksteal tests -k "not thousand"
	$(ON_GPU) tests/kernels -k thousand

gpu-bench: gpu-install
	$(PARALLEL) benchmarks/bench_lstm.py benchmarks/bench_gru.py benchmarks/bench_rnn.py benchmarks/bench_kernels.py \
		-k "gatescope and (graph or cho)" --benchmark-disable
	$(ON_GPU) benchmarks --benchmark-only

# On a machine with a GPU: small shapes under NVIDIA's compute-sanitizer. racecheck sees only shared memory.
SANITIZER := compute-sanitizer --error-exitcode 1 --kernel-name regex:forward_kernel --kernel-name regex:backward_kernel
sanitize:
	for tool in memcheck synccheck racecheck; do \
		PYTORCH_NO_CUDA_MEMORY_CACHING=1 $(SANITIZER) --tool $$tool $(PYTHON) -m pytest tests/kernels/test_fused_cuda.py \
			-m cuda -k small_shapes || exit 1; \
	done

# The packages that a GPU machine with the usual scientific stack lacks, for its version of Python and Linux.
GPU_PYTHON ?= 3.12
wheels:
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version $(GPU_PYTHON) \
		--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
		--platform manylinux_2_5_x86_64 --platform manylinux1_x86_64 -c constraints.txt -d wheels \
		defusedxml docstring-parser donfig google-crc32c nltk numcodecs pyyaml tree-sitter tree-sitter-c typeguard tyro zarr

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
