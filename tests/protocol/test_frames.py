"""Frames: any split of the stream gives the same frames, and a header that may not be is refused before its payload comes (SPEC 3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frames import (
    HEADER_BYTES,
    SKIPPED_FROM,
    XID_BYTES,
    Frame,
    FrameError,
    FrameReader,
    FrameTooLarge,
    OverBudget,
    UnknownType,
    frame,
    limit,
    message_frame,
)
from protocol.messages import CHUNK_TYPE, MAX_CONTROL_BYTES, MESSAGES, Close, Ping
from protocol.tensors import MAX_CHUNK_BYTES

KNOWN = (*sorted(MESSAGES), CHUNK_TYPE)
UNKNOWN = tuple(number for number in range(SKIPPED_FROM) if number not in KNOWN)
SKIPPED = tuple(range(SKIPPED_FROM, 256))


def header(number: int, size: int) -> bytes:
    return bytes((number,)) + size.to_bytes(3, "big")


def read(pieces: Iterable[bytes], budget: int | None = None) -> tuple[list[Frame], type[FrameError] | None]:
    """All frames of a stream that comes in these pieces, and what it ended with."""
    reader, found = FrameReader(), []
    reader.budget = budget
    try:
        for piece in pieces:
            found.extend(reader.receive(piece))
            assert reader.pending_bytes < HEADER_BYTES + max(limit(CHUNK_TYPE), MAX_CONTROL_BYTES)
    except FrameError as error:
        return found, type(error)
    return found, None


def cut(stream: bytes, at: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(a % (len(stream) + 1) for a in at)})
    return [stream[a:b] for a, b in pairwise(edges)]


frames = st.builds(Frame, st.sampled_from((*KNOWN, *SKIPPED)), st.binary(max_size=60))
streams = st.lists(frames, max_size=8)
cuts = st.lists(st.integers(0, 1000), max_size=12)
wrong = st.one_of(
    st.just(b""),
    st.sampled_from(UNKNOWN).map(lambda number: header(number, 0)),
    st.sampled_from(KNOWN).map(lambda number: header(number, limit(number) + 1)),
    st.binary(max_size=20),
)


def test_the_bytes_of_a_frame_are_these() -> None:
    assert message_frame(Ping()).hex() == "0300000180"
    assert message_frame(Close(code=3)).hex() == "0200000781a4636f646503"
    assert frame(CHUNK_TYPE, b"x" * 17).hex() == "30000011" + "78" * 17


@given(streams, wrong, cuts)
def test_where_the_stream_was_split_makes_no_difference(whole: list[Frame], end: bytes, at: list[int]) -> None:
    stream = b"".join(frame(f.type, f.payload) for f in whole) + end
    found, error = read([stream])
    assert found[: len(whole)] == whole
    assert read(cut(stream, at)) == (found, error)
    assert read([bytes((byte,)) for byte in stream]) == (found, error)


@given(streams, wrong, cuts, st.integers(0, 200))
def test_nor_does_it_where_a_budget_is_set(whole: list[Frame], end: bytes, at: list[int], budget: int) -> None:
    stream = b"".join(frame(f.type, f.payload) for f in whole) + end
    found, error = read([stream], budget)
    assert read(cut(stream, at), budget) == (found, error)
    assert sum(HEADER_BYTES + len(f.payload) for f in found) <= budget


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_frames_or_a_frame_error(data: bytes) -> None:
    read([data])


@pytest.mark.parametrize("number", [*KNOWN, 0x80, 0xFF])
def test_a_claim_is_judged_on_the_header(number: int) -> None:
    assert read([header(number, limit(number))]) == ([], None)
    assert read([header(number, limit(number) + 1)]) == ([], FrameTooLarge)
    assert read([header(number, 2**24 - 1)]) == ([], FrameTooLarge)


@pytest.mark.parametrize("number", UNKNOWN)
def test_an_unknown_type_below_0x80_is_refused_whatever_it_claims(number: int) -> None:
    for size in (0, 5, 2**24 - 1):
        assert read([header(number, size)]) == ([], UnknownType)
    with pytest.raises(UnknownType):
        frame(number, b"")


def test_the_largest_frames_are_taken() -> None:
    whole = [
        Frame(CHUNK_TYPE, bytes(XID_BYTES + MAX_CHUNK_BYTES)),
        Frame(0x01, bytes(MAX_CONTROL_BYTES)),
        Frame(0xFF, bytes(MAX_CONTROL_BYTES)),
    ]
    stream = b"".join(frame(f.type, f.payload) for f in whole)
    assert read([stream]) == (whole, None)
    assert read(cut(stream, range(0, len(stream), 65_537))) == (whole, None)


def test_a_frame_is_not_made_larger_than_it_may_be() -> None:
    with pytest.raises(AssertionError):
        frame(Ping.TYPE, bytes(MAX_CONTROL_BYTES + 1))


def test_the_frames_before_a_wrong_one_are_given_first() -> None:
    assert read([message_frame(Ping()) * 2 + header(0x7F, 0) + message_frame(Ping())]) == ([Frame(0x03, b"\x80")] * 2, UnknownType)


def test_a_budget_counts_whole_frames_headers_and_skipped_ones_too() -> None:
    ping, skipped = message_frame(Ping()), frame(0x90, b"abc")
    assert read([ping + skipped], budget=12) == ([Frame(3, b"\x80"), Frame(0x90, b"abc")], None)
    assert read([ping + skipped + header(3, 0)], budget=12)[1] is OverBudget
    assert read([ping + header(0x90, 4)], budget=12) == ([Frame(3, b"\x80")], OverBudget)


def test_a_budget_lifted_on_a_frame_holds_for_none_after_it() -> None:
    reader, found = FrameReader(), []
    reader.budget = 5
    for one in reader.receive(message_frame(Ping()) + frame(CHUNK_TYPE, bytes(5000))):
        found.append(one.type)
        reader.budget = None
    assert found == [Ping.TYPE, CHUNK_TYPE]


def test_only_what_is_not_whole_is_held_back() -> None:
    reader = FrameReader()
    assert list(reader.receive(message_frame(Ping()) + b"\x30\x00")) == [Frame(3, b"\x80")]
    assert reader.pending_bytes == 2
