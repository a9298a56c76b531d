"""The exchange as two tables: what each side does in every state about everything that may happen (SPEC 5.4).

`test_exchange.py` shows that the mean survives whatever is done to the network; this shows each step by itself, and the order of durable
writes and words in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protocol import messages
from protocol.exchange import Dropped, Effect, Epoch, Exchanges, Moved, Offer, Prepared, Refusal, Say, SayState, Subject, both
from protocol.identity import PeerId
from protocol.messages import Message
from protocol.tensors import Manifest, TensorSpec, digest, encode

INITIATOR = """
FREE | begins | PROPOSE | OFFERED
OFFERED | ACCEPT | chunks | TRANSFERRING
OFFERED | ACCEPT of another size | ABORTED, drop | FREE
OFFERED | REFUSE | drop | FREE
OFFERED | ABORTED | drop | FREE
OFFERED | DONE | drop | FREE
OFFERED | the partner's PROPOSE, its id lower | drop, ACCEPT, chunks | RESPONDER
OFFERED | the partner's PROPOSE, its id higher | REFUSE | OFFERED
OFFERED | leaves the epoch | ABORTED, drop | FREE
OFFERED | time is up | ABORTED, drop | FREE
OFFERED | connection lost | drop | FREE
TRANSFERRING | all chunks, good | prepare, COMMIT | COMMITTING
TRANSFERRING | all chunks, bad | ABORTED, drop | FREE
TRANSFERRING | REFUSE | | TRANSFERRING
TRANSFERRING | ABORTED | drop | FREE
TRANSFERRING | DONE | drop | FREE
TRANSFERRING | the partner's PROPOSE, its id lower | REFUSE | TRANSFERRING
TRANSFERRING | leaves the epoch | ABORTED, drop | FREE
TRANSFERRING | time is up | ABORTED, drop | FREE
TRANSFERRING | connection lost | drop | FREE
COMMITTING | REFUSE | | COMMITTING
COMMITTING | ACCEPT | | COMMITTING
COMMITTING | DONE | move | FREE
COMMITTING | DONE, epoch left | drop | FREE
COMMITTING | ABORTED | drop | FREE
COMMITTING | leaves the epoch | drop | FREE
COMMITTING | time is up | RESOLVE | IN DOUBT
COMMITTING | connection lost | | IN DOUBT
IN DOUBT | meets the partner | RESOLVE | IN DOUBT
IN DOUBT | DONE | move | FREE
IN DOUBT | DONE, epoch left | drop | FREE
IN DOUBT | ABORTED | drop | FREE
IN DOUBT | leaves the epoch | drop | FREE
"""

RESPONDER = """
FREE | PROPOSE | ACCEPT, chunks | TRANSFERRING
FREE | PROPOSE that does not fit | REFUSE | FREE
FREE | COMMIT | ABORTED | FREE
FREE | RESOLVE of an xid it applied | DONE | FREE
FREE | RESOLVE of another xid | ABORTED | FREE
FREE | PROPOSE of an xid it applied | REFUSE | FREE
TRANSFERRING | all chunks, good | | WHOLE
TRANSFERRING | all chunks, bad | ABORTED, drop | FREE
TRANSFERRING | COMMIT | ABORTED, drop | FREE
TRANSFERRING | RESOLVE | drop, ABORTED | FREE
TRANSFERRING | another PROPOSE | REFUSE | TRANSFERRING
TRANSFERRING | ABORTED | drop | FREE
TRANSFERRING | leaves the epoch | ABORTED, drop | FREE
TRANSFERRING | time is up | ABORTED, drop | FREE
TRANSFERRING | connection lost | drop | FREE
WHOLE | COMMIT | move, DONE | FREE
WHOLE | COMMIT of another digest | ABORTED, drop | FREE
WHOLE | COMMIT of another xid | ABORTED | WHOLE
WHOLE | COMMIT, epoch left | ABORTED, drop | FREE
WHOLE | COMMIT on another connection | ABORTED | WHOLE
WHOLE | another PROPOSE | REFUSE | WHOLE
WHOLE | RESOLVE | drop, ABORTED | FREE
WHOLE | ABORTED | drop | FREE
WHOLE | time is up | ABORTED, drop | FREE
WHOLE | connection lost | drop | FREE
"""
"""State, event, effects in their order, next state. *prepare* and *move* are durable writes, *drop* ends the exchange without moving."""


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


LOW, HIGH, OTHER = PeerId(b"\1" * 32), PeerId(b"\2" * 32), PeerId(b"\0" * 32)
SUBJECT = Subject(b"t" * 32, "statistics")
MANIFEST = Manifest((TensorSpec("v", (2,)),))
XID, LINK = b"x" * 16, 1
MINE = encode(MANIFEST, {"v": np.array([1.0, 2.0])}, "f64", None)
THEIRS = encode(MANIFEST, {"v": np.array([3.0, 4.0])}, "f64", None)
BAD = encode(MANIFEST, {"v": np.array([9.0, 9.0])}, "f64", None)
SCHEMA = MANIFEST.digest(SUBJECT.task, SUBJECT.part)
NOW = 100.0


class Side:
    """One peer, at a state of the table; its partner is whatever the test says."""

    def __init__(self, me: PeerId, partner: PeerId) -> None:
        self.partner = partner
        self.is_initiator = False
        self.now_epoch = Epoch(3, LOW)
        self.exchanges = Exchanges(me, self, {}, {})

    def offer(self, subject: Subject) -> Offer | Refusal:
        return Offer(self.now_epoch, MANIFEST, SCHEMA, "f64", 1, MINE, digest(MINE))

    def epoch(self, subject: Subject) -> Epoch | None:
        return self.now_epoch

    def objection(self, subject: Subject, arrays: Any, weight: int) -> str | None:
        return "not a state" if arrays["v"][0] == 9.0 else None

    def hear(self, message: Message, link: int = LINK) -> list[Effect]:
        return self.exchanges.receive(link, self.partner, message, NOW)

    def begin(self) -> list[Effect]:
        self.is_initiator = True
        return self.exchanges.propose(LINK, self.partner, SUBJECT, XID, NOW)

    def proposed(self, xid: bytes = XID, link: int = LINK, **changes: Any) -> list[Effect]:
        fields: dict[str, Any] = {
            "xid": xid,
            "task": SUBJECT.task,
            "part": SUBJECT.part,
            "epoch": 3,
            "starter": LOW,
            "schema": SCHEMA,
            "encoding": "f64",
            "weight": 1,
            "size": len(THEIRS),
            "digest": digest(THEIRS),
        }
        return self.hear(messages.Propose(**{**fields, **changes}), link)

    def accepted(self, size: int = len(THEIRS), payload: bytes = THEIRS) -> list[Effect]:
        return self.hear(messages.Accept(xid=XID, weight=1, size=size, digest=digest(payload)))

    def chunks(self, payload: bytes = THEIRS, xid: bytes = XID) -> list[Effect]:
        return self.exchanges.chunk(LINK, xid, payload[:5], NOW) + self.exchanges.chunk(LINK, xid, payload[5:], NOW)

    def commit(self, xid: bytes = XID, first: bytes = THEIRS, link: int = LINK) -> list[Effect]:
        return self.hear(messages.Commit(xid=xid, digest=both(digest(first), digest(MINE))), link)

    def time_is_up(self) -> list[Effect]:
        return self.exchanges.tick(1e6)


def initiator(state: str, me: PeerId = LOW, partner: PeerId = HIGH, payload: bytes = THEIRS) -> Side:
    side = Side(me, partner)
    steps = {"FREE": 0, "OFFERED": 1, "TRANSFERRING": 2, "COMMITTING": 3, "IN DOUBT": 4}[state]
    for step in (side.begin, lambda: side.accepted(payload=payload), side.chunks, lambda: side.exchanges.link_lost(LINK))[:steps]:
        step()
    return side


def responder(state: str, payload: bytes = THEIRS) -> Side:
    side = Side(HIGH, LOW)
    steps = {"FREE": 0, "TRANSFERRING": 1, "WHOLE": 2}[state]
    for step in (lambda: side.proposed(digest=digest(payload)), side.chunks)[:steps]:
        step()
    return side


def left(side: Side) -> Side:
    side.now_epoch = Epoch(4, LOW)
    return side


def applied(side: Side) -> Side:
    side.proposed()
    side.chunks()
    side.commit()
    return side


DONE, ABORTED = messages.Done(xid=XID), messages.Aborted(xid=XID)
RESOLVE = messages.Resolve(xid=XID, task=SUBJECT.task)


def initiator_does(state: str, event: str) -> tuple[Side, list[Effect]]:
    side = initiator(state)
    match event:
        case "begins":
            return side, side.begin()
        case "ACCEPT":
            return side, side.accepted()
        case "ACCEPT of another size":
            return side, side.accepted(size=len(THEIRS) + 1)
        case "REFUSE":
            return side, side.hear(messages.Refuse(xid=XID, reason="busy", retry_ms=0))
        case "ABORTED":
            return side, side.hear(ABORTED, link=LINK if state != "IN DOUBT" else 9)
        case "DONE":
            return side, side.hear(DONE, link=LINK if state != "IN DOUBT" else 9)
        case "DONE, epoch left":
            return side, left(side).hear(DONE, link=LINK if state != "IN DOUBT" else 9)
        case "the partner's PROPOSE, its id lower":
            side = initiator(state, me=HIGH, partner=LOW)
            return side, side.proposed(xid=b"y" * 16)
        case "the partner's PROPOSE, its id higher":
            return side, side.proposed(xid=b"y" * 16)
        case "leaves the epoch":
            return side, side.exchanges.abandon(SUBJECT)
        case "time is up":
            return side, side.time_is_up()
        case "connection lost":
            return side, side.exchanges.link_lost(LINK)
        case "all chunks, good":
            return side, side.chunks()
        case "all chunks, bad":
            side = initiator(state, payload=BAD)
            return side, side.chunks(BAD)
        case "meets the partner":
            return side, side.exchanges.resolve(9, HIGH)
    raise AssertionError(event)


def responder_does(state: str, event: str) -> tuple[Side, list[Effect]]:
    side = responder(state)
    match event:
        case "PROPOSE":
            return side, side.proposed()
        case "PROPOSE that does not fit":
            for changes in ({"epoch": 2}, {"starter": HIGH}, {"schema": b"s" * 32}, {"size": 15}, {"encoding": "f32"}):
                ((refused, _),) = [(e.message, e) for e in side.proposed(**changes) if isinstance(e, Say)]
                assert (refused.epoch, refused.starter) == (3, LOW)
            return side, side.proposed(epoch=4)
        case "PROPOSE of an xid it applied":
            return side, applied(side).proposed(link=2)
        case "another PROPOSE":
            return side, side.proposed(xid=b"y" * 16, link=2)
        case "COMMIT":
            return side, side.commit()
        case "COMMIT of another digest":
            return side, side.commit(first=MINE)
        case "COMMIT of another xid":
            return side, side.commit(xid=b"y" * 16)
        case "COMMIT, epoch left":
            return side, left(side).commit()
        case "COMMIT on another connection":
            return side, side.commit(link=2)
        case "RESOLVE":
            return side, side.hear(RESOLVE, link=2)
        case "RESOLVE of an xid it applied":
            return side, applied(side).hear(RESOLVE, link=2)
        case "RESOLVE of another xid":
            return side, applied(side).hear(messages.Resolve(xid=b"y" * 16, task=SUBJECT.task))
        case "all chunks, good":
            return side, side.chunks()
        case "all chunks, bad":
            side = responder(state, payload=BAD)
            return side, side.chunks(BAD)
        case "ABORTED":
            return side, side.hear(ABORTED)
        case "leaves the epoch":
            return side, side.exchanges.abandon(SUBJECT)
        case "time is up":
            return side, side.time_is_up()
        case "connection lost":
            return side, side.exchanges.link_lost(LINK)
    raise AssertionError(event)


def does(effects: list[Effect]) -> str:
    """Effects as the tables write them."""
    words = {SayState: "chunks", Prepared: "prepare", Moved: "move", Dropped: "drop"}
    return ", ".join(type(e.message).__name__.upper() if isinstance(e, Say) else words[type(e)] for e in effects)


def shows(side: Side, state: str) -> tuple[str, str]:
    """What a side does about the event that tells this state from the others, and what it would do in that state."""
    match state:
        case "FREE":
            assert not side.exchanges.is_busy(SUBJECT)
            assert not side.exchanges.is_in_doubt(side.partner)
            return does(side.proposed(xid=b"z" * 16, link=3, epoch=side.now_epoch.number)), "ACCEPT, chunks"
        case "OFFERED":
            return does(side.accepted()), "chunks"
        case "TRANSFERRING" if side.is_initiator:
            return does(side.chunks()), "prepare, COMMIT"
        case "TRANSFERRING":
            return does(side.chunks()) + does(side.commit()), "move, DONE"
        case "WHOLE":
            return does(side.commit()), "move, DONE"
        case "RESPONDER":
            return does(side.chunks(xid=b"y" * 16)) + does(side.commit(xid=b"y" * 16)), "move, DONE"
        case "COMMITTING":
            assert side.exchanges.is_busy(SUBJECT)
            return does(side.hear(DONE)), "move"
        case "IN DOUBT":
            assert not side.exchanges.is_busy(SUBJECT)
            return does(side.hear(DONE, link=9)), "move"
    raise AssertionError(state)


@pytest.mark.parametrize(("state", "event", "expected", "after"), rows(INITIATOR), ids=lambda w: w or "nothing")
def test_the_initiator_does_what_the_table_says(state: str, event: str, expected: str, after: str) -> None:
    side, effects = initiator_does(state, event)
    assert does(effects) == expected
    found, wanted = shows(side, after)
    assert found == wanted


@pytest.mark.parametrize(("state", "event", "expected", "after"), rows(RESPONDER), ids=lambda w: w or "nothing")
def test_the_responder_does_what_the_table_says(state: str, event: str, expected: str, after: str) -> None:
    side, effects = responder_does(state, event)
    assert does(effects) == expected
    found, wanted = shows(side, after)
    assert found == wanted


def test_done_and_aborted_count_from_the_partner_only() -> None:
    for message in (DONE, ABORTED):
        side = initiator("IN DOUBT")
        side.partner = OTHER
        assert side.hear(message, link=9) == []
