"""A crowd as arrays gives what the peers themselves give: to the last bit in the same order, the same curve in its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from peer.learning.dataset import Rows
from peer.learning.models import fit
from peer.learning.moments import own_statistics, participants, pooled_rows
from protocol.tasks import Column, Target, Task, Thresholds
from scenarios.crowd import arrays, average, flat, moments
from scenarios.meetings import Conditions, Everyone, Graph, View, meetings

rng = np.random.default_rng(7)
EVERYTHING = Rows(X=rng.normal(size=(1200, 4)) + np.repeat(np.eye(3, 4) * 2, 400, 0), y=np.repeat(np.arange(3), 400))


def a_task(model: str = "lda", **fields: Any) -> Task:
    return Task(
        name="flowers",
        about="",
        columns=tuple(Column(name=f"c{i}", is_gappy=False) for i in range(4)),
        target=Target(name="kind", classes=("a", "b", "c") if model != "ridge" else ()),
        model=model,
        alpha=0.001,
        protocol="gossip",
        encoding="int8",
        privacy="open",
        thresholds=Thresholds(min_rows=1, min_peers=1),
        network=b"n" * 32,
        author=b"a" * 32,
        created=0,
    )


def shares(count: int) -> list[Rows]:
    """Skewed shares: each peer has rows of mostly one class."""
    by_class = np.array_split(np.argsort(EVERYTHING.y + 0.3 * np.random.default_rng(1).normal(size=1200), kind="stable"), count)
    return [Rows(X=EVERYTHING.X[k], y=EVERYTHING.y[k]) for k in by_class]


def rms(error: np.ndarray) -> np.ndarray:
    return np.sqrt((error**2).mean(1))


@pytest.mark.parametrize("model", ["lda", "ridge", "gaussian-nb", "logistic"])
def test_arrays_of_a_vector_are_the_arrays_it_was_made_of(model: str) -> None:
    task = a_task(model)
    statistics = own_statistics(task, EVERYTHING)
    again = arrays(task, flat(task, statistics))
    assert list(again) == list(statistics)
    assert all(np.array_equal(again[name], statistics[name]) for name in statistics)


def test_what_slices_give_is_what_whole_states_give_exchange_by_exchange() -> None:
    task, rounds = a_task(), list(meetings(30, View(30, 5), 12, 4, Conditions(lost=0.2, away=0.2, epochs=(3, 6))))
    own = moments(task, shares(30))
    state = own.copy()
    for layers in rounds:
        for layer in layers:
            for i in layer.restart:
                state[i] = own[i]
            for i, j in zip(layer.a, layer.b, strict=True):
                half = 0.5 * (state[j] - state[i])
                state[i], state[j] = state[i] + half, state[j] - half
    course = average(task, own, rounds, np.arange(30))
    assert course.states[-1].tobytes() == state.tobytes()


def test_everybody_ends_with_the_model_of_all_rows() -> None:
    task = a_task()
    own = moments(task, shares(60))
    course = average(task, own, list(meetings(60, Everyone(60), 40, 1)), np.array([0, 17, 59]))
    pooled = fit(task, arrays(task, flat(task, own_statistics(task, EVERYTHING)))).predict(EVERYTHING.X)
    assert course.error[-1].max() < 1e-9
    for state in course.states[-1]:
        found = arrays(task, state)
        assert np.array_equal(fit(task, found).predict(EVERYTHING.X), pooled)
        assert participants(found) == pytest.approx(60, rel=1e-6)
        assert pooled_rows(found) == pytest.approx(1200, rel=1e-6)


def test_the_mean_is_kept_whatever_is_lost() -> None:
    task = a_task()
    own = moments(task, shares(50))
    rounds = list(meetings(50, Everyone(50), 30, 1, Conditions(lost=0.5, away=0.5)))
    course = average(task, own, rounds, np.arange(50))
    assert course.states[-1].mean(0) == pytest.approx(own.mean(0), rel=1e-13)


def test_an_epoch_that_all_have_entered_leaves_nothing_of_the_one_before() -> None:
    task = a_task()
    own = moments(task, shares(50))
    course = average(task, own, list(meetings(50, Everyone(50), 60, 1, Conditions(epochs=(20,)))), np.arange(50))
    assert rms(course.error)[20] < 1e-4
    assert rms(course.error)[22] > 1e-2
    assert rms(course.error)[-1] < 1e-7
    assert course.states[-1].mean(0) == pytest.approx(own.mean(0), rel=1e-12)


def test_the_error_falls_by_the_factor_that_theory_gives_whatever_the_number_of_peers() -> None:
    """Variance falls by 1 / (2 sqrt(e)) a round if everybody begins once and partners are uniform (Jelasity, Montresor, Babaoglu 2005)."""
    expected = math.sqrt(1 / (2 * math.sqrt(math.e)))
    for count in (100, 1000, 10_000):
        own = np.random.Generator(np.random.PCG64(1)).normal(1.0, 1.0, (count, len(flat(a_task(), own_statistics(a_task(), EVERYTHING)))))
        error = rms(average(a_task(), own, list(meetings(count, Everyone(count), 24, 1)), np.arange(1)).error)
        assert (error[24] / error[4]) ** (1 / 20) == pytest.approx(expected, rel=0.06)


def test_a_ring_is_slow() -> None:
    task = a_task()
    own = moments(task, shares(60))
    ring = Graph(60, [(k, (k + 1) % 60) for k in range(60)])
    everyone = average(task, own, list(meetings(60, Everyone(60), 20, 1)), np.arange(1))
    assert rms(average(task, own, list(meetings(60, ring, 20, 1)), np.arange(1)).error)[-1] > 1000 * rms(everyone.error)[-1]
