import io
import struct
import subprocess
import sys

import pytest

from gatescope.analysis import pattern_worker
from gatescope.analysis.pattern_worker import read_block, serve, write_block


@pytest.mark.parametrize("block", [b"", b"a", b"\0" * 70_000])
def test_blocks(block):
    stream = io.BytesIO()
    write_block(stream, block)
    stream.seek(0)
    assert read_block(stream) == block
    assert read_block(stream) is None


def test_an_incomplete_block_is_none():
    for cut in (0, 5, 8, 10):
        stream = io.BytesIO()
        write_block(stream, b"abc")
        assert read_block(io.BytesIO(stream.getvalue()[:cut])) is None


def test_serve():
    source, sink = io.BytesIO(), io.BytesIO()
    for text in ("é|b*", "aébb", "", "\ud800b"):
        write_block(source, text.encode("utf-8", "surrogatepass"))
    source.seek(0)
    serve(source, sink)
    sink.seek(0)
    spans = []
    while (block := read_block(sink)) is not None:
        spans.append(list(struct.iter_unpack("qq", block)))
    assert spans == [[(0, 0), (1, 2), (2, 4), (4, 4)], [(0, 0)], [(0, 0), (1, 2), (2, 2)]]


def test_no_expression():
    sink = io.BytesIO()
    serve(io.BytesIO(), sink)
    assert sink.getvalue() == b""


def test_the_file_runs_with_the_standard_library_alone(tmp_path):
    source = io.BytesIO()
    write_block(source, b"a")
    write_block(source, b"ba")
    done = subprocess.run(
        [sys.executable, "-I", "-S", pattern_worker.__file__],
        input=source.getvalue(),
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == struct.pack("<qqq", 16, 1, 2)
