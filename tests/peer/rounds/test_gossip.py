"""When to begin an exchange, and with whom."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

from peer.rounds.gossip import QUIET_PERIOD_S, SETTLED_AFTER, GossipRounds
from protocol.identity import PeerId


def rounds(period_s: float = 1.0) -> GossipRounds:
    return GossipRounds(period_s, Random(1))


def periods(of: GossipRounds, count: int) -> list[float]:
    found = []
    for _ in range(count):
        of.began(0.0)
        found.append(of.due)
    return found


def test_one_exchange_a_period_give_or_take_a_fifth() -> None:
    found = periods(rounds(), 500)
    assert 0.8 <= min(found) < 0.85
    assert 1.15 < max(found) <= 1.2
    assert abs(sum(found) / len(found) - 1.0) < 0.02


def test_a_period_is_at_least_twice_what_an_exchange_takes() -> None:
    slow = rounds()
    for _ in range(50):
        slow.committed(5.0, False, 0.0)
    assert min(periods(slow, 100)) >= 2 * 5.0 * 0.8


def test_a_network_that_agrees_becomes_quiet_and_wakes_at_any_change() -> None:
    calm = rounds()
    for _ in range(SETTLED_AFTER):
        calm.committed(0.01, True, 0.0)
    assert calm.is_settled
    for _ in range(20):
        calm.committed(0.01, True, 0.0)
    calm.began(0.0)
    assert QUIET_PERIOD_S * 0.8 <= calm.due <= QUIET_PERIOD_S * 1.2
    calm.committed(0.01, False, 5.0)
    assert not calm.is_settled
    assert calm.due <= 5.0 + 1.0 * 0.2


def test_after_a_failure_another_partner_is_tried_sooner_than_a_period_but_ever_less_soon() -> None:
    failing = rounds(60.0)
    waits = []
    for _ in range(6):
        failing.began(0.0)
        failing.failed(0.0)
        waits.append(failing.due)
    assert waits[0] < 0.5
    assert all(a < b for a, b in itertools.pairwise(waits))


def test_partners_are_drawn_uniformly_and_in_no_order_of_the_list() -> None:
    peers = [PeerId(bytes([k]) * 32) for k in range(5)]
    one, other = rounds(), rounds()
    drawn = [one.partner(peers) for _ in range(2000)]
    assert drawn == [other.partner(peers[::-1]) for _ in range(2000)]
    assert all(330 < count < 470 for count in Counter(drawn).values())
    assert rounds().partner([]) is None
