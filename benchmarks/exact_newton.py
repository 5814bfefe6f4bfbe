"""Exact batched Newton steps against `LogisticProbes`: `python -m benchmarks.exact_newton` prints README.md's table.

Each step forms the weighted Gram matrix of every hypothesis, in float32 and summed in float64 over the same blocks of
rows as `LogisticProbes`, factorises it by Cholesky, and halves the step if the objective does not fall. Both stop when
the largest absolute gradient of the mean loss and half the Newton decrement are at most 1e-6. They run on one core, on
units of the states of `real_states`. A cell is the processor time of the exact steps over that of `LogisticProbes`.
"""

import time

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

from benchmarks import real_states
from benchmarks.bench_irls import GRADIENT, gradient_and_objective
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.row_blocks import RowBlocks

UNITS, ROWS, TARGETS = (16, 32, 64, 128), (10_000, 50_000), (1, 16, 64)
MOST_STEPS = 60


def exact_newton(X, Y):
    """Return the coefficients [K, H] and intercepts [K] at C = 1, and the number of passes."""
    n_rows, n_units = X.shape
    ridge = np.append(np.full(n_units, 1 / n_rows), 0.0)[:, None]
    w = np.zeros((n_units + 1, Y.shape[1]))
    prevalence = Y.mean(axis=0)
    w[-1] = np.log(prevalence / (1 - prevalence))
    step, loss = np.zeros_like(w), np.full(Y.shape[1], np.inf)
    active, n_passes = np.arange(Y.shape[1]), 0
    design = np.hstack([X, np.ones((n_rows, 1), np.float32)])
    with RowBlocks(design, np.float32) as rows:
        while len(active):
            trial = w[:, active] + step[:, active]
            losses, gradient, curvature = derivatives(rows, Y[:, active], trial.astype(np.float32))
            n_passes += 1
            losses = losses / n_rows + 0.5 * (ridge * trial**2).sum(axis=0)
            # At the minimum the loss changes only by rounding.
            better = losses <= loss[active] + 1e-7 * np.abs(losses)
            step[:, active[~better]] /= 2
            gradient = gradient / n_rows + ridge * trial
            done = np.zeros(len(active), bool)
            for i in np.flatnonzero(better):
                k = active[i]
                w[:, k], loss[k] = trial[:, i], losses[i]
                factor = scipy.linalg.cho_factor(curvature[i] / n_rows + np.diag(ridge[:, 0]), overwrite_a=True)
                step[:, k] = -scipy.linalg.cho_solve(factor, gradient[:, i])
                done[i] = np.abs(gradient[:, i]).max() <= GRADIENT and -gradient[:, i] @ step[:, k] / 2 <= GRADIENT
            active = active[~done]
            assert n_passes < MOST_STEPS, f"{len(active)} hypotheses do not converge"
    return w[:-1].T, w[-1], n_passes


def derivatives(rows, Y, w):
    """Return sums over the rows: losses [K], gradients [H + 1, K] and weighted Gram matrices [K, H + 1, H + 1]."""

    def block_sums(block, start, stop):
        z, labels = block @ w, Y[start:stop]
        probability = 1 / (1 + np.exp(-z))
        losses = np.logaddexp(np.float32(0), np.where(labels, -z, z)).sum(axis=0, dtype=np.float64)
        grams = np.empty((w.shape[1], len(w), len(w)), np.float32)
        for root, gram in zip(np.sqrt(probability * (1 - probability)).T, grams, strict=True):
            weighted = block * root[:, None]
            # For a matrix and its transpose NumPy has BLAS compute half of the product.
            np.matmul(weighted.T, weighted, out=gram)
        return losses, block.T @ (probability - labels), grams

    return rows.totals(block_sums)


def seconds(function, *arguments):
    """Return the least processor time of two runs, and the result."""
    times = []
    for _ in range(2):
        started = time.process_time()
        result = function(*arguments)
        times.append(time.process_time() - started)
    return min(times), result


def main():
    dump, _ = real_states.open_states()
    print(f"| H | {' | '.join(f'N={n // 1000}k K={k}' for n in ROWS for k in TARGETS)} |")
    print("|---" * (1 + len(ROWS) * len(TARGETS)) + "|")
    states, Y = real_states.states(dump, max(ROWS), 512, np.float32), real_states.labels(dump, max(ROWS), max(TARGETS))
    for n_units in UNITS:
        print(f"| {n_units} |", end="", flush=True)
        for n_rows in ROWS:
            # The columns are in no particular order: any will do.
            X = np.ascontiguousarray(states[:n_rows, :n_units])
            for n_targets in TARGETS:
                labels = Y[:n_rows, :n_targets]
                exact_s, (w, b, _) = seconds(exact_newton, X, labels)
                ours_s, _ = seconds(LogisticProbes().fit, X, labels)
                ends = [gradient_and_objective(X, labels[:, k], w[k], b[k], None)[0] for k in range(n_targets)]
                assert max(ends) <= 1.1 * GRADIENT, max(ends)
                print(f" {exact_s / ours_s:.2f} |", end="", flush=True)
        print()


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
