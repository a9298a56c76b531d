"""Who can reach whom: the graphs of published work, and cities with a road between them.

Pairs are sorted, smaller number first. `None` stands for everybody with everybody, which needs no list.
"""

from __future__ import annotations

from typing import Final

import numpy as np

Pairs = tuple[tuple[int, int], ...]

KINDS: Final = ("full", "ring", "regular", "cities")

MAX_TRIES: Final = 1000
"""Draws of a cycle that shares no edge with those before. With a degree well below the number of peers one in ten or so succeeds."""


class NoSuchGraph(ValueError):
    """So many peers cannot be joined like that."""


def graph(kind: str, peers: int, *, degree: int, cities: int, chance: np.random.Generator) -> Pairs | None:
    """The links that are possible. Raises NoSuchGraph."""
    match kind:
        case "full":
            return None
        case "ring":
            return _ordered({(k, (k + 1) % peers) for k in range(peers) if peers > 1})
        case "regular":
            return regular(peers, degree, chance)
        case "cities":
            return _cities(peers, cities, degree, chance)
    raise ValueError(f"no graph is called {kind!r}")


def regular(peers: int, degree: int, chance: np.random.Generator) -> Pairs | None:
    """A connected graph in which everybody has `degree` neighbours, an even number: cycles through all, laid over each other."""
    if degree >= peers - 1:
        return None
    if degree % 2 or degree < 2:
        raise NoSuchGraph(f"degree must be an even number from 2, not {degree}")
    found: set[tuple[int, int]] = set()
    for _ in range(degree // 2):
        found |= _cycle(peers, found, chance)
    return _ordered(found)


def _cycle(peers: int, taken: set[tuple[int, int]], chance: np.random.Generator) -> set[tuple[int, int]]:
    """A cycle through all peers by edges that are not taken: drawn at random, then mended by reversing a stretch at each taken edge."""
    for _ in range(MAX_TRIES):
        order = chance.permutation(peers).tolist()
        for _ in range(20 * peers):
            bad = [k for k in range(peers) if _pair(order[k], order[(k + 1) % peers]) in taken]
            if not bad:
                return {_pair(order[k], order[(k + 1) % peers]) for k in range(peers)}
            a, b = sorted((bad[0], int(chance.integers(peers))))
            order[a + 1 : b + 1] = reversed(order[a + 1 : b + 1])
    raise NoSuchGraph(f"found no graph of {peers} peers with so many neighbours each")


def _cities(peers: int, cities: int, degree: int, chance: np.random.Generator) -> Pairs:
    """Peer k lives in city k mod cities, where all know each other; the first of each city also has neighbours in `degree` other cities."""
    if not 2 <= cities <= peers:
        raise NoSuchGraph(f"{peers} peers cannot live in {cities} cities")
    within = {(a, b) for a in range(peers) for b in range(a + cities, peers, cities)}
    roads = regular(cities, degree, chance)
    between = roads if roads is not None else [(a, b) for a in range(cities) for b in range(a + 1, cities)]
    return _ordered(within | set(between))


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _ordered(pairs: set[tuple[int, int]]) -> Pairs:
    return tuple(sorted({_pair(a, b) for a, b in pairs}))
