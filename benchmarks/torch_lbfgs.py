"""One logistic regression at a time by L-BFGS with a memory of 5 in plain torch, as one would write it for a GPU."""

import torch

STEPS = 3000


def fit(X, y, tol, C=1.0):
    """Return coefficients [H] and intercept of scikit-learn's objective.

    Args:
        X: float32 [N, H].
        y: bool [N].
        tol: largest absolute gradient of the mean loss at the end.
    """
    sign, n_rows = 1 - 2 * y.to(X.dtype), len(X)
    w = torch.zeros(X.shape[1], device=X.device, requires_grad=True)
    share = y.double().mean()
    b = torch.log(share / (1 - share)).float().reshape(1).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [w, b],
        max_iter=STEPS,
        history_size=5,
        tolerance_grad=tol,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimiser.zero_grad()
        value = torch.nn.functional.softplus(sign * (X @ w + b)).mean() + w @ w / (2 * C * n_rows)
        value.backward()
        return value

    optimiser.step(loss)
    return w.detach(), b.detach()


def gradient_and_objective(X, y, w, b, C=1.0):
    """Return the largest absolute gradient of the mean loss and the objective, both in float64."""
    w, b, sign = w.double(), b.double(), 1 - 2 * y.double()
    gradient, total, loss = w / C, 0.0, w @ w / (2 * C)
    for start in range(0, len(X), 2**16):
        part = slice(start, start + 2**16)
        block = X[part].double()
        margin = sign[part] * (block @ w + b)
        residual = sign[part] * torch.sigmoid(margin)
        gradient, total = gradient + residual @ block, total + residual.sum()
        loss = loss + torch.nn.functional.softplus(margin, threshold=40).sum()
    return float(torch.cat([gradient, total.reshape(1)]).abs().max()) / len(X), float(loss)
