"""The `weights` part: parameters trained by SGD with the symmetric control variate (`cvgossip`).

A turn is: train K steps, exchange once, train again. The weights live in the scale that the task's statistics agreed on, so their epoch is
the epoch of that result; two peers exchange only in the same one, and whoever is behind fetches it and restates its weights, predictions
unchanged. They travel as int8; both ends compute the increment from the bytes that travelled.
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

from ..events import TaskId, Train
from ..learning import cvgossip
from ..learning.moments import layout
from ..rounds.gossip import GossipRounds
from ..saved import HoldState, KeepResult

PART: Final = "weights"

PATIENCE: Final = 320
"""Exchanges after which the pace slows: no curve that was measured gained more than its noise afterwards."""

ALONE_TURNS: Final = 40
"""Turns of a peer that has met nobody yet: enough to predict with, and no long detour once it does."""

BUSY_MS: Final = 100
"""What a peer that is training asks a proposer to wait, in milliseconds: K steps take about ten."""


class WeightsPart:
    """What this peer holds of a task's weights."""

    def __init__(
        self,
        me: PeerId,
        task_id: TaskId,
        task: Task,
        rounds: GossipRounds,
        random: Random,
        saved: Mapping[str, HoldState],
        result: KeepResult | None,
    ) -> None:
        self._me = me
        self._task_id = task_id
        self._task = task
        self._random = random
        self.manifest = layout(task, PART)
        self.schema = self.manifest.digest(task_id, PART)
        self.rounds = rounds
        self.result = result
        self.rows = 0
        self.is_training = False
        held = saved.get(PART)
        self.weights = _with(held.arrays, "weights/") if held else cvgossip.initial(task)
        self.control = _with(held.arrays, "control/") if held else cvgossip.initial(task)
        self.average = _with(held.arrays, "average/") if held else dict(self.weights)
        self.round = int(held.facts["round"]) if held else 0
        self.is_trained = bool(held.facts["is_trained"]) if held else False
        self.alone_rounds = 0
        self._start: Arrays = {}
        self.preparation: KeepResult | None = None
        if held:
            facts = {"is_settled": True, "exchanges": 0, "peers": held.facts["peers"]}
            self.preparation = KeepResult(task_id, "statistics", held.epoch, _with(held.arrays, "preparation/"), facts)

    @property
    def epoch(self) -> Epoch | None:
        """The epoch of the scale these weights live in. A scale of one peer's own rows has none: it is never exchanged in."""
        return self.preparation.epoch if self.preparation is not None and is_shared(self.preparation) else None

    def prepare(self, statistics: KeepResult, now: float) -> list[Any]:
        """The statistics have settled: train in their scale from now on."""
        if self.preparation is not None:
            if self.preparation.epoch == statistics.epoch and is_shared(self.preparation) == is_shared(statistics):
                return []
            before, after = self.preparation.arrays, statistics.arrays
            self.weights, self.average = (cvgossip.restate(self._task, w, before, after) for w in (self.weights, self.average))
            self.control = cvgossip.restate_control(self._task, self.control, before, after)
        self.preparation = statistics
        self.rounds.start(now)
        return [self._hold()]

    def train(self) -> Train | None:
        """The next K steps, if they are due: after an exchange, or, in the scale of own rows only, one turn after the other."""
        if self.preparation is None or self.rows == 0 or self.is_training:
            return None
        if self.is_trained and (self.epoch is not None or self.round > 0 or self.alone_rounds >= ALONE_TURNS):
            return None
        self.is_training = True
        arrays = {
            **_under("statistics/", self.preparation.arrays),
            **_under("weights/", self.weights),
            **_under("control/", self.control),
        }
        self._start = dict(self.weights)
        return Train(
            self._task_id,
            "train",
            arrays,
            {"seed": self._random.getrandbits(63), "round": self.round or self.alone_rounds},
        )

    def trained(self, arrays: Arrays | None) -> list[Any]:
        """Add what training moved; None if it failed."""
        self.is_training = False
        if arrays is None or self.preparation is None:
            return []
        after = _with(arrays, "weights/")
        self.weights = {n: self.weights[n] + (after[n] - self._start[n]) for n in self.weights}
        self.is_trained = True
        if self.epoch is None and self.round == 0:
            self.average = cvgossip.averaged(self.average, self.weights)
            self.alone_rounds += 1
        return [self._hold()]

    def offer(self) -> Offer | Refusal:
        if self.epoch is None or self.preparation is None or self.rows == 0:
            return Refusal("nothing-yet", BUSY_MS)
        if not self.is_trained or self.is_training:
            return Refusal("busy", BUSY_MS)
        payload = encode(self.manifest, self.weights, self._task.encoding, self._random.getrandbits(63))
        return Offer(self.preparation.epoch, self.manifest, self.schema, self._task.encoding, self.rows, payload, digest(payload))

    def moved(self, delta: Arrays, took_s: float, now: float) -> list[Any]:
        self.weights, self.control = cvgossip.committed(self.weights, self.control, delta)
        self.average = cvgossip.averaged(self.average, self.weights)
        self.round += 1
        self.is_trained = False
        self.rounds.committed(took_s, self.is_patient, now)
        return [self._hold()]

    def publish(self) -> KeepResult | None:
        """The smoothed weights, which predict better than any one turn's."""
        if self.preparation is None or self.round + self.alone_rounds == 0:
            return None
        facts = {"is_settled": self.is_patient, "exchanges": self.round, "peers": self.preparation.facts["peers"]}
        self.result = KeepResult(self._task_id, PART, self.preparation.epoch, dict(self.average), facts)
        return self.result

    def fetched(self, epoch: Epoch, arrays: Arrays, statistics: KeepResult | None, *, is_listening: bool) -> list[Any]:
        """A neighbour's weights: a listener predicts with them, a newcomer starts from them."""
        if statistics is None or statistics.epoch != epoch or (self.round > 0 and not is_listening):
            return []
        self.weights, self.average, self.is_trained = dict(arrays), dict(arrays), False
        self.preparation = statistics
        self.result = KeepResult(
            self._task_id, PART, epoch, dict(arrays), {"is_settled": True, "exchanges": 0, "peers": statistics.facts["peers"]}
        )
        return [self.result, self._hold()]

    def forget(self) -> None:
        """The owner erases the task: nothing of it stays in memory either."""
        self.weights, self.control, self.average = (cvgossip.initial(self._task) for _ in range(3))
        self.preparation = self.result = None
        self.round = self.alone_rounds = 0
        self.is_trained = False

    @property
    def is_ready(self) -> bool:
        """Whether a turn is done and waits to be exchanged."""
        return self.epoch is not None and self.is_trained and not self.is_training

    @property
    def is_shared(self) -> bool:
        return self.result is not None and self.round > 0 and is_shared(self.result)

    @property
    def is_patient(self) -> bool:
        return self.round >= PATIENCE

    def _hold(self) -> HoldState:
        assert self.preparation is not None
        arrays = {**_under("weights/", self.weights), **_under("control/", self.control), **_under("average/", self.average)}
        arrays |= _under("preparation/", self.preparation.arrays)
        facts = {"round": self.round, "is_trained": self.is_trained, "peers": self.preparation.facts["peers"]}
        return HoldState(self._task_id, PART, self.preparation.epoch, arrays, facts)


def is_shared(statistics: KeepResult) -> bool:
    """Whether several peers agreed on these statistics."""
    return bool(statistics.facts["peers"] > 1.5)


def _under(prefix: str, arrays: Arrays) -> dict[str, Any]:
    return {prefix + name: np.array(value) for name, value in arrays.items()}


def _with(arrays: Arrays, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
