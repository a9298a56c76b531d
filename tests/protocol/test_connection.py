"""One connection: who may say what when, and that no bytes do anything but what the table says (SPEC 3)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.connection import (
    BETWEEN_MEMBERS,
    DEAD_S,
    GREETING_S,
    IDLE_S,
    MAX_EARLY_BYTES,
    MAY_SEND,
    TRANSITIONS,
    ChunkReceived,
    Closed,
    Connection,
    ConnectionEvent,
    Greeted,
    MessageReceived,
    State,
    close_name,
)
from protocol.frames import FrameReader, frame, message_frame
from protocol.messages import (
    CHUNK_TYPE,
    MESSAGES,
    Aborted,
    Accept,
    Close,
    CloseCode,
    Commit,
    Done,
    Fetch,
    Hello,
    Join,
    Joined,
    Message,
    Ping,
    Pong,
    Propose,
    Records,
    Refuse,
    Renew,
    Renewed,
    Resolve,
    Result,
    Revocation,
    TaskCard,
)

XID, DIGEST = b"x" * 16, b"d" * 32
HELLO = Hello((1,), "chinwag/0.1", (), DIGEST, DIGEST)
CHUNK = frame(CHUNK_TYPE, XID + b"state")

SAMPLES: dict[type[Message], Message] = {
    type(m): m
    for m in (
        *(HELLO, Close(0), Ping(), Pong(), Revocation(b"c"), TaskCard(b"c"), Records((b"c",)), Accept(XID, 1, 24, DIGEST)),
        Propose(XID, DIGEST, "statistics", 3, DIGEST, DIGEST, "f64", 1, 24, DIGEST),
        *(Refuse(XID, "busy", 100), Commit(XID, DIGEST), Done(XID), Aborted(XID), Resolve(XID, DIGEST), Fetch(XID, DIGEST, "weights")),
        *(Result(XID, 3, DIGEST, "f32", 12, DIGEST), Join(XID, "ada", DIGEST, bytes(64)), Joined(b"r", b"i", b"l"), Renew()),
        Renewed(b"i", b"l"),
    )
}
IN_ORDER = sorted(SAMPLES, key=lambda m: m.TYPE)


def listener(is_member: bool = True, hello: Hello = HELLO) -> Connection:
    connection = Connection(True, hello, is_member=is_member)
    connection.start(0.0)
    return connection


def dialer(is_member: bool = True, hello: Hello = HELLO) -> Connection:
    connection = Connection(False, hello if is_member else None, is_member=is_member)
    assert connection.start(0.0) == b""
    return connection


def in_state(state: State) -> Connection:
    """A connection that came into this state as any would."""
    match state:
        case State.SILENT:
            return dialer()
        case State.WAITING:
            return listener()
        case State.DOOR:
            return listener(is_member=False)
        case State.SEEKING:
            return dialer(is_member=False)
        case State.OPEN:
            connection, said = listener(), [HELLO]
        case State.ADMITTING:
            connection, said = listener(is_member=False), [SAMPLES[Join]]
        case State.JOINING:
            connection, said = dialer(is_member=False), [HELLO]
        case State.JOINED:
            connection, said = dialer(is_member=False), [HELLO, SAMPLES[Joined]]
        case State.CLOSED:
            connection, said = listener(), [Close(0)]
    for message in said:
        connection.receive(message_frame(message), 0.0)
    assert connection.state is state
    return connection


def sent(data: bytes) -> list[str]:
    """The names of the messages in these bytes."""
    return [MESSAGES[f.type].__name__ for f in FrameReader().receive(data)]


def code_sent(data: bytes) -> int | None:
    """The code, if these bytes are one CLOSE and nothing else."""
    return next((int(c) for c in CloseCode if data == message_frame(Close(int(c)))), None)


def run(connection: Connection, pieces: list[bytes]) -> tuple[list[ConnectionEvent], bytes]:
    events, out = [], b""
    for piece in pieces:
        found, answer = connection.receive(piece, 1.0)
        events += found
        out += answer
    return events, out


# greeting -------------------------------------------------------------------------------------------------------------


def test_the_listener_speaks_first_and_the_dialer_says_nothing_before() -> None:
    here, there = Connection(True, HELLO), Connection(False, HELLO)
    assert there.start(0.0) == b""
    greeting = here.start(0.0)
    assert greeting == message_frame(HELLO)
    events, answer = there.receive(greeting, 0.1)
    assert (events, answer) == ([Greeted(HELLO)], message_frame(HELLO))
    assert here.receive(answer, 0.2) == ([Greeted(HELLO)], b"")
    assert here.state is there.state is State.OPEN


def test_a_stranger_is_greeted_asks_once_and_is_admitted() -> None:
    here, there = Connection(True, HELLO, is_member=False), Connection(False, None, is_member=False)
    assert there.start(0.0) == b""
    assert there.receive(here.start(0.0), 0.1) == ([Greeted(HELLO)], b"")
    events, answer = here.receive(there.send(SAMPLES[Join]), 0.2)
    assert (events, answer) == ([MessageReceived(SAMPLES[Join])], b"")
    assert there.receive(here.send(SAMPLES[Joined]), 0.3) == ([MessageReceived(SAMPLES[Joined])], b"")
    assert here.receive(there.close(CloseCode.NORMAL), 0.4) == ([Closed(0, False, "the other side closed: normal")], b"")


def test_the_longest_answer_to_a_join_is_not_too_early() -> None:
    joined = Joined(bytes(4096), bytes(4096), bytes(4096), bytes(4096))
    assert len(joined.encode()) > MAX_EARLY_BYTES
    assert run(in_state(State.JOINING), [message_frame(joined)]) == ([MessageReceived(joined)], b"")


def test_what_follows_hello_in_the_same_piece_is_not_counted_as_early() -> None:
    card, piece = TaskCard(bytes(60_000)), frame(CHUNK_TYPE, XID + bytes(200_000))
    events, out = listener().receive(message_frame(HELLO) + message_frame(card) + piece, 1.0)
    assert [type(e) for e in events] == [Greeted, MessageReceived, ChunkReceived]
    assert out == b""


@pytest.mark.parametrize("is_listener", [True, False])
def test_without_a_common_version_the_connection_ends_and_says_so(is_listener: bool) -> None:
    events, out = (listener() if is_listener else dialer()).receive(message_frame(replace(HELLO, versions=(2, 3))), 1.0)
    assert [(e.code, e.by_us) for e in events if isinstance(e, Closed)] == [(CloseCode.VERSION, True)]
    assert len(events) == 1
    assert code_sent(out) == CloseCode.VERSION


def test_one_common_version_is_enough() -> None:
    assert [type(e) for e in listener().receive(message_frame(replace(HELLO, versions=(3, 2, 1))), 1.0)[0]] == [Greeted]
    ahead = listener(hello=replace(HELLO, versions=(2, 3)))
    assert [type(e) for e in ahead.receive(message_frame(replace(HELLO, versions=(2,))), 1.0)[0]] == [Greeted]


def test_a_stranger_does_not_ask_a_listener_of_another_version() -> None:
    connection = dialer(is_member=False)
    events, out = connection.receive(message_frame(replace(HELLO, versions=(2,))), 1.0)
    assert [e.code for e in events if isinstance(e, Closed)] == [CloseCode.VERSION]
    assert code_sent(out) == CloseCode.VERSION


# the table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("message", IN_ORDER)
def test_each_message_in_each_state_leads_where_the_table_says_or_is_a_fault(state: State, message: type[Message]) -> None:
    connection = in_state(state)
    events, out = connection.receive(message_frame(SAMPLES[message]), 1.0)
    after = TRANSITIONS.get((state, message))
    if state is State.CLOSED:
        assert (events, out) == ([], b"")
    elif after is None:
        assert [(type(e), getattr(e, "code", None)) for e in events] == [(Closed, CloseCode.BAD_STATE)]
        assert code_sent(out) == (None if state in (State.SILENT, State.SEEKING) else CloseCode.BAD_STATE)
        assert connection.state is State.CLOSED
    else:
        assert connection.state is after
        assert not any(isinstance(e, Closed) for e in events) or message is Close


@pytest.mark.parametrize("state", State)
def test_a_chunk_counts_on_an_open_connection_only(state: State) -> None:
    events, _ = in_state(state).receive(CHUNK, 1.0)
    if state is State.OPEN:
        assert events == [ChunkReceived(XID, b"state")]
    else:
        assert [e.code for e in events if isinstance(e, Closed)] == ([] if state is State.CLOSED else [CloseCode.BAD_STATE])


@pytest.mark.parametrize("state", [s for s in State if s is not State.CLOSED])
@pytest.mark.parametrize("message", IN_ORDER)
def test_a_caller_may_say_what_the_table_lets_it_say_and_is_stopped_otherwise(state: State, message: type[Message]) -> None:
    connection = in_state(state)
    if message in MAY_SEND.get(state, ()):
        assert connection.send(SAMPLES[message]) == message_frame(SAMPLES[message])
    else:
        with pytest.raises(AssertionError):
            connection.send(SAMPLES[message])


def test_what_one_side_may_say_the_other_takes() -> None:
    pairs = {State.OPEN: State.OPEN, State.ADMITTING: State.JOINING, State.JOINING: State.DOOR}
    for state, messages in MAY_SEND.items():
        assert all((pairs[state], m) in TRANSITIONS for m in messages)


def test_members_may_say_anything_but_hello_and_the_words_of_joining() -> None:
    assert {m.__name__ for m in MESSAGES.values()} - {m.__name__ for m in BETWEEN_MEMBERS} == {"Hello", "Join", "Joined"}


# faults ---------------------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[bytes, CloseCode]] = {
    "not msgpack": (frame(Done.TYPE, b"\xc1"), CloseCode.PROTOCOL),
    "an empty payload": (frame(Done.TYPE, b""), CloseCode.PROTOCOL),
    "a field too many": (frame(Ping.TYPE, b"\x81\xa1a\x01"), CloseCode.PROTOCOL),
    "another message's payload": (frame(Done.TYPE, SAMPLES[Commit].encode()), CloseCode.PROTOCOL),
    "a chunk without an xid": (frame(CHUNK_TYPE, b""), CloseCode.PROTOCOL),
    "a chunk without state": (frame(CHUNK_TYPE, XID), CloseCode.PROTOCOL),
    "a frame too large": (bytes((Done.TYPE,)) + b"\x01\x00\x01", CloseCode.FRAME_TOO_LARGE),
    "a chunk too large": (bytes((CHUNK_TYPE,)) + b"\x04\x00\x11", CloseCode.FRAME_TOO_LARGE),
    "the largest length there is": (bytes((CHUNK_TYPE,)) + b"\xff\xff\xff", CloseCode.FRAME_TOO_LARGE),
    "an unknown type": (b"\x17\x00\x00\x00", CloseCode.UNKNOWN_TYPE),
    "type 0": (b"\x00\x00\x00\x00", CloseCode.UNKNOWN_TYPE),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", CloseCode.UNKNOWN_TYPE),
    "a second HELLO": (message_frame(HELLO), CloseCode.BAD_STATE),
    "a JOIN from a member": (message_frame(SAMPLES[Join]), CloseCode.BAD_STATE),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_becomes_one_close_with_its_code_and_then_nothing(name: str) -> None:
    data, code = FAULTS[name]
    connection = in_state(State.OPEN)
    before = message_frame(SAMPLES[Done])
    events, out = connection.receive(before + data + before, 1.0)
    assert events[0] == MessageReceived(SAMPLES[Done])
    assert [(e.code, e.by_us) for e in events[1:] if isinstance(e, Closed)] == [(code, True)]
    assert len(events) == 2
    assert code_sent(out) == code
    assert connection.receive(before, 2.0) == ([], b"")
    assert connection.tick(1e9) == ([], b"")
    assert connection.next_deadline() == math.inf
    assert connection.close(CloseCode.NORMAL) == b""


@pytest.mark.parametrize("state", [State.WAITING, State.DOOR, State.SILENT, State.SEEKING])
def test_bytes_beyond_the_early_limit_are_refused_on_the_header(state: State) -> None:
    connection = in_state(state)
    skipped = frame(0x80, bytes(MAX_EARLY_BYTES - 8))
    assert connection.receive(skipped, 1.0) == ([], b"")
    events, out = connection.receive(b"\x03\x00\x00\x01", 1.0)
    assert [e.code for e in events if isinstance(e, Closed)] == [CloseCode.LIMIT]
    assert code_sent(out) == (None if state in (State.SILENT, State.SEEKING) else CloseCode.LIMIT)


def test_a_stranger_never_gets_beyond_the_early_limit() -> None:
    connection = in_state(State.ADMITTING)
    events, _ = connection.receive(frame(0x80, bytes(MAX_EARLY_BYTES - 8)), 1.0)
    assert [e.code for e in events if isinstance(e, Closed)] == [CloseCode.LIMIT]


@pytest.mark.parametrize("number", [0x80, 0x9F, 0xFF])
def test_unknown_types_from_0x80_on_are_skipped_whatever_they_hold(number: int) -> None:
    events, out = in_state(State.OPEN).receive(frame(number, b"\xc1 anything") + message_frame(Ping()), 1.0)
    assert (events, sent(out)) == ([], ["Pong"])


def test_a_close_is_passed_on_and_not_answered() -> None:
    for code in (*CloseCode, 200):
        connection = in_state(State.OPEN)
        assert connection.receive(message_frame(Close(int(code))) + CHUNK, 1.0) == (
            [Closed(int(code), False, f"the other side closed: {close_name(int(code))}")],
            b"",
        )
    assert close_name(CloseCode.NOT_MEMBER) == "not member"
    assert close_name(200) == "code 200"


def test_a_dialer_that_may_not_speak_yet_closes_without_a_word() -> None:
    for state in (State.SILENT, State.SEEKING):
        connection = in_state(state)
        assert connection.close(CloseCode.SHUTDOWN) == b""
        assert connection.state is State.CLOSED


def test_a_listener_may_turn_somebody_away_before_it_says_hello() -> None:
    refusal = Connection(True, HELLO).close(CloseCode.REVOKED)
    assert code_sent(refusal) == CloseCode.REVOKED
    events, out = dialer().receive(refusal, 1.0)
    assert (events, out) == ([Closed(CloseCode.REVOKED, False, "the other side closed: revoked")], b"")


def test_what_is_said_after_the_end_is_lost_without_a_fault() -> None:
    assert in_state(State.CLOSED).send(SAMPLES[Done]) == b""


# time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [s for s in State if s not in (State.OPEN, State.CLOSED)])
def test_every_state_but_open_has_ten_seconds(state: State) -> None:
    connection = in_state(state)
    assert connection.next_deadline() == GREETING_S
    assert connection.tick(GREETING_S - 0.01) == ([], b"")
    connection.receive(b"\x01", GREETING_S - 0.01)
    events, out = connection.tick(GREETING_S)
    assert [(e.code, e.by_us) for e in events if isinstance(e, Closed)] == [(CloseCode.TIMEOUT, True)]
    assert code_sent(out) == (None if state in (State.SILENT, State.SEEKING) else CloseCode.TIMEOUT)


def test_a_silent_connection_is_asked_twice_and_then_given_up() -> None:
    connection, now, said = in_state(State.OPEN), 0.0, []
    while connection.state is State.OPEN:
        now = connection.next_deadline()
        assert connection.tick(now - 0.001) == ([], b"")
        events, out = connection.tick(now)
        said.append((now, *sent(out)))
        assert not events or connection.state is State.CLOSED
    assert said == [(IDLE_S, "Ping"), (2 * IDLE_S, "Ping"), (DEAD_S, "Close")]


def test_an_answer_keeps_a_connection_alive_for_ever() -> None:
    connection = in_state(State.OPEN)
    for _ in range(100):
        now = connection.next_deadline()
        _, out = connection.tick(now)
        assert sent(out) == ["Ping"]
        assert connection.receive(message_frame(Pong()), now + 1.0) == ([], b"")
    assert connection.state is State.OPEN


def test_whoever_takes_in_a_long_transfer_says_ping_through_it_for_its_sender_hears_nothing_else() -> None:
    connection, said = in_state(State.OPEN), []
    for now in range(200):
        connection.receive(CHUNK, float(now))
        events, out = connection.tick(float(now))
        assert events == []
        said += [(now, name) for name in sent(out)]
    assert said == [(now, "Ping") for now in range(15, 200, 15)]


def test_one_byte_now_and_then_keeps_a_connection_alive_but_an_exchange_has_deadlines_of_its_own() -> None:
    connection = in_state(State.OPEN)
    for k, byte in enumerate(CHUNK):
        connection.receive(bytes((byte,)), 40.0 * k)
        connection.tick(40.0 * k + 39.0)
    assert connection.state is State.OPEN


def test_nobody_is_asked_while_messages_arrive() -> None:
    connection = in_state(State.OPEN)
    for now in range(0, 200, 14):
        connection.receive(message_frame(SAMPLES[Done]), float(now))
        assert connection.tick(now + 13.9) == ([], b"")


# any bytes ------------------------------------------------------------------------------------------------------------

conversation = st.lists(
    st.sampled_from([*(message_frame(m) for m in SAMPLES.values()), CHUNK, frame(0x90, b"later"), b"\x17\0\0\0", b"\x01\0\0\x01\xc1"]),
    max_size=8,
)
states = st.sampled_from(State)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(states, conversation, st.lists(st.integers(0, 20_000), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_events_and_answers(state: State, said: list[bytes], cuts: list[int]) -> None:
    data = b"".join(said)
    whole = run(in_state(state), [data])
    assert run(in_state(state), pieces_of(data, cuts)) == whole
    assert run(in_state(state), [data[i : i + 1] for i in range(len(data))]) == whole


@given(states, conversation, st.binary(max_size=200), st.data())
def test_no_bytes_raise_anything_and_a_connection_ends_at_most_once(state: State, said: list[bytes], noise: bytes, data: Any) -> None:
    stream = bytearray(b"".join(said))
    if stream:
        for at in data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=3)):
            stream[at] = data.draw(st.integers(0, 255))
    connection = in_state(state)
    events, out = run(connection, [bytes(stream), noise, message_frame(SAMPLES[Done])])
    ends = [e for e in events if isinstance(e, Closed)]
    assert len(ends) <= 1
    assert not ends or (events[-1] is ends[0] and connection.state is State.CLOSED)
    closes = [name for name in sent(out) if name == "Close"]
    assert len(closes) == (1 if ends and ends[0].by_us and out else 0)
    assert not closes or sent(out)[-1] == "Close"
