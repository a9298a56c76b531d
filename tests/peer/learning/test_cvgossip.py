"""Logistic regression by gossip: it reaches the pooled model, stays there, and survives a change of scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from peer.learning import cvgossip
from peer.learning.dataset import Rows
from peer.learning.local import fit_alone
from peer.learning.models import Classifier, fit
from peer.learning.moments import layout, own_statistics
from peer.learning.pooled import scaling
from protocol.tasks import Column, Task
from protocol.tensors import decode, encode


class Peers:
    """Some peers that gossip in one process: both-or-none exchanges in random pairs, weights in int8."""

    def __init__(self, task: Task, parts: list[Rows], statistics: Mapping[str, Any], seed: int) -> None:
        self.task, self.parts, self.statistics = task, parts, statistics
        self.random = np.random.default_rng(seed)
        self.manifest = layout(task, "weights")
        self.weights, self.control, self.average = ([cvgossip.initial(task) for _ in parts] for _ in range(3))

    def turn(self, number: int, loss: float = 0.0) -> None:
        seeds = self.random.integers(0, 2**62, (2, len(self.parts))).tolist()
        for i, rows in enumerate(self.parts):
            given = self.statistics, self.weights[i], self.control[i]
            self.weights[i] = cvgossip.train(self.task, rows, *given, seeds[0][i], number)
        sent = [decode(self.manifest, encode(self.manifest, w, "int8", s), "int8") for w, s in zip(self.weights, seeds[1], strict=True)]
        order = self.random.permutation(len(self.parts))
        for a, b in zip(order[::2], order[1::2], strict=False):
            if self.random.random() >= loss:
                self._move(a, b, sent)
                self._move(b, a, sent)

    def _move(self, i: int, j: int, sent: list[dict[str, Any]]) -> None:
        share = len(self.parts[j]) / (len(self.parts[i]) + len(self.parts[j]))
        delta = {n: share * (sent[j][n] - sent[i][n]) for n in sent[i]}
        self.weights[i], self.control[i] = cvgossip.committed(self.weights[i], self.control[i], delta)
        self.average[i] = cvgossip.averaged(self.average[i], self.weights[i])

    def scores(self, test: Rows) -> list[float]:
        return [fit(self.task, self.statistics, w).score(test) for w in self.average]


def logistic(make_task: Any, X: Any, y: Any, alpha: float = 1e-3, gappy: tuple[int, ...] = ()) -> Task:
    columns = [Column(f"x{j}", j in gappy) for j in range(X.shape[1])]
    return make_task(columns=columns, classes=[str(k) for k in range(int(y.max()) + 1)], model="logistic", alpha=alpha)


def skewed(y: Any, peers: int, seed: int) -> list[Any]:
    """Rows by Dirichlet(0.1) over peers for each class: most peers know few classes, and some have two rows."""
    random, parts = np.random.default_rng(seed), [[] for _ in range(peers)]
    for k in np.unique(y):
        rows, shares = random.permutation(np.flatnonzero(y == k)), random.dirichlet(np.full(peers, 0.1))
        for part, some in zip(parts, np.split(rows, (np.cumsum(shares)[:-1] * len(rows)).astype(int)), strict=True):
            part.extend(some)
    while len(smallest := min(parts, key=len)) < 2:
        smallest.append(max(parts, key=len).pop())
    return [np.array(p) for p in parts]


@pytest.mark.parametrize(("name", "peers", "loss"), [("digits", 3, 0.0), ("breast_cancer", 6, 0.0), ("wine", 4, 0.2)])
def test_skewed_peers_come_within_a_point_of_pooled_and_stay(make_task, name, peers, loss):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    X, test_X, y, test_y = train_test_split(X, y, test_size=0.25, random_state=1001, stratify=y)
    task, test = logistic(make_task, X, y), Rows(test_X, test_y)
    statistics = own_statistics(task, Rows(X, y))
    pooled = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(X, y).score(test_X, test_y)
    group = Peers(task, [Rows(X[p], y[p]) for p in skewed(y, peers, 2001)], statistics, 1)
    for number in range(320):
        group.turn(number, loss)
        if number + 1 in (160, 240, 320):
            assert np.mean(group.scores(test)) >= pooled - 0.0101, number
            assert min(group.scores(test)) >= pooled - 0.025, number
    rows = np.array([len(p) for p in group.parts])
    residue = sum(n * h["coef"] for n, h in zip(rows, group.control, strict=True)) / rows.sum()
    assert np.abs(residue).max() < 1e-9


def test_without_the_control_variate_skewed_peers_stay_behind(make_task):
    X, y = datasets.load_digits(return_X_y=True)
    X, test_X, y, test_y = train_test_split(X, y, test_size=0.25, random_state=1001, stratify=y)
    task, test = logistic(make_task, X, y), Rows(test_X, test_y)
    statistics = own_statistics(task, Rows(X, y))
    scores = []
    for has_control in (True, False):
        group = Peers(task, [Rows(X[p], y[p]) for p in skewed(y, 12, 2001)], statistics, 1)
        for number in range(80):
            group.turn(number)
            if not has_control:
                group.control = [cvgossip.initial(task) for _ in group.parts]
        scores.append(np.mean(group.scores(test)))
    assert scores[0] > 0.95
    assert scores[1] < scores[0] - 0.01


def test_the_same_seed_gives_the_same_turn(make_task):
    X, y = datasets.load_iris(return_X_y=True)
    task = logistic(make_task, X, y)
    given = own_statistics(task, Rows(X, y)), cvgossip.initial(task), cvgossip.initial(task)
    one, again, other = (cvgossip.train(task, Rows(X, y), *given, seed, 0) for seed in (5, 5, 6))
    assert np.array_equal(one["coef"], again["coef"])
    assert not np.array_equal(one["coef"], other["coef"])
    assert not given[1]["coef"].any()


def test_the_gain_on_the_control_variate_does_not_depend_on_the_turn(make_task):
    task = make_task(model="logistic")
    zero, delta = cvgossip.initial(task), {n: np.ones_like(a) for n, a in cvgossip.initial(task).items()}
    weights, control = cvgossip.committed(zero, zero, delta)
    assert (weights["coef"] == 1.0).all()
    np.testing.assert_allclose(control["coef"], cvgossip.GAIN / (cvgossip.RATE * cvgossip.STEPS))


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "gaps"])
def test_alone_is_the_minimum_that_scikit_learn_finds(make_task, name):
    X, y = datasets.load_breast_cancer(return_X_y=True) if name == "breast_cancer" else datasets.load_iris(return_X_y=True)
    if name == "gaps":
        X[np.random.default_rng(1).random(X.shape) < [0.2, 0, 0.4, 0]] = np.nan
    task = logistic(make_task, X, y, gappy=(0, 2) if name == "gaps" else ())
    rows = Rows(X, y)
    statistics = own_statistics(task, rows)
    model = fit(task, statistics, fit_alone(task, rows, statistics))
    x = cvgossip.scaled(scaling(task, statistics), X)
    columns = 1 if len(task.target.classes) > 2 else 2
    reference = LogisticRegression(C=columns / (task.alpha * len(y)), max_iter=10_000, tol=1e-8).fit(x, y)
    assert isinstance(model, Classifier)
    np.testing.assert_allclose(model.predict_proba(X), reference.predict_proba(x), atol=1e-4)


def test_the_agreed_scale_is_that_of_the_pooled_rows_with_gaps_filled(make_task):
    X, y = datasets.load_iris(return_X_y=True)
    X[np.random.default_rng(1).random(X.shape) < [0.2, 0, 0.4, 0]] = np.nan
    X = np.column_stack([X, np.full(150, 0.3)])
    task = logistic(make_task, X, y, gappy=(0, 2))
    parts = [own_statistics(task, Rows(X[i], y[i])) for i in np.array_split(np.arange(150), 7)]
    found = scaling(task, {n: sum(p[n] for p in parts) / 7 for n in parts[0]})
    filled = np.where(np.isnan(X), np.nanmean(X, axis=0), X)
    np.testing.assert_allclose(found.mean, filled.mean(0))
    np.testing.assert_allclose(found.deviation[:4], filled.std(0)[:4])
    assert found.deviation[4] == found.factor[4] == 0.0
    x = cvgossip.scaled(found, X)
    assert np.square(x).sum(1).mean() == pytest.approx(16.0)


def test_under_a_new_scale_the_predictions_and_the_zero_sum_of_corrections_stay(make_task):
    X, y = datasets.load_wine(return_X_y=True)
    task, random = logistic(make_task, X, y), np.random.default_rng(2)
    old, new = own_statistics(task, Rows(X[:100], y[:100])), own_statistics(task, Rows(X[40:], y[40:]))
    new["counts"] = old["counts"]
    weights = {n: random.normal(size=a.shape) for n, a in cvgossip.initial(task).items()}
    restated = cvgossip.restate(task, weights, old, new)
    before, after = fit(task, old, weights), fit(task, new, restated)
    assert isinstance(before, Classifier)
    assert isinstance(after, Classifier)
    np.testing.assert_allclose(before.decision(X), after.decision(X), rtol=1e-9)
    corrections = [{n: random.normal(size=a.shape) for n, a in weights.items()} for _ in range(3)]
    corrections.append({n: -sum(c[n] for c in corrections) for n in weights})
    changed = [cvgossip.restate_control(task, c, old, new) for c in corrections]
    for name in weights:
        np.testing.assert_allclose(sum(c[name] for c in changed), 0.0, atol=1e-9)


def test_a_correction_under_a_new_scale_is_the_gradient_under_the_new_scale(make_task):
    X, y = datasets.load_iris(return_X_y=True)
    task = logistic(make_task, X, y, alpha=0.0)
    old, new = own_statistics(task, Rows(X[:90], y[:90])), own_statistics(task, Rows(X[30:], y[30:]))
    weights = {"coef": np.random.default_rng(1).normal(size=(4, 3)), "intercept": np.zeros(3)}

    def gradient(statistics: Mapping[str, Any], w: Mapping[str, Any]) -> dict[str, Any]:
        x = cvgossip.scaled(scaling(task, statistics), X)
        error = cvgossip.softmax(x @ w["coef"] + w["intercept"]) - np.eye(3)[y]
        return {"coef": x.T @ error, "intercept": error.sum(0)}

    changed = cvgossip.restate_control(task, gradient(old, weights), old, new)
    expected = gradient(new, cvgossip.restate(task, weights, old, new))
    for name in expected:
        np.testing.assert_allclose(changed[name], expected[name], rtol=1e-9, atol=1e-9)
