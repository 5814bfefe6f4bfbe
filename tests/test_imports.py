"""The import direction kernels <- engine <- analysis, and what must work without optional packages."""

import ast
import subprocess
import sys
from functools import cache
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
ALLOWED = {"kernels": {"kernels"}, "engine": {"kernels", "engine"}, "analysis": {"kernels", "engine", "analysis"}}
FILES = sorted(path for folder in ALLOWED for path in (REPOSITORY / folder).glob("**/*.py"))


def imported_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_point_one_way(path):
    own = path.relative_to(REPOSITORY).parts[0]
    for name in imported_names(path):
        parts = name.split(".")
        assert parts[0] not in ALLOWED, f"{path}: import {name}: say gatescope.{name}"
        if parts[0] == "gatescope":
            assert parts[1] in ALLOWED[own], f"{path}: {own} must not import {name}"


def test_imports_have_no_cycles():
    """Imports for type hints and within functions count, too."""
    modules = {f"gatescope.{path.parts[-2]}.{path.stem}": path for path in FILES}
    needs = {
        module: {name if name in modules else name.rpartition(".")[0] for name in imported_names(path)} & set(modules)
        for module, path in modules.items()
    }
    while free := {module for module, needed in needs.items() if not needed & needs.keys()}:
        needs = {module: needed for module, needed in needs.items() if module not in free}
    assert not needs, f"these, or what needs them, import each other: {sorted(needs)}"


def test_kernels_need_only_torch_triton_numpy_and_numba():
    """NumPy's tanh takes half the time of torch's on one thread, and its Philox a fraction of one in torch operators.

    Numba, which llvmlite belongs to, compiles a step's work besides its products; that takes a third of its time in
    operators.
    """
    third_party = {name.split(".")[0] for path in FILES if path.parts[-2] == "kernels" for name in imported_names(path)}
    assert third_party - set(sys.stdlib_module_names) <= {"torch", "triton", "numpy", "numba", "llvmlite", "gatescope"}


@cache
def kernel_modules():
    """The modules of Triton kernels: importing them imports triton, directly or through another module."""
    imports = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imports.setdefault(f"gatescope.{path.parts[-2]}.{path.stem}", set()).update(names)
    found, size = {"triton"}, 0
    while len(found) > size:
        size = len(found)
        found |= {module for module, names in imports.items() if names & found}
    return found


def test_public_kernel_modules_do_not_import_triton():
    public = {f"gatescope.kernels.{name}" for name in ("lstm", "gru", "rnn", "cells", "sample", "philox", "dropout")}
    assert not public & kernel_modules()
    assert all(name.split(".")[1] == "kernels" for name in kernel_modules() - {"triton"})


OPTIONAL = ("cupy", "h5py", "pandas", "pyarrow", "fsspec")  # extras of setup.py


def test_every_module_imports_without_triton_and_extras():
    modules = [f"gatescope.{path.parts[-2]}.{path.stem}" for path in FILES]
    modules = sorted(set(modules) - kernel_modules())
    # None in sys.modules makes `import name` raise ImportError, as on a machine that lacks the module.
    hidden = ("triton", *OPTIONAL)
    program = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\nfor name in {modules!r}: __import__(name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_do_not_import_torchs_compiler():
    """Importing it would take more processor time than all of our own code."""
    program = (
        "import sys, gatescope.analysis.probe_commands, gatescope.analysis.model_commands\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Packages of a machine with a GPU and the usual scientific software; `make wheels` fetches the rest.
USUAL = {"torch", "triton", "numpy", "scipy", "sklearn", "threadpoolctl", "pytest", "hypothesis", "matplotlib", "rich"}
USUAL |= {"numba", "llvmlite", "h5py", "pandas", "xarray", "fsspec", "safetensors", "statsmodels", "pygments", "mpmath"}
USUAL |= {"packaging"}
DISTRIBUTIONS = {"yaml": "pyyaml"}


def imported(path):
    """The names that a file imports when it is imported, up to its first importorskip."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif "importorskip" in ast.unparse(node) and isinstance(node, ast.Expr | ast.Assign):
            return


def fetched():
    """The packages that `make wheels` fetches."""
    recipe = (REPOSITORY / "Makefile").read_text(encoding="utf-8").split("\nPACKAGES := ")[1]
    return {word.replace("-", "_") for word in recipe.replace("\\\n", "").split("\n")[0].split()}


def test_a_machine_with_a_gpu_has_all_that_is_imported():
    paths = [path for folder in ("tests", "benchmarks") for path in (REPOSITORY / folder).glob("**/*.py")]
    known = USUAL | fetched() | sys.stdlib_module_names | {path.stem for path in paths} | {"gatescope", "benchmarks"}
    for path in (*paths, *FILES):
        for name in imported(path):
            top = name.split(".")[0]
            assert DISTRIBUTIONS.get(top, top) in known, f"{path}: {name}: importorskip it, or add it to PACKAGES"


def test_packages_are_fetched_with_all_that_they_need():
    pinned = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").lower().replace("-", "_").split()
    others = [name for name in fetched() if f"{name}=={version(name)}" not in pinned]
    if others:
        pytest.skip(f"other versions than those fetched may need other packages: {', '.join(sorted(others))}")
    for name in fetched():
        for need in map(Requirement, requires(name) or ()):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert need.name.lower().replace("-", "_") in USUAL | fetched(), f"{name} needs {need}"


def test_tests_are_collected_without_triton():
    for path in (REPOSITORY / "tests").glob("*/test_*.py"):
        first = set(imported(path)) & kernel_modules()
        assert not first, f"{path}: {first}: pytest.importorskip('triton') before it"


def test_no_folder_is_a_regular_package():
    assert not list(REPOSITORY.glob("[!.]*/**/__init__.py"))
