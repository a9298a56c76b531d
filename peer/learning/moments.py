"""The additive moments of a device's rows, from which its neighbours and it fit the model of all rows together.

Missing values need no phase of their own. A row enters as z = [u, p]: u its values in shared units, 0 where one is missing, and p, for
each column that may have gaps, 1 where a value is there. Sums of z and of its products determine the moments of the pooled rows with every
gap filled by the pooled mean, exactly, by algebra (`pooled.py`): nobody needs that mean before the averaging is over.

Shared units: (value - middle of the card's range) / half the range, or the value itself where the card gives no range. Sums of squares lose
digits to a mean far from zero; a range prevents it.

    model         arrays besides rows () and starter (), for d columns of which g may have gaps, e = d + g, K classes
    lda           counts (K,)  sums (K, e)  second (e(e+1)/2,)       second: upper triangle of the sum of z z', row by row
    gaussian-nb   counts (K,)  sums (K, e)  squares (K, d)
    ridge         sums (e+1,)  second ((e+1)(e+2)/2,)                of [z, y]
    logistic      counts (K,)  sums (e,)    squares (d,)             its scaling; its weights are coef (d, K), intercept (K,)

Knows numpy and the task's card; no network, no file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol.tasks import Task
from protocol.tensors import Arrays, Manifest, TensorSpec

from .dataset import MAX_VALUE, Rows

Floats = NDArray[np.float64]

BLOCK_ROWS: Final = 4096
"""Rows whose products are formed at a time: 64 MiB at 1,024 columns with gaps. Summing blocks also loses fewer digits than one long sum."""

MAX_ROWS: Final = 2.0**40
"""Rows that a state may speak of, those of a network included: the bound of a weight on the wire."""

MAX_STARTER: Final = 16.0
"""Size of the mean of one 1 and many 0. A peer with halves in doubt can be off by a few; more is no mean."""

MAX_WEIGHT: Final = 1e4
"""Norm of logistic weights. Rows are scaled to a length near 1, so 10 separates classes; separable rows without a penalty reach 100."""

AGREEMENT: Final = 1e-6
"""Relative difference allowed between two sums of the same thing. Rounding leaves 1e-15 for each exchange."""


class StateRefused(Exception):
    """A neighbour's state that cannot be what it claims to be: a sum of rows' moments, or weights."""


def gappy(task: Task) -> NDArray[np.intp]:
    """The columns that may have gaps, in the order of the presence indicators."""
    return np.flatnonzero([c.is_gappy for c in task.columns])


def units(task: Task) -> tuple[Floats, Floats]:
    """Middle and half-width (d,) of every column's shared unit."""
    ranges = [(0.0, 1.0) if c.low is None or c.high is None else (c.low / 2 + c.high / 2, c.high / 2 - c.low / 2) for c in task.columns]
    middle, half = zip(*ranges, strict=True)
    return np.array(middle), np.array(half)


def layout(task: Task, part: str) -> Manifest:
    """Names and shapes of a part of this task's state, in the order in which they travel."""
    return Manifest(tuple(TensorSpec(name, shape) for name, shape in _shapes(task, part).items()))


def _shapes(task: Task, part: str) -> dict[str, tuple[int, ...]]:
    d, k = len(task.columns), len(task.target.classes)
    e = d + len(gappy(task))
    if part == "weights":
        return {"coef": (d, k), "intercept": (k,)}
    of_model: dict[str, dict[str, tuple[int, ...]]] = {
        "lda": {"counts": (k,), "sums": (k, e), "second": (e * (e + 1) // 2,)},
        "gaussian-nb": {"counts": (k,), "sums": (k, e), "squares": (k, d)},
        "ridge": {"sums": (e + 1,), "second": ((e + 1) * (e + 2) // 2,)},
        "logistic": {"counts": (k,), "sums": (e,), "squares": (d,)},
    }
    return {"rows": (), "starter": (), **of_model[task.model]}


def own_statistics(task: Task, rows: Rows) -> dict[str, Floats]:
    """The moments of these rows, laid out as `layout(task, "statistics")`. `starter` is 0."""
    found = {name: np.zeros(shape) for name, shape in _shapes(task, "statistics").items()}
    found["rows"] = np.array(float(len(rows)))
    for start in range(0, len(rows), BLOCK_ROWS):
        z = extended(task, rows.X[start : start + BLOCK_ROWS])
        _ADD[task.model](found, z, rows.y[start : start + BLOCK_ROWS], len(task.columns))
    return found


def extended(task: Task, X: Floats) -> Floats:
    """z = [u, p] of every row, (n, e)."""
    middle, half = units(task)
    u = (X - middle) / half
    p = ~np.isnan(X[:, gappy(task)])
    return np.concatenate([np.where(np.isnan(u), 0.0, u), p], axis=1)


def packed(square: Floats) -> Floats:
    """The upper triangle of a symmetric matrix, row by row."""
    return square[_triangle(len(square))]


def unpacked(triangle: Floats) -> Floats:
    """The symmetric matrix of an upper triangle."""
    size = int((np.sqrt(8.0 * len(triangle) + 1.0) - 1.0) / 2.0 + 0.5)
    square = np.zeros((size, size))
    square[_triangle(size)] = triangle
    return square + np.triu(square, 1).T


@lru_cache(maxsize=4)
def _triangle(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(size)


def _by_class(y: NDArray[Any], classes: int) -> Floats:
    return np.asarray(np.eye(classes)[y])


def _add_lda(found: dict[str, Floats], z: Floats, y: NDArray[Any], d: int) -> None:
    member = _by_class(y, len(found["counts"]))
    found["counts"] += member.sum(0)
    found["sums"] += member.T @ z
    found["second"] += packed(z.T @ z)


def _add_bayes(found: dict[str, Floats], z: Floats, y: NDArray[Any], d: int) -> None:
    member = _by_class(y, len(found["counts"]))
    found["counts"] += member.sum(0)
    found["sums"] += member.T @ z
    found["squares"] += member.T @ z[:, :d] ** 2


def _add_ridge(found: dict[str, Floats], z: Floats, y: NDArray[Any], d: int) -> None:
    both = np.column_stack([z, y])
    found["sums"] += both.sum(0)
    found["second"] += packed(both.T @ both)


def _add_logistic(found: dict[str, Floats], z: Floats, y: NDArray[Any], d: int) -> None:
    found["counts"] += np.bincount(y, minlength=len(found["counts"]))
    found["sums"] += z.sum(0)
    found["squares"] += (z[:, :d] ** 2).sum(0)


_ADD: Final[dict[str, Callable[[dict[str, Floats], Floats, NDArray[Any], int], None]]] = {
    "lda": _add_lda,
    "gaussian-nb": _add_bayes,
    "ridge": _add_ridge,
    "logistic": _add_logistic,
}


# what a state says of the network ------------------------------------------------------------------------------------


def participants(statistics: Arrays) -> float | None:
    """How many peers this average is over; None as long as the starter's mark has not come by."""
    starter = float(statistics["starter"])
    return max(1.0 / starter, 1.0) if starter > 1e-12 else None


def pooled_rows(statistics: Arrays) -> float | None:
    """Training rows of all those peers together; None as long as their number is unknown."""
    peers = participants(statistics)
    return None if peers is None else max(float(statistics["rows"]), 0.0) * peers


def validate(task: Task, part: str, arrays: Arrays) -> None:
    """Raise StateRefused for what no sum of moments can be, whatever the rows.

    Checked are shapes, finiteness, sizes, and that sums of the same thing agree. Signs are not: a peer that was in doubt about a half, or
    whose owner removed rows, holds its average less what it gave, which may be negative for a while; refusing it would keep it so.
    """
    if {name: np.shape(a) for name, a in arrays.items()} != _shapes(task, part):
        raise StateRefused(f"not the arrays that {part} of {task.model} consist of")
    if not all(np.isfinite(a).all() for a in arrays.values()):
        raise StateRefused("holds values that are no finite numbers")
    if part == "weights":
        norm = float(np.sqrt(sum(float(np.square(a).sum()) for a in arrays.values())))
        if not norm <= MAX_WEIGHT:
            raise StateRefused(f"weights of norm {norm:.3g}; {MAX_WEIGHT:g} is the most")
        return
    _check_sizes(task, arrays)
    if "counts" in arrays:
        _check_agreement(arrays["counts"].sum(), arrays["rows"], "the rows of all classes are not the rows")
    gaps = gappy(task)
    if "second" in arrays and len(gaps):
        d, second = len(task.columns), unpacked(arrays["second"])
        sums = arrays["sums"].sum(0) if arrays["sums"].ndim == 2 else arrays["sums"]
        presence = d + np.arange(len(gaps))
        _check_agreement(second[presence, presence], sums[presence], "presence does not agree with itself")
        _check_agreement(second[gaps, presence], sums[gaps], "sums do not agree with presence")


def _check_sizes(task: Task, arrays: Arrays) -> None:
    if abs(float(arrays["starter"])) > MAX_STARTER:
        raise StateRefused("the starter's mark is no mean of one 1")
    value = max([1.0 if c.low is not None and c.high is not None else MAX_VALUE for c in task.columns])
    value = max(value, MAX_VALUE if task.model == "ridge" else 1.0)
    most = {"rows": 1.0, "counts": 1.0, "sums": value, "squares": value**2, "second": value**2}
    for name, bound in most.items():
        if name in arrays and float(np.abs(arrays[name]).max()) > MAX_ROWS * bound:
            raise StateRefused(f"{name} beyond {MAX_ROWS * bound:.3g}")


def _check_agreement(a: Any, b: Any, says: str) -> None:
    size = float(np.abs(a).max()) + float(np.abs(b).max())
    if float(np.abs(a - b).max()) > AGREEMENT * size:
        raise StateRefused(says)
