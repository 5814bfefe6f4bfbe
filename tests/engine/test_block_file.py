"""block_file.py: the content of a block's file."""

import google_crc32c
import numpy as np
import pytest
from numcodecs.zstd import Zstd

from gatescope.engine.block_file import BlockFiles, block_name, decoded, encoded, fill_value, sealed, write_block


def raw_block(n=1000, seed=0):
    """Values that compress well, and room for the checksum."""
    return np.append(np.random.default_rng(seed).integers(0, 3, n), [9] * 4).astype(np.uint8)


def test_the_checksum_of_a_block_is_crc32c():
    block = np.frombuffer(b"123456789    ", np.uint8).copy()
    # The check value of CRC-32C (RFC 3720, appendix B.4, and Williams 1993).
    assert bytes(sealed(block)) == b"123456789" + (0xE3069283).to_bytes(4, "little")
    assert google_crc32c.value(b"123456789") == 0xE3069283


def test_a_compressed_block_is_zstd_followed_by_its_checksum():
    raw = raw_block()
    stored = encoded(raw, "zstd")
    assert Zstd().decode(bytes(stored[:-4])) == bytes(raw[:-4]) and len(stored) < len(raw) / 2
    assert bytes(stored[-4:]) == google_crc32c.value(bytes(stored[:-4])).to_bytes(4, "little")


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_encoded_blocks_decode_to_the_original(tmp_path, compression):
    raw = raw_block()
    write_block(tmp_path / "block", raw.copy(), compression)
    stored = np.fromfile(tmp_path / "block", np.uint8)
    assert bytes(decoded(stored, compression)) == bytes(sealed(raw.copy()))
    for place in (0, len(stored) // 2, len(stored) - 1):
        damaged = stored.copy()
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="does not match its checksum"):
            decoded(damaged, compression)
    for short in (stored[:4], stored[:0]):
        with pytest.raises(ValueError, match="does not match its checksum"):
            decoded(short, compression)


def test_an_uncompressed_block_is_refused_as_zstd():
    with pytest.raises(ValueError, match="is not zstd"):
        decoded(encoded(raw_block(), "none"), "zstd")


def test_files_have_the_expected_names_and_sizes(tmp_path):
    files = BlockFiles(tmp_path, {"layer0/h": ((5,), np.dtype("f2")), "tokens": ((), np.dtype("u1"))}, 100, 64)
    assert (
        files.file("layer0/h", 3) == tmp_path / "layer0/h/c.3.0" and files.file("tokens", 0) == tmp_path / "tokens/c.0"
    )
    assert (files.row_bytes("layer0/h"), files.row_bytes("tokens")) == (10, 1)
    assert (files.raw_bytes("layer0/h"), files.raw_bytes("tokens")) == (644, 68)
    # One block has no more rows than there are.
    assert BlockFiles(tmp_path, files.arrays, 7, 64).raw_bytes("tokens") == 11
    assert block_name(2, 2, "/") == "c/2/0/0"
    assert np.isnan(fill_value(np.dtype("f2"))) and fill_value(np.dtype("u1")) == 0
