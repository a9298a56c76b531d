"""A crowd as arrays beside the simulator, whose peers are the daemon's own brain: the same moments to the last bit, the same curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from peer.learning.dataset import Rows
from peer.learning.models import fit
from protocol.tasks import Task
from scenarios.crowd import Course, arrays, average, flat, moments
from scenarios.meetings import Everyone, Graph, Partners, Round, in_layers, meetings
from scenarios.simulator import Outcome, PeerPlan, Simulation, Weather, World
from scenarios.topology import regular

ROUNDS = 20
"""Periods of a second that are compared, from the moment when all are in one epoch."""

EVERYTHING = Rows(
    X=np.random.default_rng(7).normal(size=(1200, 4)) + np.repeat(np.eye(3, 4) * 2, 400, 0),
    y=np.repeat(np.arange(3), 400),
)


@dataclass(frozen=True)
class Network:
    """So many peers, each with `degree` neighbours, or with everybody."""

    count: int
    degree: int | None

    @property
    def edges(self) -> tuple[tuple[int, int], ...] | None:
        return regular(self.count, self.degree, np.random.default_rng(1)) if self.degree is not None else None

    @property
    def partners(self) -> Partners:
        edges = self.edges
        return Everyone(self.count) if edges is None else Graph(self.count, edges)

    @property
    def shares(self) -> list[Rows]:
        """Each peer has rows of mostly one class."""
        order = np.argsort(EVERYTHING.y + 0.3 * np.random.default_rng(1).normal(size=1200), kind="stable")
        return [Rows(X=EVERYTHING.X[k], y=EVERYTHING.y[k]) for k in np.array_split(order, self.count)]


NETWORKS = [Network(12, None), Network(30, 6)]
SEEDS = [1, 2, 3]


@cache
def simulated(network: Network, seed: int) -> tuple[Simulation, Outcome]:
    world = World(
        peers=tuple(PeerPlan(f"peer-{k}", rows) for k, rows in enumerate(network.shares)),
        test=EVERYTHING,
        classes=("a", "b", "c"),
        weather=Weather(topology=network.edges),
        period_s=1.0,
        seconds=ROUNDS + 4.0,
        sample_every_s=1000.0,
        introductions=0,
    )
    simulation = Simulation(world, seed)
    return simulation, simulation.run()


def replay(network: Network, seed: int) -> tuple[Course, np.ndarray]:
    """What the arrays make of the exchanges that the simulator's peers committed in their last epoch, and what these peers hold.

    The order is that of the responders' commits: an initiator does nothing between offering its state and being told.
    """
    simulation, outcome = simulated(network, seed)
    number = {host.peer.hex(): host.number for host in simulation.hosts}
    entered = {event["peer"]: place for place, event in enumerate(outcome.trace) if event["kind"] == "epoch.began"}
    start = outcome.trace[max(entered.values())]["at"]
    rounds: list[list[tuple[int, int]]] = [[] for _ in range(ROUNDS + 5)]
    for place, event in enumerate(outcome.trace):
        if event["kind"] == "exchange.committed" and not event["facts"]["began_here"]:
            a, b = number[event["facts"]["peer"]], event["peer"]
            if place > max(entered[a], entered[b]):
                rounds[max(0, math.floor(event["at"] - start) + 1)].append((a, b))
    held = [host.disk.states[simulation.task_id, "statistics"] for host in simulation.hosts]
    assert len({state.epoch for state in held}) == 1
    own = moments(simulation.task, network.shares, starter=number[held[0].epoch.starter.hex()])
    course = average(simulation.task, own, [_layers(pairs, network.count) for pairs in rounds], np.arange(network.count))
    return course, np.array([flat(simulation.task, state.arrays) for state in held])


def _layers(pairs: list[tuple[int, int]], count: int) -> Round:
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    return tuple(in_layers(a, b, count))


def fall(course: Course, first: int, last: int) -> float:
    """Natural logarithm of the factor by which the error of the network falls in a round, the mean of these."""
    error = np.sqrt((course.error**2).mean(1))
    return float(np.log(error[last] / error[first]) / (last - first))


@pytest.mark.parametrize(("network", "seed"), [*((network, seed) for network in NETWORKS for seed in SEEDS), (Network(100, 6), 1)], ids=str)
def test_the_peers_own_exchanges_give_their_moments_to_the_last_bit(network: Network, seed: int) -> None:
    course, held = replay(network, seed)
    assert course.exchanges[-1] > 20
    assert course.states[-1].tobytes() == held.tobytes()


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_meetings_drawn_here_make_the_error_fall_as_fast_as_among_peers(network: Network) -> None:
    """Within 10 % of the fall per round, the mean of three seeds; and as many exchanges a round, within 3 %."""
    among_peers = [replay(network, seed)[0] for seed in SEEDS]
    task = simulated(network, SEEDS[0])[0].task
    own = moments(task, network.shares)
    here = [average(task, own, list(meetings(network.count, network.partners, ROUNDS, seed)), np.arange(1)) for seed in SEEDS]
    assert np.mean([fall(c, 2, 16) for c in here]) == pytest.approx(np.mean([fall(c, 2, 16) for c in among_peers]), rel=0.1)
    pace = [np.mean([np.diff(c.exchanges)[2:16].mean() for c in courses]) for courses in (here, among_peers)]
    assert pace[0] == pytest.approx(pace[1], rel=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crowd_scores_as_the_peers_do_after_as_many_exchanges(seed: int) -> None:
    """The mean accuracy of all peers, within a point, after 8, 12 and 20."""
    network = NETWORKS[1]
    task = simulated(network, seed)[0].task
    drawn = average(task, moments(task, network.shares), list(meetings(30, network.partners, ROUNDS, seed)), np.arange(30))
    for exchanges in (8, 12, 20):
        here, there = (_score(task, course, exchanges) for course in (drawn, replay(network, seed)[0]))
        assert here == pytest.approx(there, abs=0.01)


def _score(task: Task, course: Course, exchanges: float) -> float:
    at = int(np.argmin(np.abs(course.exchanges - exchanges)))
    return float(np.mean([fit(task, arrays(task, state)).score(EVERYTHING) for state in course.states[at]]))
