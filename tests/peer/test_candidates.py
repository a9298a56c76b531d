"""What is taken for a neighbour, and the bounds that keep a flood of forged ones harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.candidates import (
    MAX_CANDIDATES,
    MAX_CANDIDATES_PER_HOST,
    MAX_TXT_BYTES,
    OFFER_AGAIN_S,
    SERVICE,
    Candidates,
    instance_of,
    is_for_us,
    new_name,
    write_txt,
)

TAG = "0123456789abcdef"
NAME = "a1" * 16


def strings(*entries: str) -> bytes:
    return b"".join(bytes([len(entry)]) + entry.encode() for entry in entries)


def test_a_name_is_32_letters_and_digits_and_never_the_same_twice() -> None:
    names = {new_name() for _ in range(50)}
    assert len(names) == 50
    assert all(instance_of(f"{name}.{SERVICE}") == name for name in names)


@pytest.mark.parametrize(
    "name", ["", SERVICE, f"short.{SERVICE}", f"{NAME}x.{SERVICE}", f"{NAME}._http._tcp.local.", f"{NAME[:-1]}ä.{SERVICE}", NAME]
)
def test_other_names_are_not_instances_of_ours(name: str) -> None:
    assert name == NAME or instance_of(name) is None


def test_names_are_compared_without_case() -> None:
    assert instance_of(f"{NAME.upper()}._Chinwag._TCP.Local.") == NAME


def test_what_we_write_is_for_us_and_fits() -> None:
    text = strings(*(f"{key}={value}" for key, value in write_txt(TAG, NAME).items()))
    assert len(text) <= MAX_TXT_BYTES
    assert is_for_us(text, TAG, NAME)


def test_unknown_keys_and_more_versions_do_not_matter() -> None:
    assert is_for_us(strings("x", "future=yes", "v=1,2,250", f"n={TAG}", f"i={NAME}"), TAG, NAME)


def test_of_two_equal_keys_the_first_counts_in_either_case() -> None:
    assert is_for_us(strings("v=1", f"N={TAG}", "n=other", f"i={NAME}"), TAG, NAME)
    assert not is_for_us(strings("v=1", "N=other", f"n={TAG}", f"i={NAME}"), TAG, NAME)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00",
        strings("v=1", f"n={TAG}"),
        strings("v=1", f"i={NAME}"),
        strings(f"n={TAG}", f"i={NAME}"),
        strings("v", f"n={TAG}", f"i={NAME}"),
        strings("v=2", f"n={TAG}", f"i={NAME}"),
        strings("v=", f"n={TAG}", f"i={NAME}"),
        strings("v=1,", f"n={TAG}", f"i={NAME}"),
        strings("v=01", f"n={TAG}", f"i={NAME}"),
        strings("v=1.0", f"n={TAG}", f"i={NAME}"),
        strings("v=1", f"n={TAG.upper()}", f"i={NAME}"),
        strings("v=1", f"n={TAG}", f"i={NAME[::-1]}"),
        strings("v=1", f"n={TAG}", f"i={NAME}", "x" * 200),
        strings("v=1", f"n={TAG}", f"i={NAME}", "ä"),
        strings("v=1", f"n={TAG}", f"i={NAME}")[:-1],
        strings("v=1", f"n={TAG}", f"i={NAME}") + b"\xff",
    ],
)
def test_malformed_incomplete_and_foreign_records_are_not_for_us(text: bytes) -> None:
    assert not is_for_us(text, TAG, NAME)


@given(st.binary(max_size=300))
def test_no_bytes_upset_the_reader(text: bytes) -> None:
    assert not is_for_us(text, TAG, NAME)


def test_a_new_neighbour_is_offered_and_again_only_after_a_while() -> None:
    candidates = Candidates()
    assert candidates.see("a", ("10.0.0.1", 1), 100.0)
    assert not candidates.see("a", ("10.0.0.1", 1), 100.2)
    assert not candidates.see("a", ("10.0.0.1", 1), 100.0 + OFFER_AGAIN_S - 0.1)
    assert candidates.see("a", ("10.0.0.1", 1), 100.0 + OFFER_AGAIN_S)
    assert candidates.addresses == (("10.0.0.1", 1),)


def test_a_neighbour_that_moved_or_came_back_is_offered_at_once() -> None:
    candidates = Candidates()
    candidates.see("a", ("10.0.0.1", 1), 0.0)
    assert candidates.see("a", ("10.0.0.2", 1), 0.1)
    assert candidates.addresses == (("10.0.0.2", 1),)
    candidates.forget("a")
    candidates.forget("a")
    assert candidates.see("a", ("10.0.0.2", 1), 0.2)


def test_one_host_has_sixteen_places_and_the_newest_keep_them() -> None:
    candidates = Candidates()
    candidates.see("other", ("10.0.0.2", 1), 0.0)
    for number in range(1000):
        candidates.see(str(number), ("10.0.0.1", number), float(number))
    assert [port for _, port in candidates.addresses[1:]] == list(range(1000 - MAX_CANDIDATES_PER_HOST, 1000))
    assert candidates.addresses[0] == ("10.0.0.2", 1)


def test_all_hosts_together_have_256_places_and_the_longest_not_seen_goes() -> None:
    candidates = Candidates()
    candidates.see("kept", ("10.1.0.1", 1), 0.0)
    for number in range(1000):
        candidates.see(str(number), (f"10.0.{number // 250}.{number % 250}", 1), float(number))
        candidates.see("kept", ("10.1.0.1", 1), float(number))
    assert len(candidates) == MAX_CANDIDATES
    assert ("10.1.0.1", 1) in candidates.addresses


def test_a_flood_from_one_address_gets_few_dials_and_takes_no_turns_from_others() -> None:
    candidates = Candidates()
    offered = sum(candidates.see(new_name(), ("10.0.0.1", port), 0.0) for port in range(10_000))
    assert offered == MAX_CANDIDATES_PER_HOST
    assert candidates.see("honest", ("10.0.0.2", 1), 1.0)
    assert candidates.see("late", ("10.0.0.1", 1), OFFER_AGAIN_S)


def test_a_flood_from_many_addresses_is_bounded_too() -> None:
    candidates = Candidates()
    offered = sum(candidates.see(new_name(), (f"10.{n >> 8}.{n & 255}.1", 1), 0.0) for n in range(10_000))
    assert offered == MAX_CANDIDATES


def test_who_was_turned_away_in_a_flood_is_offered_when_seen_again() -> None:
    candidates = Candidates()
    for n in range(MAX_CANDIDATES):
        candidates.see(str(n), (f"10.{n >> 8}.{n & 255}.1", 1), 0.0)
    assert not candidates.see("honest", ("192.168.0.1", 1), 1.0)
    assert candidates.see("honest", ("192.168.0.1", 1), OFFER_AGAIN_S)
