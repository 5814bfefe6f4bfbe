"""The process that evaluates a regular expression for `gatescope.analysis.patterns`, which runs this file by its path.

Both sides speak in blocks: eight bytes of length, then the bytes. The first block in is the expression. Then two blocks
make a question, the numbers of characters of some texts, int64, and these texts one behind the other in UTF-8; it is
answered by a block of int64 pairs, first character and the one after the last, of every match in any of them. The end
of the input ends the process.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from typing import IO

LENGTH = struct.Struct("<q")


def read_block(source: IO[bytes]) -> bytes | None:
    """Return the next block, or None where the stream ends before one is complete."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    block = source.read(length)
    return block if len(block) == length else None


def write_block(sink: IO[bytes], block: bytes) -> None:
    """Write one block and hand it over at once: the other side waits for it."""
    sink.write(LENGTH.pack(len(block)))
    sink.write(block)
    sink.flush()


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer texts until the input ends."""
    first = read_block(source)
    if first is None:
        return
    expression = re.compile(first.decode("utf-8", "surrogatepass"))
    while (lengths := read_block(source)) is not None and (block := read_block(source)) is not None:
        texts, spans, begin = block.decode("utf-8", "surrogatepass"), array("q"), 0
        for n_characters in array("q", lengths):
            for match in expression.finditer(texts[begin : begin + n_characters]):
                spans.extend((begin + match.start(), begin + match.end()))
            begin += n_characters
        write_block(sink, spans.tobytes())


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
