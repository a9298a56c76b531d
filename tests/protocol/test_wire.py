"""One encoding per structure, and every other sequence of bytes refused by name (SPEC 2).

The cases run on msgpack's C decoder and, in a process of its own, on its pure-Python one: a device without the C extension must not judge
otherwise than its neighbours.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.wire import (
    MAX_DEPTH,
    MAX_NODES,
    U64,
    Bool,
    Bytes,
    Choice,
    DuplicateKey,
    Float,
    Many,
    MissingKey,
    Nested,
    NotCanonical,
    NotFinite,
    OutOfBounds,
    Structure,
    Text,
    TooDeep,
    TrailingBytes,
    Truncated,
    UInt,
    UnknownKey,
    WireError,
    WrongType,
    decode,
    optional,
)


@dataclass(frozen=True, slots=True)
class Leaf(Structure):
    t: str | None = optional(Text(8))


@dataclass(frozen=True, slots=True)
class Every(Structure):
    """One field of each kind; all may be absent, so that each case is about one thing."""

    u: int | None = optional(UInt(0, U64))
    o: bool | None = optional(Bool())
    f: float | None = optional(Float(-10.0, 1e300))
    b: bytes | None = optional(Bytes(1, 3))
    t: str | None = optional(Text(8))
    c: str | None = optional(Choice(("red", "blue")))
    m: tuple[int, ...] | None = optional(Many(UInt(0, 9), 3, low=1))
    n: Leaf | None = optional(Nested(Leaf))


@dataclass(frozen=True, slots=True)
class Needed(Structure):
    a: int = wire.wire(UInt())
    b: int | None = optional(UInt())


def one(key: str, value: bytes) -> bytes:
    """A map of one field, as msgpack writes it."""
    return b"\x81" + bytes((0xA0 + len(key),)) + key.encode() + value


def text(value: str) -> bytes:
    return one("t", bytes((0xA0 + len(value.encode()),)) + value.encode())


REFUSED: dict[str, tuple[type[Structure], bytes, type[WireError]]] = {
    # the bytes as a whole
    "nothing": (Every, b"", Truncated),
    "half a map": (Every, b"\x81\xa1u", Truncated),
    "half an integer": (Every, one("u", b"\xcd\x01"), Truncated),
    "trailing byte": (Every, b"\x80\x00", TrailingBytes),
    "second map": (Every, b"\x80\x80", TrailingBytes),
    "reserved byte": (Every, b"\xc1", WrongType),
    "reserved byte as a value": (Every, one("u", b"\xc1"), WrongType),
    "reserved byte as a key": (Every, b"\x81\xc1\x00", WrongType),
    "no map: an integer": (Every, b"\x07", WrongType),
    "no map: a list": (Every, b"\x90", WrongType),
    "no map: nil": (Every, b"\xc0", WrongType),
    # claims and bombs
    "array32 of 2^32-1": (Every, b"\xdd\xff\xff\xff\xff", Truncated),
    "map32 of 2^32-1": (Every, b"\xdf\xff\xff\xff\xff", Truncated),
    "bin32 of 2^32-1": (Every, one("b", b"\xc6\xff\xff\xff\xff"), Truncated),
    "str32 of 2^32-1": (Every, one("t", b"\xdb\xff\xff\xff\xff"), Truncated),
    "ext32 of 2^32-1": (Every, one("u", b"\xc9\xff\xff\xff\xff\x01"), Truncated),
    "array32 of 2^32-1 as a value": (Every, one("m", b"\xdd\xff\xff\xff\xff\x01"), Truncated),
    "map32 of 2^32-1 as a value": (Every, one("n", b"\xdf\xff\xff\xff\xff\xa1t"), Truncated),
    "64 KiB of empty lists": (Every, b"\x90" * 65_536, TrailingBytes),
    "64 KiB of empty maps": (Every, b"\x80" * 65_536, TrailingBytes),
    "64 KiB of empty lists in a list": (Every, b"\xdc\xff\xf0" + b"\x90" * 0xFFF0, TooDeep),
    "64 KiB of empty maps in a list": (Every, b"\xdc\xff\xf0" + b"\x80" * 0xFFF0, TooDeep),
    "64 KiB of empty lists in a field": (Every, one("m", b"\xdc\xff\xf0" + b"\x90" * 0xFFF0), TooDeep),
    "one value too many": (Every, one("m", b"\xdc" + MAX_NODES.to_bytes(2, "big") + b"\x01" * MAX_NODES), TooDeep),
    "64 KiB of lists in lists": (Every, b"\x91" * 65_536, TooDeep),
    **{f"lists {depth} deep": (Every, b"\x91" * depth + b"\x00", TooDeep) for depth in (MAX_DEPTH + 1, 1023, 1024, 1025, 100_000)},
    **{f"maps {depth} deep": (Every, b"\x81\xa1n" * depth + b"\x80", TooDeep) for depth in (MAX_DEPTH + 1, 1024, 1025, 100_000)},
    # keys
    "duplicate key": (Every, b"\x82\xa1u\x01\xa1u\x01", DuplicateKey),
    "duplicate key inside": (Every, one("n", b"\x82\xa1t\xa1x\xa1t\xa1x"), DuplicateKey),
    "duplicate unknown key": (Every, b"\x82\xa1x\x01\xa1x\x01", DuplicateKey),
    "unknown key": (Every, one("x", b"\x01"), UnknownKey),
    "unknown key inside": (Every, one("n", b"\x81\xa1x\x01"), UnknownKey),
    "missing key": (Needed, b"\x80", MissingKey),
    "missing key beside another": (Needed, b"\x81\xa1b\x01", MissingKey),
    "other order": (Needed, b"\x82\xa1b\x01\xa1a\x01", NotCanonical),
    "bin key": (Every, b"\x81\xc4\x01u\x01", WrongType),
    "integer key": (Every, b"\x81\x01\x01", WrongType),
    "nil key": (Every, b"\x81\xc0\x01", WrongType),
    "list key": (Every, b"\x81\x90\x01", WrongType),
    "map key": (Every, b"\x81\x80\x01", WrongType),
    "extension key": (Every, b"\x81\xd4\x01\x00\x01", WrongType),
    "key of invalid UTF-8": (Every, b"\x81\xa1\xff\x01", OutOfBounds),
    # types
    "nil": (Every, one("u", b"\xc0"), WrongType),
    "nil in a list": (Every, one("m", b"\x91\xc0"), WrongType),
    "bool for an integer": (Every, one("u", b"\xc3"), WrongType),
    "float for an integer": (Every, one("u", b"\xcb" + struct.pack(">d", 1.0)), WrongType),
    "text for an integer": (Every, one("u", b"\xa11"), WrongType),
    "integer for a bool": (Every, one("o", b"\x01"), WrongType),
    "integer for a float": (Every, one("f", b"\x01"), WrongType),
    "text for bytes": (Every, one("b", b"\xa1x"), WrongType),
    "bytes for text": (Every, one("t", b"\xc4\x01x"), WrongType),
    "bytes for a word": (Every, one("c", b"\xc4\x03red"), WrongType),
    "map for a list": (Every, one("m", b"\x81\xa11\x01"), WrongType),
    "list for a map": (Every, one("n", b"\x91\xa1t"), WrongType),
    "bool in a list of integers": (Every, one("m", b"\x91\xc2"), WrongType),
    "extension": (Every, one("u", b"\xd4\x01\x00"), WrongType),
    "extension of its own length": (Every, one("u", b"\xc7\x01\x05\x00"), WrongType),
    "timestamp": (Every, one("u", b"\xd6\xff" + bytes(4)), WrongType),
    "timestamp of 2 billion nanoseconds": (Every, one("u", b"\xd7\xff" + b"\xff" * 8), WrongType),
    "timestamp of one byte": (Every, one("u", b"\xd4\xff\x00"), WrongType),
    # one form each
    "7 in two bytes": (Every, one("u", b"\xcc\x07"), NotCanonical),
    "7 in three bytes": (Every, one("u", b"\xcd\x00\x07"), NotCanonical),
    "7 in nine bytes": (Every, one("u", b"\xcf" + (7).to_bytes(8, "big")), NotCanonical),
    "7 as a signed integer": (Every, one("u", b"\xd0\x07"), NotCanonical),
    "1.5 as float32": (Every, one("f", b"\xca" + struct.pack(">f", 1.5)), NotCanonical),
    "text in str8": (Every, one("t", b"\xd9\x01x"), NotCanonical),
    "bytes in bin16": (Every, one("b", b"\xc5\x00\x01x"), NotCanonical),
    "list in array16": (Every, one("m", b"\xdc\x00\x01\x01"), NotCanonical),
    "map in map16": (Every, b"\xde\x00\x01\xa1u\x01", NotCanonical),
    "key in str8": (Every, b"\x81\xd9\x01u\x01", NotCanonical),
    # bounds
    "negative integer": (Every, one("u", b"\xff"), OutOfBounds),
    "NaN": (Every, one("f", b"\xcb" + struct.pack(">d", float("nan"))), NotFinite),
    "infinity": (Every, one("f", b"\xcb" + struct.pack(">d", float("inf"))), NotFinite),
    "float too small": (Every, one("f", b"\xcb" + struct.pack(">d", -10.5)), OutOfBounds),
    "float too large": (Every, one("f", b"\xcb" + struct.pack(">d", 1.1e300)), OutOfBounds),
    "no bytes": (Every, one("b", b"\xc4\x00"), OutOfBounds),
    "four bytes": (Every, one("b", b"\xc4\x04abcd"), OutOfBounds),
    "no items": (Every, one("m", b"\x90"), OutOfBounds),
    "four items": (Every, one("m", b"\x94\x01\x01\x01\x01"), OutOfBounds),
    "item out of bounds": (Every, one("m", b"\x91\x0a"), OutOfBounds),
    "unknown word": (Every, one("c", b"\xa5green"), OutOfBounds),
    # text
    "no text": (Every, one("t", b"\xa0"), OutOfBounds),
    "nine bytes of text": (Every, text("123456789"), OutOfBounds),
    "nine bytes of text in five characters": (Every, text("ééééx"), OutOfBounds),
    "invalid UTF-8": (Every, one("t", b"\xa1\xff"), OutOfBounds),
    "overlong UTF-8": (Every, one("t", b"\xa2\xc0\x80"), OutOfBounds),
    "surrogate in UTF-8": (Every, one("t", b"\xa3\xed\xa0\x80"), OutOfBounds),
    "not NFC": (Every, text("e\u0301"), NotCanonical),
    "zero byte": (Every, text("a\0"), OutOfBounds),
    "line break": (Every, text("a\nb"), OutOfBounds),
    "escape": (Every, text("\x1b[31m"), OutOfBounds),
    "delete": (Every, text("\x7f"), OutOfBounds),
    "C1 control": (Every, text("a\u0085"), OutOfBounds),
    "right-to-left override": (Every, text("a\u202eb"), OutOfBounds),
    "isolate": (Every, text("\u2066a"), OutOfBounds),
    "zero-width space": (Every, text("a\u200b"), OutOfBounds),
    "byte order mark": (Every, text("\ufeffa"), OutOfBounds),
    "line separator": (Every, text("a\u2028b"), OutOfBounds),
    "tag character": (Every, text("\U000e0041"), OutOfBounds),
}


def verdict(structure: type[Structure], data: bytes) -> str:
    """What decoding says: the error's name, or that the bytes are the value's own."""
    try:
        return "taken" if decode(structure, data).encode() == data else "taken, but not its own encoding"
    except WireError as error:
        return type(error).__name__


def mutations(count: int) -> list[bytes]:
    """Bytes near to valid ones, the same in every process."""
    random = Random(20)
    valid = Every(u=300, o=True, f=1.5, b=b"ab", t="né", c="red", m=(1, 2), n=Leaf("x")).encode()
    found = []
    for _ in range(count):
        data = bytearray(valid)
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(data))
            choice = random.randrange(4)
            if choice == 0:
                data[at] = random.randrange(256)
            elif choice == 1:
                data[at] ^= 1 << random.randrange(8)
            elif choice == 2:
                del data[at : at + random.randint(1, 4)]
            else:
                data[at:at] = bytes(random.choices(b"\xc0\xc1\xc7\xd4\xd7\xd9\xdd\xdf\xcc\xcf\xca\xff\x80\x90", k=random.randint(1, 3)))
        found.append(bytes(data))
    return found


def verdicts() -> dict[str, object]:
    """Of every case, by name, and of each mutation, taken or not: which of several faults is named first is the decoder's business."""
    near = [verdict(Every, data) == "taken" for data in mutations(3000)]
    return {**{name: verdict(structure, data) for name, (structure, data, _) in REFUSED.items()}, "mutations": near}


# what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(name: str) -> None:
    structure, data, error = REFUSED[name]
    with pytest.raises(WireError) as caught:
        decode(structure, data)
    assert caught.type is error
    assert str(caught.value)


def test_the_pure_python_decoder_judges_as_the_c_decoder_does() -> None:
    script = f"import json, runpy; print(json.dumps(runpy.run_path({str(Path(__file__))!r})['verdicts']()))"
    environment = {**os.environ, "MSGPACK_PUREPYTHON": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True, timeout=60)
    assert json.loads(ran.stdout) == verdicts()


def test_there_are_mutations_of_both_kinds() -> None:
    near = verdicts()["mutations"]
    assert isinstance(near, list)
    assert 0 < sum(near) < len(near)


def test_a_bomb_costs_no_more_than_a_few_megabytes() -> None:
    bombs = [data for _, data, _ in REFUSED.values() if len(data) > 60_000]
    assert len(bombs) >= 6
    tracemalloc.start()
    try:
        for data in bombs:
            verdict(Every, data)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_structure_that_breaks_its_bounds_cannot_be_made() -> None:
    with pytest.raises(OutOfBounds):
        Every(u=-1)
    with pytest.raises(WrongType):
        Every(u=True)
    with pytest.raises(WrongType):
        Needed(a=None)  # type: ignore[arg-type]
    with pytest.raises(OutOfBounds):
        Every(t="\ud800")


# what is taken --------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_structure_are_these() -> None:
    value = Every(u=300, o=True, f=1.5, b=b"ab", t="né", c="red", m=(1, 2), n=Leaf("x"))
    assert value.encode().hex() == ("88a175cd012ca16fc3a166cb3ff8000000000000a162c4026162a174a36ec3a9a163a3726564a16d920102a16e81a174a178")
    assert Every().encode() == b"\x80"


def test_the_deepest_and_the_fullest_structure_allowed_are_taken() -> None:
    def depth_of(levels: int) -> str:
        return verdict(Every, one("m", b"\x91" * (levels - 1) + b"\x01"))

    assert depth_of(2) == "taken"
    assert depth_of(MAX_DEPTH) == "WrongType"
    assert depth_of(MAX_DEPTH + 1) == "TooDeep"
    most = MAX_NODES - 2
    assert verdict(Every, one("m", b"\xdc" + most.to_bytes(2, "big") + b"\x01" * most)) == "OutOfBounds"


def test_a_list_comes_back_as_a_tuple_and_a_map_as_its_structure() -> None:
    value = decode(Every, one("m", b"\x92\x01\x02"))
    assert value.m == (1, 2)
    assert decode(Every, one("n", b"\x81\xa1t\xa1x")).n == Leaf("x")


PRINTABLE = st.text(st.characters(blacklist_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Cn")), max_size=8)


def values() -> st.SearchStrategy[Every]:
    words = PRINTABLE.map(lambda s: unicodedata.normalize("NFC", s)).filter(lambda s: 1 <= len(s.encode()) <= 8)
    return st.builds(
        Every,
        u=st.none() | st.integers(0, U64),
        o=st.none() | st.booleans(),
        f=st.none() | st.floats(-10, 1e300),
        b=st.none() | st.binary(min_size=1, max_size=3),
        t=st.none() | words,
        c=st.none() | st.sampled_from(("red", "blue")),
        m=st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
        n=st.none() | st.builds(Leaf, t=st.none() | words),
    )


@given(values())
def test_what_is_written_is_read_back(value: Every) -> None:
    assert decode(Every, value.encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name_or_are_the_encoding_of_what_they_mean(data: bytes) -> None:
    assert verdict(Every, data) != "taken, but not its own encoding"


@given(values())
def test_every_truncation_is_refused(value: Every) -> None:
    data = value.encode()
    assert all(verdict(Every, data[:size]) == "Truncated" for size in range(len(data)))


@given(values(), st.binary(min_size=1, max_size=4))
def test_nothing_may_follow(value: Every, more: bytes) -> None:
    assert verdict(Every, value.encode() + more) == "TrailingBytes"
