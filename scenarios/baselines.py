"""What the same rows give by other means, on the same split, at equal local work: alone, pooled, and with a server.

    alone      every peer's model of its own rows only; the mean of their scores
    pooled     the model of all training rows in one place: what nobody here may have, and the mark to reach
    fedavg     a server averages weights by rows (McMahan 2017), every peer in every round
    scaffold   the same with control variates at server and clients (Karimireddy 2020, option II)

A round with a server is one exchange: every peer makes as many steps with as many rows each as `peer/learning/cvgossip.py` does in a turn,
at the same falling rate, and sends its weights once, as f32. Where the task's model is made of sums, a peer's work is one pass over its
rows, and a server could add the sums up and be `pooled` in one round; then fedavg and scaffold are logistic regression (or a line through
the numbers, for ridge), which is what people run. They are given the pooled scaling of columns for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peer.learning.cvgossip import BATCH, DECAY_TURNS, RATE, STEPS, scaled, softmax
from peer.learning.dataset import Rows
from peer.learning.local import fit_alone
from peer.learning.models import fit
from peer.learning.moments import own_statistics
from peer.learning.pooled import scaling
from protocol.tasks import Target, Task

from .rows import joined
from .scenario import Cell, Split, split, stream

Floats = NDArray[np.float64]

MAX_ROUNDS: Final = 320
"""Rounds of a server at most: no curve that was measured gained more than its noise afterwards."""

PENALTY: Final = 1e-3
"""Of the model with a server where the task's own has none: that of a new logistic task."""

RATE_OF_LINE: Final = 0.03
"""The first rate for numbers: squares are steeper than log loss."""

Course = tuple[tuple[int, int, float], ...]
"""Rounds, bytes that a peer has sent, score."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """`scores` by name, as in result.json; `each` is every peer's score alone, None for one without rows; `courses` those with a server."""

    scores: Mapping[str, float]
    each: tuple[float | None, ...]
    courses: Mapping[str, Course] = field(default_factory=dict)


def baselines(cell: Cell, seed: int, exchanges: float) -> Baselines:
    """All four. `exchanges`: how many a peer had in the run that these are compared with, so that a server is given as many rounds."""
    dealt, rounds = split(cell, seed), min(max(round(exchanges), 1), MAX_ROUNDS)
    each = alone(dealt)
    found = [score for score in each if score is not None]
    courses = {name: with_server(dealt, rounds, stream(seed, name), is_controlled=name == "scaffold") for name in ("fedavg", "scaffold")}
    last = {name: course[-1][2] for name, course in courses.items()}
    return Baselines({"alone": round(sum(found) / len(found), 9), "pooled": pooled(dealt), **last}, each, courses)


def alone(dealt: Split) -> tuple[float | None, ...]:
    """Everybody's score with their own rows."""
    return tuple(None if rows is None else _score(dealt, rows) for rows in dealt.shares)


def pooled(dealt: Split) -> float:
    """The score with all training rows in one place."""
    return _score(dealt, joined([rows for rows in dealt.shares if rows is not None]))


def _score(dealt: Split, rows: Rows) -> float:
    task = dealt.dataset.task
    statistics = {**own_statistics(task, rows), "starter": np.array(1.0)}
    weights = fit_alone(task, rows, statistics) if "weights" in task.parts else None
    return round(fit(task, statistics, weights).score(dealt.dataset.test), 9)


def with_server(dealt: Split, rounds: int, chance: np.random.Generator, *, is_controlled: bool) -> Course:
    """The course of federated averaging, with control variates if `is_controlled`."""
    held = [rows for rows in dealt.shares if rows is not None]
    crowd = _Crowd(dealt.dataset.task, held, dealt.dataset.test)
    server = np.zeros(crowd.shape)
    controls, of_server = np.zeros((len(held), *crowd.shape)), np.zeros(crowd.shape)
    found = []
    for n in range(rounds):
        rate = crowd.rate / np.sqrt(1.0 + n / DECAY_TURNS)
        after = crowd.train(server, controls - of_server, rate, chance)
        moved = server - after
        if is_controlled:
            controls = controls - of_server + moved / (rate * STEPS)
            of_server = np.tensordot(crowd.share, controls, 1)
        server = np.tensordot(crowd.share, after, 1)
        # A control variate travels beside the weights.
        sent = (n + 1) * server.size * 4 * (1 + is_controlled)
        found.append((n + 1, sent, round(crowd.score(server), 9)))
    return tuple(found)


class _Crowd:
    """All peers' rows in one array, so that a step is made for all of them at once. Weights are (d + 1, K), the last row the intercept."""

    def __init__(self, task: Task, held: list[Rows], test: Rows) -> None:
        rows = joined(held)
        self._is_line = not task.is_classification
        if self._is_line:
            mean, deviation = rows.y.mean(), rows.y.std() or 1.0
            target = ((rows.y - mean) / deviation)[:, None]
            self._truth: NDArray[Any] = (test.y - mean) / deviation
        else:
            target = np.eye(len(task.target.classes))[rows.y]
            self._truth = test.y
        scale = scaling(*_scaling_of(task, rows))
        x = scaled(scale, rows.X)
        self._x = np.hstack([x, np.ones((len(x), 1))])
        self._test = np.hstack([scaled(scale, test.X), np.ones((len(test), 1))])
        self._target = target
        self._sizes = np.array([len(r) for r in held])
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        self.share = self._sizes / self._sizes.sum()
        self.shape = (self._x.shape[1], target.shape[1])
        self.rate = RATE_OF_LINE if self._is_line else RATE
        self._penalty = np.full(self.shape, task.alpha if task.model == "logistic" else PENALTY)
        self._penalty[-1] = 0.0

    def train(self, start: Floats, control: Floats, rate: float, chance: np.random.Generator) -> Floats:
        """A turn of every peer from the same weights: (peers, d + 1, K)."""
        w = np.broadcast_to(start, control.shape).copy()
        draws = chance.random((STEPS, len(self._sizes), BATCH))
        for draw in draws:
            batch = self._starts[:, None] + (draw * self._sizes[:, None]).astype(np.intp)
            x = self._x[batch]
            error = (self._predict(x @ w) - self._target[batch]) / BATCH
            w -= rate * (x.transpose(0, 2, 1) @ error + self._penalty * w - control)
        return w

    def score(self, w: Floats) -> float:
        """Accuracy or r2 on the test rows."""
        found = self._test @ w
        if not self._is_line:
            return float((found.argmax(axis=1) == self._truth).mean())
        around = np.square(self._truth - self._truth.mean()).sum()
        return float(1.0 - np.square(self._truth - found[:, 0]).sum() / around)

    def _predict(self, logits: Floats) -> Floats:
        if self._is_line:
            return logits
        peers, rows, classes = logits.shape
        return softmax(logits.reshape(-1, classes)).reshape(peers, rows, classes)


def _scaling_of(task: Task, rows: Rows) -> tuple[Task, dict[str, Floats]]:
    """The card of a logistic task over the same columns, and its statistics, whatever is learned."""
    if task.is_classification:
        as_logistic = replace(task, model="logistic")
        return as_logistic, own_statistics(as_logistic, rows)
    as_logistic = replace(task, model="logistic", target=Target(task.target.name, ("low", "high")))
    return as_logistic, own_statistics(as_logistic, Rows(rows.X, np.zeros(len(rows), dtype=np.int64)))
