"""The cache key of a compiled function changes with its sources; shares of rows are all rows."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from gatescope.kernels import host


def total(values):
    s = 0.0
    for value in values:
        s += value
    return s


def test_the_cache_name_depends_on_the_sources(monkeypatch):
    names = []
    for sources in ("first", "second"):
        monkeypatch.setattr(host, "_sources", lambda sources=sources: sources)
        monkeypatch.setattr(total, "__qualname__", "total")
        kept = host.compiled(total)
        names.append(kept._cache._impl.filename_base)
    assert names[0] != names[1] and all("total" in name for name in names)


def test_a_change_in_any_numba_source_is_detected(monkeypatch, tmp_path):
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


@pytest.mark.parametrize("n_rows", [0, 1, 31, 32, 100, 1000])
def test_shares_cover_all_rows_in_order(threads, n_rows):
    shares = host.by_shares(lambda first, last: list(range(first, last)), n_rows)
    assert [row for share in shares for row in share] == list(range(n_rows))
    assert len(shares) == max(1, min(threads, n_rows // host.SHARE))


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_uses_as_many_threads_as_requested(n_threads):
    assert len(host.by_shares(lambda first, last: None, 100, n_threads)) == n_threads


def test_every_share_runs_once_if_no_thread_can_start(monkeypatch):
    """Rows are moved in place: doing so twice would be wrong."""

    class Thread(threading.Thread):
        def start(self):
            if len(seen) > 1:
                raise RuntimeError("can't start new thread")
            super().start()
            self.join()

    seen = []
    monkeypatch.setattr(host, "Thread", Thread)
    host.by_shares(lambda first, last: seen.append((first, last)), 64, 4)
    assert sorted(seen) == [(0, 16), (16, 32), (32, 48), (48, 64)]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_errors_of_a_share_are_raised_after_all_shares_end(error):
    ended = []

    def work(first, last):
        if first == 0:
            raise error("first")
        time.sleep(0.2)
        ended.append(last)

    with pytest.raises(error, match="first"):
        host.by_shares(work, 64, 2)
    assert ended == [64]


def test_shares_still_run_during_interpreter_shutdown():
    """By a thread that outlives the program, and at its exit."""
    program = """if True:
        import atexit, threading, time
        import torch
        from gatescope.kernels.host import by_shares

        def share(who):
            print(who, by_shares(lambda first, last: (first, last), 32))

        def later():
            while threading.main_thread().is_alive():
                time.sleep(0.01)
            share("thread")

        torch.set_num_threads(3)
        atexit.register(share, "exit")
        threading.Thread(target=later).start()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    shares = [(0, 8), (8, 20), (20, 32)]
    assert done.stdout.splitlines() == [f"thread {shares}", f"exit {shares}"], done.stderr


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_new_memory_is_contiguous_and_not_a_view(dtype):
    made = host.empty(dtype, torch.device("cpu"), 3, 4)
    assert made.shape == (3, 4) and made.dtype == dtype and made.is_contiguous() and not made._is_view()
    assert made.untyped_storage().nbytes() == 12 * dtype.itemsize
