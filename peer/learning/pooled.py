"""What the averaged moments say of all rows together, every gap filled with the pooled mean of its column.

In shared units a filled row is x = u + (1 - p) m, with m the mean of the values that are there: linear in z = [u, p] but for a constant. So
x - mean(x) = L (z - mean(z)), L = [I, -m at the indicators], and every central moment of x is one of z between two L. Exact, whatever
the gaps; only signs that a mean in transit may have wrong (see `moments.validate`) are set right before use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from protocol.tasks import Task
from protocol.tensors import Arrays

from .moments import Floats, gappy, units

CONSTANT: Final = 1e-12
"""Variance, as a share of the mean square, below which a column counts as constant: rounding alone makes 1e-15 of a constant one."""

LENGTH: Final = 4.0
"""Root mean square length of a row as the logistic learner sees it. Its rate of 0.3 wants this: with 1 digits are 2.5 points behind after
160 exchanges, with 6 the worst of skewed peers wavers; with 3 and 4 all were within a point of pooled wherever it was tried."""


class NothingLearned(Exception):
    """There is no row in this average, so there is no model of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Mean and standard deviation (d,) of every column in its own units, gaps filled; the deviation of a constant column is 0."""

    mean: Floats
    deviation: Floats

    @property
    def factor(self) -> Floats:
        """What a column's distance from its mean is multiplied with, (d,): rows get the mean square length LENGTH². 0 if constant."""
        is_used = self.deviation > 0.0
        even = LENGTH / np.sqrt(max(int(is_used.sum()), 1))
        return np.asarray(np.divide(even, self.deviation, out=np.zeros(len(self.mean)), where=is_used))


def rows_of(statistics: Arrays) -> float:
    """Rows per peer, the mean. Raises NothingLearned."""
    rows = float(statistics["rows"])
    if not rows > 0.0:
        raise NothingLearned("No row has come into the average yet.")
    return rows


def counts_of(statistics: Arrays) -> Floats:
    """Rows per peer of each class."""
    counts = np.maximum(statistics["counts"], 0.0)
    if not counts.sum() > 0.0:
        raise NothingLearned("No row has come into the average yet.")
    return np.asarray(counts)


def means(task: Task, sums: Floats, rows: float) -> Floats:
    """Mean (d,) of the values that are there, in shared units; 0 for a column of which nobody has any. sums: (e,) of z."""
    d = len(task.columns)
    present = np.full(d, rows)
    present[gappy(task)] = sums[d : d + len(gappy(task))]
    return np.asarray(np.divide(sums[:d], present, out=np.zeros(d), where=present > CONSTANT * rows))


def filling(task: Task, mean: Floats) -> Floats:
    """L (d, e)."""
    gaps = gappy(task)
    L = np.zeros((len(task.columns), len(task.columns) + len(gaps)))
    np.fill_diagonal(L, 1.0)
    L[gaps, len(task.columns) + np.arange(len(gaps))] = -mean[gaps]
    return L


def without_noise(variance: Floats, square: Floats) -> Floats:
    """Variances, with those that are rounding errors of a mean square set to 0."""
    return np.where(variance > CONSTANT * square, variance, 0.0)


def scaling(task: Task, statistics: Arrays) -> Scaling:
    """What a logistic task's statistics agree on."""
    rows, d = rows_of(statistics), len(task.columns)
    middle, half = units(task)
    mean = means(task, statistics["sums"], rows)
    present = np.full(d, rows)
    present[gappy(task)] = statistics["sums"][d:]
    square = statistics["squares"] / rows
    variance = without_noise(square - present / rows * mean**2, square)
    return Scaling(middle + half * mean, half * np.sqrt(variance))
