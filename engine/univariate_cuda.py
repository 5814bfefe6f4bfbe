"""Logistic regressions on single units on a GPU: a warp for each pair of a unit and a hypothesis, one launch for all.

The method is that of `univariate`: Newton's on moments in bins of equal width, then, for the few fits that are too
steep for them, on the distinct values. A pair needs no other, so that all its steps are taken inside one kernel: 512
bins are 16 sigmoids a thread and step. (Estimate, not measured: 49,152 pairs with ten steps are 2.5e8 sigmoids in
float64, a few milliseconds, where a pass over the rows would have 4.9e10 of them a step.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine import univariate
from gatescope.engine.ranks_cuda import launch
from gatescope.engine.univariate import BINS, ORDER

LANES = 32

SOURCE = (
    f"#define BINS {BINS}\n#define ORDER {ORDER}\n#define LONGEST_STEP {univariate.LONGEST_STEP}\n"
    f"#define MAX_ITERATIONS {univariate.MAX_ITERATIONS}\n#define TOLERANCE {univariate.TOLERANCE}\n"
    f"#define OVERSHOOT {univariate.OVERSHOOT}\n"
    + r"""
#if defined(__CUDA_ARCH__)
#define LANES 32
__device__ inline double warp_sum(double value) {
    for (int other = 16; other > 0; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
    return value;
}
__device__ inline double warp_max(double value) {
    for (int other = 16; other > 0; other /= 2) value = fmax(value, __shfl_xor_sync(0xffffffffu, value, other));
    return value;
}
#else
#define LANES 1
__device__ inline double warp_sum(double value) { return value; }
__device__ inline double warp_max(double value) { return value; }
#endif

extern "C" __global__ void add_moments(const double* values, const double* mass, long long mass_stride,
                                       const double* mean, const double* sd, const double* low, const double* width,
                                       long long n_entries, double* moments) {
    const long long unit = blockIdx.y, stride = (long long)gridDim.x * blockDim.x;
    for (long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x; n < n_entries; n += stride) {
        double power = mass[unit * mass_stride + n];
        if (power == 0) continue;
        const double u = (values[unit * n_entries + n] - mean[unit]) / sd[unit];
        const long long wanted = (long long)((u - low[unit]) / width[unit]);
        const long long bin = wanted < 0 ? 0 : wanted < BINS ? wanted : BINS - 1;
        const double offset = u - (low[unit] + (bin + 0.5) * width[unit]);
        for (int i = 0; i <= ORDER; i++) {
            atomicAdd(&moments[(unit * (ORDER + 1) + i) * BINS + bin], power);
            power *= offset;
        }
    }
}

struct Derivatives { double w, b, ww, wb, bb; };

// Gradient and Hessian of sum s softplus(w u + b), as Histogram.derivatives has them.
__device__ inline Derivatives derivatives(const double* middle, const double* moments, long long n_bins,
                                          long long n_moments, int lane, double w, double b) {
    Derivatives sum = {0, 0, 0, 0, 0};
    for (long long i = lane; i < n_bins; i += LANES) {
        double m[6] = {moments[i], 0, 0, 0, 0, 0};
        if (n_moments == 1 && m[0] == 0) continue;
        for (int j = 1; j < 5; j++)
            if (j < n_moments) m[j] = moments[j * n_bins + i];
        const double u = middle[i], p = 1 / (1 + exp(-(w * u + b))), pq = p * (1 - p), third = pq * (1 - 2 * p);
        const double slopes[5] = {p, pq, third, pq * (1 - 6 * pq), third * (1 - 12 * pq)};
        double power = 1;
        for (int j = 0; j < 5; j++) {
            sum.w += power * (m[j] * u + m[j + 1]) * slopes[j];
            sum.b += power * m[j] * slopes[j];
            power *= w / (j + 1);
        }
        sum.ww += (m[0] * u * u + 2 * u * m[1] + m[2]) * pq;
        sum.wb += (m[0] * u + m[1]) * pq;
        sum.bb += m[0] * pq;
    }
    return {warp_sum(sum.w), warp_sum(sum.b), warp_sum(sum.ww), warp_sum(sum.wb), warp_sum(sum.bb)};
}

extern "C" __global__ void fit_pairs(const long long* pairs, long long n_pairs, long long n_targets,
                                     const double* middle, const double* moments, long long n_bins,
                                     long long n_moments, const double* target_w, const double* target_b,
                                     const double* ridge, double total, double* w_out, double* b_out, int* converged) {
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const int lane = (int)(thread % LANES);
    for (long long i = thread / LANES; i < n_pairs; i += (long long)gridDim.x * blockDim.x / LANES) {
        const long long pair = pairs[i], unit = pair / n_targets;
        const double* u = middle + unit * n_bins;
        const double* m = moments + unit * n_moments * n_bins;
        double reach = 0;
        for (long long j = lane; j < n_bins; j += LANES)
            if (m[j] != 0) reach = fmax(reach, fabs(u[j]));
        reach = warp_max(reach);
        double w = w_out[pair], b = b_out[pair];
        bool done = false;
        Derivatives d = derivatives(u, m, n_bins, n_moments, lane, w, b);
        for (int iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
            double g_w = d.w - target_w[pair] + ridge[unit] * w, g_b = d.b - target_b[pair];
            done = fmax(fabs(g_w), fabs(g_b)) <= TOLERANCE * total;
            if (done) break;
            // Where every label is certain there is no curvature left to divide by.
            const double floor = 1e-14 * total;
            const double ww = d.ww + ridge[unit] + floor, bb = d.bb + floor;
            const double determinant = fmax(ww * bb - d.wb * d.wb, 1e-14 * ww * bb);
            double step_w = -(bb * g_w - d.wb * g_b) / determinant, step_b = -(ww * g_b - d.wb * g_w) / determinant;
            const double longest = fmax(reach * fabs(step_w) + fabs(step_b), 1e-300);
            const double shortened = fmin(1.0, LONGEST_STEP / longest);
            step_w *= shortened;
            step_b *= shortened;
            const double slope = g_w * step_w + g_b * step_b;
            double length = 1;
            for (int trial = 0; trial < 30; trial++) {
                d = derivatives(u, m, n_bins, n_moments, lane, w + length * step_w, b + length * step_b);
                g_w = d.w - target_w[pair] + ridge[unit] * (w + length * step_w);
                g_b = d.b - target_b[pair];
                const double end = g_w * step_w + g_b * step_b;
                if (!(end > -OVERSHOOT * slope)) break;
                // The slope of a convex function is nearly linear between the two ends.
                length *= fmin(fmax(slope / (slope - end), 0.1), 0.7);
            }
            w += length * step_w;
            b += length * step_b;
        }
        if (lane == 0) {
            w_out[pair] = w;
            b_out[pair] = b;
            converged[pair] = done;
        }
    }
}
"""
)


def fit_units(
    xp: Any,
    values: Any,
    mass: Any,
    mean: Any,
    sd: Any,
    ends: tuple[Any, Any],
    positive: Any,
    positive_sum: Any,
    total: float,
    C: float,
) -> tuple[Any, Any, Any]:
    """Fit U units to G hypotheses that share their weights and have both classes.

    Args:
        values: of the entries, rows or codes, float64 [U, E].
        mass: float64 [U, E], or [E] where it is that of all units.
        mean, sd: of each unit, float64 [U]; a unit whose sd is 0 or not finite is left out.
        ends: the smallest and the largest value of each unit, float64 [U].
        positive: the weight of the positive positions, float64 [G].
        positive_sum: sum_n s_n y_n x_n, float64 [U, G].
        total: the sum of the weights.
        C: inverse strength of the penalty.

    Returns:
        coefficients [U, G], intercepts [U, G], and whether each fit has converged, bool [U, G].
    """
    (n_units, n_entries), n_targets = values.shape, len(positive)
    usable = xp.isfinite(sd) & (sd > 0)
    mean, sd = xp.where(usable, mean, 0.0), xp.where(usable, sd, 1.0)
    low, high = ((end - mean) / sd for end in ends)
    width = xp.where(usable, (high - low) / BINS, 1.0)
    moments = xp.zeros((n_units, ORDER + 1, BINS))
    stride = n_entries if mass.ndim == 2 else 0
    arguments = (values, mass, stride, mean, sd, low, width, n_entries, moments)
    launch(xp, SOURCE, "add_moments", (n_entries, n_units), arguments)
    middle = low[:, None] + (xp.arange(BINS) + 0.5) * width[:, None]
    target_w = (positive_sum - positive * mean[:, None]) / sd[:, None]
    target_b = xp.zeros((n_units, n_targets)) + positive
    w, b = xp.zeros((n_units, n_targets)), xp.log(target_b / (total - target_b))
    converged = xp.zeros((n_units, n_targets), np.int32)
    ridge = 1 / (C * sd**2)

    def fit(pairs: Any, middle: Any, moments: Any) -> None:
        if not len(pairs):
            return
        shape = len(pairs), n_targets, middle, moments, middle.shape[1], moments.shape[1]
        arguments = (pairs, *shape, target_w, target_b, ridge, total, w, b, converged)
        launch(xp, SOURCE, "fit_pairs", (len(pairs) * LANES, 1), arguments)

    wanted = xp.zeros((n_units, n_targets), bool) | usable[:, None]
    fit(xp.flatnonzero(wanted), middle, moments)
    steep = wanted & ((converged == 0) | (xp.abs(w) * (width[:, None] / 2) > univariate.WIDEST))
    pairs = xp.flatnonzero(steep)
    if len(pairs):
        exact = (values - mean[:, None]) / sd[:, None]
        fit(pairs, exact, xp.ascontiguousarray(xp.zeros(exact.shape) + mass)[:, None, :])
    return w / sd[:, None], b - w * (mean / sd)[:, None], converged != 0
