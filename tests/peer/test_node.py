"""The brain, many at a time, over a virtual clock and a virtual network: the real protocol's bytes, no sockets, no files.

Statistics are averaged for real; the trainer is the real one's jobs, called in place.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from peer import events as ev
from peer.events import Action, Address, LinkId, Notify, Seconds, TaskId, Train, Trained
from peer.learning import cvgossip
from peer.learning.dataset import Rows
from peer.learning.models import fit
from peer.learning.moments import own_statistics
from peer.node import Node, NodeConfig
from peer.saved import (
    AddScore,
    Apply,
    EraseTask,
    ForgetRecord,
    HoldState,
    KeepCertificate,
    KeepInvite,
    KeepLeaf,
    KeepRecord,
    KeepResult,
    KeepRevocation,
    KeepSequence,
    KeepTask,
    Prepare,
    Saved,
    Settle,
    SpendInvite,
)
from protocol.cards import card_id, sign_card
from protocol.exchange import Subject
from protocol.identity import Identity, MemberCertificate, PeerId, found_network, issue_leaf, key_from_seed
from protocol.tasks import Column, Target, Task, Thresholds

START = 1_800_000_000.0
LATENCY_S = 0.001


def members(count: int, days: int = 90) -> list[Identity]:
    """A network of this many members, the first its founder."""
    founder = found_network(b"r" * 32, b"a" * 32, b"\1" * 32, START)
    assert founder.authority_key is not None
    assert founder.authority is not None
    found = [founder]
    for k in range(1, count):
        key = key_from_seed(bytes([k + 1]) * 32)
        leaf = issue_leaf(founder.authority_key, founder.authority, key.public_key(), START, days)
        found.append(Identity(key, founder.root, founder.authority, leaf))
    return found


class Disk:
    """What a store keeps, in memory."""

    def __init__(self) -> None:
        self.states: dict[Any, HoldState] = {}
        self.results: dict[Any, KeepResult] = {}
        self.prepared: dict[bytes, Prepare] = {}
        self.applied: dict[Any, bytes] = {}
        self.tasks: dict[TaskId, KeepTask] = {}
        self.revocations: list[bytes] = []
        self.records: dict[PeerId, bytes] = {}
        self.certificates: dict[PeerId, bytes] = {}
        self.invites: dict[bytes, KeepInvite] = {}
        self.sequence = 0
        self.scores: dict[TaskId, list[AddScore]] = {}
        self.leaf: KeepLeaf | None = None

    def commit(self, records: tuple[Any, ...]) -> None:
        for record in records:
            match record:
                case HoldState():
                    self.states[record.task, record.part] = record
                case KeepResult():
                    self.results[record.task, record.part] = record
                case Prepare():
                    assert record.xid not in self.prepared
                    self.prepared[record.xid] = record
                case Settle(xid):
                    del self.prepared[xid]
                case Apply():
                    self.applied[record.partner, record.task, record.part] = record.xid
                case KeepTask():
                    self.tasks[record.task] = record
                case EraseTask(task):
                    for table in (self.states, self.results):
                        for key in [k for k in table if k[0] == task]:
                            del table[key]
                    self.prepared = {x: p for x, p in self.prepared.items() if p.task != task}
                    self.applied = {k: x for k, x in self.applied.items() if k[1] != task}
                    self.scores.pop(task, None)
                case KeepRevocation(card):
                    self.revocations.append(card)
                case KeepRecord(peer, card):
                    self.records[peer] = card
                case ForgetRecord(peer):
                    self.records.pop(peer, None)
                case KeepCertificate(peer, leaf):
                    self.certificates[peer] = leaf
                case KeepInvite():
                    self.invites[record.digest] = record
                case SpendInvite(spent):
                    del self.invites[spent]
                case KeepSequence(number):
                    assert number > self.sequence
                    self.sequence = number
                case AddScore():
                    self.scores.setdefault(record.task, []).append(record)
                case KeepLeaf():
                    self.leaf = record
                case _:
                    raise AssertionError(f"unknown record {record}")

    def saved(self) -> Saved:
        return Saved(
            dict(self.states),
            dict(self.results),
            dict(self.prepared),
            dict(self.applied),
            dict(self.tasks),
            tuple(self.revocations),
            dict(self.records),
            dict(self.certificates),
            dict(self.invites),
            self.sequence,
            {t: tuple(s) for t, s in self.scores.items()},
        )


class Host:
    """A device: a disk, rows, and a brain while it runs."""

    def __init__(self, network: VirtualNetwork, number: int, identity: Identity, rows: Rows | None, config: NodeConfig) -> None:
        self.network, self.number, self.identity, self.rows, self.config = network, number, identity, rows, config
        self.address: Address = (f"10.0.0.{number + 1}", 8786)
        self.disk = Disk()
        self.node: Node | None = None
        self.notices: list[Notify] = []
        self.boots = 0

    def boot(self) -> None:
        self.boots += 1
        self.node = Node(self.identity, self.config, self.disk.saved(), Random(self.number * 1000 + self.boots))
        self.feed(ev.AddressesChanged((self.address,)))

    def crash(self) -> None:
        self.node = None
        for link in [k for k, (a, b) in self.network.ends.items() if self.number in (a, b)]:
            self.network.cut(link, self.number)

    def feed(self, event: ev.Event) -> list[Notify]:
        if self.node is None:
            return []
        actions = self.node.handle(event, Seconds(self.network.now))
        told = [a for a in actions if isinstance(a, Notify)]
        self.notices += told
        for action in actions:
            if self.node is None:
                break
            self.carry_out(action)
        self.network.arm(self)
        return told

    def carry_out(self, action: Action) -> None:
        match action:
            case ev.Persist(records):
                self.disk.commit(records)
                for record in records:
                    if isinstance(record, KeepLeaf):
                        self.identity = replace(self.identity, leaf=record.leaf, inviter=record.inviter)
            case ev.Send(link, data):
                self.network.send(link, self.number, data)
            case ev.Dial(address, expected):
                self.network.dial(self, address, expected)
            case ev.Disconnect(link):
                self.network.cut(link, self.number)
            case Train():
                boots = self.boots
                done = self.train(action)
                self.network.later(0.005, lambda: self.feed(done) if self.boots == boots else None)

    def train(self, job: Train) -> Trained:
        assert self.node is not None
        task = next(p.task for t, p in self.node._tasks.items() if t == job.task)
        if job.job == "open":
            if self.rows is None:
                return Trained(job.task, "open", error="there are no rows here", facts={"next": "chinwag init --data FILE"})
            facts = {"rows": len(self.rows.y), "train_rows": len(self.rows.y), "test_rows": 0, "metric": "accuracy", "alone": 0.5}
            return Trained(job.task, "open", own_statistics(task, self.rows), facts)
        parts: dict[str, dict[str, Any]] = {"statistics": {}, "weights": {}, "control": {}}
        for name, array in job.arrays.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = array
        if job.job == "train":
            assert self.rows is not None
            seed, turn = job.settings["seed"], job.settings["round"]
            after = cvgossip.train(task, self.rows, parts["statistics"], parts["weights"], parts["control"], seed, turn)
            return Trained(job.task, "train", {f"weights/{n}": a for n, a in after.items()})
        model = fit(task, parts["statistics"], parts["weights"] or None)
        return Trained(job.task, "score", facts={"now": model.score(everything)})


class VirtualNetwork:
    """Links with latency between hosts, a clock, and a queue of what happens next."""

    def __init__(self, seed: int = 0) -> None:
        self.now = START
        self.random = Random(seed)
        self.queue: list[tuple[float, int, Callable[[], Any]]] = []
        self.order = itertools.count()
        self.hosts: list[Host] = []
        self.ends: dict[LinkId, tuple[int, int]] = {}
        self.links = itertools.count(1)
        self.armed: dict[int, float] = {}
        self.loss = 0.0
        self.parted: set[int] = set()
        self.sent: list[tuple[int, int, bytes]] = []

    def later(self, delay: float, what: Callable[[], Any]) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.order), what))

    def arm(self, host: Host) -> None:
        deadline = host.node.next_deadline() if host.node else None
        if deadline is None:
            return
        at = max(deadline, self.now + 0.001)
        if self.armed.get(host.number, float("inf")) > at or self.armed.get(host.number, 0.0) <= self.now:
            self.armed[host.number] = at
            boots = host.boots
            self.later(at - self.now, lambda: host.feed(ev.Tick()) if host.boots == boots else None)

    def is_cut_off(self, a: int, b: int) -> bool:
        return (a in self.parted) != (b in self.parted)

    def dial(self, host: Host, address: Address, expected: PeerId | None) -> None:
        other = next((h for h in self.hosts if h.address == address), None)
        is_there = other is not None and other.node is not None and not self.is_cut_off(host.number, other.number)
        if not is_there or (expected is not None and other is not None and other.identity.peer != expected):
            boots = host.boots
            self.later(0.05, lambda: host.feed(ev.DialFailed(address, "no answer")) if host.boots == boots else None)
            return
        assert other is not None
        link = LinkId(next(self.links))
        self.ends[link] = (host.number, other.number)

        def meet() -> None:
            if link in self.ends:
                certificates = [MemberCertificate.from_der(h.identity.leaf) for h in (host, other)]
                host.feed(ev.Connected(link, certificates[1], address, address))
                other.feed(ev.Connected(link, certificates[0], None, host.address))

        self.later(LATENCY_S * 3, meet)

    def send(self, link: LinkId, source: int, data: bytes) -> None:
        if link not in self.ends:
            return
        a, b = self.ends[link]
        target = self.hosts[b if source == a else a]
        self.sent.append((source, target.number, data))
        if self.is_cut_off(a, b):
            return
        if self.random.random() < self.loss:
            self.cut(link, source)
            return
        self.later(LATENCY_S, lambda: target.feed(ev.Received(link, data)) if link in self.ends else None)

    def cut(self, link: LinkId, source: int) -> None:
        if link not in self.ends:
            return
        a, b = self.ends[link]

        def notice() -> None:
            if self.ends.pop(link, None) is not None:
                for k in (a, b):
                    self.hosts[k].feed(ev.Disconnected(link, "cut"))

        self.later(LATENCY_S * 2, notice)

    def part(self, *numbers: int) -> None:
        """Cut these hosts off from the rest: nothing arrives any more, and TCP notices later."""
        self.parted = set(numbers)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        end = self.now + seconds
        while self.queue and self.queue[0][0] <= end:
            self.now, _, what = heapq.heappop(self.queue)
            what()
            if until is not None and until():
                return
        self.now = max(self.now, end)


rng = np.random.default_rng(7)
everything = Rows(X=rng.normal(size=(240, 4)) + np.repeat(np.eye(3, 4) * 3, 80, 0), y=np.repeat(np.arange(3), 80))


def share(k: int, of: int) -> Rows:
    """A skewed share of everything: most of one class."""
    mine = np.flatnonzero((np.arange(240) * 7 + everything.y * of // 3) % of == k)
    return Rows(X=everything.X[mine], y=everything.y[mine])


def a_task(author: Identity, model: str = "lda", **fields: Any) -> bytes:
    task = Task(
        name="flowers",
        about="",
        columns=tuple(Column(name=f"c{i}", is_gappy=False) for i in range(4)),
        target=Target(name="kind", classes=("a", "b", "c") if model != "ridge" else ()),
        model=model,
        alpha=fields.pop("alpha", 0.001),
        protocol="gossip",
        encoding="int8",
        privacy="open",
        thresholds=fields.pop("thresholds", Thresholds(min_rows=20, min_peers=1)),
        network=author.network,
        author=author.peer,
        created=int(START),
        **fields,
    )
    return sign_card("task", task.encode(), author.key)


class Village:
    """A network of hosts with one task that all have accepted."""

    def __init__(self, count: int, seed: int = 0, *, boot: int | None = None, config: NodeConfig | None = None, **fields: Any) -> None:
        self.network = VirtualNetwork(seed)
        self.identities = members(count)
        self.card = a_task(self.identities[0], **fields)
        self.task = TaskId(card_id(self.card))
        base = config or NodeConfig("", lost_after_s=20.0)
        for k, identity in enumerate(self.identities):
            host = Host(self.network, k, identity, share(k, count), replace(base, name=f"host-{k}"))
            self.network.hosts.append(host)
        for host in self.hosts[: boot if boot is not None else count]:
            self.start(host)

    @property
    def hosts(self) -> list[Host]:
        return self.network.hosts

    def start(self, host: Host) -> None:
        host.boot()
        if not host.disk.tasks:
            host.feed(ev.AddTask(self.card))
            host.feed(ev.AcceptTask(self.task))
        for other in self.hosts:
            if other is not host and other.node is not None:
                host.feed(ev.Candidate(other.address))

    def moments(self, host: Host) -> dict[str, Any]:
        return host.disk.results[self.task, "statistics"].arrays

    def pooled(self, hosts: list[Host]) -> dict[str, Any]:
        from protocol.cards import open_card
        from protocol.wire import decode

        task = decode(Task, open_card("task", self.card)[1])
        own = [own_statistics(task, h.rows) for h in hosts if h.rows is not None]
        return {name: sum(o[name] for o in own) / len(own) for name in own[0] if name != "starter"}

    def error(self, host: Host, hosts: list[Host]) -> float:
        """Largest relative error of a host's published moments against the pooled ones of these hosts."""
        found, truth = self.moments(host), self.pooled(hosts)
        return max(float(np.linalg.norm(found[n] - truth[n]) / (np.linalg.norm(truth[n]) + 1e-300)) for n in truth)

    def agree(self, hosts: list[Host], within: float = 1e-9) -> bool:
        keys = [h for h in hosts if (self.task, "statistics") in h.disk.results]
        return len(keys) == len(hosts) and all(self.error(h, hosts) <= within for h in hosts)

    def mass(self) -> np.ndarray:
        """Sum over hosts of what is held, with halves still in doubt."""
        total = sum(h.disk.states[self.task, "statistics"].arrays["rows"] for h in self.hosts)
        for host in self.hosts:
            for half in host.disk.prepared.values():
                partner = next(h for h in self.hosts if h.identity.peer == half.partner)
                if partner.disk.applied.get((host.identity.peer, self.task, half.part)) == half.xid:
                    total = total + half.delta["rows"]
        return total


def test_peers_that_know_one_address_each_reach_the_pooled_moments() -> None:
    village = Village(5)
    village.network.run(60.0, until=lambda: village.agree(village.hosts))
    assert village.agree(village.hosts)
    peers = village.hosts[0].disk.results[village.task, "statistics"].facts["peers"]
    village.network.run(30.0)
    peers = village.hosts[0].disk.results[village.task, "statistics"].facts["peers"]
    assert peers == pytest.approx(5.0, rel=1e-9)


def test_a_network_that_agrees_is_quiet() -> None:
    village = Village(4)
    village.network.run(300.0)
    before = len(village.network.sent)
    village.network.run(60.0)
    assert len(village.network.sent) - before < 60 * 4


@pytest.mark.parametrize("number", range(4))
def test_a_late_newcomer_is_taken_into_the_running_epoch_whatever_its_id(number: int) -> None:
    village = Village(4, boot=0)
    late = village.hosts[number]
    early = [host for host in village.hosts if host is not late]
    for host in early:
        village.start(host)
    village.network.run(60.0)
    assert village.agree(early)
    before = {host.disk.states[village.task, "statistics"].epoch for host in early}
    village.start(late)
    village.network.run(90.0, until=lambda: village.agree(village.hosts))
    assert village.agree(village.hosts)
    assert {host.disk.states[village.task, "statistics"].epoch for host in village.hosts} == before


def test_a_peer_that_comes_back_to_a_task_counts_once() -> None:
    village = Village(3)
    village.network.run(60.0)
    assert village.agree(village.hosts)
    village.network.part(1)
    village.hosts[1].feed(ev.LeaveTask(village.task, erase=True))
    village.network.run(1.0)
    village.hosts[1].feed(ev.AcceptTask(village.task))
    village.network.part()
    village.network.run(120.0, until=lambda: village.agree(village.hosts))
    assert village.agree(village.hosts)


def test_a_peer_that_leaves_is_forgotten_exactly() -> None:
    village = Village(4)
    village.network.run(60.0)
    assert village.agree(village.hosts)
    leaver, rest = village.hosts[1], [village.hosts[0], *village.hosts[2:]]
    leaver.feed(ev.LeaveTask(village.task, erase=True))
    village.network.run(120.0, until=lambda: village.agree(rest))
    assert village.agree(rest)
    assert not leaver.disk.states
    assert not leaver.disk.results


def test_a_peer_that_is_gone_for_good_is_forgotten_exactly() -> None:
    village = Village(4)
    village.network.run(60.0)
    village.hosts[2].crash()
    rest = [village.hosts[0], village.hosts[1], village.hosts[3]]
    village.network.run(240.0, until=lambda: village.agree(rest))
    assert village.agree(rest)


def test_a_daemon_that_was_away_for_a_second_is_no_reason_for_a_new_epoch() -> None:
    village = Village(4)
    village.network.run(60.0)
    before = {host.disk.states[village.task, "statistics"].epoch for host in village.hosts}
    village.hosts[2].crash()
    village.network.run(1.0)
    village.start(village.hosts[2])
    village.network.run(60.0)
    assert len(before) == 1
    assert {host.disk.states[village.task, "statistics"].epoch for host in village.hosts} == before


def test_whoever_lost_everybody_keeps_what_the_network_had_learned() -> None:
    village = Village(3)
    village.network.run(60.0)
    village.hosts[1].crash()
    village.hosts[2].crash()
    village.network.run(300.0)
    assert village.error(village.hosts[0], village.hosts) <= 1e-9
    assert village.hosts[0].node is not None
    assert village.hosts[0].node.status(Seconds(village.network.now))["alone_since"] is not None


@pytest.mark.parametrize("seed", range(6))
def test_the_mean_is_conserved_under_cut_links_and_crashes(seed: int) -> None:
    village = Village(4, seed, config=NodeConfig("", lost_after_s=1e9))
    village.network.run(5.0)
    village.network.loss = 0.15
    chance = Random(seed)
    for _ in range(12):
        village.network.run(3.0)
        host = chance.choice(village.hosts)
        host.crash()
        village.network.run(0.2)
        village.start(host)
    village.network.loss = 0.0
    village.network.run(240.0)
    assert not any(h.disk.prepared for h in village.hosts)
    total = sum(len(h.rows.y) for h in village.hosts if h.rows is not None)
    assert village.mass() == pytest.approx(total, rel=1e-12)
    assert village.agree(village.hosts)


def test_a_partition_heals() -> None:
    village = Village(5)
    village.network.run(30.0)
    village.network.part(0, 1)
    village.network.run(120.0)
    village.network.part()
    village.network.run(240.0, until=lambda: village.agree(village.hosts))
    village.network.run(60.0)
    assert village.agree(village.hosts)


def test_too_few_rows_listen_and_contribute_nothing() -> None:
    village = Village(3, thresholds=Thresholds(min_rows=20, min_peers=1), boot=0)
    village.hosts[2].rows = Rows(X=everything.X[:5], y=everything.y[:5])
    for host in village.hosts:
        village.start(host)
    village.network.run(90.0)
    assert village.agree(village.hosts[:2])
    assert village.error(village.hosts[2], village.hosts[:2]) <= 1e-9
    node = village.hosts[2].node
    assert node is not None
    task = node.status(Seconds(village.network.now))["tasks"][0]
    assert task["state"] == "listening"
    assert "20" in task["why"]
    assert (village.task, "statistics") not in village.hosts[2].disk.states


def test_below_the_minimum_of_peers_nothing_is_exchanged() -> None:
    village = Village(3, thresholds=Thresholds(min_rows=20, min_peers=3), boot=2)
    village.network.run(30.0)
    assert all(h.node is not None and h.node.status(Seconds(0.0))["tasks"][0]["exchanges"] == 0 for h in village.hosts[:2])
    village.start(village.hosts[2])
    village.network.run(90.0)
    assert village.agree(village.hosts)


def test_only_peers_that_were_heard_from_count_towards_the_minimum() -> None:
    village = Village(3, thresholds=Thresholds(min_rows=20, min_peers=3))
    village.network.run(30.0)
    assert village.agree(village.hosts)
    for host in village.hosts:
        host.crash()
    village.network.run(1.0)
    for host in village.hosts[:2]:
        village.start(host)
    before = len(village.hosts[0].notices)
    village.hosts[0].feed(ev.RowsChanged(village.task))
    village.network.run(30.0)
    assert not any(n.kind == "exchange.committed" for n in village.hosts[0].notices[before:])


def test_after_the_end_date_a_task_stops_and_its_model_stays() -> None:
    village = Village(2, ends=int(START) + 100)
    village.network.run(60.0)
    assert village.agree(village.hosts)
    village.network.run(60.0)
    node = village.hosts[0].node
    assert node is not None
    assert node.status(Seconds(village.network.now))["tasks"][0]["state"] == "ended"


def test_a_task_reaches_members_by_gossip_and_waits_for_consent() -> None:
    village = Village(3, boot=0)
    for host in village.hosts:
        host.boot()
        host.feed(ev.Candidate(village.hosts[0].address))
    village.hosts[0].feed(ev.AddTask(village.card))
    village.network.run(5.0)
    for host in village.hosts:
        assert host.disk.tasks[village.task].decision == "offered"
        assert not host.disk.states


def test_a_revoked_peer_is_shut_out_before_the_next_exchange() -> None:
    village = Village(3)
    village.network.run(40.0)
    victim = village.hosts[2]
    village.hosts[0].feed(ev.RevokePeer(victim.identity.peer))
    village.network.run(1.0)
    mark = len(village.network.sent)
    village.network.run(90.0)
    between = [s for s in village.network.sent[mark:] if victim.number in s[:2]]
    assert all(len(data) < 64 for _, _, data in between), "a revoked peer got more than a CLOSE"
    assert village.agree(village.hosts[:2])


def test_only_who_may_can_revoke() -> None:
    village = Village(3)
    village.network.run(5.0)
    told = village.hosts[1].feed(ev.RevokePeer(village.hosts[2].identity.peer))
    assert [n.kind for n in told][-1:] == ["command.refused"] or any(n.kind == "command.refused" for n in told)


def test_a_certificate_is_renewed_before_it_ends() -> None:
    village = Village(2, boot=0)
    founder = village.identities[0]
    assert founder.authority_key is not None
    assert founder.authority is not None
    key = village.identities[1].key
    short_lived = issue_leaf(founder.authority_key, founder.authority, key.public_key(), START - 60 * 86_400, 90)
    village.hosts[1].identity = replace(village.identities[1], leaf=short_lived)
    for host in village.hosts:
        village.start(host)
    village.network.run(90.0)
    assert village.hosts[1].disk.leaf is not None
    assert village.hosts[1].identity.certificate.not_after > village.identities[1].certificate.not_after - 86_400 * 2


def test_an_expired_members_link_is_closed() -> None:
    village = Village(2, boot=0)
    founder = village.identities[0]
    assert founder.authority_key is not None
    assert founder.authority is not None
    leaf = issue_leaf(founder.authority_key, founder.authority, village.identities[1].key.public_key(), START - 90 * 86_400 + 60, 90)
    village.hosts[1].identity = replace(village.identities[1], leaf=leaf)
    village.hosts[0].identity = replace(founder, authority=None, authority_key=None, root_key=None)
    for host in village.hosts:
        village.start(host)
    village.network.run(30.0)
    assert village.hosts[0].node is not None
    assert village.hosts[0].node.status(Seconds(village.network.now))["live_peers"] == 1
    village.network.run(60.0)
    assert village.hosts[0].node.peers(Seconds(village.network.now))[0]["exchanges"] > 0
    mark = len(village.network.sent)
    village.network.run(20.0)
    assert all(len(data) < 64 for source, _, data in village.network.sent[mark:] if source == 0)


def test_a_neighbour_that_claims_more_weight_than_it_can_have_moves_nobody() -> None:
    village = Village(3, model="logistic", alpha=0.01)
    village.network.run(60.0)
    node = village.hosts[0].node
    assert node is not None
    for part, fair, unfair in (("statistics", 1, 2), ("weights", 80, 481)):
        arrays = village.hosts[1].disk.results[village.task, part].arrays
        assert node._exchanging.objection(Subject(village.task, part), arrays, fair) is None
        assert node._exchanging.objection(Subject(village.task, part), arrays, unfair) == "weight"


def test_a_partner_that_asks_for_time_is_given_it() -> None:
    village = Village(2)
    village.network.run(30.0)
    first, second = village.hosts
    assert first.node is not None

    def begun() -> int:
        return sum(n.kind == "exchange.committed" and n.facts["began_here"] for n in first.notices)

    first.node._exchanging._asked_to_wait[second.identity.peer, Subject(village.task, "statistics")] = village.network.now + 10.0
    first.rows = Rows(X=everything.X[::3], y=everything.y[::3])
    before = begun()
    first.feed(ev.RowsChanged(village.task))
    village.network.run(9.0)
    assert begun() == before
    village.network.run(9.0)
    assert begun() > before


def test_rows_that_changed_are_in_the_next_result() -> None:
    village = Village(3)
    village.network.run(60.0)
    village.hosts[0].rows = Rows(X=everything.X[::2], y=everything.y[::2])
    village.hosts[0].feed(ev.RowsChanged(village.task))
    village.network.run(120.0, until=lambda: village.agree(village.hosts))
    assert village.agree(village.hosts)


def test_the_same_seed_sends_the_same_bytes() -> None:
    def trace() -> list[tuple[int, int, bytes]]:
        village = Village(4, 3)
        village.network.run(20.0)
        return village.network.sent

    assert trace() == trace()


def test_garbage_from_a_neighbour_ends_that_link_only() -> None:
    village = Village(3)
    village.network.run(10.0)
    network, node = village.network, village.hosts[0].node
    assert node is not None
    link = next(k for k, (a, b) in network.ends.items() if {a, b} == {0, 1})
    village.hosts[0].feed(ev.Received(link, Random(1).randbytes(5000)))
    assert any(n.kind == "peer.disconnected" for n in village.hosts[0].notices)
    network.run(60.0)
    assert village.agree(village.hosts)


def test_weights_trained_apart_reach_what_all_rows_together_would_give() -> None:
    village = Village(4, model="logistic", alpha=0.01)
    village.network.run(90.0)
    pooled = LogisticRegression(C=1 / (0.01 * len(everything.y))).fit(everything.X, everything.y).score(everything.X, everything.y)
    for host in village.hosts:
        last = host.disk.scores[village.task][-1]
        assert last.now >= pooled - 0.02
        assert ("exchange.committed", "weights") in {(n.kind, n.facts.get("part")) for n in host.notices}


def test_whoever_erases_a_task_keeps_nothing_of_it_in_memory() -> None:
    village = Village(2, model="logistic", alpha=0.01)
    village.network.run(40.0)
    node = village.hosts[0].node
    assert node is not None
    held = node._tasks[village.task].weights
    assert held is not None
    assert any(array.any() for array in held.weights.values())
    village.hosts[0].feed(ev.LeaveTask(village.task, erase=True))
    assert not any(array.any() for part in (held.weights, held.control, held.average) for array in part.values())
    assert held.preparation is None
    village.network.run(5.0)
    assert not village.hosts[0].disk.states


def test_a_late_newcomer_starts_from_its_neighbours_weights() -> None:
    village = Village(4, model="logistic", alpha=0.01, boot=3)
    village.network.run(60.0)
    village.start(village.hosts[3])
    village.network.run(5.0)
    assert any(n.kind == "result.fetched" and n.facts["part"] == "weights" for n in village.hosts[3].notices)
    village.network.run(120.0)
    assert village.agree(village.hosts, 1e-6)
    epochs = {h.disk.results[village.task, "weights"].epoch for h in village.hosts}
    assert len(epochs) == 1
