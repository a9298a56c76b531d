"""Rows kept back to score with: a device's own honest measure of what the network's model is worth to it.

The same seed always keeps back the same rows, so a score moves because the model did. Rows that are held out enter no sum and no gradient.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.tasks import Task

from .dataset import Rows


def split(task: Task, rows: Rows, holdout: float, seed: int) -> tuple[Rows, Rows]:
    """(training rows, test rows): about `holdout` of the rows are kept back, of every class its share.

    One row of each class that has any is always trained on; of the others at least one is kept back, unless `holdout` is 0.
    """
    if not 0.0 <= holdout < 1.0:
        raise ValueError(f"holdout is a fraction from 0 to 1, not {holdout}")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))
    groups = [order]
    if task.is_classification:
        groups = [order[rows.y[order] == k] for k in range(len(task.target.classes))]
    kept_back = _shares([len(g) for g in groups], holdout)
    test = np.sort(np.concatenate([g[:n] for g, n in zip(groups, kept_back, strict=True)]))
    train = np.sort(np.concatenate([g[n:] for g, n in zip(groups, kept_back, strict=True)]))
    return rows.take(_places(train)), rows.take(_places(test))


def _shares(sizes: list[int], holdout: float) -> list[int]:
    """How many of each group to keep back: the whole number below its share, then one more where the remainder is largest."""
    if holdout == 0.0:
        return [0] * len(sizes)
    most = [max(n - 1, 0) for n in sizes]
    shares = [min(int(n * holdout), m) for n, m in zip(sizes, most, strict=True)]
    wanted = max(round(sum(sizes) * holdout), 1)
    by_remainder = sorted(range(len(sizes)), key=lambda k: (shares[k] - sizes[k] * holdout, -sizes[k], k))
    for k in by_remainder:
        if sum(shares) < wanted and shares[k] < most[k]:
            shares[k] += 1
    return shares


def _places(indices: NDArray[np.intp]) -> NDArray[np.intp]:
    return indices.astype(np.intp)
