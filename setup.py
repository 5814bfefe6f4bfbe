"""Packaging of gatescope: three top-level code folders, installed as one namespace package."""

from pathlib import Path

from setuptools import setup

FOLDERS = ("kernels", "engine", "analysis")

setup(
    name="gatescope",
    version="0.1.0",
    description="What the hidden states of a recurrent network know, and which units know it",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    keywords=["recurrent neural networks", "interpretability", "probing", "LSTM", "GRU", "Triton"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=[f"gatescope.{folder}" for folder in FOLDERS],
    package_dir={f"gatescope.{folder}": folder for folder in FOLDERS},
    package_data={f"gatescope.{folder}": ["py.typed", "*.json"] for folder in FOLDERS},
    entry_points={"console_scripts": ["gatescope = gatescope.analysis.cli:program"]},
    install_requires=[
        "torch>=2.11",  # tensors, autograd and the operators that the kernels are compared with
        "triton>=3.6; sys_platform == 'linux'",  # the language of the fused kernels
        "numpy>=2.2.5",  # states, labels and the solver on the CPU; older versions get read-only arrays by DLPack
        "scipy>=1.13",  # LAPACK factorisations and statistics
        "llvmlite>=0.45",  # vectors of the processor's full width in the code that numba compiles
        "numba>=0.62",  # compiles the log-loss and the steps of layers on the CPU into vectorised passes
        "scikit-learn>=1.7",  # estimator conventions, metrics and splits
        "threadpoolctl>=3.5",  # one thread for BLAS inside passes that use all cores themselves
        "nltk>=3.9.1",  # part-of-speech tags for the English hypotheses
        "regex>=2024.4",  # patterns that a user asks, with a limit of time, which re does not have
        "zarr>=3.1.2",  # the open format of the state dump
        "numcodecs>=0.14",  # zstd of compressed blocks, as zarr computes it
        "google-crc32c>=1.6",  # checksums of the dump's blocks at the speed of memory, as zarr computes them
        "safetensors>=0.6.1",  # weights and checkpoints without pickle; older versions lack torch's unsigned integers
        "rich>=13.5",  # progress bars with a rate, and tables in the terminal
        "tyro>=1.0.16",  # command-line flags from the stages' dataclasses; older ones name no arguments in usage
        "matplotlib>=3.9",  # figures as PNG and SVG
    ],
    extras_require={
        "cuda": ["cupy-cuda13x>=14"],  # the solver on the GPU
        # Other tools' dumps, tables of labels, and URLs.
        "files": ["h5py>=3.11", "pandas>=2.2.2", "pyarrow>=16", "fsspec[http]>=2024.12"],
        "test": [
            "gatescope[files]",
            "pytest>=8.2",
            "pytest-benchmark>=5",
            "pytest-xdist>=3.6",  # the suite on all cores at once
            "hypothesis>=6.103",  # property tests
            "nvidia-cuda-nvrtc>=13; sys_platform == 'linux'",  # compiles the solver's CUDA C without a GPU
            "ruff>=0.9",
            "mypy>=1.14",
            "pygments>=2.18",  # independent ground truth for comments and literals in C
            "tree-sitter>=0.23",  # independent ground truth for conditions and depth in C
            "tree-sitter-c>=0.23",
            "xarray>=2025.3.1",  # reads a state dump unaided
            "pyyaml>=6",  # reads the exported configuration as LSTMVis does
            "statsmodels>=0.14.2",  # independent standard errors
            "selenium>=4.25",  # opens the report in a real browser
        ],
    },
)
