"""The kernels of `univariate_cuda` in CUDA C: bins and their moments, and Newton's method on these or on the values."""

from __future__ import annotations

from gatescope.engine import univariate
from gatescope.engine.quantiles_cuda import KEY_SOURCE
from gatescope.engine.unit_loss import ROUNDING
from gatescope.engine.univariate import BINS, ORDER
from gatescope.engine.warp_cuda import SOURCE as WARP_SOURCE

CONSTANTS = ("MAX_ITERATIONS", "TOLERANCE", "STEP_TOLERANCE", "SMALLEST", "FIRST_RADIUS", "OVERSHOOT")

SOURCE = (
    f"#define BINS {BINS}\n#define ORDER {ORDER}\n#define ROUNDING {ROUNDING}\n"
    + "".join(f"#define {name} {getattr(univariate, name)}\n" for name in CONSTANTS)
    + KEY_SOURCE
    + WARP_SOURCE
    + r"""
#define TINY 2.2250738585072014e-308

// Half of the bins are of equal mass and half of equal width.
extern "C" __global__ void place_in_bins(const double* values, const double* mass, long long mass_stride,
                                         const double* ranks, const double* low, const double* high, double total,
                                         long long n_entries, unsigned short* bins, unsigned long long* lowest,
                                         unsigned long long* highest) {
    const long long unit = blockIdx.y, stride = (long long)gridDim.x * blockDim.x;
    for (long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x; n < n_entries; n += stride) {
        if (mass[unit * mass_stride + n] == 0) continue;
        const long long at = unit * n_entries + n;
        const double width = (values[at] - low[unit]) / (high[unit] - low[unit]);
        const double place = 0.5 * (ranks[at] / total + width) * BINS;
        const long long bin = place < 0 ? 0 : place < BINS ? (long long)place : BINS - 1;
        bins[at] = (unsigned short)bin;
        const unsigned long long key = key_of(values[at]);
        // Nearly all entries see here that they are neither the smallest nor the largest.
        if (key < lowest[unit * BINS + bin]) atomicMin(&lowest[unit * BINS + bin], key);
        if (key > highest[unit * BINS + bin]) atomicMax(&highest[unit * BINS + bin], key);
    }
}

// In units of the half width, so that no power overflows.
extern "C" __global__ void add_moments(const double* values, const double* mass, long long mass_stride,
                                       const unsigned short* bins, const double* middle, const double* half,
                                       long long n_entries, double* moments) {
    const long long unit = blockIdx.y, stride = (long long)gridDim.x * blockDim.x;
    for (long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x; n < n_entries; n += stride) {
        double power = mass[unit * mass_stride + n];
        if (power == 0) continue;
        const long long bin = bins[unit * n_entries + n];
        const double extent = half[unit * BINS + bin];
        const double offset = extent > 0 ? (values[unit * n_entries + n] - middle[unit * BINS + bin]) / extent : 0;
        for (int i = 0; i <= ORDER; i++) {
            atomicAdd(&moments[(unit * (ORDER + 1) + i) * BINS + bin], power);
            power *= offset;
        }
    }
}

__device__ inline double sigmoid(double z) { return 1 / (1 + exp(-z)); }
__device__ inline double softplus(double z) { return fmax(z, 0.0) + log1p(exp(-fabs(z))); }

// With the data centred where the curvature is, the Hessian in (w, b + w centre) is diagonal.
struct Derivatives { double centre, g_w, g_b, curvature_w, curvature_b, rounding_w, rounding_b; };

// The distribution of a unit as moments around the middles of bins, as Histogram has it.
struct Histogram {
    const double *middle, *half, *moments;
    double target_w, target_b;
    int lane;

    __device__ inline Derivatives derivatives(double w, double b) const {
        double g_w = 0, g_b = 0, ww = 0, wb = 0, bb = 0;
        for (int i = lane; i < BINS; i += LANES) {
            const double m[6] = {moments[i], moments[BINS + i], moments[2 * BINS + i], moments[3 * BINS + i],
                                 moments[4 * BINS + i], 0};
            if (m[0] == 0) continue;
            const double u = middle[i], p = sigmoid(w * u + b), pq = p * (1 - p), third = pq * (1 - 2 * p);
            const double slopes[5] = {p, pq, third, pq * (1 - 6 * pq), third * (1 - 12 * pq)};
            double power = 1;
            for (int j = 0; j < 5; j++) {
                g_w += power * (m[j] * u + m[j + 1]) * slopes[j];
                g_b += power * m[j] * slopes[j];
                power *= w / (j + 1);
            }
            ww += (m[0] * u * u + 2 * u * m[1] + m[2]) * pq;
            wb += (m[0] * u + m[1]) * pq;
            bb += m[0] * pq;
        }
        g_w = warp_sum(g_w) - target_w, g_b = warp_sum(g_b) - target_b;
        ww = warp_sum(ww), wb = warp_sum(wb), bb = fmax(warp_sum(bb), TINY);
        const double centre = wb / bb;
        return {centre, g_w - centre * g_b, g_b, fmax(ww - centre * wb, 0.0), bb, ROUNDING * (1 + fabs(centre)),
                ROUNDING};
    }

    __device__ inline double loss(double w, double b) const {
        double sum = 0;
        for (int i = lane; i < BINS; i += LANES) {
            if (moments[i] == 0) continue;
            const double z = w * middle[i] + b, p = sigmoid(z), pq = p * (1 - p);
            const double terms[5] = {softplus(z), p, pq, pq * (1 - 2 * p), pq * (1 - 6 * pq)};
            double power = 1;
            for (int j = 0; j < 5; j++) {
                sum += power * moments[j * BINS + i] * terms[j];
                power *= w / (j + 1);
            }
        }
        return warp_sum(sum) - w * target_w - b * target_b;
    }

    // Whether neither the expansion nor rounding can have moved the minimum, as _is_certain has it.
    __device__ inline bool is_certain(const Derivatives& at, double ridge, double w, double b) const {
        double error_w = 0, error_b = 0;
        for (int i = lane; i < BINS; i += LANES) {
            if (moments[i] == 0) continue;
            const double reach = fabs(w) * half[i], distance = fabs(w * middle[i] + b);
            const double fourth = moments[i] * reach * reach * reach * reach * exp(-fmax(distance - reach - 2, 0.0));
            const double fifth = fourth * reach / (4 * 120);
            error_w += fifth * (fabs(middle[i]) + half[i]) + fourth * half[i] / (7 * 24);
            error_b += fifth;
        }
        error_w = warp_sum(error_w) + at.rounding_w, error_b = warp_sum(error_b) + at.rounding_b;
        const double moved_w = (error_w + fabs(at.centre) * error_b) / (at.curvature_w + ridge);
        const double moved_b = error_b / at.curvature_b + fabs(at.centre) * moved_w;
        return moved_w <= 10 * STEP_TOLERANCE * fabs(w) + SMALLEST &&
               moved_b <= 10 * STEP_TOLERANCE * fmax(fabs(w), fabs(b)) + SMALLEST;
    }
};

// The values of a unit for one hypothesis: nothing is approximated, and either class is summed by itself.
struct Values {
    const double *values, *mass, *positive;
    long long n_entries;
    double mean, sd, total;
    int lane;

    __device__ inline double unit(long long n) const { return (values[n] - mean) / sd; }
    __device__ inline double in_positive(long long n) const { return positive[n] / total; }
    __device__ inline double in_negative(long long n) const { return fmax(mass[n] - positive[n], 0.0) / total; }

    __device__ inline Derivatives derivatives(double w, double b) const {
        double wb = 0, bb = 0;
        for (long long n = lane; n < n_entries; n += LANES) {
            if (mass[n] == 0) continue;
            const double u = unit(n), z = w * u + b, p = sigmoid(z), q = sigmoid(-z);
            const double pq = in_negative(n) * p * q + in_positive(n) * q * p;
            wb += pq * u;
            bb += pq;
        }
        wb = warp_sum(wb), bb = fmax(warp_sum(bb), TINY);
        const double centre = wb / bb;
        Derivatives sum = {centre, 0, 0, 0, bb, 0, 0};
        for (long long n = lane; n < n_entries; n += LANES) {
            if (mass[n] == 0) continue;
            const double u = unit(n), z = w * u + b, p = sigmoid(z), q = sigmoid(-z), a = u - centre;
            const double too_high = in_negative(n) * p, too_low = in_positive(n) * q;
            const double size = (too_high + too_low) * (1 + fabs(z));
            sum.g_w += (too_high - too_low) * a;
            sum.g_b += too_high - too_low;
            sum.curvature_w += (too_high * q + too_low * p) * a * a;
            sum.rounding_w += size * fabs(a);
            sum.rounding_b += size;
        }
        return {centre, warp_sum(sum.g_w), warp_sum(sum.g_b), warp_sum(sum.curvature_w), bb,
                ROUNDING * warp_sum(sum.rounding_w), ROUNDING * warp_sum(sum.rounding_b)};
    }

    __device__ inline double loss(double w, double b) const {
        double sum = 0;
        for (long long n = lane; n < n_entries; n += LANES) {
            if (mass[n] == 0) continue;
            const double z = w * unit(n) + b;
            sum += in_negative(n) * softplus(z) + in_positive(n) * softplus(-z);
        }
        return warp_sum(sum);
    }
};

// Newton's method from (w, b), as _newton and _search have it; returns whether it converged, and where it ends.
template <class Data>
__device__ inline bool minimise(const Data& data, double ridge, double& w, double& b, Derivatives& at) {
    double radius = FIRST_RADIUS;
    at = data.derivatives(w, b);
    for (int iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
        const double g_w = at.g_w + ridge * w, g_b = at.g_b;
        const double step_w = -g_w / (at.curvature_w + ridge), centred_b = -g_b / at.curvature_b;
        const double step_b = centred_b - at.centre * step_w;
        const bool still_w = fabs(g_w) <= at.rounding_w || fabs(step_w) <= STEP_TOLERANCE * fabs(w);
        const bool still_b = fabs(g_b) <= at.rounding_b || fabs(step_b) <= STEP_TOLERANCE * fmax(fabs(w), fabs(b));
        if (fmax(fabs(g_w), fabs(g_b)) <= TOLERANCE && still_w && still_b) return true;
        if (!isfinite(step_w) || !isfinite(step_b)) return false;
        const double size = fabs(step_w) + fabs(step_b), slope = g_w * step_w + g_b * centred_b;
        double length = fmin(1.0, radius / fmax(size, TINY)), before = 0;
        bool whole = true, known = false;
        for (int trial = 0; trial < 60; trial++) {
            const double there_w = w + length * step_w, there_b = b + length * step_b;
            at = data.derivatives(there_w, there_b);
            const double end = (at.g_w + ridge * there_w) * step_w + at.g_b * (step_b + at.centre * step_w);
            // A convex function that still falls at the end has fallen all the way.
            if (end <= -OVERSHOOT * slope) break;
            if (!known) before = data.loss(w, b) + 0.5 * ridge * w * w;
            known = true;
            const double after = data.loss(there_w, there_b) + 0.5 * ridge * there_w * there_w;
            // Where the fall is lost in rounding the slopes have to do.
            const bool lost = -slope * length <= 1e-12 * (before + 1e-3) && end <= -0.5 * slope;
            if (after <= before + 1e-4 * length * slope || lost) break;
            whole = false;
            // Between its ends the slope is nearly linear.
            length *= fmin(fmax(slope / (slope - end), 0.1), 0.7);
        }
        w += length * step_w;
        b += length * step_b;
        // Far from the minimum the curvature says nothing; a step that was cut short and good may be longer next time.
        radius = whole ? fmax(radius, 2 * length * size) : length * size;
    }
    return false;
}

extern "C" __global__ void fit_bins(const long long* pairs, long long n_pairs, long long n_targets,
                                    const double* middle, const double* half, const double* moments,
                                    const double* target_w, const double* target_b, const double* ridge, double* w_out,
                                    double* b_out, bool* converged, bool* certain) {
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const int lane = (int)(thread % LANES);
    for (long long i = thread / LANES; i < n_pairs; i += (long long)gridDim.x * blockDim.x / LANES) {
        const long long pair = pairs[i], unit = pair / n_targets;
        const Histogram data = {middle + unit * BINS, half + unit * BINS, moments + unit * (ORDER + 1) * BINS,
                                target_w[pair], target_b[pair % n_targets], lane};
        double w = w_out[pair], b = b_out[pair];
        Derivatives at;
        const bool done = minimise(data, ridge[unit], w, b, at);
        const bool enough = done && data.is_certain(at, ridge[unit], w, b);
        if (lane == 0) {
            w_out[pair] = w;
            b_out[pair] = b;
            converged[pair] = done;
            certain[pair] = enough;
        }
    }
}

extern "C" __global__ void fit_values(const long long* pairs, long long n_pairs, long long n_targets,
                                      const double* values, const double* mass, long long mass_stride,
                                      const double* positive, long long n_entries, const double* mean, const double* sd,
                                      double total, const double* ridge, double* w_out, double* b_out,
                                      bool* converged) {
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const int lane = (int)(thread % LANES);
    for (long long i = thread / LANES; i < n_pairs; i += (long long)gridDim.x * blockDim.x / LANES) {
        const long long pair = pairs[i], unit = pair / n_targets;
        const Values data = {values + unit * n_entries, mass + unit * mass_stride, positive + i * n_entries, n_entries,
                             mean[unit], sd[unit], total, lane};
        double w = w_out[pair], b = b_out[pair];
        Derivatives at;
        const bool done = minimise(data, ridge[unit], w, b, at);
        if (lane == 0) {
            w_out[pair] = w;
            b_out[pair] = b;
            converged[pair] = done;
        }
    }
}
"""
)
