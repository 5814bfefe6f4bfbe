"""Tests of killing sampling and extraction: no committed block is lost or written again, and the dump ends the same."""

import signal

import numpy as np
import pytest
from killing import contents, run_forked

from gatescope.engine.dump import StateDump
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.model import load_model
from gatescope.engine.sample import SampleConfig, sample_states

TEXT = "(ab{cd}e)\n fgh" * 1500  # 21,000 characters: three blocks of rows


def _sample(model, text, path):
    sample_states(load_model(model), path, SampleConfig(sequences=170, length=120, capture=("h", "c", "gates")))


def _extract(model, text, path):
    extract_states(load_model(model), str(text), path, ExtractConfig(length=130, context=10))


def committed_blocks(path):
    """The committed rows of a dump, and when the files of whole committed blocks were written."""
    if not path.exists():
        return 0, {}
    dump = StateDump.open(path, finished=False)
    unfinished = [f"not finished: {dump.committed_rows} of {dump.n_rows} rows are written"]
    assert dump.verify() == unfinished[: dump.committed_rows < dump.n_rows]
    n_blocks = dump.committed_rows // dump.array("layer0/h").block_rows
    files = [path / "layer0" / "h" / f"c.{index}.0" for index in range(n_blocks)]
    return dump.committed_rows, {file: file.stat().st_mtime_ns for file in files}


@pytest.mark.parametrize("stage", [_sample, _extract])
@pytest.mark.parametrize("n_kills", [4, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_any_write(make_model, tmp_path, stage, n_kills):
    model, text = make_model(), tmp_path / "text"
    text.write_text(TEXT)
    n_writes, code = run_forked(stage, (model, text, tmp_path / "whole"), tmp_path / "whole")
    assert code == 0
    expected, seen = contents(tmp_path / "whole"), set()
    for number, kill_at in enumerate(np.linspace(1, n_writes, n_kills).round().astype(int)):
        path = tmp_path / f"killed{number}"
        assert run_forked(stage, (model, text, path), path, int(kill_at))[1] == -signal.SIGKILL
        rows, written = committed_blocks(path)
        seen.add(rows)
        assert run_forked(stage, (model, text, path), path)[1] == 0
        assert contents(path) == expected, f"kill at write {kill_at} of {n_writes}"
        assert {file: file.stat().st_mtime_ns for file in written} == written
    assert len(seen) >= min(3, n_kills // 2)
