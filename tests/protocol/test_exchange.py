"""The exchange under loss, crash, reordering of contacts and half-noticed breaks (SPEC 5).

The same dumb model that found two faults in the first design drives the real state machine: connections are FIFO and break at any moment,
each end noticing in its own time; peers crash between any two durable writes and come back with what was durable.
"""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers

from protocol.exchange import Dropped, Effect, Epoch, Exchanges, Moved, Offer, Prepared, Refusal, Say, SayState, State, Subject, both
from protocol.identity import PeerId
from protocol.messages import Aborted, Accept, Commit, Done, Propose, Refuse, Resolve
from protocol.tensors import Arrays, Manifest, TensorSpec, chunks, digest, encode

TASK = b"t" * 32
SUBJECT = Subject(TASK, "statistics")
MANIFEST = Manifest((TensorSpec("v", (3,)), TensorSpec("rows", ())))


class Peer:
    """One peer of the model: durable state, and an Exchanges that is lost in a crash."""

    make: type[Exchanges] = Exchanges

    def __init__(self, number: int, random: Random, weight: int = 1) -> None:
        self.id = PeerId(bytes([number]) * 32)
        self.weight = weight
        self.x: Arrays = {"v": np.array([random.uniform(-1e3, 1e3) for _ in range(3)]), "rows": np.array(float(weight))}
        self.now_epoch = Epoch(1, PeerId(b"\1" * 32))
        self.prepared: dict[bytes, Prepared] = {}
        self.applied: dict[tuple[PeerId, bytes, str], bytes] = {}
        self.log: list[bytes] = []
        self.links: set[int] = set()
        self.objects = False
        self.boot()

    def boot(self) -> None:
        self.links.clear()
        self.exchanges = self.make(self.id, self, self.prepared, self.applied)

    def offer(self, subject: Subject) -> Offer | Refusal:
        if subject != SUBJECT:
            return Refusal("unknown-task")
        payload = encode(MANIFEST, self.x, "f64", None)
        return Offer(self.now_epoch, MANIFEST, MANIFEST.digest(TASK, "statistics"), "f64", self.weight, payload, digest(payload))

    def epoch(self, subject: Subject) -> Epoch | None:
        return self.now_epoch

    def objection(self, subject: Subject, arrays: Arrays, weight: int) -> str | None:
        return "policy" if self.objects else None

    def durable(self, effect: Effect) -> None:
        """What the node persists for each effect."""
        match effect:
            case Prepared():
                self.prepared[effect.xid] = effect
            case Moved():
                self.x = {n: self.x[n] + effect.delta[n] for n in self.x}
                self.log.append(effect.xid)
                if effect.is_initiator:
                    del self.prepared[effect.xid]
                else:
                    self.applied[effect.partner, TASK, "statistics"] = effect.xid
            case Dropped():
                if effect.xid is not None:
                    del self.prepared[effect.xid]


class World:
    """Peers and FIFO connections between them."""

    def __init__(self, seed: int, peers: int = 5, make: type[Exchanges] = Exchanges, weights: bool = False) -> None:
        self.random = Random(seed)
        self.peers = []
        for k in range(peers):
            peer = Peer(k + 1, self.random, self.random.randrange(1, 500) if weights else 1)
            peer.make = make
            peer.boot()
            self.peers.append(peer)
        self.ends: dict[int, tuple[int, int]] = {}
        self.queues: dict[tuple[int, int], list[object]] = {}
        self.now = 0.0
        self.total = self.mass()

    def mass(self) -> np.ndarray:
        """The weighted sum of all states, with what is applied at one end only and still in doubt at the other."""
        total = sum(p.weight * p.x["v"] for p in self.peers)
        for p in self.peers:
            for half in p.prepared.values():
                partner = next(q for q in self.peers if q.id == half.partner)
                if partner.applied.get((p.id, TASK, "statistics")) == half.xid:
                    total = total + p.weight * half.delta["v"]
        return total

    def dial(self, a: int, b: int) -> int:
        link = len(self.ends)
        self.ends[link] = (a, b)
        self.queues[link, a], self.queues[link, b] = [], []
        self.peers[a].links.add(link)
        self.peers[b].links.add(link)
        return link

    def other(self, link: int, k: int) -> int:
        a, b = self.ends[link]
        return b if k == a else a

    def carry_out(self, k: int, effects: list[Effect]) -> None:
        peer = self.peers[k]
        for effect in effects:
            peer.durable(effect)
            if isinstance(effect, Say | SayState) and effect.link in peer.links:
                queue = self.queues[effect.link, self.other(effect.link, k)]
                queue.extend(chunks(effect.xid, effect.payload) if isinstance(effect, SayState) else [effect.message])

    def deliver(self, link: int, k: int) -> None:
        peer, partner = self.peers[k], self.peers[self.other(link, k)].id
        item = self.queues[link, k].pop(0)
        if link not in peer.links:
            return
        if item is None:
            peer.links.discard(link)
            self.carry_out(k, peer.exchanges.link_lost(link))
        elif isinstance(item, bytes):
            self.carry_out(k, peer.exchanges.chunk(link, item[:16], item[16:], self.now))
        else:
            self.carry_out(k, peer.exchanges.receive(link, partner, item, self.now))

    def cut(self, link: int, k: int) -> None:
        """Peer k is gone from this link; of what it had sent, some still arrives, then the other end notices."""
        queue = self.queues[link, self.other(link, k)]
        del queue[self.random.randint(0, len(queue)) :]
        queue.append(None)

    def step(self) -> None:
        random, dice = self.random, self.random.random()
        self.now += random.random()
        if dice < 0.25:
            a, b = random.sample(range(len(self.peers)), 2)
            peer, partner = self.peers[a], self.peers[b]
            common = [c for c in sorted(peer.links) if set(self.ends[c]) == {a, b} and c in partner.links]
            link = random.choice(common) if common and random.random() < 0.8 else self.dial(a, b)
            self.carry_out(a, peer.exchanges.resolve(link, partner.id))
            if peer.exchanges.may_propose(link, partner.id, SUBJECT):
                self.carry_out(a, peer.exchanges.propose(link, partner.id, SUBJECT, random.randbytes(16), self.now))
        elif dice < 0.27:
            k = random.randrange(len(self.peers))
            for link in sorted(self.peers[k].links):
                self.queues[link, k].clear()
                self.cut(link, k)
            self.peers[k].boot()
        elif dice < 0.32:
            k = random.randrange(len(self.peers))
            busy = [c for c in sorted(self.peers[k].links) if self.queues[c, self.other(c, k)]]
            if links := busy or sorted(self.peers[k].links):
                link = random.choice(links)
                self.cut(link, k)
                self.peers[k].links.discard(link)
                self.carry_out(k, self.peers[k].exchanges.link_lost(link))
        elif dice < 0.34:
            self.now += random.choice((1.0, 11.0, 60.0))
            k = random.randrange(len(self.peers))
            self.carry_out(k, self.peers[k].exchanges.tick(self.now))
        else:
            waiting = sorted(key for key, queue in self.queues.items() if queue)
            if waiting:
                self.deliver(*random.choice(waiting))

    def settle(self) -> None:
        """The faults are over: every peer meets every other once more."""
        for _ in range(4):
            for a in range(len(self.peers)):
                for b in range(len(self.peers)):
                    if a != b and self.peers[a].exchanges.is_in_doubt(self.peers[b].id):
                        self.carry_out(a, self.peers[a].exchanges.resolve(self.dial(a, b), self.peers[b].id))
            while waiting := sorted(key for key, queue in self.queues.items() if queue):
                self.deliver(*self.random.choice(waiting))
            self.now += 1000.0
            for k, peer in enumerate(self.peers):
                self.carry_out(k, peer.exchanges.tick(self.now))

    def run(self, steps: int) -> int:
        for _ in range(steps):
            self.step()
            assert np.allclose(self.mass(), self.total, rtol=0, atol=1e-6), "the mean moved"
        self.settle()
        assert not any(p.prepared for p in self.peers), "an exchange stayed in doubt"
        assert np.allclose(self.mass(), self.total, rtol=0, atol=1e-6), "the mean moved"
        moves = [xid for p in self.peers for xid in p.log]
        for xid in set(moves):
            assert moves.count(xid) == 2, "an exchange was applied on one side only, or twice"
        return len(set(moves))


@settings(max_examples=40, deadline=None)
@given(seed=integers(0, 2**32))
def test_any_interleaving_of_loss_crash_and_restart_keeps_both_or_none(seed: int) -> None:
    assert World(seed).run(600) > 0


@settings(max_examples=20, deadline=None)
@given(seed=integers(0, 2**32))
def test_weighted_halves_keep_the_weighted_mean(seed: int) -> None:
    assert World(seed, weights=True).run(600) > 0


class Forgets(Exchanges):
    """A planted fault: the responder does not remember what it applied."""

    def _resolve(self, link: int, partner: PeerId, message: Resolve) -> list[Effect]:
        self._applied.clear()
        return super()._resolve(link, partner, message)


class KeepsPending(Exchanges):
    """A planted fault: RESOLVE is answered ABORTED while the exchange stays pending."""

    def _resolve(self, link: int, partner: PeerId, message: Resolve) -> list[Effect]:
        flights = dict(self._flights)
        effects = super()._resolve(link, partner, message)
        self._flights = flights
        return effects


@pytest.mark.parametrize("fault", [Forgets, KeepsPending])
def test_the_model_finds_a_planted_fault(fault: type[Exchanges]) -> None:
    def is_found(seed: int) -> bool:
        try:
            World(seed, make=fault).run(600)
        except AssertionError:
            return True
        return False

    assert any(is_found(seed) for seed in range(40))


# one exchange, step by step -------------------------------------------------------------------------------------------


def pair() -> tuple[World, int]:
    world = World(1, peers=2)
    return world, world.dial(0, 1)


def propose(world: World, link: int, k: int = 0, xid: bytes = b"x" * 16) -> None:
    peer, partner = world.peers[k], world.peers[world.other(link, k)]
    world.carry_out(k, peer.exchanges.propose(link, partner.id, SUBJECT, xid, world.now))


def pump(world: World, until: type | None = None) -> list[object]:
    """Deliver everything, or up to (not including) the first message of a type. What was delivered, in order."""
    seen: list[object] = []
    while waiting := [key for key, queue in world.queues.items() if queue]:
        key = next((w for w in waiting if until is None or not isinstance(world.queues[w][0], until)), None)
        if key is None:
            break
        seen.append(world.queues[key][0])
        world.deliver(*key)
    return seen


def test_an_exchange_puts_both_at_the_mean() -> None:
    world, link = pair()
    mean = (world.peers[0].x["v"] + world.peers[1].x["v"]) / 2
    propose(world, link)
    kinds = [type(m).__name__ for m in pump(world)]
    assert kinds == ["Propose", "Accept", "bytes", "bytes", "Commit", "Done"]
    assert np.array_equal(world.peers[0].x["v"], world.peers[1].x["v"]) or np.allclose(world.peers[0].x["v"], mean, rtol=1e-15)
    assert np.allclose(world.peers[1].x["v"], mean, rtol=1e-15)


def test_the_initiators_half_is_durable_before_commit_is_said() -> None:
    world, link = pair()
    propose(world, link)
    pump(world, until=Accept)
    peer = world.peers[0]
    accept = world.queues[link, 0].pop(0)
    peer.exchanges.receive(link, world.peers[1].id, accept, 0.0)
    piece = world.queues[link, 0].pop(0)
    effects = peer.exchanges.chunk(link, piece[:16], piece[16:], 0.0)
    assert [type(e) for e in effects] == [Prepared, Say]
    assert isinstance(effects[1].message, Commit)


def test_the_responders_half_is_durable_before_done_is_said() -> None:
    world, link = pair()
    propose(world, link)
    pump(world, until=Commit)
    effects = world.peers[1].exchanges.receive(link, world.peers[0].id, world.queues[link, 1].pop(0), 0.0)
    assert [type(e) for e in effects] == [Moved, Say]
    assert isinstance(effects[1].message, Done)


def test_a_lost_done_is_settled_at_the_next_contact() -> None:
    world, link = pair()
    propose(world, link)
    pump(world, until=Done)
    world.cut(link, 1)
    world.queues[link, 0].clear()
    world.peers[0].boot()
    assert world.peers[0].exchanges.is_in_doubt(world.peers[1].id)
    world.settle()
    assert world.peers[0].log == world.peers[1].log == [b"x" * 16]


def test_a_lost_commit_is_aborted_at_the_next_contact_even_if_it_arrives_afterwards() -> None:
    world, link = pair()
    propose(world, link)
    pump(world, until=Commit)
    late = world.queues[link, 1].pop(0)
    world.peers[0].links.discard(link)
    world.carry_out(0, world.peers[0].exchanges.link_lost(link))
    second = world.dial(0, 1)
    world.carry_out(0, world.peers[0].exchanges.resolve(second, world.peers[1].id))
    pump(world)
    world.queues[link, 1].append(late)
    pump(world)
    assert world.peers[0].log == world.peers[1].log == []


def test_of_crossing_proposals_the_lower_peer_ids_stands() -> None:
    world, link = pair()
    propose(world, link, 0, b"a" * 16)
    propose(world, link, 1, b"b" * 16)
    pump(world)
    assert world.peers[0].log == world.peers[1].log == [b"a" * 16]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": 2}, "epoch"),
        ({"starter": b"\7" * 32}, "epoch"),
        ({"schema": b"s" * 32}, "schema"),
        ({"size": 7}, "schema"),
        ({"encoding": "f32"}, "encoding"),
        ({"task": b"u" * 32}, "unknown-task"),
    ],
)
def test_a_proposal_that_does_not_fit_is_refused_by_name(change: dict[str, object], reason: str) -> None:
    world, link = pair()
    propose(world, link)
    message = world.queues[link, 1].pop(0)
    assert isinstance(message, Propose)
    fields = {name: getattr(message, name) for name in message.__dataclass_fields__ if name != "TYPE"}
    effects = world.peers[1].exchanges.receive(link, world.peers[0].id, Propose(**{**fields, **change}), 0.0)
    assert isinstance(effects[-1].message, Refuse)
    assert effects[-1].message.reason == reason


def test_a_state_that_is_objected_to_moves_nobody() -> None:
    world, link = pair()
    world.peers[1].objects = True
    propose(world, link)
    pump(world)
    assert world.peers[0].log == world.peers[1].log == []
    assert not world.peers[0].exchanges.in_doubt


def test_bytes_that_do_not_match_the_announced_digest_move_nobody() -> None:
    world, link = pair()
    propose(world, link)
    pump(world, until=bytes)
    for key in ((link, 0), (link, 1)):
        world.queues[key] = [m[:-1] + bytes([m[-1] ^ 1]) if isinstance(m, bytes) else m for m in world.queues[key]]
    pump(world)
    assert world.peers[0].log == world.peers[1].log == []


def test_a_commit_without_a_proposal_is_aborted_and_one_repeated_a_hundred_times_counts_once() -> None:
    world, link = pair()
    propose(world, link)
    pump(world, until=Commit)
    commit = world.queues[link, 1][0]
    pump(world)
    for _ in range(100):
        effects = world.peers[1].exchanges.receive(link, world.peers[0].id, commit, 0.0)
        assert isinstance(effects[0].message, Aborted)
    assert world.peers[1].log == [b"x" * 16]


def test_a_commit_counts_only_on_the_connection_of_its_proposal_and_with_the_digest_of_both() -> None:
    world, link = pair()
    other = world.dial(0, 1)
    propose(world, link)
    pump(world, until=Commit)
    commit = world.queues[link, 1].pop(0)
    responder, initiator = world.peers[1].exchanges, world.peers[0].id
    assert [type(e.message) for e in responder.receive(other, initiator, commit, 0.0)] == [Aborted]
    effects = responder.receive(link, initiator, Commit(xid=commit.xid, digest=both(b"a" * 32, b"b" * 32)), 0.0)
    assert isinstance(effects[0].message, Aborted)
    assert world.peers[1].log == []


def test_an_exchange_of_an_epoch_that_either_side_has_left_is_aborted() -> None:
    world, link = pair()
    propose(world, link)
    pump(world, until=Commit)
    world.peers[1].now_epoch = Epoch(2, world.peers[1].id)
    world.carry_out(1, world.peers[1].exchanges.abandon(SUBJECT))
    pump(world)
    assert world.peers[0].log == world.peers[1].log == []
    assert not world.peers[0].prepared


def test_a_done_for_a_past_epoch_is_discarded() -> None:
    world, link = pair()
    propose(world, link)
    pump(world, until=Done)
    world.peers[0].now_epoch = Epoch(2, world.peers[0].id)
    world.carry_out(0, world.peers[0].exchanges.abandon(SUBJECT))
    pump(world)
    assert world.peers[0].log == []
    assert not world.peers[0].prepared


def test_only_the_partner_can_settle_an_exchange_that_is_in_doubt() -> None:
    world = World(1, peers=3)
    link, strange = world.dial(0, 1), world.dial(2, 0)
    propose(world, link)
    pump(world, until=Done)
    assert world.peers[0].exchanges.receive(strange, world.peers[2].id, Done(xid=b"x" * 16), 0.0) == []
    assert world.peers[0].exchanges.receive(strange, world.peers[2].id, Aborted(xid=b"x" * 16), 0.0) == []
    pump(world)
    assert world.peers[0].log == [b"x" * 16]


def test_a_partner_that_never_answers_is_given_up_and_the_part_is_free_again() -> None:
    world, link = pair()
    propose(world, link)
    deadline = world.peers[0].exchanges.next_deadline()
    assert deadline is not None
    effects = world.peers[0].exchanges.tick(deadline)
    assert any(isinstance(e, Dropped) for e in effects)
    assert not world.peers[0].exchanges.is_busy(SUBJECT)


def test_every_state_names_who_may_be_in_it() -> None:
    assert {s.name for s in State} == {"OFFERED", "TRANSFERRING", "COMMITTING"}
