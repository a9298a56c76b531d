"""The two tables of SPEC 5.4, played row by row: each event in each state does what is written, in the order in which it is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.exchange import Dropped, Effect, Epoch, Exchanges, Moved, Offer, Prepared, Refusal, Say, SayState, Subject, both
from protocol.keys import PeerId
from protocol.messages import Aborted, Accept, Commit, Done, Message, Propose, Refuse, Resolve
from protocol.tensors import Arrays, Manifest, TensorSpec, digest, encode

SPEC = (Path(__file__).parents[2] / "protocol" / "SPEC.md").read_text(encoding="utf-8")


def table(role: str) -> list[list[str]]:
    lines = SPEC.partition(f"\n*The {role}:*\n\n")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


LOW, HIGH = PeerId(b"\1" * 32), PeerId(b"\2" * 32)
SUBJECT = Subject(b"t" * 32, "statistics")
MANIFEST = Manifest((TensorSpec("v", (2,)),))
SCHEMA = MANIFEST.digest(SUBJECT.task, SUBJECT.part)
XID, OTHER_XID = b"x" * 16, b"y" * 16
LINK, OTHER_LINK = 1, 2
NOW = 100.0


def state_of(*numbers: float) -> bytes:
    return encode(MANIFEST, {"v": np.array(numbers)}, "f64", None)


MINE, THEIRS, BAD = state_of(1.0, 2.0), state_of(3.0, 4.0), state_of(9.0, 9.0)


class Side:
    """One peer. What its partner says, the test says."""

    def __init__(self, me: PeerId) -> None:
        self.partner = HIGH if me == LOW else LOW
        self.is_in = Epoch(3, LOW)
        self.exchanges = Exchanges(me, self, {}, {})

    # what the exchange asks of its peer

    def offer(self, subject: Subject) -> Offer | Refusal:
        return Offer(self.is_in, MANIFEST, SCHEMA, "f64", 1, MINE, digest(MINE))

    def epoch(self, subject: Subject) -> Epoch | None:
        return self.is_in

    def objection(self, subject: Subject, arrays: Arrays, weight: int) -> str | None:
        return "no mean of moments" if arrays["v"][0] == 9.0 else None

    # what happens to it

    def hear(self, message: Message, link: int = LINK) -> list[Effect]:
        return self.exchanges.receive(link, self.partner, message, NOW)

    def begin(self) -> list[Effect]:
        return self.exchanges.propose(LINK, self.partner, SUBJECT, XID, NOW)

    def proposed(self, xid: bytes = XID, link: int = LINK, payload: bytes = THEIRS, **changes: Any) -> list[Effect]:
        fields = {"task": SUBJECT.task, "part": SUBJECT.part, "epoch": 3, "starter": LOW, "schema": SCHEMA, "encoding": "f64"}
        return self.hear(Propose(xid=xid, weight=1, digest=digest(payload), **{**fields, "size": len(payload), **changes}), link)

    def accepted(self, payload: bytes = THEIRS, size: int = len(THEIRS)) -> list[Effect]:
        return self.hear(Accept(xid=XID, weight=1, size=size, digest=digest(payload)))

    def chunks(self, payload: bytes = THEIRS) -> list[Effect]:
        return self.exchanges.chunk(LINK, XID, payload[:5], NOW) + self.exchanges.chunk(LINK, XID, payload[5:], NOW)

    def commit(self, xid: bytes = XID, first: bytes = THEIRS, link: int = LINK) -> list[Effect]:
        return self.hear(Commit(xid=xid, digest=both(digest(first), digest(MINE))), link)

    def lose_link(self) -> list[Effect]:
        return self.exchanges.link_lost(LINK)

    def leave(self) -> Side:
        self.is_in = Epoch(4, LOW)
        return self


def initiator(state: str, payload: bytes = THEIRS, me: PeerId = LOW) -> Side:
    side = Side(me)
    states = ("FREE", "OFFERED", "TRANSFERRING", "COMMITTING", "IN DOUBT")
    for step in (side.begin, lambda: side.accepted(payload), side.chunks, side.lose_link)[: states.index(state)]:
        step()
    return side


def responder(state: str, payload: bytes = THEIRS) -> Side:
    side = Side(HIGH)
    for step in (lambda: side.proposed(payload=payload), side.chunks)[: ("FREE", "TRANSFERRING", "WHOLE").index(state)]:
        step()
    return side


def having_applied(side: Side) -> Side:
    side.proposed()
    side.chunks()
    side.commit()
    return side


def misfits(side: Side) -> list[Effect]:
    """Each way in which a proposal does not fit is answered alike; the effects of the last."""
    ways: list[dict[str, Any]] = [{"epoch": 2}, {"epoch": 4}, {"starter": HIGH}, {"schema": b"s" * 32}, {"size": 15}, {"encoding": "f32"}]
    answers = [side.proposed(**changes) for changes in ways]
    for (effect,) in answers:
        assert isinstance(effect, Say)
        assert isinstance(effect.message, Refuse)
        assert (effect.message.epoch, effect.message.starter) == side.is_in
    return answers[-1]


def link_of(state: str) -> int:
    """In doubt, the news comes on another connection than the one that was lost."""
    return OTHER_LINK if state == "IN DOUBT" else LINK


Play = Callable[[str], tuple[Side, list[Effect]]]


def at(make: Callable[..., Side], event: Callable[[Side, str], list[Effect]], **how: Any) -> Play:
    def play(state: str) -> tuple[Side, list[Effect]]:
        side = make(state, **how)
        return side, event(side, state)

    return play


RESOLVE = Resolve(xid=XID, task=SUBJECT.task)

INITIATOR: dict[str, Play] = {
    "begins": at(initiator, lambda side, _: side.begin()),
    "ACCEPT": at(initiator, lambda side, _: side.accepted()),
    "ACCEPT of another size": at(initiator, lambda side, _: side.accepted(size=len(THEIRS) + 1)),
    "REFUSE": at(initiator, lambda side, _: side.hear(Refuse(xid=XID, reason="busy", retry_ms=0))),
    "the partner's PROPOSE, its id lower": at(initiator, lambda side, _: side.proposed(OTHER_XID), me=HIGH),
    "the partner's PROPOSE, its id higher": at(initiator, lambda side, _: side.proposed(OTHER_XID)),
    "all chunks, good": at(initiator, lambda side, _: side.chunks()),
    "all chunks, bad": at(initiator, lambda side, _: side.chunks(BAD), payload=BAD),
    "DONE": at(initiator, lambda side, state: side.hear(Done(xid=XID), link_of(state))),
    "DONE, epoch left": at(initiator, lambda side, state: side.leave().hear(Done(xid=XID), link_of(state))),
    "ABORTED": at(initiator, lambda side, state: side.hear(Aborted(xid=XID), link_of(state))),
    "connection lost": at(initiator, lambda side, _: side.lose_link()),
    "time is up": at(initiator, lambda side, _: side.exchanges.tick(1e6)),
    "leaves the epoch": at(initiator, lambda side, _: side.exchanges.abandon(SUBJECT)),
    "meets the partner": at(initiator, lambda side, _: side.exchanges.resolve(OTHER_LINK, HIGH)),
}

RESPONDER: dict[str, Play] = {
    "PROPOSE": at(responder, lambda side, _: side.proposed()),
    "PROPOSE that does not fit": at(responder, lambda side, _: misfits(side)),
    "another PROPOSE": at(responder, lambda side, _: side.proposed(OTHER_XID, OTHER_LINK)),
    "all chunks, good": at(responder, lambda side, _: side.chunks()),
    "all chunks, bad": at(responder, lambda side, _: side.chunks(BAD), payload=BAD),
    "COMMIT": at(responder, lambda side, _: side.commit()),
    "COMMIT of another digest": at(responder, lambda side, _: side.commit(first=MINE)),
    "COMMIT, epoch left": at(responder, lambda side, _: side.leave().commit()),
    "COMMIT of another xid": at(responder, lambda side, _: side.commit(OTHER_XID)),
    "COMMIT on another connection": at(responder, lambda side, _: side.commit(link=OTHER_LINK)),
    "RESOLVE": at(responder, lambda side, _: side.hear(RESOLVE, OTHER_LINK)),
    "RESOLVE of an xid it applied": at(responder, lambda side, _: having_applied(side).hear(RESOLVE, OTHER_LINK)),
    "RESOLVE of another xid": at(responder, lambda side, _: having_applied(side).hear(Resolve(xid=OTHER_XID, task=SUBJECT.task))),
    "ABORTED": at(responder, lambda side, _: side.hear(Aborted(xid=XID))),
    "connection lost": at(responder, lambda side, _: side.lose_link()),
    "time is up": at(responder, lambda side, _: side.exchanges.tick(1e6)),
    "leaves the epoch": at(responder, lambda side, _: side.exchanges.abandon(SUBJECT)),
}


def in_words(effects: list[Effect]) -> str:
    """Effects as the tables write them."""
    words = {SayState: "chunks", Prepared: "prepare", Moved: "move", Dropped: "drop"}
    return ", ".join(type(e.message).__name__.upper() if isinstance(e, Say) else words[type(e)] for e in effects)


def assert_is(side: Side, state: str) -> None:
    """A side is in this state, as far as one can see, and by what a COMMIT would do."""
    is_busy, is_in_doubt = side.exchanges.is_busy(SUBJECT), side.exchanges.is_in_doubt(side.partner)
    known = {"FREE": (False, False), "COMMITTING": (True, True), "IN DOUBT": (False, True)}
    assert (is_busy, is_in_doubt) == known.get(state.partition(" (")[0], (True, False))
    if state == "WHOLE":
        assert in_words(side.commit()) == "move, DONE"


@pytest.mark.parametrize(("state", "event", "does", "after"), table("initiator"))
def test_an_initiator_does_what_the_table_says(state: str, event: str, does: str, after: str) -> None:
    side, effects = INITIATOR[event](state)
    assert in_words(effects) == does
    assert_is(side, after)


@pytest.mark.parametrize(("state", "event", "does", "after"), table("responder"))
def test_a_responder_does_what_the_table_says(state: str, event: str, does: str, after: str) -> None:
    side, effects = RESPONDER[event](state)
    assert in_words(effects) == does
    assert_is(side, after)


def test_the_tables_know_every_event_of_every_state_and_nothing_else_has_an_effect() -> None:
    for role, plays in (("initiator", INITIATOR), ("responder", RESPONDER)):
        written = {(state, event) for state, event, _, _ in table(role)}
        assert {event for _, event in written} == set(plays)
        for state in {state for state, _ in written}:
            for event in ("DONE", "ABORTED", "REFUSE", "ACCEPT") if role == "initiator" else ("ABORTED",):
                if (state, event) not in written:
                    assert in_words(plays[event](state)[1]) == ""


@pytest.mark.parametrize("message", [Done(xid=XID), Aborted(xid=XID)])
def test_what_is_in_doubt_is_settled_by_its_partner_only(message: Message) -> None:
    side = initiator("IN DOUBT")
    side.partner = PeerId(b"\0" * 32)
    assert side.hear(message, OTHER_LINK) == []
    assert side.exchanges.is_in_doubt(HIGH)


def test_a_side_takes_part_in_one_exchange_per_connection() -> None:
    side = responder("TRANSFERRING")
    (refused,) = side.proposed(OTHER_XID, LINK, part="weights")
    assert isinstance(refused, Say)
    assert isinstance(refused.message, Refuse)
    assert refused.message.reason == "busy"


def test_prepared_halves_and_what_was_applied_survive_a_restart() -> None:
    before = initiator("COMMITTING")
    (half,) = before.exchanges.in_doubt
    again = Exchanges(LOW, before, {half.xid: half}, {})
    assert in_words(again.resolve(OTHER_LINK, HIGH)) == "RESOLVE"
    assert in_words(again.receive(OTHER_LINK, HIGH, Done(xid=XID), NOW)) == "move"
    asked = Exchanges(HIGH, before, {}, {(LOW, SUBJECT.task, SUBJECT.part): XID})
    assert in_words(asked.receive(OTHER_LINK, LOW, RESOLVE, NOW)) == "DONE"


def test_the_tables_are_there() -> None:
    assert len(table("initiator")) >= 25
    assert len(table("responder")) >= 20
    assert all(re.fullmatch(r"[A-Z ]+(\(as responder\))?", row[3]) for role in ("initiator", "responder") for row in table(role))
