"""Who meets whom, and in which order, when peers number many: drawn by the rules of `peer/rounds/gossip.py`, for arrays.

Each peer begins one exchange a period, give or take a fifth, with one of those it knows, uniformly at random. A round here is one period,
so a peer takes part in two exchanges a round: one it began and one that somebody else did, in the mean.

Exchanges of different peers commute. So the order of a round is cut into layers in which no peer occurs twice; the layers one after the
other, each computed at once, give what the exchanges one by one give, to the last bit. A round of 100,000 peers has about a dozen.

No state is touched here: `crowd.py` applies what is drawn. One seed, one order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from peer.rounds.gossip import JITTER

Peers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Meetings of which no two concern one peer. `restart` (r,) go back to their own moments first; then `a` (m,) and `b` (m,) exchange."""

    restart: Peers
    a: Peers
    b: Peers


Round = tuple[Layer, ...]

NOBODY: Peers = np.empty(0, np.int64)


class Partners(Protocol):
    """Whom a peer knows."""

    def draw(self, peers: Peers, random: np.random.Generator) -> Peers:
        """One partner for each, uniformly among those it knows; the peer itself if it knows nobody."""


@dataclass(frozen=True, slots=True)
class Everyone:
    """All `count` peers know each other, as on a LAN."""

    count: int

    def draw(self, peers: Peers, random: np.random.Generator) -> Peers:
        return _but_oneself(peers, random.integers(0, max(self.count - 1, 1), len(peers)), self.count)


@dataclass(frozen=True, slots=True)
class View:
    """Each knows `size` peers drawn once and for all. Entry k of peer i is a hash of both: no table, at 10^8 peers as at ten."""

    count: int
    size: int
    seed: int = 0

    def draw(self, peers: Peers, random: np.random.Generator) -> Peers:
        entry = peers * self.size + random.integers(0, self.size, len(peers))
        return _but_oneself(peers, (_mixed(entry, self.seed) % np.uint64(max(self.count - 1, 1))).astype(np.int64), self.count)


class Graph:
    """Those may meet who share one of these edges, in either direction."""

    def __init__(self, count: int, edges: Sequence[tuple[int, int]]) -> None:
        ends = np.array(sorted({(a, b) for a, b in edges} | {(b, a) for a, b in edges}), np.int64).reshape(-1, 2)
        self._to = ends[:, 1]
        self._start = np.searchsorted(ends[:, 0], np.arange(count + 1))

    def draw(self, peers: Peers, random: np.random.Generator) -> Peers:
        degree = self._start[peers + 1] - self._start[peers]
        if not len(self._to):
            return peers
        entry = self._start[peers] + np.minimum((random.random(len(peers)) * degree).astype(np.int64), degree - 1)
        return np.where(degree > 0, self._to[np.maximum(entry, 0)], peers)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What goes wrong. `lost`: share of exchanges of which nothing comes; nobody moves then. `away`: share of the peers that are not there
    at a time, each for `away_rounds` in the mean; an exchange begun with one of them is lost. `epochs`: rounds at which peer 0 begins a new
    epoch; whoever meets it restarts."""

    lost: float = 0.0
    away: float = 0.0
    away_rounds: float = 10.0
    epochs: tuple[int, ...] = ()


def meetings(count: int, partners: Partners, rounds: int, seed: int, conditions: Conditions | None = None) -> Iterator[Round]:
    """The layers of each round. Memory is that of one round."""
    given = conditions or Conditions()
    random = np.random.Generator(np.random.PCG64(seed))
    due = JITTER * random.random(count)
    is_there = random.random(count) >= given.away
    epoch = np.zeros(count, np.int64)
    for number in range(rounds):
        began: list[Layer] = []
        if number in given.epochs:
            epoch[0] = epoch.max() + 1
            began.append(Layer(np.zeros(1, np.int64), NOBODY, NOBODY))
        a = _beginners(due, number + 1.0, random)
        b = partners.draw(a, random)
        if given.away:
            is_there = _come_and_go(is_there, given, random)
        is_met = (a != b) & is_there[a] & is_there[b] & (random.random(len(a)) >= given.lost)
        yield (*began, *(_in_epochs(layer, epoch) for layer in in_layers(a[is_met], b[is_met], count)))


def in_layers(a: Peers, b: Peers, count: int) -> Iterator[Layer]:
    """Cut this order of exchanges, a[k] with b[k], into layers with the same result."""
    first = np.empty(count, np.int64)
    while len(a):
        position = np.arange(len(a))
        first[a], first[b] = len(a), len(a)
        np.minimum.at(first, a, position)
        np.minimum.at(first, b, position)
        is_free = (first[a] == position) & (first[b] == position)
        yield Layer(NOBODY, a[is_free], b[is_free])
        a, b = a[~is_free], b[~is_free]


def _in_epochs(layer: Layer, epoch: Peers) -> Layer:
    """Whoever meets a higher epoch restarts into it. A responder does so before it answers; an initiator is refused, and begins anew."""
    of_a, of_b = epoch[layer.a], epoch[layer.b]
    is_refused = of_a < of_b
    late = np.concatenate([layer.a[is_refused], layer.b[of_b < of_a]])
    epoch[layer.a] = epoch[layer.b] = np.maximum(of_a, of_b)
    return Layer(late, layer.a[~is_refused], layer.b[~is_refused])


def _beginners(due: NDArray[np.float64], end: float, random: np.random.Generator) -> Peers:
    """Whose time comes before `end`, in that order; their next time is set."""
    at, who = [], []
    while len(soon := np.flatnonzero(due < end)):
        at.append(due[soon])
        who.append(soon)
        due[soon] += 1.0 + JITTER * (2.0 * random.random(len(soon)) - 1.0)
    return np.concatenate(who)[np.argsort(np.concatenate(at), kind="stable")] if who else NOBODY


def _come_and_go(is_there: NDArray[np.bool_], given: Conditions, random: np.random.Generator) -> NDArray[np.bool_]:
    """A chain whose stationary share of absent peers is `away`."""
    returns = 1.0 / given.away_rounds
    leaves = returns * given.away / (1.0 - given.away)
    drawn = random.random(len(is_there))
    return np.where(is_there, drawn >= leaves, drawn < returns)


def _but_oneself(peers: Peers, drawn: Peers, count: int) -> Peers:
    """Drawn among all but one; numbers from one's own upwards mean the next."""
    return drawn + (drawn >= peers) if count > 1 else peers


def _mixed(numbers: Peers, seed: int) -> NDArray[np.uint64]:
    """SplitMix64's finisher: neighbouring numbers become independent ones."""
    z = numbers.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
