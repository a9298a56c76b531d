"""Logistic regression on one device's rows alone, to convergence: what its owner would have without the others.

L-BFGS (Nocedal 1980) over the loss that `cvgossip` descends by gossip, so "alone" and "now" differ by the rows, not by the method.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from protocol.tasks import Task
from protocol.tensors import Arrays

from .cvgossip import scaled, softmax
from .dataset import Rows
from .moments import Floats
from .pooled import scaling

MEMORY: Final = 10
"""Pairs of steps and gradients kept: the usual number."""

MAX_ITERATIONS: Final = 300
"""Enough for six digits of the loss on everything that was tried; separable rows without a penalty have no end."""

FLAT: Final = 1e-6
"""Norm of the gradient at which the loss counts as minimal."""

MAX_HALVINGS: Final = 40


def fit_alone(task: Task, rows: Rows, statistics: Arrays) -> dict[str, Floats]:
    """Weights that minimise the loss over these rows; statistics are theirs."""
    x = scaled(scaling(task, statistics), rows.X)
    d, k = x.shape[1], len(task.target.classes)
    target = np.eye(k)[rows.y]

    def loss(w: Floats) -> tuple[float, Floats]:
        coef, intercept = w[: d * k].reshape(d, k), w[d * k :]
        logits = x @ coef + intercept
        top = logits.max(axis=1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        value = float((log_sum - (logits * target).sum(axis=1)).mean() + task.alpha / 2.0 * np.square(coef).sum())
        error = (softmax(logits) - target) / len(x)
        return value, np.concatenate([(x.T @ error + task.alpha * coef).ravel(), error.sum(0)])

    w = np.zeros(d * k + k)
    value, gradient = loss(w)
    pairs: deque[tuple[Floats, Floats]] = deque(maxlen=MEMORY)
    for _ in range(MAX_ITERATIONS):
        if np.linalg.norm(gradient) <= FLAT:
            break
        direction = -_times_inverse(pairs, gradient)
        slope, step = float(direction @ gradient), 1.0
        for _ in range(MAX_HALVINGS):
            new, new_gradient = loss(w + step * direction)
            if new <= value + 1e-4 * step * slope:
                break
            step /= 2.0
        else:
            break
        moved, turned = step * direction, new_gradient - gradient
        if moved @ turned > 1e-12 * (moved @ moved):
            pairs.append((moved, turned))
        w, value, gradient = w + moved, new, new_gradient
    return {"coef": w[: d * k].reshape(d, k), "intercept": w[d * k :]}


def _times_inverse(pairs: deque[tuple[Floats, Floats]], gradient: Floats) -> Floats:
    """The gradient times the inverse Hessian that the pairs tell of (the two loops of L-BFGS)."""
    q, shares = gradient.copy(), []
    for moved, turned in reversed(pairs):
        share = (moved @ q) / (moved @ turned)
        q -= share * turned
        shares.append(share)
    if pairs:
        moved, turned = pairs[-1]
        q *= (moved @ turned) / (turned @ turned)
    for (moved, turned), share in zip(pairs, reversed(shares), strict=True):
        q += moved * (share - (turned @ q) / (moved @ turned))
    return q
