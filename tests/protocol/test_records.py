"""Peer records, and addresses as text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.cards import BadSignature, sign_card
from protocol.identity import key_from_seed, peer_id
from protocol.messages import Records
from protocol.records import BadAddress, PeerRecord, format_address, is_newer, open_record, parse_address, sign_record, tellable
from protocol.wire import U64, OutOfBounds, WireError

KEY = key_from_seed(b"k" * 32)
RECORD = PeerRecord(7, "kitchen", ("192.168.1.7:8786", "[fd00::7]:8786", "kitchen.local:8786"), (b"t" * 32,), 2_000_000_000)


def test_a_record_comes_back_with_its_peer() -> None:
    assert open_record(sign_record(RECORD, KEY)) == (peer_id(KEY), RECORD)


def test_a_record_is_no_other_kind_of_card() -> None:
    with pytest.raises(BadSignature):
        open_record(sign_card("task", RECORD.encode(), KEY))


def test_the_longest_record_fits_into_a_message() -> None:
    addresses = tuple(f"{'a' * 60}.{str(i) * 12}a:12345" for i in range(8))
    assert {len(a) for a in addresses} == {80}
    longest = sign_record(PeerRecord(U64, "n" * 64, addresses, tuple(bytes([i]) * 32 for i in range(32)), 2**40), KEY)
    assert Records((longest,)).cards == (longest,)


def test_a_higher_sequence_is_newer_whatever_else_it_says() -> None:
    newer = replace(RECORD, sequence=8, expires=1)
    assert is_newer(newer, RECORD)
    assert not is_newer(RECORD, newer)
    assert not is_newer(RECORD, RECORD)


def test_of_two_records_with_one_sequence_all_peers_keep_the_same() -> None:
    other = replace(RECORD, name="cellar")
    assert is_newer(other, RECORD) != is_newer(RECORD, other)


@pytest.mark.parametrize(
    "address", ["192.168.1.7", "192.168.1.7:0", "224.0.0.251:5353", "[fe80::1%eth0]:8786", "Kitchen.local:8786", "[FD00::7]:8786", "[::]:1"]
)
def test_a_record_names_no_address_that_others_cannot_use_or_write_differently(address: str) -> None:
    with pytest.raises(OutOfBounds):
        replace(RECORD, addresses=(address,))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.168.1.7:8786", ("192.168.1.7", 8786)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[FD00:0::7]:8786", ("fd00::7", 8786)),
        ("[fe80::1%wlan0]:8786", ("fe80::1%wlan0", 8786)),
        ("[fe80::1%12]:8786", ("fe80::1%12", 8786)),
        ("[::ffff:10.0.0.1]:8786", ("10.0.0.1", 8786)),
        ("Kitchen-2.Local:8786", ("kitchen-2.local", 8786)),
        ("raspberry_pi:8786", ("raspberry_pi", 8786)),
    ],
)
def test_an_address_is_read_in_its_canonical_form(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert parse_address(format_address(address)) == address


def test_a_port_may_be_left_out_where_there_is_a_usual_one() -> None:
    assert parse_address("kitchen.local", 8786) == ("kitchen.local", 8786)
    assert parse_address("10.0.0.1", 8786) == ("10.0.0.1", 8786)
    assert parse_address("fd00::7", 8786) == parse_address("[fd00::7]", 8786) == ("fd00::7", 8786)
    assert parse_address("10.0.0.1:1", 8786) == ("10.0.0.1", 1)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", ":8786", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:08786", "10.0.0.1:-1", "10.0.0.1:+1",
        "10.0.0.1:١", "10.0.0.1: 1", "10.0.0.256:1", "10.0.1:1", "127.1:1", "0x7f.1:1", "2130706433:1", "010.0.0.1:1", "0.0.0.0:1",
        "255.255.255.255:1", "239.1.2.3:1", "[ff02::1]:1", "[::]:1", "[::ffff:224.0.0.1]:1", "[10.0.0.1]:1", "fd00::7:1", "[fd00::7:1",
        "[fd00::7%]:1", "[fd00::7%a b]:1", "a b:1", "a..b:1", "-a:1", "a-:1", "a" * 64 + ":1", "é.local:1", "a/b:1", "a:1:2", "a\n:1",
        "user@host:1", "[name]:1",
    ],
)  # fmt: skip
def test_what_cannot_be_dialled_is_no_address(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_address(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"\[?[0-9a-f:.%]{0,20}\]?:?[0-9]{0,6}", fullmatch=True))
def test_text_is_an_address_or_a_bad_one_and_nothing_in_between(text: str) -> None:
    try:
        address = parse_address(text)
    except BadAddress:
        return
    assert parse_address(format_address(address)) == address


def test_a_peer_tells_of_its_addresses_what_others_can_use() -> None:
    own = [
        ("fe80::1%eth0", 8786),
        ("FD00::7", 8786),
        ("fd00::7", 8786),
        ("0.0.0.0", 8786),
        ("a" * 90, 8786),
        *(("10.0.0.9", i) for i in range(1, 20)),
    ]
    told = tellable(tuple(own))
    assert told[:2] == ("[fd00::7]:8786", "10.0.0.9:1")
    assert len(told) == 8
    replace(RECORD, addresses=told)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120))
def test_a_body_that_is_no_record_raises_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        open_record(sign_card("record", body or b"x", KEY))
