"""What is compiled is kept under a name that changes with every file that may have become part of it."""

from gatescope.kernels import host


def total(values):
    s = 0.0
    for value in values:
        s += value
    return s


def test_the_name_says_of_what_sources_it_was_compiled(monkeypatch):
    names = []
    for sources in ("first", "second"):
        monkeypatch.setattr(host, "_sources", lambda sources=sources: sources)
        monkeypatch.setattr(total, "__qualname__", "total")
        kept = host.compiled(total)
        names.append(kept._cache._impl.filename_base)
    assert names[0] != names[1] and all("total" in name for name in names)


def test_a_change_of_any_file_that_numba_has_to_do_with_is_seen(monkeypatch, tmp_path):
    for folder in ("kernels", "engine"):
        (tmp_path / folder).mkdir()
    part, other = tmp_path / "engine" / "tile.py", tmp_path / "engine" / "text.py"
    part.write_text("import numba")
    other.write_text("import json")
    monkeypatch.setattr(host, "__file__", str(tmp_path / "kernels" / "host.py"))
    digest = host._sources.__wrapped__
    first = digest()
    other.write_text("import csv")
    assert digest() == first
    part.write_text("import numba  # changed")
    assert digest() != first
