"""The simulator itself: links, disks, clocks, faults and liars, each seen to do what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer import events as ev
from scenarios.everything import rows
from scenarios.invariants import NAMES
from scenarios.simulator import Fault, Latency, PeerPlan, Simulation, Weather, World
from scenarios.world import LIARS

THREE = World(
    peers=tuple(PeerPlan(f"p{k}", rows(k, 30, "lda")) for k in range(3)),
    test=rows(9, 60, "lda"),
    classes=("a", "b", "c"),
    lost_after_s=15.0,
    seconds=30.0,
)


def kinds(run: Simulation, peer: int) -> list[str]:
    return [e["kind"] for e in run.trace.events if e["peer"] == peer]


def test_peers_that_meet_use_the_pooled_moments_and_every_invariant_is_shown() -> None:
    outcome = Simulation(replace(THREE, seconds=300.0), 1).run()
    assert outcome.verdicts == dict.fromkeys(NAMES, "holds")
    assert outcome.spread[-1][1] < 1e-9
    assert all(p["exchanges"] > 0 and p["bytes_sent"] > 0 and p["score"] is not None for p in outcome.peers)


def test_what_a_run_was_too_short_to_show_is_not_claimed() -> None:
    assert set(Simulation(THREE, 1).run().verdicts) == set(NAMES) - {"settled", "pooled"}


def test_a_run_ends_when_every_peer_has_its_exchanges() -> None:
    outcome = Simulation(replace(THREE, exchanges=5), 1).run()
    assert outcome.seconds < 30.0
    assert min(p["exchanges"] for p in outcome.peers) == 5


def test_nothing_passes_a_partition_and_what_waited_comes_after_it() -> None:
    run = Simulation(replace(THREE, faults=(Fault(5.0, "partition", (0,), 15.0),)), 1)
    run.run()
    between = [e for e in run.trace.events if 5.1 < e["at"] < 15.0 and e["kind"] == "exchange.committed" and e["peer"] == 0]
    after = [e for e in run.trace.events if e["at"] > 15.0 and e["kind"] == "exchange.committed" and e["peer"] == 0]
    assert not between
    assert after


def test_one_way_stops_one_direction_only() -> None:
    run = Simulation(replace(THREE, peers=THREE.peers[:2], faults=(Fault(5.0, "one_way", (0,)),)), 1)
    arrived: list[tuple[float, int]] = []
    for host in run.hosts:
        feed = host.feed
        host.feed = lambda event, feed=feed, k=host.number: (  # type: ignore[method-assign]
            arrived.append((run.queue.now, k)) if isinstance(event, ev.Received) else None,
            feed(event),
        )[1]
    run.run()
    assert not [at for at, k in arrived if k == 1 and at > 5.1]
    assert [at for at, k in arrived if k == 0 and at > 5.1]


def test_a_crash_loses_the_write_under_way() -> None:
    world = replace(THREE, sync_ms=50.0, faults=(Fault(2.0, "crash", (1,), 10.0, 1.0),))
    lost = set()
    for seed in range(4):
        run = Simulation(world, seed)
        run.run()
        lost |= {e["facts"]["is_written"] for e in run.trace.events if e["kind"] == "fault.power_failed"}
        assert kinds(run, 1).count("host.started") == 2
    assert lost == {True, False}


def test_a_full_disk_stops_the_daemon_before_it_says_what_it_cannot_keep() -> None:
    run = Simulation(replace(THREE, faults=(Fault(2.0, "full_disk", (2,), 20.0),)), 1)
    outcome = run.run()
    assert "fault.disk_full" in kinds(run, 2)
    assert kinds(run, 2).count("host.started") == 2
    assert set(outcome.verdicts.values()) == {"holds"}


def test_a_clock_that_is_put_back_never_runs_backwards() -> None:
    run = Simulation(replace(THREE, faults=(Fault(5.0, "clock_jump", (0,), value=-20.0), Fault(5.0, "clock_drift", (1,), value=0.5))), 1)
    seen: list[float] = []
    happened = run._happened
    run._happened = lambda *a: (seen.append(run.hosts[0].now()), happened(*a))[1]  # type: ignore[method-assign]
    run.run()
    assert seen == sorted(seen)
    assert run.hosts[0].now() < run.hosts[2].now() < run.hosts[1].now()


def test_a_slow_link_takes_longer() -> None:
    fast = Simulation(replace(THREE, exchanges=20), 1).run().seconds
    slow = Simulation(replace(THREE, exchanges=20, weather=Weather(Latency(400.0), bytes_per_s=5_000.0)), 1).run().seconds
    assert slow > 2 * fast


def test_peers_meet_only_along_the_topology() -> None:
    run = Simulation(replace(THREE, weather=Weather(topology=((0, 1), (1, 2)))), 1)
    run.run()
    assert {e["facts"]["name"] for e in run.trace.events if e["peer"] == 0 and e["kind"] == "exchange.committed"} == {"p1"}


@pytest.mark.parametrize("liar", LIARS)
def test_whatever_a_peer_lies_no_exchange_is_half_done(liar: str) -> None:
    peers = (*THREE.peers[:2], replace(THREE.peers[2], liar=liar))
    outcome = Simulation(replace(THREE, peers=peers, seconds=120.0), 1).run()
    assert set(outcome.verdicts.values()) == {"holds"}
    if (
        liar != "silence"
    ):  # who accepts everything and sends nothing holds up both others for as long as a transfer may take, again and again
        assert all(p["exchanges"] > 0 for p in outcome.peers[:2])
