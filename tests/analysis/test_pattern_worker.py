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


def question(*texts):
    """The two blocks that ask for the matches in texts."""
    stream = io.BytesIO()
    write_block(stream, struct.pack(f"={len(texts)}q", *map(len, texts)))
    write_block(stream, "".join(texts).encode("utf-8", "surrogatepass"))
    return stream.getvalue()


def test_serve():
    source, sink = io.BytesIO(), io.BytesIO()
    write_block(source, "é|b*".encode())
    for text in ("aébb", "", "\ud800b"):
        source.write(question(text))
    source.seek(0)
    serve(source, sink)
    sink.seek(0)
    spans = []
    while (block := read_block(sink)) is not None:
        spans.append(list(struct.iter_unpack("qq", block)))
    assert spans == [[(0, 0), (1, 2), (2, 4), (4, 4)], [(0, 0)], [(0, 0), (1, 2), (2, 2)]]


def test_texts_of_one_question_are_searched_each_by_itself():
    source, sink = io.BytesIO(), io.BytesIO()
    write_block(source, b"^a+|b$")
    source.write(question("éa", "", "aab", "b"))
    source.seek(0)
    serve(source, sink)
    sink.seek(0)
    block = read_block(sink)
    assert block is not None and list(struct.iter_unpack("qq", block)) == [(2, 4), (4, 5), (5, 6)]


def test_no_expression():
    sink = io.BytesIO()
    serve(io.BytesIO(), sink)
    assert sink.getvalue() == b""


def test_the_file_runs_with_the_standard_library_alone(tmp_path):
    source = io.BytesIO()
    write_block(source, b"a")
    source.write(question("ba"))
    done = subprocess.run(
        [sys.executable, "-I", "-S", pattern_worker.__file__],
        input=source.getvalue(),
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == struct.pack("<qqq", 16, 1, 2)
