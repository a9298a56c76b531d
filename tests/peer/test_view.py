"""Whom a peer knows, whom it dials next, and when somebody counts as lost."""

from __future__ import annotations

from random import Random

import pytest

from peer.view import LONGEST_WAIT_S, LOST_AFTER_DIALS, MAX_CANDIDATES, MAX_NEIGHBOURS, Dialling, View
from protocol.identity import PeerId, key_from_seed, peer_id
from protocol.records import PeerRecord, sign_record
from protocol.wire import WireError

ME = PeerId(b"m" * 32)
TASK = b"t" * 32


def view() -> View:
    return View(ME, "me", Random(1), lost_after_s=30.0)


def card(
    number: int, sequence: int = 1, addresses: tuple[str, ...] | None = None, tasks: tuple[bytes, ...] = (), expires: int = 10**6
) -> bytes:
    where = addresses if addresses is not None else (f"10.0.{number // 250}.{number % 250 + 1}:8786",)
    return sign_record(PeerRecord(sequence, f"peer-{number}", where, tasks, expires), key_from_seed(number.to_bytes(32, "big")))


def known(number: int) -> PeerId:
    return peer_id(key_from_seed(number.to_bytes(32, "big")))


def dials(of: View, now: float, wanted: set[PeerId] | None = None, room: int = 8, only_wanted: bool = False) -> list[object]:
    return list(of.to_dial(now, wanted or set(), room, only_wanted=only_wanted))


def test_a_candidate_is_dialled_once_and_again_after_a_growing_wait() -> None:
    seen = view()
    seen.add_candidate(("10.0.0.9", 1), 0.0, is_static=True)
    assert dials(seen, 0.0) == [(("10.0.0.9", 1), None)]
    assert dials(seen, 0.0) == []
    waits, now = [], 0.0
    for _ in range(10):
        seen.dial_failed(("10.0.0.9", 1), now)
        deadline = seen.next_deadline(now)
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
        assert dials(seen, now) == [(("10.0.0.9", 1), None)]
    assert waits[0] <= 1.0
    assert LONGEST_WAIT_S / 2 <= waits[-1] <= LONGEST_WAIT_S


def test_a_candidate_nobody_named_is_forgotten_after_three_dials() -> None:
    seen = view()
    seen.add_candidate(("10.0.0.9", 1), 0.0)
    for k in range(LOST_AFTER_DIALS):
        assert dials(seen, k * 100.0)
        seen.dial_failed(("10.0.0.9", 1), k * 100.0)
    assert dials(seen, 1e4) == []


def test_candidates_are_bounded() -> None:
    seen = view()
    for k in range(MAX_CANDIDATES * 2):
        seen.add_candidate((f"10.0.{k // 250}.{k % 250}", 1), 0.0)
    assert len(seen.to_dial(0.0, set(), 10_000, only_wanted=False)) == MAX_CANDIDATES


def test_neighbours_are_bounded_and_linked_ones_are_kept() -> None:
    seen = view()
    seen.take_record(card(0), 0.0)
    seen.connected(known(0), 1, None)
    for k in range(1, MAX_NEIGHBOURS + 20):
        seen.take_record(card(k), 0.0)
    assert len(seen.neighbours) == MAX_NEIGHBOURS
    assert known(0) in seen.neighbours


def test_the_newest_record_counts_whoever_brings_it() -> None:
    seen = view()
    assert seen.take_record(card(1, 5, tasks=(TASK,)), 0.0) is not None
    assert seen.take_record(card(1, 4), 0.0) is None
    assert [n.peer for n in seen.partners(TASK)] == [known(1)]
    assert seen.take_record(card(1, 6), 0.0) is not None
    assert seen.partners(TASK) == []


def test_a_record_that_is_forged_own_or_expired_is_not_taken() -> None:
    seen = view()
    good = card(1)
    with pytest.raises(WireError):
        seen.take_record(good[:-1] + bytes([good[-1] ^ 1]), 0.0)
    assert seen.take_record(card(1, expires=5), 6.0) is None
    own = View(known(1), "me", Random(1), 30.0)
    assert own.take_record(good, 0.0) is None


def test_wanted_neighbours_are_dialled_first_and_alone_when_there_are_links_enough() -> None:
    seen = view()
    for k in range(20):
        seen.take_record(card(k), 0.0)
    assert dials(seen, 0.0, {known(13)}, only_wanted=True) == [(("10.0.0.14", 8786), known(13))]
    assert len(dials(seen, 0.0, room=3)) == 3


def test_all_addresses_of_a_neighbour_are_tried_in_turn() -> None:
    seen = view()
    seen.take_record(card(1, addresses=("10.0.0.1:1", "10.0.0.2:2")), 0.0)
    tried = []
    for k in range(4):
        [(address, _)] = seen.to_dial(k * 1000.0, set(), 8, only_wanted=False)
        tried.append(address)
        seen.dial_failed(address, k * 1000.0)
    assert tried == [("10.0.0.1", 1), ("10.0.0.2", 2)] * 2


def test_a_dial_counts_as_a_success_only_when_the_neighbour_has_greeted() -> None:
    refused = view()
    refused.take_record(card(1), 0.0)
    waits, now = [], 0.0
    for link in range(6):
        [(address, peer)] = refused.to_dial(now, set(), 8, only_wanted=False)
        assert peer is not None
        refused.connected(peer, link, address)
        refused.disconnected(peer, link, now)
        deadline = refused.next_deadline(now)
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
    assert waits[-1] > 4 * waits[0]


def test_lost_is_who_was_not_heard_from_and_dialled_in_vain() -> None:
    seen = view()
    seen.take_record(card(1, tasks=(TASK,)), 0.0)
    seen.connected(known(1), 1, None)
    seen.greeted(known(1))
    seen.heard(known(1), 0.0)
    assert seen.newly_lost(100.0) == []
    seen.disconnected(known(1), 1, 100.0)
    assert seen.newly_lost(100.0) == []
    now = 100.0
    while not (lost := seen.newly_lost(now)):
        for address, _ in seen.to_dial(now, set(), 8, only_wanted=False):
            seen.dial_failed(address, now)
        now += 1.0
    assert now < 120.0
    assert [n.peer for n in lost] == [known(1)]
    assert seen.newly_lost(now) == []
    assert seen.partners(TASK) == []
    seen.heard(known(1), now)
    assert [n.peer for n in seen.partners(TASK)] == [known(1)]


def test_a_peer_never_heard_from_is_never_lost() -> None:
    seen = view()
    seen.take_record(card(1), 0.0)
    assert seen.newly_lost(1e9) == []


def test_an_address_where_we_reached_ourselves_is_not_dialled_again() -> None:
    seen = view()
    seen.add_candidate(("10.0.0.9", 1), 0.0, is_static=True)
    dials(seen, 0.0)
    seen.is_own(("10.0.0.9", 1))
    assert dials(seen, 1e6) == []


def test_back_off_forgets_after_success() -> None:
    wait = Dialling()
    for _ in range(10):
        wait.failed(0.0, Random(1))
    wait.succeeded()
    assert wait.may(0.0)
    wait.failed(0.0, Random(1))
    assert wait.not_before <= 1.0


def test_a_neighbour_that_is_seen_again_is_dialled_at_once() -> None:
    seen = view()
    seen.take_record(card(1), 0.0)
    now = 0.0
    for _ in range(8):
        [(address, _)] = seen.to_dial(now, set(), 8, only_wanted=False)
        seen.dial_failed(address, now)
        deadline = seen.next_deadline(now)
        assert deadline is not None
        waited, now = deadline - now, deadline
    assert waited > 20.0
    seen.to_dial(now, set(), 8, only_wanted=False)
    seen.dial_failed(("10.0.0.2", 8786), now)
    seen.add_candidate(("10.0.0.2", 8786), now + 1.0)
    assert dials(seen, now + 1.0) == [(("10.0.0.2", 8786), known(1))]


def test_a_neighbour_that_died_while_this_daemon_was_off_is_lost() -> None:
    for met, lost in (([known(1)], [known(1)]), ([], [])):
        seen = view()
        seen.load({known(1): card(1)}, met, 0.0)
        for k in range(LOST_AFTER_DIALS):
            address, peer = seen.to_dial(k * 100.0, set(), 8, only_wanted=False)[0]
            assert peer == known(1)
            seen.dial_failed(address, k * 100.0)
        assert [n.peer for n in seen.newly_lost(300.0)] == lost
