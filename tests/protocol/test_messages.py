"""Every message: its number, its bounds, and that it comes back as it went (SPEC 4)."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.cards import MAX_BODY_BYTES, sign_card
from protocol.frames import message_frame
from protocol.identity import key_from_seed
from protocol.messages import CHUNK_TYPE, MAX_CONTROL_BYTES, MESSAGES, Hello, Message, Records, Refuse, TaskCard, decode_message
from protocol.records import MAX_ADDRESSES, MAX_TASKS, PeerRecord, sign_record
from protocol.revocations import Revocation as RevocationBody
from protocol.wire import U64, Bool, Bytes, Choice, Float, Kind, Many, Nested, OutOfBounds, Text, UInt, WireError, declared

BY_NAME = {m.__name__: m for m in MESSAGES.values()}
KEY = key_from_seed(b"k" * 32)


def of_kind(kind: Kind) -> st.SearchStrategy[Any]:
    """Values that a field of this kind may hold, its bounds among them."""
    match kind:
        case UInt(low, high):
            return st.sampled_from((low, high)) | st.integers(low, high)
        case Bool():
            return st.booleans()
        case Float(low, high):
            return st.floats(low, high)
        case Bytes(low, high):
            return st.sampled_from((bytes(low), b"\xff" * high)) | st.binary(min_size=low, max_size=min(high, low + 40))
        case Text(high, low):
            letters = st.text(st.characters(blacklist_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Cn")), max_size=high)
            return letters.map(lambda s: unicodedata.normalize("NFC", s)).filter(lambda s: low <= len(s.encode()) <= high) | st.just(
                "x" * high
            )
        case Choice(words):
            return st.sampled_from(words)
        case Many(item, high, low):
            return st.lists(of_kind(item), min_size=low, max_size=min(high, low + 3)).map(tuple)
        case Nested(structure):
            return st.builds(structure, **{n: of_kind(k) for n, k, _ in declared(structure)})
    raise AssertionError(kind)


def of_message(message: type[Message]) -> st.SearchStrategy[Message]:
    fields = {name: st.none() | of_kind(kind) if is_optional else of_kind(kind) for name, kind, is_optional in declared(message)}
    return st.builds(message, **fields)


messages = st.sampled_from(sorted(MESSAGES.values(), key=lambda m: m.TYPE)).flatmap(of_message)


def full(message: type[Message]) -> Message:
    """The longest message of this type."""

    def most(kind: Kind) -> Any:
        match kind:
            case UInt(_, high):
                return high
            case Bytes(_, high):
                return b"\xff" * high
            case Text(high):
                return "x" * high
            case Choice(words):
                return max(words, key=len)
            case Many(item, high):
                return (most(item),) * high
        raise AssertionError(kind)

    return message(**{name: most(kind) for name, kind, _ in declared(message)})


@given(messages)
def test_every_message_comes_back_as_it_went(message: Message) -> None:
    assert decode_message(message.TYPE, message.encode()) == message


@given(messages, st.data())
def test_a_truncated_or_changed_message_is_refused_or_is_its_own_encoding(message: Message, data: st.DataObject) -> None:
    encoded = message.encode()
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(WireError):
        decode_message(message.TYPE, encoded[:cut])
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    flipped = bytearray(encoded)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        assert decode_message(message.TYPE, bytes(flipped)).encode() == bytes(flipped)
    except WireError:
        pass


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=120))
def test_arbitrary_bytes_are_refused_or_are_their_own_encoding(number: int, payload: bytes) -> None:
    try:
        assert decode_message(number, payload).encode() == payload
    except WireError:
        pass


@given(messages, st.sampled_from(sorted(MESSAGES)))
def test_a_message_is_not_taken_for_one_of_other_fields(message: Message, number: int) -> None:
    present = {name for name, *_ in declared(type(message)) if getattr(message, name) is not None}
    needed = {name for name, _, is_optional in declared(MESSAGES[number]) if not is_optional}
    assume(not needed <= present or not present <= {name for name, *_ in declared(MESSAGES[number])})
    with pytest.raises(WireError):
        decode_message(number, message.encode())


def test_the_numbers_are_those_of_version_1() -> None:
    assert {m.__name__: m.TYPE for m in MESSAGES.values()} == {
        "Hello": 0x01,
        "Close": 0x02,
        "Ping": 0x03,
        "Pong": 0x04,
        "Revocation": 0x05,
        "TaskCard": 0x06,
        "Records": 0x07,
        "Propose": 0x10,
        "Accept": 0x11,
        "Refuse": 0x12,
        "Commit": 0x13,
        "Done": 0x14,
        "Aborted": 0x15,
        "Resolve": 0x16,
        "Fetch": 0x18,
        "Result": 0x19,
        "Join": 0x20,
        "Joined": 0x21,
        "Renew": 0x22,
        "Renewed": 0x23,
    }
    assert CHUNK_TYPE == 0x30


@pytest.mark.parametrize("name", BY_NAME)
def test_the_longest_message_fits_its_frame(name: str) -> None:
    message = full(BY_NAME[name])
    assert len(message.encode()) <= MAX_CONTROL_BYTES
    assert len(message_frame(message)) == 4 + len(message.encode())
    assert decode_message(message.TYPE, message.encode()) == message


@pytest.mark.parametrize("name", BY_NAME)
def test_no_field_takes_more_than_its_bound(name: str) -> None:
    message = full(BY_NAME[name])
    for field, kind, _ in declared(type(message)):
        values = {n: getattr(message, n) for n, *_ in declared(type(message))}
        match kind:
            case UInt(_, high) if high < U64:
                values[field] = high + 1
            case Bytes() | Text() | Many():
                values[field] += values[field][:1]
            case Choice():
                values[field] = "none of these"
            case _:
                continue
        with pytest.raises(OutOfBounds):
            type(message)(**values)


def test_the_longest_card_that_can_be_signed_can_be_sent() -> None:
    assert TaskCard(card=sign_card("task", bytes(MAX_BODY_BYTES), KEY)).encode()


def test_the_longest_record_can_be_sent() -> None:
    address = "a" * 60 + "." + "b" * 13 + ":65535"
    record = PeerRecord(U64, "n" * 64, (address,) * MAX_ADDRESSES, (b"t" * 32,) * MAX_TASKS, 2**40)
    assert len(address) == 80
    assert Records(cards=(sign_record(record, KEY),) * 16).encode()


def test_the_longest_revocation_can_be_sent() -> None:
    body = RevocationBody(b"s" * 32, 2**40, bytes(1536), bytes(1536)).encode()
    assert BY_NAME["Revocation"](card=sign_card("revocation", body, KEY)).encode()


def test_a_hello_of_a_later_version_with_more_capabilities_is_still_read() -> None:
    hello = Hello((1, 2, 255), "x" * 64, tuple(f"cap-{k}" for k in range(32)), bytes(32), bytes(32))
    assert decode_message(Hello.TYPE, hello.encode()) == hello


def test_a_refusal_without_an_epoch_leaves_both_fields_out() -> None:
    refuse = Refuse(xid=b"x" * 16, reason="busy", retry_ms=0)
    assert b"epoch" not in refuse.encode()
    assert decode_message(Refuse.TYPE, refuse.encode()) == refuse
