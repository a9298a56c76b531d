"""Bugs to plant: each breaks the product in one place, as a slip in a change would, and must be found by a seed of `fault-everything`.

A row: what is wrong, the invariant that says so, the seed that finds it, and the patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from peer import exchanging, node
from peer.events import Persist
from peer.exchanging import Exchanging
from peer.links import Links
from peer.participation import Participation
from peer.parts.statistics import StatisticsPart
from peer.saved import Apply
from protocol.exchange import Exchanges
from protocol.messages import Aborted, Done

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Bug:
    says: str
    invariant: str
    seed: int
    plant: Patch


def say_done_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    right = Exchanging._carry_out

    def wrong(self: Exchanging, *arguments: Any) -> list[Any]:
        actions = right(self, *arguments)
        late = [a for a in actions if isinstance(a, Persist) and any(isinstance(r, Apply) for r in a.records)]
        return [a for a in actions if a not in late] + late if late else actions

    patch.setattr(Exchanging, "_carry_out", wrong)


def forget_what_was_applied(patch: pytest.MonkeyPatch) -> None:
    right = Exchanges._resolve

    def wrong(self: Exchanges, *arguments: Any) -> list[Any]:
        self._applied.clear()
        return right(self, *arguments)

    patch.setattr(Exchanges, "_resolve", wrong)


def believe_done_without_asking(patch: pytest.MonkeyPatch) -> None:
    """An initiator that is told ABORTED moves all the same."""
    right = Exchanges._told

    def wrong(self: Exchanges, link: int, partner: Any, message: Any) -> list[Any]:
        return right(self, link, partner, Done(xid=message.xid) if isinstance(message, Aborted) else message)

    patch.setattr(Exchanges, "_told", wrong)


def give_less_than_is_taken(patch: pytest.MonkeyPatch) -> None:
    right = Exchanges._delta

    def wrong(self: Exchanges, flight: Any) -> Any:
        return {n: a * (0.999 if flight.is_initiator else 1.0) for n, a in right(self, flight).items()}

    patch.setattr(Exchanges, "_delta", wrong)


def replace_changed_rows(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: StatisticsPart, own: Any, now: float) -> list[Any]:
        self.own = dict(own)
        if self.mixed is None:
            return [*self.enter(self.epoch, now), self._hold_own()]
        self.mixed = {**own, "starter": self.mixed["starter"]}
        return [self._hold(), self._hold_own()]

    patch.setattr(StatisticsPart, "opened", wrong)


def divide_by_a_count_that_may_be_zero(patch: pytest.MonkeyPatch) -> None:
    right = StatisticsPart.moved

    def wrong(self: StatisticsPart, delta: Any, *arguments: Any) -> list[Any]:
        with np.errstate(all="ignore"):
            return right(self, {n: a * (np.float64(1.0) / max(12 - self.exchanges_in_epoch, 0)) for n, a in delta.items()}, *arguments)

    patch.setattr(StatisticsPart, "moved", wrong)


def remember_closed_links(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Links, "pop", Links.get)


def never_ask_what_became_of_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exchanges, "resolve", lambda self, link, partner: [])


def keep_who_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Participation, "request_epoch", lambda self, now: None)


def forget_halves_in_a_transaction_of_their_own(patch: pytest.MonkeyPatch) -> None:
    """It was so until the simulator showed it: a peer that crashed before the next one went on in the old epoch without its halves."""
    for module in (exchanging, node):
        patch.setattr(module, "at_once", lambda actions: actions)


def fail_at_bytes_of_a_link_that_is_gone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Links, "get", lambda self, link: self._links[link])


BUGS = (
    Bug("bytes of a link that is gone are taken for a fault of the program", "total", 1, fail_at_bytes_of_a_link_that_is_gone),
    Bug("halves are forgotten before the next epoch is durable", "once", 0, forget_halves_in_a_transaction_of_their_own),
    Bug("DONE is said before the responder's half is durable", "once", 3, say_done_before_it_is_durable),
    Bug("what was applied is forgotten when somebody asks", "once", 1, forget_what_was_applied),
    Bug("ABORTED is taken for DONE", "once", 4, believe_done_without_asking),
    Bug("an initiator takes a thousandth less than its partner gives", "conserved", 0, give_less_than_is_taken),
    Bug("changed rows replace what was mixed", "conserved", 0, replace_changed_rows),
    Bug("a division by a count that may be 0", "finite", 0, divide_by_a_count_that_may_be_zero),
    Bug("links that were closed are remembered", "bounded", 0, remember_closed_links),
    Bug("nobody asks what became of an exchange in doubt", "settled", 1, never_ask_what_became_of_it),
    Bug("who left stays in the average", "pooled", 2, keep_who_left),
)
