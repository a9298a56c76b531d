"""All peers of a network as arrays: what a hundred thousand devices agree on, where a brain each (`simulator.py`) would take hours.

Only the algebra of an exchange is here, d = (x_b - x_a) / 2 added at one end and taken off at the other, in the order of `meetings.py`.
There are no bytes, no time between asking and answering, no half in doubt: what depends on these belongs in the simulator. Given the
exchanges that the simulator's peers committed, this gives their moments to the last bit; given its own draw, the same curve
(tests/scenarios/test_crowd.py).

An average treats every number of a state alike, so a state is cut into slices of columns and each slice goes through all the rounds alone.
A slice of 100,000 peers fits a processor's cache; whole states of 20 KB would not fit many a machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from peer.learning.dataset import Rows
from peer.learning.moments import Floats, layout, own_statistics
from protocol.tasks import Task
from protocol.tensors import Arrays

from .meetings import Peers, Round

SLICE_COLUMNS: Final = 16
"""Numbers of a state that go through the rounds together: two cache lines. Of 8, 16 and 32, this is the fastest by a quarter."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What came of a run: at the start and after each round, R + 1 times.

    exchanges (R + 1,): of a peer so far, the mean. error (R + 1, N): relative distance of each peer's moments from the pooled ones, the
    root of the squares of all arrays, each array's being |x - mean| / |mean|. states (R + 1, W, P): of the W peers `watched`.
    """

    exchanges: Floats
    error: Floats
    watched: Peers
    states: Floats


def moments(task: Task, shares: Iterable[Rows], starter: int = 0) -> Floats:
    """Each peer's own moments as a row of (N, P). `starter` began the epoch: the mean of its mark is one over the number of peers."""
    own = np.array([flat(task, own_statistics(task, rows)) for rows in shares])
    own[starter, _columns(task)["starter"]] = 1.0
    return own


def flat(task: Task, statistics: Arrays) -> Floats:
    """One vector (P,) of all arrays, in wire order."""
    return np.concatenate([np.ravel(statistics[spec.name]) for spec in layout(task, "statistics").tensors])


def arrays(task: Task, vector: Floats) -> dict[str, Floats]:
    """The arrays of a vector (P,), as `peer.learning.models.fit` takes them."""
    return {spec.name: vector[_columns(task)[spec.name]].reshape(spec.shape) for spec in layout(task, "statistics").tensors}


def average(task: Task, own: Floats, rounds: Sequence[Round], watched: Peers) -> Course:
    """Run these rounds from everybody's own moments (N, P)."""
    scale = _scale(task, own)
    squares = np.zeros((len(rounds) + 1, len(own)))
    states = np.empty((len(rounds) + 1, len(watched), own.shape[1]))
    for start in range(0, own.shape[1], SLICE_COLUMNS):
        columns = slice(start, start + SLICE_COLUMNS)
        theirs = np.ascontiguousarray(own[:, columns])
        mean, x = theirs.mean(0), theirs.copy()
        for number in range(len(rounds) + 1):
            if number:
                _round(x, theirs, rounds[number - 1])
            squares[number] += np.square((x - mean) * scale[columns]).sum(1)
            states[number, :, columns] = x[watched]
    done = np.cumsum([0] + [2 * sum(len(layer.a) for layer in layers) for layers in rounds])
    return Course(done / len(own), np.sqrt(squares), watched, states)


def _round(x: Floats, own: Floats, layers: Round) -> None:
    for layer in layers:
        if len(layer.restart):
            x[layer.restart] = own[layer.restart]
        of_a, of_b = x[layer.a], x[layer.b]
        half = 0.5 * (of_b - of_a)
        x[layer.a] = of_a + half
        x[layer.b] = of_b - half


def _columns(task: Task) -> dict[str, slice]:
    found, start = {}, 0
    for spec in layout(task, "statistics").tensors:
        found[spec.name] = slice(start, start + spec.count)
        start += spec.count
    return found


def _scale(task: Task, own: Floats) -> Floats:
    """What each column's error is multiplied with, (P,). The starter's mark counts peers, not rows, and is left out."""
    mean, scale = own.mean(0), np.zeros(own.shape[1])
    for name, columns in _columns(task).items():
        length = float(np.linalg.norm(mean[columns]))
        scale[columns] = 0.0 if name == "starter" or length == 0.0 else 1.0 / length
    return scale
