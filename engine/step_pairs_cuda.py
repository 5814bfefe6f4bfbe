"""The two loops of the limited-memory BFGS method on a GPU, one launch each: a warp for each problem.

With array operations every remembered pair of a step and its change of the gradient is a dozen launches, each for a few
microseconds of work, in every pass. No problem needs another, and a lane of a warp always has the same coordinates, so
that the lanes meet in the inner products alone. (Measured only within a fit, `quasi_newton`; estimated: a pair of 1537
coordinates takes a warp about 15 microseconds in each loop.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine import warp_cuda
from gatescope.engine.arrays import array_namespace
from gatescope.engine.launch_cuda import launch

SOURCE = (
    warp_cuda.SOURCE
    + r"""
extern "C" __global__ void from_the_last(const double* steps, const double* changes, const double* reciprocals,
                                         const long long* columns, long long n_columns, long long width,
                                         long long n_coordinates, long long n_pairs, double* q, double* weights) {
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x, lane = thread % LANES;
    for (long long k = thread / LANES; k < n_columns; k += (long long)gridDim.x * blockDim.x / LANES) {
        for (long long i = n_pairs - 1; i >= 0; i--) {
            const long long pair = i * n_coordinates * width + columns[k];
            double sum = 0;
            for (long long h = lane; h < n_coordinates; h += LANES)
                sum += steps[pair + h * width] * q[h * n_columns + k];
            const double weight = reciprocals[i * n_columns + k] * warp_sum(sum);
            for (long long h = lane; h < n_coordinates; h += LANES)
                q[h * n_columns + k] -= weight * changes[pair + h * width];
            if (lane == 0) weights[i * n_columns + k] = weight;
        }
    }
}

extern "C" __global__ void from_the_first(const double* steps, const double* changes, const double* reciprocals,
                                          const long long* columns, long long n_columns, long long width,
                                          long long n_coordinates, long long n_pairs, const double* weights,
                                          double* x) {
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x, lane = thread % LANES;
    for (long long k = thread / LANES; k < n_columns; k += (long long)gridDim.x * blockDim.x / LANES) {
        for (long long i = 0; i < n_pairs; i++) {
            const long long pair = i * n_coordinates * width + columns[k];
            double sum = 0;
            for (long long h = lane; h < n_coordinates; h += LANES)
                sum += changes[pair + h * width] * x[h * n_columns + k];
            const double weight = weights[i * n_columns + k] - reciprocals[i * n_columns + k] * warp_sum(sum);
            for (long long h = lane; h < n_coordinates; h += LANES)
                x[h * n_columns + k] += weight * steps[pair + h * width];
        }
    }
}
"""
)


class DevicePairs:
    """The pairs of some problems, in the memory of a GPU.

    Args:
        steps, changes: of the coefficients and of the gradient, CuPy float64 [M, H + 1, W], the oldest first.
        reciprocals: of their inner products, 0 for a pair to leave out, NumPy float64 [P, W] for the first P of M.
        columns: the problems wanted, NumPy int64 [k].
    """

    def __init__(self, steps: Any, changes: Any, reciprocals: np.ndarray, columns: np.ndarray):
        self.xp = array_namespace(steps)
        self.n_pairs, (_, self.n_coordinates, width) = len(reciprocals), steps.shape
        own = self.xp.asarray(np.ascontiguousarray(reciprocals[:, columns]))
        sizes = len(columns), width, self.n_coordinates, self.n_pairs
        self.arguments = (steps, changes, own, self.xp.asarray(columns), *sizes)

    def from_the_last(self, q: Any) -> Any:
        """Take from q [H + 1, k], in place, what each pair has of it, the last first; return the multiples [P, k]."""
        weights = self.xp.empty((self.n_pairs, q.shape[1]))
        launch(self.xp, SOURCE, "from_the_last", (q.shape[1] * warp_cuda.LANES, 1), (*self.arguments, q, weights))
        return weights

    def from_the_first(self, x: Any, weights: Any) -> None:
        """Add to x [H + 1, k], in place, what `from_the_last` took, corrected, the first pair first."""
        launch(self.xp, SOURCE, "from_the_first", (x.shape[1] * warp_cuda.LANES, 1), (*self.arguments, weights, x))
