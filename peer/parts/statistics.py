"""The `statistics` part: additive moments, averaged in epochs (Jelasity's restart).

An average that runs for ever keeps the rows of whoever crashed or left, and every lie, for ever. So it is run in epochs: each peer starts
from its own moments, meeting a higher epoch means restarting into it, and what an epoch settles on is published and used until the next one
has settled. A peer that left is thereby forgotten exactly. A peer that comes new adds its moments to the epoch that is running: a sum of
moments needs no restart to grow, and a restart would show every peer's own moments to a partner once more. Changed rows are added likewise,
as a difference. So a peer's first epoch is number 0, lower than any that is running: nothing is exchanged in it, and two that are both in
theirs begin number 1.

The scalar `starter` is 1 at the peer that began the epoch and 0 elsewhere, so its mean is one over the number of peers.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

import numpy as np

from protocol.exchange import Epoch, Offer, Refusal
from protocol.identity import PeerId
from protocol.tasks import Task
from protocol.tensors import Arrays, digest, encode

from ..events import TaskId
from ..learning.moments import layout, participants
from ..rounds.gossip import GossipRounds
from ..saved import HoldState, KeepResult

PART: Final = "statistics"

STILL: Final = 1e-12
"""Relative change of the moments below which an exchange changed nothing. Rounding alone leaves 1e-16 per exchange."""

EPOCH_S: Final = 3600.0
"""Seconds after which an epoch is begun anew even if nothing was seen to change: no error outlives it."""


class StatisticsPart:
    """What this peer holds of a task's moments. Every method that changes it hands back the records that make the change durable."""

    def __init__(
        self, me: PeerId, task_id: TaskId, task: Task, rounds: GossipRounds, saved: Mapping[str, HoldState], result: KeepResult | None
    ):
        self._me = me
        self._task_id = task_id
        self.manifest = layout(task, PART)
        self.schema = self.manifest.digest(task_id, PART)
        self.rounds = rounds
        self.result = result
        held, own = saved.get(PART), saved.get("own")
        self.own: Arrays | None = dict(own.arrays) if own else None
        self.mixed: Arrays | None = dict(held.arrays) if held else None
        self.epoch = held.epoch if held else Epoch(0, me)
        self.exchanges_in_epoch = int(held.facts["exchanges_in_epoch"]) if held else 0
        self.began = float(held.facts["began"]) if held else 0.0

    # own rows --------------------------------------------------------------------------------------------------------

    def opened(self, own: Arrays, now: float) -> list[Any]:
        """The owner's rows were read. Rows that changed are added to the running average as a difference."""
        before, self.own = self.own, dict(own)
        if self.mixed is None or before is None:
            return [*self.enter(self.epoch, now), self._hold_own()]
        if all(np.array_equal(own[name], before[name]) for name in own):
            return []
        self.mixed = {name: self.mixed[name] + (own[name] - before[name]) for name in self.mixed}
        self.rounds.start(now)
        return [self._hold(), self._hold_own()]

    def withdraw(self) -> None:
        """This peer takes no part any more: what it mixed stays behind, and the neighbours' next epoch is without it.

        Should it come back, then into an epoch of its own: in the old one its rows would count twice.
        """
        if self.mixed is not None and self.exchanges_in_epoch:
            self.epoch = self.next_epoch()
        self.mixed = self.own = None

    # epochs ----------------------------------------------------------------------------------------------------------

    def enter(self, epoch: Epoch, now: float) -> list[Any]:
        """Start again from this peer's own moments."""
        assert self.own is not None
        self.epoch, self.began, self.exchanges_in_epoch = epoch, now, 0
        self.mixed = {**self.own, "starter": np.array(float(epoch.starter == self._me))}
        self.rounds.start(now)
        return [self._hold()]

    def next_epoch(self) -> Epoch:
        return Epoch(self.epoch.number + 1, self._me)

    @property
    def is_taking_part(self) -> bool:
        return self.mixed is not None

    # exchanges -------------------------------------------------------------------------------------------------------

    def offer(self) -> Offer | Refusal:
        if self.mixed is None:
            return Refusal("not-taking-part", 60_000)
        payload = encode(self.manifest, self.mixed, "f64", None)
        return Offer(self.epoch, self.manifest, self.schema, "f64", 1, payload, digest(payload))

    def moved(self, delta: Arrays, took_s: float, now: float) -> list[Any]:
        """Half of an exchange is decided: add it."""
        assert self.mixed is not None
        is_still = change(delta, self.mixed) <= STILL
        self.mixed = {name: self.mixed[name] + delta[name] for name in self.mixed}
        self.exchanges_in_epoch += 1
        self.rounds.committed(took_s, is_still, now)
        return [self._hold()]

    # results ---------------------------------------------------------------------------------------------------------

    def publish(self, *, is_alone: bool) -> KeepResult | None:
        """The result to use from now on, if it beats the last one: a settled one, or a first one while nothing has settled yet."""
        if self.mixed is None:
            return None
        is_settled = is_alone or (self.rounds.is_settled and self.exchanges_in_epoch > 0)
        if not is_settled and self.result is not None:
            is_first_epoch = not self.result.facts["is_settled"] or self.result.facts["peers"] <= 1
            if not is_first_epoch or self.exchanges_in_epoch <= self.result.facts["exchanges"]:
                return None
        peers = participants(self.mixed) or 1.0
        facts = {"is_settled": is_settled, "exchanges": self.exchanges_in_epoch, "peers": peers}
        result = KeepResult(self._task_id, PART, self.epoch, dict(self.mixed), facts)
        known = self.result
        is_of_this = known is not None and known.epoch == self.epoch and known.facts["is_settled"] == is_settled
        if known is not None and is_of_this and change(_minus(self.mixed, known.arrays), known.arrays) <= STILL:
            return None
        self.result = result
        return result

    def fetched(self, epoch: Epoch, arrays: Arrays) -> list[Any]:
        """A neighbour's result, if it is worth more than what this peer has."""
        if self.is_shared and self.result is not None and self.result.epoch >= epoch and self.mixed is not None:
            return []
        if self.result is not None and self.result.epoch == epoch and change(_minus(arrays, self.result.arrays), self.result.arrays) == 0.0:
            return []
        facts = {"is_settled": True, "exchanges": 0, "peers": participants(arrays) or 1.0}
        self.result = KeepResult(self._task_id, PART, epoch, dict(arrays), facts)
        return [self.result]

    @property
    def is_shared(self) -> bool:
        """Whether the result in use is one that several peers have settled on: only such a one is ever shown to a neighbour that asks."""
        return self.result is not None and bool(self.result.facts["is_settled"]) and self.result.facts["peers"] > 1.5

    # records ---------------------------------------------------------------------------------------------------------

    def _hold(self) -> HoldState:
        assert self.mixed is not None
        return HoldState(
            self._task_id, PART, self.epoch, dict(self.mixed), {"exchanges_in_epoch": self.exchanges_in_epoch, "began": self.began}
        )

    def _hold_own(self) -> HoldState:
        assert self.own is not None
        return HoldState(self._task_id, "own", self.epoch, dict(self.own), {})


def change(delta: Arrays, of: Arrays) -> float:
    """The largest relative change of any array: |delta| / |array|, Euclidean."""
    return max(float(np.linalg.norm(delta[n])) / (float(np.linalg.norm(of[n])) + 1e-300) for n in of)


def _minus(a: Arrays, b: Arrays) -> Arrays:
    return {name: a[name] - b[name] for name in a}


def rounds(period_s: float, random: Random) -> GossipRounds:
    """Own pace and own random stream for one part, so that what happens to one does not shift another's."""
    return GossipRounds(period_s, Random(random.getrandbits(64)))
