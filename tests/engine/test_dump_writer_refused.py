"""What a dump writer refuses: states that are not finite, rows that do not fit, and closing too early."""

import os
from dataclasses import replace

import numpy as np
import pytest
from written_rows import INITIAL, SPEC, STATES, TOKENS, H, N, write

from gatescope.engine import commits
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError


@pytest.fixture(autouse=True)
def commits_at_once(monkeypatch):
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 0)


def bad(array, row, unit, value, dtype=np.float32):
    states = {name: values[:300].astype(dtype) for name, values in STATES.items()}
    states[array][row, unit] = value
    return states


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (
            bad("layer0/h", 270, 2, 65520.0),
            r"layer0/h: 65520 at row 270, unit 2 is beyond float16 \(at most 65504\): use",
        ),
        (bad("layer1/h", 0, 5, -1e30), "layer1/h: -1e[+]30 at row 0, unit 5 is beyond float16 .*--dtype float32$"),
        (bad("layer1/h", 0, 5, -np.inf, np.float16), "-inf at row 0, unit 5 is beyond float16 .*--dtype float32$"),
        (bad("layer0/gates/i", 299, 0, np.nan), "layer0/gates/i: nan at row 299, unit 0: expected finite states"),
        (bad("layer0/h", 1, 1, np.inf), "layer0/h: inf at row 1, unit 1: expected finite states"),
    ],
)
def test_nonfinite_states_are_refused(tmp_path, states, message):
    with pytest.raises(InputError, match=message), DumpWriter(tmp_path / "states.zarr", SPEC) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS[:300], states)
    if writer.committed_rows:
        dump = StateDump.open(tmp_path / "states.zarr", finished=False)
        assert dump.verify() == ["not finished: 256 of 2100 rows are written"]
    else:
        # Nothing prevents following the message's advice.
        assert os.listdir(tmp_path) == []


def test_float32_dumps_hold_values_beyond_float16(tmp_path):
    states = {name: values * 1e6 for name, values in STATES.items()}
    with DumpWriter(tmp_path / "states.zarr", replace(SPEC, dtype=np.dtype(np.float32))) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS, states)
    dump = StateDump.open(tmp_path / "states.zarr")
    assert np.array_equal(dump["h"][1][:], states["layer1/h"])


def test_nonfinite_initial_states_are_refused(tmp_path):
    with DumpWriter(tmp_path / "states.zarr", SPEC) as writer:
        for first in (0, 300):
            damaged = {name: values[first : first + 300].copy() for name, values in INITIAL.items()}
            damaged["layer1/h"][3, 1] = np.nan
            with pytest.raises(InputError, match=f"layer1/h: nan before sequence {first + 3}, unit 1"):
                writer.write_initial(first, damaged)
            writer.write_initial(first, {name: values[first : first + 300] for name, values in INITIAL.items()})
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS, STATES)


@pytest.mark.parametrize(
    ("start", "tokens", "states", "message"),
    [
        (0, np.array([0, 3, 0]), {}, "outside the vocabulary: expected 0 to 2"),
        (0, np.array([0, 0, -1]), {}, "outside the vocabulary: expected 0 to 2"),
        (0, TOKENS[:3].astype(float), {}, "expected integers"),
        (0, TOKENS[:4], {}, r"layer0/h has the shape \(3, 6\), expected \(4, 6\)"),
        (0, TOKENS[:3], {"layer1/h": np.zeros((3, 7))}, r"layer1/h has the shape \(3, 7\), expected \(3, 6\)"),
        (
            0,
            TOKENS[:3],
            {"layer1/c": np.zeros((3, 6))},
            "layer1/c: expected tokens, layer0/h, layer0/gates/i, layer1/h",
        ),
        (3, TOKENS[:3], {}, "do not follow on 0"),
        (-3, TOKENS[:3], {}, "do not follow on 0"),
    ],
)
def test_mismatched_rows_are_refused(tmp_path, start, tokens, states, message):
    with DumpWriter(tmp_path / "states.zarr", SPEC) as writer:
        writer.write_initial(0, INITIAL)
        with pytest.raises(ValueError, match=message):
            writer.append(start, tokens, {**{name: values[:3] for name, values in STATES.items()}, **states})
        writer.append(0, TOKENS, STATES)
        with pytest.raises(ValueError, match="rows 2100 to 2101 of 2100"):
            writer.append(N, TOKENS[:1], {name: values[:1] for name, values in STATES.items()})
    assert StateDump.open(tmp_path / "states.zarr").verify() == []


def test_initial_states_must_be_written_first(tmp_path):
    path = tmp_path / "states.zarr"
    with pytest.raises(ValueError, match="sequence 64 has no initial states"), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, {name: values[:64] for name, values in INITIAL.items()})
        writer.append(0, TOKENS, STATES)


def test_closing_too_early_is_refused(tmp_path):
    path = tmp_path / "states.zarr"
    with pytest.raises(ValueError, match="300 of 2100 rows were appended"), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS[:300], {name: values[:300] for name, values in STATES.items()})
    write(path)
    assert StateDump.open(path).verify() == []


def test_a_dump_may_have_no_initial_states(tmp_path):
    with DumpWriter(tmp_path / "states.zarr", replace(SPEC, arrays={"layer0/gates/i": H})) as writer:
        writer.write_initial(0, {})
        writer.append(0, TOKENS, {"layer0/gates/i": STATES["layer0/gates/i"]})
        writer.write_initial(64, {})
    dump = StateDump.open(tmp_path / "states.zarr")
    assert dump.verify() == [] and dump.names == ["layer0/gates/i"]


def test_a_damaged_block_of_initial_states_is_not_overwritten(tmp_path):
    path = tmp_path / "states.zarr"
    with pytest.raises(KeyboardInterrupt), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS[:512], {name: values[:512] for name, values in STATES.items()})
        raise KeyboardInterrupt
    file = path / "initial" / "layer1" / "h" / "c.0.0"
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(InputError, match=r"c\.0\.0 is missing or damaged: write the dump again"):
        DumpWriter(path, SPEC)
