"""LogisticProbes on a dump of 8 GB within 1 GB of memory, compared with the same states held in memory.

The states are those of `real_states`, repeated until they are 8 GB. There are few steps, since what counts is the time
of a pass. `anonymous_gb` is the most anonymous memory of the process, imports and labels included.
"""

import threading
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks import real_states
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.irls import LogisticProbes

BYTES, K, STEPS = 8 * 10**9, 4, 3


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """The dump, and the labels Y [N, K]."""
    source, _ = real_states.open_states()
    hidden = np.asarray(source["h"][0])
    n_rows, n_units = hidden.shape
    copies = BYTES // hidden.nbytes
    spec = DumpSpec(
        arrays={"layer0/h": n_units},
        sequence_starts=np.array([0, copies * n_rows], dtype=np.int64),
        document_starts=np.array([0, copies * n_rows], dtype=np.int64),
        initial=(),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(np.float16),
        attributes={"vocabulary": ["a"]},
    )
    path = tmp_path_factory.mktemp("large") / "states.zarr"
    with DumpWriter(path, spec) as writer:
        for copy in range(copies):
            writer.append(copy * n_rows, np.zeros(n_rows, np.uint8), {"layer0/h": hidden})
    return StateDump.open(path), np.tile(real_states.labels(source, n_rows, K), (copies, 1))


@contextmanager
def watched():
    """Yield a list that receives the peak anonymous memory of this process meanwhile, in bytes."""
    most, done = [0], threading.Event()

    def watch():
        while not done.wait(0.05):
            with open("/proc/self/status") as status:
                line = next(line for line in status if line.startswith("RssAnon"))
            most[0] = max(most[0], int(line.split()[1]) * 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["gatescope-disk", "gatescope-memory"])
def test_fit(benchmark, dump, impl):
    states, Y = dump
    X = states["h"][0]
    # Stored with the times as soon as they are taken.
    benchmark.group = f"logistic probes on 8 GB, N{len(Y) // 10**5 / 10}M-H512-K{K}"
    started = time.perf_counter()
    if impl == "gatescope-memory":
        X = np.asarray(X)
    else:
        for block in X.blocks():
            block.max()
    reading = time.perf_counter() - started
    limit = "1GB" if impl == "gatescope-disk" else None

    def fit():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return LogisticProbes(memory_limit=limit, max_iter=STEPS).fit(X, Y)

    with watched() as most:
        probes = benchmark.pedantic(fit, rounds=1)
    # Each pass moves all hypotheses; one more sums the losses, and another takes means and spreads.
    passes = int(probes.n_passes_.max()) + 1
    benchmark.extra_info.update(
        impl=impl,
        N=len(Y),
        H=X.shape[1],
        K=K,
        dtype="float16",
        passes=passes,
        seconds_per_pass=round(benchmark.stats.stats.median / passes, 3),
        reading_s=round(reading, 3),
        anonymous_gb=round(most[0] / 1e9, 3),
    )
