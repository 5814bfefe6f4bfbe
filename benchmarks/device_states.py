"""States and labels made on a GPU for its benchmarks, and the GPU's memory bandwidth.

A million rows of 1536 units would need a dump that a machine rented for an hour does not have. Instead the states are
mixtures of slowly changing hidden variables through tanh, with the condition number and the saturation of a trained
network's, and the labels are noisy linear functions of them, from common to rare.
"""

import torch

# Hidden variables per unit, and the share of one that remains after a step.
RANK, MEMORY = 0.5, 0.95
SEQUENCE = 1000


def states(n_rows, n_units, dtype, device="cuda", seed=0):
    """Return X [n_rows, n_units]: tanh of mixed AR(1) processes, in sequences of a thousand rows."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, device=device)

    n_hidden, n_sequences = int(RANK * n_units), -(-n_rows // SEQUENCE)
    mixing = normal(n_hidden, n_units) * torch.logspace(0.3, -1.5, n_hidden, device=device)[:, None]
    offset = 0.5 * normal(n_units)
    X = torch.empty(n_sequences, SEQUENCE, n_units, dtype=dtype, device=device)
    hidden = normal(n_sequences, n_hidden)
    for t in range(SEQUENCE):
        hidden = MEMORY * hidden + (1 - MEMORY**2) ** 0.5 * normal(n_sequences, n_hidden)
        X[:, t] = torch.tanh(hidden @ mixing / 4 + offset).to(dtype)
    return X.reshape(-1, n_units)[:n_rows].contiguous()


def labels(X, n_targets, seed=1):
    """Return Y [N, n_targets], bool, with shares of positives from 1/2 down to 1/100."""
    generator = torch.Generator(X.device).manual_seed(seed)
    direction = torch.randn(X.shape[1], n_targets, generator=generator, device=X.device) / X.shape[1] ** 0.5
    columns = []
    for share, v in zip(torch.logspace(-0.30103, -2, n_targets).tolist(), direction.T, strict=True):
        logits = 4 * torch.cat([part.float() @ v for part in X.split(2**16)])
        uniform = torch.rand(len(X), generator=generator, device=X.device).clamp(1e-6, 1 - 1e-6)
        score = logits + torch.logit(uniform)
        columns.append(score > score.sort().values[int((1 - share) * (len(X) - 1))])
    return torch.stack(columns, dim=1)


def bandwidth():
    """Return the bytes a second that a copy of 4 GB reads and writes, the best of ten."""
    source = torch.zeros(2**32, dtype=torch.uint8, device="cuda")
    target, best = torch.empty_like(source), 0.0
    for _ in range(10):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        stop.record()
        torch.cuda.synchronize()
        best = max(best, 2 * len(source) / (start.elapsed_time(stop) / 1e3))
    return best
