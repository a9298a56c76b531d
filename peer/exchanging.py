"""The exchanges of all tasks at one peer: when and with whom, what was decided turned into actions, results for those who ask.

The order of what comes back is the exchange's own: durable first, then said.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final, assert_never

from protocol.exchange import Dropped, Effect, Epoch, Exchanges, Moved, Offer, Prepared, Refusal, Say, SayState, Subject
from protocol.fetch import Fetches
from protocol.frames import frame, message_frame
from protocol.identity import PeerId
from protocol.messages import CHUNK_TYPE, Fetch, Message, Propose, Refuse, Result
from protocol.tensors import Arrays, chunks, digest, encode

from .events import Action, LinkId, Notify, Persist, Seconds, Send, TaskId, at_once
from .links import Link, Links
from .participation import Participation
from .saved import Apply, Prepare, Saved, Settle
from .view import View

ASK_AGAIN_MS: Final = 2_000
"""When to ask again, in milliseconds, whoever has no result yet."""

SILENT_S: Final = 15.0
"""Seconds for which a partner that did not answer is left alone: by then a cut connection is seen to be one, or a busy partner is free."""


class Exchanging:
    """See the module. `tasks` is shared with the node, which adds to it. Is what `protocol.exchange` asks of a peer (Holdings)."""

    def __init__(self, me: PeerId, tasks: dict[TaskId, Participation], links: Links, view: View, random: Random, saved: Saved) -> None:
        self._tasks, self._links, self._view, self._random = tasks, links, view, random
        prepared = {
            p.xid: Prepared(p.xid, Subject(p.task, p.part), p.partner, p.epoch, p.delta) for p in saved.prepared.values() if p.task in tasks
        }
        applied = {(partner, bytes(task), part): xid for (partner, task, part), xid in saved.applied.items()}
        self._exchanges = Exchanges(me, self, prepared, applied)
        self._fetches = Fetches()
        self._began: dict[Subject, float] = {}
        self._asked_to_wait: dict[tuple[PeerId, Subject], float] = {}
        self._now = Seconds(0.0)
        self.wanted: set[PeerId] = set()
        """Partners drawn that have no link: to be dialled before others."""
        self.last: tuple[float, PeerId] | None = None
        """When the last exchange was committed, and with whom."""

    # for the node ----------------------------------------------------------------------------------------------------

    def receive(self, link: Link, message: Message, now: Seconds) -> list[Action]:
        """Take in a message of an exchange or a fetch from a member."""
        assert link.peer is not None
        self._now = now
        actions: list[Action] = []
        match message:
            case Fetch():
                return self._serve(link, message)
            case Result():
                self._fetches.receive(link.id, message)
                return []
            case Refuse():
                self._fetches.receive(link.id, message)
            case Propose():
                actions = self._before_proposal(link, message, now)
                self._began.setdefault(Subject(message.task, message.part), now)
        return actions + self._carry_out(self._exchanges.receive(link.id, link.peer, message, now), now)

    def chunk(self, link: Link, xid: bytes, piece: bytes, now: Seconds) -> list[Action]:
        """Take in a piece of a state or of a result."""
        self._now = now
        if fetched := self._fetches.chunk(link.id, xid, piece):
            participation = self._tasks.get(TaskId(fetched.subject.task))
            return participation.fetched(fetched.subject.part, fetched.epoch, fetched.arrays, now) if participation else []
        subject = self._exchanges.subject_on(link.id)
        if subject is not None and (participation := self._tasks.get(TaskId(subject.task))):
            participation.bytes_received += len(piece)
        return self._carry_out(self._exchanges.chunk(link.id, xid, piece, now), now)

    def greeted(self, link: Link, now: Seconds) -> list[Action]:
        """A neighbour is there (again): settle what is in doubt with it."""
        assert link.peer is not None
        return self._carry_out(self._exchanges.resolve(link.id, link.peer), now)

    def ask_again(self, now: Seconds) -> list[Action]:
        """Settle what is in doubt with whoever is there: the answer to an earlier question may have been lost with its link."""
        partners = dict.fromkeys(half.partner for half in self._exchanges.in_doubt)
        links = [link for link in map(self.link_to, partners) if link is not None]
        return [action for link in links for action in self.greeted(link, now)]

    def link_lost(self, link: LinkId, now: Seconds) -> list[Action]:
        self._fetches.link_lost(link)
        return self._carry_out(self._exchanges.link_lost(link), now)

    def tick(self, now: Seconds) -> list[Action]:
        self._now = now
        return self._carry_out(self._exchanges.tick(now), now)

    def next_deadline(self) -> float | None:
        return self._exchanges.next_deadline()

    def is_busy(self, link: Link) -> bool:
        return self._exchanges.subject_on(link.id) is not None

    def in_doubt(self, task: TaskId) -> int:
        """Exchanges of a task whose outcome this peer does not know yet."""
        return sum(1 for half in self._exchanges.in_doubt if half.subject.task == task)

    def forget(self, task: TaskId) -> None:
        self._exchanges.forget(task)

    def advance(self, participation: Participation, now: Seconds) -> list[Action]:
        """Begin the exchange, and the fetches, that are due."""
        self._now = now
        actions: list[Action] = []
        if (part := participation.due_part(now)) is not None:
            actions += self._begin(participation, part, now)
        if participation.wants_to_fetch(now):
            links = [k for n in self._view.partners(participation.task_id) if (k := self.link_to(n.peer)) is not None]
            link = self._random.choice(links) if links else None
            for subject in participation.to_fetch(now, can_ask=link is not None):
                actions += self.fetch(participation, subject, link, now) if link is not None else []
        return actions

    def abandon(self, participation: Participation, parts: Iterable[str], now: Seconds) -> list[Action]:
        """This peer leaves the epoch, or the task: nothing under way or in doubt about these parts counts any more."""
        return [a for part in parts for a in self._carry_out(self._exchanges.abandon(Subject(participation.task_id, part)), now)]

    def enter(self, participation: Participation, epoch: Epoch, now: Seconds) -> list[Action]:
        """Restart into an epoch, and forget halves of the old one in the same transaction: a peer that crashed in between would go on in
        the old epoch without them."""
        return at_once([*self.abandon(participation, ("statistics",), now), *participation.enter(epoch, now)])

    def link_to(self, peer: PeerId) -> Link | None:
        """The connection to a neighbour, one that is free if there is any."""
        return min(self._links.greeted(peer), key=lambda k: (self.is_busy(k), k.id), default=None)

    # what the exchange asks (protocol.exchange.Holdings) -------------------------------------------------------------

    def offer(self, subject: Subject) -> Offer | Refusal:
        """A snapshot of one part of a task, if this peer takes part in it."""
        participation = self._tasks.get(TaskId(subject.task))
        if participation is None:
            return Refusal("unknown-task", 60_000)
        if participation.has_ended(self._now):
            return Refusal("ended", 3_600_000)
        if not participation.is_contributing(self._view.present(participation.task_id), self._now):
            return Refusal("not-taking-part", 5_000)
        return participation.offer(subject.part)

    def epoch(self, subject: Subject) -> Epoch | None:
        """The epoch this peer is in."""
        participation = self._tasks.get(TaskId(subject.task))
        return participation.epoch(subject.part) if participation else None

    def objection(self, subject: Subject, arrays: Arrays, weight: int) -> str | None:
        """Why a neighbour's state must not be mixed in."""
        participation = self._tasks.get(TaskId(subject.task))
        return participation.objection(subject.part, arrays, weight) if participation else "unknown-task"

    # what the exchange decided ---------------------------------------------------------------------------------------

    def _carry_out(self, effects: list[Effect], now: Seconds) -> list[Action]:
        """Turn what the exchange decided into actions, in its order: durable first, then said."""
        actions: list[Action] = []
        for effect in effects:
            match effect:
                case Say(link, message, subject):
                    actions += self._send(link, [message_frame(message)], subject)
                case SayState(link, xid, payload, subject):
                    actions += self._send(link, (frame(CHUNK_TYPE, c) for c in chunks(xid, payload)), subject)
                case Prepared(xid, subject, partner, epoch, delta):
                    actions.append(Persist((Prepare(xid, TaskId(subject.task), subject.part, partner, epoch, delta),)))
                case Moved():
                    actions += self._moved(effect, now)
                case Dropped():
                    actions += self._dropped(effect, now)
                case _:
                    assert_never(effect)
        return actions

    def _moved(self, moved: Moved, now: Seconds) -> list[Action]:
        task, part = TaskId(moved.subject.task), moved.subject.part
        participation = self._tasks[task]
        took = now - self._began.pop(moved.subject, now)
        records, actions = participation.moved(part, moved.delta, took, now)
        outcome = Settle(moved.xid) if moved.is_initiator else Apply(moved.xid, task, part, moved.partner)
        neighbour = self._view.neighbours.get(moved.partner)
        if neighbour is not None:
            neighbour.exchanges += 1
        self.last = (now, moved.partner)
        facts = {
            "task": participation.task.name,
            "part": part,
            "peer": moved.partner.hex(),
            "name": self._view.name(moved.partner),
            "xid": moved.xid.hex(),
            "began_here": moved.is_initiator,
            "seconds": round(took, 4),
        }
        return [Persist((*records, outcome)), *actions, Notify("exchange.committed", facts)]

    def _dropped(self, dropped: Dropped, now: Seconds) -> list[Action]:
        actions: list[Action] = [Persist((Settle(dropped.xid),))] if dropped.xid is not None else []
        participation = self._tasks.get(TaskId(dropped.subject.task))
        self._began.pop(dropped.subject, None)
        if participation is None:
            return actions
        wait_s = SILENT_S if dropped.reason == "too slow" else dropped.retry_ms / 1000
        self._asked_to_wait[dropped.partner, dropped.subject] = now + wait_s
        participation.failed(dropped.subject.part, now)
        if dropped.theirs is not None and dropped.reason == "epoch":
            link = self.link_to(dropped.partner)
            actions += self._meet_epoch(participation, dropped.subject.part, dropped.theirs, link, now)
        facts = {"task": participation.task.name, "part": dropped.subject.part, "peer": dropped.partner.hex(), "reason": dropped.reason}
        return [*actions, Notify("exchange.dropped", facts)]

    def _send(self, link: int, frames: Iterable[bytes], subject: Subject) -> list[Action]:
        if LinkId(link) not in self._links:
            return []
        sends: list[Action] = [Send(LinkId(link), data) for data in frames]
        if participation := self._tasks.get(TaskId(subject.task)):
            participation.bytes_sent += sum(len(s.data) for s in sends if isinstance(s, Send))
        return sends

    # epochs, beginning, results --------------------------------------------------------------------------------------

    def _before_proposal(self, link: Link, message: Propose, now: Seconds) -> list[Action]:
        """Meeting a higher epoch means restarting into it, and answering the proposal from there."""
        participation = self._tasks.get(TaskId(message.task))
        if participation is None or self._exchanges.subject_on(link.id) is not None:
            return []
        return self._meet_epoch(participation, message.part, Epoch(message.epoch, PeerId(message.starter)), link, now)

    def _meet_epoch(self, participation: Participation, part: str, theirs: Epoch, link: Link | None, now: Seconds) -> list[Action]:
        ours = participation.epoch(part)
        if part == "statistics" and ours is not None and ours.number == theirs.number == 0:
            theirs = participation.statistics.next_epoch()  # two newcomers: neither's own epoch is running anywhere
        if part not in participation.task.parts or (ours is not None and theirs <= ours) or not participation.is_possible(theirs, now):
            return []
        if part == "weights":
            return self.fetch(participation, Subject(participation.task_id, "statistics"), link, now) if link else []
        if ours is None or not participation.is_contributing(self._view.present(participation.task_id), now):
            return []
        return self.enter(participation, theirs, now)

    def _begin(self, participation: Participation, part: str, now: Seconds) -> list[Action]:
        subject = Subject(participation.task_id, part)
        rounds = participation.rounds(part)
        partners = self._view.partners(participation.task_id)
        rounds.began(now)
        if self._exchanges.is_busy(subject) or not participation.is_contributing(self._view.present(participation.task_id), now):
            return []
        self._asked_to_wait = {key: until for key, until in self._asked_to_wait.items() if until > now}
        within_reach = [n.peer for n in partners if (n.links or n.dialling.may(now)) and (n.peer, subject) not in self._asked_to_wait]
        partner = rounds.partner(within_reach)
        if partner is None:
            return []
        link = self.link_to(partner)
        if link is None:
            self.wanted.add(partner)
            return []
        if self._exchanges.is_in_doubt(partner, subject):
            return self._carry_out(self._exchanges.resolve(link.id, partner), now)
        if not self._exchanges.may_propose(link.id, partner, subject):
            rounds.failed(now)
            return []
        link.used = self._began[subject] = now
        return self._carry_out(self._exchanges.propose(link.id, partner, subject, self._xid(), now), now)

    def fetch(self, participation: Participation, subject: Subject, link: Link, now: Seconds) -> list[Action]:
        assert link.certificate is not None
        held = participation.statistics if subject.part == "statistics" else participation.weights
        if held is None:
            return []
        message = self._fetches.ask(link.id, link.certificate.peer, subject, held.manifest, self._xid(), now)
        return [self._links.say(link, message)] if message else []

    def _serve(self, link: Link, message: Fetch) -> list[Action]:
        participation = self._tasks.get(TaskId(message.task))
        result = participation.result(message.part) if participation is not None and message.part in participation.task.parts else None
        if participation is None or result is None:
            return [self._links.say(link, Refuse(xid=message.xid, reason="nothing-yet", retry_ms=ASK_AGAIN_MS))]
        held = participation.statistics if message.part == "statistics" else participation.weights
        assert held is not None
        encoding = "f64" if message.part == "statistics" else "f32"
        payload = encode(held.manifest, result.arrays, encoding, None)
        answer = Result(
            xid=message.xid,
            epoch=result.epoch.number,
            starter=result.epoch.starter,
            encoding=encoding,
            size=len(payload),
            digest=digest(payload),
        )
        subject = Subject(message.task, message.part)
        return self._carry_out([Say(link.id, answer, subject), SayState(link.id, message.xid, payload, subject)], self._now)

    def _xid(self) -> bytes:
        return self._random.getrandbits(128).to_bytes(16, "big")
