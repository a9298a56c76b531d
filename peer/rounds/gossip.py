"""The `gossip` round protocol: asynchronous push-pull, one exchange begun per period, with whoever is there.

When: a period is at least what the owner set and twice what an exchange takes, so that slow links are not flooded, give or take a fifth,
so that peers started together do not move in step. When exchanges no longer change anything the period doubles each time, up to a minute:
a network that agrees is quiet. Any change brings it back.
With whom: uniformly at random among the neighbours that take part; every measured property of the average rests on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from protocol.identity import PeerId

JITTER: Final = 0.2
"""Share of the period by which it varies."""

QUIET_PERIOD_S: Final = 60.0
"""Longest period, in seconds: a change that nobody announced is noticed within a minute."""

RETRY_S: Final = 0.1
"""Seconds to wait after an exchange that did not come about, before another partner is tried; grows with each failure in a row."""

SETTLED_AFTER: Final = 3
"""Exchanges in a row that changed nothing, after which a part counts as settled. One may be with a peer one has just met."""


@dataclass(slots=True)
class GossipRounds:
    """When to begin the next exchange of one part of one task."""

    period_s: float
    random: Random
    due: float = 0.0
    exchange_s: float = 0.0
    still: int = 0
    failures: int = 0

    def start(self, now: float) -> None:
        """Something changed: begin soon, and at full pace."""
        self.still = self.failures = 0
        self.due = now + self.period_s * JITTER * self.random.random()

    def began(self, now: float) -> None:
        self.due = now + self._period()

    def committed(self, took_s: float, is_still: bool, now: float) -> None:
        """An exchange is over; `is_still` if it changed next to nothing."""
        self.failures = 0
        self.exchange_s = took_s if self.exchange_s == 0.0 else 0.8 * self.exchange_s + 0.2 * took_s
        was_quiet = self.is_settled
        self.still = self.still + 1 if is_still else 0
        if was_quiet and not is_still:
            self.start(now)

    def failed(self, now: float) -> None:
        """No exchange came about: try again sooner than a whole period, but ever less soon."""
        self.failures = min(self.failures + 1, 10)
        wait = min(RETRY_S * 2**self.failures, self._period())
        self.due = min(self.due, now + wait * (1 + JITTER * self.random.random()))

    @property
    def is_settled(self) -> bool:
        return self.still >= SETTLED_AFTER

    def _period(self) -> float:
        usual = max(self.period_s, 2 * self.exchange_s)
        quiet = min(usual * 2.0 ** min(self.still - SETTLED_AFTER, 20), max(usual, QUIET_PERIOD_S)) if self.is_settled else usual
        return quiet * (1 + JITTER * (2 * self.random.random() - 1))

    def partner(self, neighbours: Sequence[PeerId]) -> PeerId | None:
        """One of these, in any order given, uniformly at random."""
        return self.random.choice(sorted(neighbours)) if neighbours else None
