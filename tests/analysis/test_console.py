"""console.py: what every command checks before its work begins."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from gatescope.analysis.console import device_of, prepared, print_table
from gatescope.engine.errors import InputError


@dataclass(frozen=True)
class Flags:
    labels: Path | None
    steps: int


def given(*arguments, **named):
    """The arguments that a command gets when its prepared work runs."""
    seen = []
    prepared(lambda *args, **kwargs: seen.append((args, kwargs)))(*arguments, **named)()
    return seen[0]


def test_prepared_work_runs_only_when_called():
    done = []
    work = prepared(done.append)(3)
    assert done == []
    work()
    assert done == [3]


def test_a_tilde_is_expanded_in_every_path_argument(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    args, named = given(Path("~/a"), (Path("~/b"), "~/c"), read=Flags(Path("~/d"), 3), out=None)
    assert args == (tmp_path / "a", (tmp_path / "b", "~/c"))
    assert named == {"read": Flags(tmp_path / "d", 3), "out": None}
    assert given(read=Flags)[1] == {"read": Flags}


def test_a_seed_is_a_number_of_63_bits():
    assert given(seed=0)[1] == {"seed": 0} and given(seed=2**63 - 1)[1] == {"seed": 2**63 - 1}
    for seed in (-1, 2**63):
        with pytest.raises(InputError, match=rf"--seed {seed}: expected a whole number from 0 to 2\^63 - 1"):
            prepared(print)(seed=seed)


@pytest.mark.parametrize(("terminal", "columns", "width"), [(True, 40, 80), (True, 90, 90), (False, 40, 120)])
def test_a_terminal_that_is_too_narrow_wraps_table_lines(monkeypatch, capsys, terminal, columns, width):
    monkeypatch.setenv("COLUMNS", str(columns))
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    print_table("x" * 500)
    print_table("y" * 500, least=120)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines[0]) == width and len(lines[-2]) == 120


@pytest.mark.parametrize("there", [False, True])
def test_device_auto_uses_a_gpu_if_available(monkeypatch, there):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert device_of("auto") == ("cuda" if there else "cpu") and device_of("cpu") == "cpu"
    if there:
        assert device_of("cuda") == "cuda"
    else:
        with pytest.raises(InputError, match="--device cuda: torch finds no CUDA GPU here"):
            device_of("cuda")
