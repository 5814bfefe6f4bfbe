"""The file that records how far each sequence has come."""

import pytest
import torch

from gatescope.engine.resume_points import RESUME_FILE, ResumePoint, read_points, write_points

POINTS = [
    ResumePoint(100, 100, 64, (torch.randn(100, 3), torch.randn(100, 5))),
    ResumePoint(200, 7, 32, (torch.randn(100, 3), torch.randn(100, 5))),
]


def test_written_data_reads_back_unchanged(tmp_path):
    write_points(tmp_path, 8192, POINTS)
    rows, points = read_points(tmp_path)
    assert rows == 8192
    for found, expected in zip(points, POINTS, strict=True):
        assert (found.first, found.n, found.step) == (expected.first, expected.n, expected.step)
        assert all(map(torch.equal, found.state, expected.state)) and len(found.state) == 2


@pytest.mark.parametrize("place", [0, 20, 400, -1])
def test_a_damaged_file_counts_as_missing(tmp_path, place):
    assert read_points(tmp_path) == (0, [])
    write_points(tmp_path, 8192, POINTS)
    content = bytearray((tmp_path / RESUME_FILE).read_bytes())
    content[place] ^= 1
    (tmp_path / RESUME_FILE).write_bytes(content)
    assert read_points(tmp_path) == (0, [])
    (tmp_path / RESUME_FILE).write_bytes(content[:3])
    assert read_points(tmp_path) == (0, [])
