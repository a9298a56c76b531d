"""From averaged moments to a model that predicts. The same averages give the same model on every device, to the last bit but rounding.

`fit` for lda and gaussian-nb gives the models that scikit-learn's LinearDiscriminantAnalysis() and GaussianNB() fit on all rows pooled,
gaps filled with the pooled means; for ridge that of Ridge(alpha = alpha * rows): mean squared error + alpha |w|², the intercept free,
columns in their own units. A class of which there are no rows is never predicted. numpy only: the command line imports this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol.tasks import Task
from protocol.tensors import Arrays

from .dataset import Rows
from .moments import Floats, gappy, participants, pooled_rows, units, unpacked
from .pooled import counts_of, filling, means, rows_of, scaling, without_noise

RANK: Final = 1e-4
"""Singular values of the scaled rows below this are no directions: scikit-learn's `tol` of LinearDiscriminantAnalysis."""

SMOOTHING: Final = 1e-9
"""Share of the largest variance added to all: scikit-learn's `var_smoothing` of GaussianNB."""

SINGULAR: Final = 1e-12
"""Eigenvalues of a correlation matrix below this are no directions: collinear columns leave 1e-15, columns that differ in earnest more."""


@dataclass(frozen=True, slots=True, eq=False)
class Model(ABC):
    """A fitted model. `fill` (d,) stands in for missing values; `about` is what is known of how it came about."""

    task: Task
    fill: Floats
    about: dict[str, Any]

    @abstractmethod
    def predict(self, X: Floats) -> NDArray[Any]:
        """For rows (n, d), NaN where a value is missing: index into the card's classes (n,) int64, or the predicted number (n,) float64."""

    @abstractmethod
    def arrays(self) -> dict[str, Floats]:
        """Everything the model consists of, for export. `describe` says how they predict."""

    def score(self, rows: Rows) -> float:
        """Accuracy, or r2 for numbers (1 is perfect; 0 is what always saying the mean of these rows gives)."""
        if self.task.is_classification:
            return float((self.predict(rows.X) == rows.y).mean())
        left = float(np.square(rows.y - self.predict(rows.X)).sum())
        around = float(np.square(rows.y - rows.y.mean()).sum())
        return 1.0 - left / around if around > 0.0 else float(left == 0.0)

    def describe(self) -> dict[str, Any]:
        """The model's card as plain JSON values."""
        columns = zip(self.task.columns, self.fill.tolist(), strict=True)
        return {
            "task": self.task.name,
            "model": self.task.model,
            "alpha": self.task.alpha,
            "columns": [{"name": c.name, "unit": c.unit, "fill": fill} for c, fill in columns],
            "target": self.task.target.name,
            "classes": list(self.task.target.classes),
            **self.about,
        }

    def filled(self, X: Floats) -> Floats:
        return np.where(np.isnan(X), self.fill, X)


@dataclass(frozen=True, slots=True, eq=False)
class Classifier(Model):
    """`is_known` (K,) says of which classes there are rows."""

    is_known: NDArray[np.bool_]

    @abstractmethod
    def decision(self, X: Floats) -> Floats:
        """Log of each class's probability but for a constant of the row, (n, K); -inf for classes without rows."""

    def predict(self, X: Floats) -> NDArray[Any]:
        return np.asarray(self.decision(X).argmax(axis=1), dtype=np.int64)

    def predict_proba(self, X: Floats) -> Floats:
        """Probability of each class, (n, K)."""
        log = self.decision(X)
        p = np.exp(log - log.max(axis=1, keepdims=True))
        return np.asarray(p / p.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True, eq=False)
class Linear(Classifier):
    """coef (K, d), intercept (K,), for columns in their own units."""

    coef: Floats
    intercept: Floats

    def decision(self, X: Floats) -> Floats:
        return np.where(self.is_known, self.filled(X) @ self.coef.T + self.intercept, -np.inf)

    def arrays(self) -> dict[str, Floats]:
        return {"fill": self.fill, "coef": self.coef, "intercept": self.intercept, "is_known": self.is_known.astype(np.float64)}


@dataclass(frozen=True, slots=True, eq=False)
class Bayes(Classifier):
    """mean (K, d), variance (K, d), log_prior (K,), for columns in their own units."""

    mean: Floats
    variance: Floats
    log_prior: Floats

    def decision(self, X: Floats) -> Floats:
        X = self.filled(X)
        log = np.full((len(X), len(self.mean)), -np.inf)
        for k in np.flatnonzero(self.is_known):
            apart = (X - self.mean[k]) ** 2 / self.variance[k]
            log[:, k] = self.log_prior[k] - 0.5 * (np.log(2.0 * np.pi * self.variance[k]).sum() + apart.sum(axis=1))
        return log

    def arrays(self) -> dict[str, Floats]:
        prior = {"log_prior": np.where(self.is_known, self.log_prior, 0.0), "is_known": self.is_known.astype(np.float64)}
        return {"fill": self.fill, "mean": self.mean, "variance": self.variance, **prior}


@dataclass(frozen=True, slots=True, eq=False)
class Regression(Model):
    """coef (d,), intercept (), for columns in their own units."""

    coef: Floats
    intercept: Floats

    def predict(self, X: Floats) -> NDArray[Any]:
        return np.asarray(self.filled(X) @ self.coef + self.intercept)

    def arrays(self) -> dict[str, Floats]:
        return {"fill": self.fill, "coef": self.coef, "intercept": self.intercept}


def fit(task: Task, statistics: Arrays, weights: Arrays | None = None) -> Model:
    """The model of an average; logistic needs its weights too. Raises NothingLearned if there is no row in it."""
    about = {"peers": participants(statistics), "rows": pooled_rows(statistics)}
    match task.model:
        case "lda":
            return _lda(task, statistics, about)
        case "gaussian-nb":
            return _bayes(task, statistics, about)
        case "ridge":
            return _ridge(task, statistics, about)
        case _:
            if weights is None:
                raise ValueError("a logistic model is fitted from its weights")
            return _logistic(task, statistics, weights, about)


def _lda(task: Task, statistics: Arrays, about: dict[str, Any]) -> Linear:
    """The steps of LinearDiscriminantAnalysis(solver="svd"), with the eigenvectors of X'X in place of the singular vectors of X.

    The variance within classes is divided by n, as scikit-learn does since 1.9 (by n - K before); so only means are needed, not the number
    of peers.
    """
    counts = counts_of(statistics)
    is_known = counts > 0.0
    counts, sums = counts[is_known], statistics["sums"][is_known]
    rows = float(counts.sum())
    mean = means(task, sums.sum(0), rows)
    L = filling(task, mean)
    second = unpacked(statistics["second"])
    within = L @ (second - (sums.T / counts) @ sums) @ L.T / rows
    square = second.diagonal()[: len(mean)] / rows + mean**2
    variance = without_noise(within.diagonal(), square)
    deviation = np.where(variance > 0.0, np.sqrt(variance), 1.0)
    correlation = np.where(np.outer(variance > 0.0, variance > 0.0), within / np.outer(deviation, deviation), 0.0)
    length, direction = np.linalg.eigh(correlation)
    kept = length > RANK**2
    whiten = direction[:, kept] / deviation[:, None] / np.sqrt(length[kept])
    # from here on exactly as scikit-learn: class means, whitened, then only the directions in which they differ
    prior = counts / rows
    centres = sums / counts[:, None] @ L.T
    apart = centres - prior @ centres
    _, spread, axes = np.linalg.svd(np.sqrt(prior)[:, None] * (apart @ whiten), full_matrices=False)
    discriminants = whiten @ axes[spread > RANK * spread.max(initial=0.0)].T
    projected = apart @ discriminants
    coef = projected @ discriminants.T
    # apart is what a filled row differs by from the pooled mean, so the intercept belongs to x - mean
    intercept = np.log(prior) - 0.5 * np.square(projected).sum(axis=1)
    return _linear(task, is_known, mean, coef, intercept, about)


def _linear(task: Task, is_known: NDArray[np.bool_], mean: Floats, coef: Floats, intercept: Floats, about: dict[str, Any]) -> Linear:
    """In own units: from coefficients of the known classes for u - mean."""
    middle, half = units(task)
    fill = middle + half * mean
    all_coef, all_intercept = np.zeros((len(is_known), len(mean))), np.zeros(len(is_known))
    all_coef[is_known] = coef / half
    all_intercept[is_known] = intercept - all_coef[is_known] @ fill
    return Linear(
        task, fill, _classes(task, is_known, about, "argmax over classes of coef @ x + intercept"), is_known, all_coef, all_intercept
    )


def _classes(task: Task, is_known: NDArray[np.bool_], about: dict[str, Any], formula: str) -> dict[str, Any]:
    unknown = [c for c, known in zip(task.target.classes, is_known, strict=True) if not known]
    return {**about, "classes_without_rows": unknown, "predicts": f"gaps filled with fill, {formula}"}


def _bayes(task: Task, statistics: Arrays, about: dict[str, Any]) -> Bayes:
    counts = counts_of(statistics)
    is_known, rows, d = counts > 0.0, float(counts.sum()), len(task.columns)
    sums, squares = statistics["sums"], statistics["squares"]
    middle, half = units(task)
    mean = means(task, sums.sum(0), rows)
    gaps = np.zeros_like(squares)
    gaps[:, gappy(task)] = counts[:, None] - sums[:, d:]
    n = np.where(is_known, counts, 1.0)[:, None]
    class_mean = (sums[:, :d] + gaps * mean) / n
    square = (squares + gaps * mean**2) / n
    variance = half**2 * without_noise(square - class_mean**2, square)
    total_square = (squares.sum(0) + gaps.sum(0) * mean**2) / rows
    total = half**2 * without_noise(total_square - mean**2, total_square)
    variance = variance + (SMOOTHING * float(total.max()) or SMOOTHING)
    log_prior = np.log(np.where(is_known, counts / rows, 1.0))
    about = _classes(task, is_known, about, "argmax over classes of log_prior - sum(log(2 pi variance) + (x - mean)^2 / variance) / 2")
    return Bayes(task, middle + half * mean, about, is_known, middle + half * class_mean, variance, log_prior)


def _ridge(task: Task, statistics: Arrays, about: dict[str, Any]) -> Regression:
    rows, e = rows_of(statistics), len(statistics["sums"]) - 1
    middle, half = units(task)
    sums, second = statistics["sums"] / rows, unpacked(statistics["second"]) / rows
    mean = means(task, sums[:e], 1.0)
    L = half[:, None] * filling(task, mean)
    around = second - np.outer(sums, sums)
    covariance, with_target = L @ around[:e, :e] @ L.T, L @ around[:e, e]
    square = half**2 * (second.diagonal()[: len(mean)] + mean**2)
    is_used = without_noise(covariance.diagonal(), square) > 0.0
    coef = np.zeros(len(mean))
    coef[is_used] = _solve(covariance[np.ix_(is_used, is_used)] + task.alpha * np.eye(int(is_used.sum())), with_target[is_used])
    fill = middle + half * mean
    about = {**about, "predicts": "gaps filled with fill, coef @ x + intercept"}
    return Regression(task, fill, about, coef, np.asarray(sums[e] - fill @ coef))


def _solve(A: Floats, b: Floats) -> Floats:
    """w with A w = b, A symmetric and positive semi-definite; the shortest one, in units of A's diagonal, if there are many."""
    if not len(b):
        return b
    size = np.sqrt(A.diagonal())
    A, b = A / np.outer(size, size), b / size
    try:
        root = np.linalg.cholesky(A)
        if root.diagonal().min() ** 2 > SINGULAR * 1e3:
            return np.asarray(np.linalg.solve(root.T, np.linalg.solve(root, b)) / size)
    except np.linalg.LinAlgError:
        pass
    length, direction = np.linalg.eigh(A)
    kept = length > SINGULAR * length.max()
    return np.asarray(direction[:, kept] @ ((direction[:, kept].T @ b) / length[kept]) / size)


def _logistic(task: Task, statistics: Arrays, weights: Arrays, about: dict[str, Any]) -> Linear:
    scale = scaling(task, statistics)
    middle, half = units(task)
    coef = weights["coef"].T * (scale.factor * half)
    is_known = counts_of(statistics) > 0.0
    return _linear(task, is_known, (scale.mean - middle) / half, coef[is_known], weights["intercept"][is_known], about)
