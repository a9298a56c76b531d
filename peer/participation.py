"""One task at this peer: what the owner decided, which rows take part, what is held of each part, when to train, publish and score.

A peer whose owner has not accepted, whose rows are fewer than the card's threshold, or whose task has ended, listens: it predicts with what
its neighbours publish and contributes nothing, and says why. It logs nothing and sends nothing; the node does.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from protocol.exchange import Epoch, Offer, Refusal, Subject
from protocol.identity import PeerId
from protocol.tasks import Task
from protocol.tensors import Arrays

from .cards import describe
from .events import Action, Notify, Persist, Seconds, TaskId, Train, Trained
from .learning.moments import StateRefused, pooled_rows, validate
from .parts.statistics import EPOCH_S, StatisticsPart, rounds
from .parts.weights import WeightsPart
from .rounds.gossip import GossipRounds
from .saved import AddScore, KeepResult, Saved

DEBOUNCE_S: Final = 2.0
"""Seconds between noticing that a peer is gone and beginning an epoch without it: several may go, and several may notice."""

SCORE_EVERY_S: Final = 1.0
"""Seconds between two scorings: a person cannot read faster, and a fit costs more than an exchange."""

LISTEN_EVERY_S: Final = 30.0
ASK_EVERY_S: Final = 2.0
"""Seconds between two fetches, of a listener that has a result, and of a peer that has none."""

EPOCH_SLACK_S: Final = 86_400
"""A network starts at most one epoch a second since its task was made, a day of clock skew allowed: a neighbour that claims a higher number
lies, and would otherwise hold everybody in an epoch that none can follow."""

MAX_HISTORY: Final = 60
"""Points of the curve that a person is shown: the width of a terminal's column."""


class Participation:
    """See the module. `decision` is the owner's: offered, accepted or left."""

    def __init__(self, me: PeerId, task_id: TaskId, card: bytes, task: Task, decision: str, period_s: float, random: Random, saved: Saved):
        self.task_id, self.card, self.task, self.decision = task_id, card, task, decision
        states = {part: held for (t, part), held in saved.states.items() if t == task_id}
        results = {part: r for (t, part), r in saved.results.items() if t == task_id}
        self.statistics = StatisticsPart(me, task_id, task, rounds(period_s, random), states, results.get("statistics"))
        if decision == "left":
            self.statistics.withdraw()  # as when it left: should it come back, its rows must not count twice
        self.weights: WeightsPart | None = None
        if "weights" in task.parts:
            stream = Random(random.getrandbits(64))
            self.weights = WeightsPart(me, task_id, task, rounds(period_s, random), stream, states, results.get("weights"))
        self.scores = list(saved.scores.get(task_id, ()))
        self.exchanges = self.scores[-1].exchanges if self.scores else 0
        self.bytes_sent = self.bytes_received = 0
        self.facts: dict[str, Any] = {}
        self.problem: str | None = None
        self.problem_next: str | None = None
        self.now_score: float | None = self.scores[-1].now if self.scores else None
        self.restart_at: float | None = None
        self._random = random
        self._is_opening = self._is_scoring = False
        self._is_score_due = True
        self._score_at = self._fetch_at = 0.0
        self.is_alone = True

    # the owner -------------------------------------------------------------------------------------------------------

    def accept(self) -> list[Action]:
        self.decision, self.problem = "accepted", None
        return self.open()

    def open(self) -> list[Action]:
        """Read the owner's rows (again)."""
        if self.decision != "accepted" or self._is_opening:
            return []
        self._is_opening = True
        return [Train(self.task_id, "open")]

    def leave(self, *, erase: bool) -> None:
        self.decision = "left"
        self.statistics.withdraw()
        if self.weights is not None:
            self.weights.rows = 0
        if erase:
            self.statistics.result = None
            self.scores.clear()
            self.now_score = None
            if self.weights is not None:
                self.weights.forget()

    # whether it takes part ---------------------------------------------------------------------------------------------

    def has_ended(self, now: float) -> bool:
        return self.task.ends is not None and now >= self.task.ends

    @property
    def has_rows(self) -> bool:
        return int(self.facts.get("train_rows", 0)) >= self.task.thresholds.min_rows

    @property
    def would_contribute(self) -> bool:
        """Whether this peer is counted as one of the task's: its record names the task then.

        A daemon that has just started goes on with what it held. Were it to wait until its rows are read, its neighbours would take it for
        one that left, and begin an epoch.
        """
        goes_on = not self.facts and self.problem is None and self.statistics.is_taking_part
        return self.decision == "accepted" and (self.has_rows or goes_on)

    def is_contributing(self, partners: int, now: float) -> bool:
        return self.would_contribute and not self.has_ended(now) and partners + 1 >= self.task.thresholds.min_peers

    def state(self, partners: int, now: float) -> tuple[str, str | None, str | None]:
        """State, why in one sentence, and what the owner may do next."""
        name, minimum = self.task.name, self.task.thresholds
        if self.decision == "left":
            return "left", "this device has left the task", None
        if self.decision == "offered":
            return "offered", "waits for your consent; nothing of this device takes part", f"chinwag task show {name}"
        if self.problem:
            return "failed", self.problem, self.problem_next
        if not self.facts:
            return "preparing", "reading the rows", None
        if self.has_ended(now):
            return "ended", "the task's end date has passed; the model stays usable", None
        if not self.has_rows:
            rows = self.facts.get("train_rows", 0)
            return "listening", f"{rows} training rows here, the task asks for {minimum.min_rows}: predicts, contributes nothing", None
        if partners + 1 < minimum.min_peers:
            why = f"{partners + 1} of {minimum.min_peers} peers are here: contributes nothing until they are"
            return "listening", why, None
        return "running", None if partners else "no neighbour takes part yet", None

    # what an exchange asks -------------------------------------------------------------------------------------------

    def offer(self, part: str) -> Offer | Refusal:
        if part == "statistics":
            return self.statistics.offer()
        return self.weights.offer() if self.weights is not None else Refusal("schema")

    def epoch(self, part: str) -> Epoch | None:
        if part == "weights":
            return self.weights.epoch if self.weights is not None else None
        return self.statistics.epoch if self.statistics.is_taking_part else None

    def objection(self, part: str, arrays: Arrays, weight: int) -> str | None:
        """Why a neighbour's state must not be mixed in: each peer counts once in a mean of moments, and nobody trains on more rows than
        all peers together said they have (twice as many, for rows that came since)."""
        try:
            validate(self.task, part, arrays)
        except StateRefused as error:
            return str(error)
        if part == "statistics":
            return None if weight == 1 else "weight"
        preparation = self.weights.preparation if self.weights is not None else None
        rows = pooled_rows(preparation.arrays) if preparation is not None else None
        return None if rows is None or weight <= 2 * rows else "weight"

    def is_possible(self, epoch: Epoch, now: float) -> bool:
        return epoch.number <= max(now - self.task.created, 0) + EPOCH_SLACK_S

    # what happened ---------------------------------------------------------------------------------------------------

    def moved(self, part: str, delta: Arrays, took_s: float, now: float) -> tuple[list[Any], list[Action]]:
        """An exchange is decided: records that must be durable before anything else is said, and what follows from it."""
        self.exchanges += 1
        if part == "weights":
            assert self.weights is not None
            self._is_score_due = True
            return self.weights.moved(delta, took_s, now), []
        records = self.statistics.moved(delta, took_s, now)
        return records, []

    def enter(self, epoch: Epoch, now: float) -> list[Action]:
        """Restart into an epoch."""
        self.restart_at = None
        records = self.statistics.enter(epoch, now)
        return [Persist(tuple(records)), self._notify("epoch.began", epoch=epoch.number, by=epoch.starter.hex())]

    def request_epoch(self, now: float) -> None:
        """Somebody who took part is gone: begin an epoch without its rows, unless another peer does so first."""
        if self.statistics.is_taking_part:
            soon = now + DEBOUNCE_S * (1 + self._random.random())
            self.restart_at = min(self.restart_at or soon, soon)

    def is_epoch_due(self, partners: int, now: float, *, is_cut_off: bool) -> bool:
        """Whether to begin an epoch. A peer that lost everybody is itself the one that is gone: it keeps what the network had learned."""
        if not self.statistics.is_taking_part:
            return False
        if is_cut_off:
            self.restart_at = self.restart_at and max(self.restart_at, now + DEBOUNCE_S)
            return False
        is_old = partners > 0 and now - self.statistics.began >= EPOCH_S
        return is_old or (self.restart_at is not None and self.restart_at <= now)

    def met_partner(self, now: float, *, is_new: bool) -> None:
        """A neighbour says that it takes part: exchange soon, if it has not been seen to before."""
        if is_new and self.statistics.is_taking_part:
            self.statistics.rounds.start(now)

    def rounds(self, part: str) -> GossipRounds:
        return self.weights.rounds if part == "weights" and self.weights is not None else self.statistics.rounds

    def failed(self, part: str, now: float) -> None:
        """An exchange did not come about."""
        self.rounds(part).failed(now)

    def trained(self, event: Trained, now: float) -> list[Action]:
        """A job of the trainer is finished. What it brings to a task that was left meanwhile is dropped: it may have been erased."""
        if self.decision != "accepted":
            self._is_opening = self._is_scoring = False
            if self.weights is not None:
                self.weights.is_training = False
            return []
        match event.job:
            case "open":
                return self._opened(event, now)
            case "score":
                return self._scored(event, now)
            case "train":
                assert self.weights is not None
                records = self.weights.trained(event.arrays if event.error is None else None)
                if event.error is not None:
                    self.problem, self.problem_next = event.error, event.facts.get("next")
                return [Persist(tuple(records))] if records else []
        return []

    def _opened(self, event: Trained, now: float) -> list[Action]:
        self._is_opening = False
        if event.error is not None:
            self.problem, self.problem_next = event.error, event.facts.get("next")
            return [self._notify("task.failed", error=event.error, next=self.problem_next)]
        self.problem = None
        self.facts = dict(event.facts)
        self._is_score_due = True
        actions: list[Action] = [self._notify("task.opened", **{k: v for k, v in self.facts.items() if isinstance(v, int | float | str)})]
        if self.decision != "accepted" or not self.has_rows:
            self.statistics.withdraw()
            return actions
        records = self.statistics.opened(event.arrays, now)
        if self.weights is not None:
            self.weights.rows = int(self.facts["train_rows"])
        return [Persist(tuple(records)), *actions] if records else actions

    def _scored(self, event: Trained, now: float) -> list[Action]:
        self._is_scoring = False
        if event.error is not None:
            return [self._notify("task.failed", error=event.error)]
        self.now_score = float(event.facts["now"])
        score = AddScore(self.task_id, Seconds(now), self.exchanges, self.now_score)
        self.scores = [*self.scores, score][-1000:]
        return [Persist((score,)), self._notify("score", now=self.now_score, alone=self.facts.get("alone"), exchanges=self.exchanges)]

    # what is due -----------------------------------------------------------------------------------------------------

    def advance(self, partners: int, now: float, *, is_alone: bool) -> list[Action]:
        """Everything that became due: publish, train, score. Cheap, and without effect when nothing did."""
        self.is_alone = is_alone
        if self.decision != "accepted" or not self.facts or self.problem:
            return []
        actions: list[Action] = []
        if self.statistics.is_taking_part:
            actions += self._publish(partners, now)
        if self.weights is not None and (shared := self.statistics.result) is not None and shared.facts["is_settled"]:
            if records := self.weights.prepare(shared, now):
                actions.append(Persist(tuple(records)))
            if not self.has_ended(now) and (job := self.weights.train()) is not None:
                actions.append(job)
        return actions + self._score(now)

    def _publish(self, partners: int, now: float) -> list[Action]:
        results: list[KeepResult | None] = []
        part, is_lone = self.statistics, partners == 0 and self.is_alone
        is_new_epoch = part.result is None or part.result.epoch != part.epoch
        if is_lone and part.exchanges_in_epoch == 0 and is_new_epoch:
            results.append(part.publish(is_alone=True))
        elif part.exchanges_in_epoch > 0 and (part.rounds.is_settled or now >= self._score_at):
            results.append(part.publish(is_alone=False))
        kept = [r for r in results if r is not None]
        if not kept:
            return []
        self._is_score_due = True
        facts = kept[0].facts
        notice = self._notify("result.published", epoch=kept[0].epoch.number, peers=facts["peers"], is_settled=facts["is_settled"])
        return [Persist(tuple(kept)), notice]

    def _score(self, now: float) -> list[Action]:
        if self._is_scoring or not self._is_score_due or now < self._score_at or self.statistics.result is None:
            return []
        self._is_scoring, self._is_score_due, self._score_at = True, False, now + SCORE_EVERY_S
        arrays = {f"statistics/{n}": a for n, a in self.statistics.result.arrays.items()}
        actions: list[Action] = []
        if self.weights is not None:
            if self.weights.rows and (result := self.weights.publish()) is not None:
                actions.append(Persist((result,)))
            if self.weights.result is None or self.weights.preparation is None:
                self._is_scoring = False
                return []
            arrays = {f"statistics/{n}": a for n, a in self.weights.preparation.arrays.items()}
            arrays |= {f"weights/{n}": a for n, a in self.weights.result.arrays.items()}
        return [*actions, Train(self.task_id, "score", arrays)]

    def due_part(self, now: float) -> str | None:
        """The part of which an exchange should begin now. Statistics first: weights live in their scale."""
        if self.statistics.is_taking_part and self.statistics.rounds.due <= now:
            return "statistics"
        if self.weights is not None and self.weights.is_ready and self.weights.rounds.due <= now:
            return "weights"
        return None

    def next_deadline(self, partners: int) -> float | None:
        if self.decision != "accepted":
            return None
        waits = []
        if self.statistics.is_taking_part:
            waits += [self.statistics.rounds.due] + ([self.statistics.began + EPOCH_S] if partners else [])
        if self.weights is not None and self.weights.is_ready:
            waits.append(self.weights.rounds.due)
        if self._is_score_due and self.facts and not self._is_scoring and self.statistics.result is not None:
            waits.append(self._score_at)
        waits += [w for w in (self.restart_at, self._fetch_at) if w]
        return min(waits, default=None)

    # results of neighbours -------------------------------------------------------------------------------------------

    def wants_to_fetch(self, now: float) -> bool:
        """Whether to ask a neighbour: a listener now and then, a newcomer until something has settled here."""
        if self.decision != "accepted" or not self.facts or now < self._fetch_at:
            return False
        if self.has_rows and self.statistics.is_shared:
            self._fetch_at = 0.0
            return False
        return True

    def to_fetch(self, now: float, *, can_ask: bool) -> list[Subject]:
        """What to ask a neighbour for; it is not asked again for a while. Where nobody can be asked, the next to come is asked at once."""
        if not can_ask:
            self._fetch_at = 0.0  # a time that has passed would be a deadline for ever
            return []
        self._fetch_at = now + (LISTEN_EVERY_S if self.statistics.is_shared else ASK_EVERY_S)
        return [Subject(self.task_id, part) for part in self.task.parts]

    def result(self, part: str) -> KeepResult | None:
        """What a neighbour that asks may have: only what several peers have settled on, never this peer's own moments."""
        held = self.statistics if part == "statistics" else self.weights
        return held.result if held is not None and held.is_shared else None

    def fetched(self, part: str, epoch: Epoch, arrays: Arrays, now: float) -> list[Action]:
        if self.objection(part, arrays, 1) is not None or not self.is_possible(epoch, now):
            return []
        if part == "weights":
            assert self.weights is not None
            records = self.weights.fetched(epoch, arrays, self.statistics.result, is_listening=not self.has_rows)
        else:
            records = self.statistics.fetched(epoch, arrays)
        if not records:
            return []
        self._is_score_due = True
        return [Persist(tuple(records)), self._notify("result.fetched", epoch=epoch.number, part=part)]

    # for people ------------------------------------------------------------------------------------------------------

    def status(self, partners: int, in_doubt: int, now: float) -> dict[str, Any]:
        state, why, next_step = self.state(partners, now)
        result = self.statistics.result
        rows = pooled_rows(result.arrays) if result is not None else None
        return {
            "id": self.task_id.hex(),
            "name": self.task.name,
            "model": self.task.model,
            "state": state,
            "why": why,
            "next": next_step,
            "rows": self.facts.get("train_rows"),
            "test_rows": self.facts.get("test_rows"),
            "epoch": self.statistics.epoch.number,
            "peers": round(result.facts["peers"]) if result is not None else None,
            "rows_total": round(rows) if rows is not None else None,
            "exchanges": self.exchanges,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "metric": self.facts.get("metric"),
            "alone": self.facts.get("alone"),
            "now": self.now_score,
            "history": [[s.at, s.exchanges, s.now] for s in self.scores[-MAX_HISTORY:]],
            "is_settled": bool(result is not None and result.facts["is_settled"]),
            "in_doubt": in_doubt,
        }

    def describe(self) -> dict[str, Any]:
        """The card, for a person who is to decide."""
        return describe(self.task_id, self.task) | {"decision": self.decision}

    def _notify(self, kind: str, **facts: Mapping[str, Any] | Any) -> Notify:
        return Notify(kind, {"task": self.task.name, **facts})
