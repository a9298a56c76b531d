"""Many peers in one process: the daemon's brain, the real protocol's bytes, a virtual clock. One seed, one run, byte for byte.

    world = World(peers=(PeerPlan("a", rows_a), PeerPlan("b", rows_b)), test=rows, classes=("no", "yes"))
    outcome = Simulation(world, seed=1).run()

Nothing here reads a clock or draws a random number that does not come from the seed; no order depends on a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any, Final

import numpy as np

from peer import events as ev
from peer.events import TaskId
from peer.node import NodeConfig
from peer.view import MAX_NEIGHBOURS
from protocol.cards import card_id, sign_card
from protocol.identity import Identity, found_network, issue_leaf, key_from_seed
from protocol.tasks import Column, Target, Task, Thresholds
from protocol.tensors import Arrays

from .faults import Faults
from .host import FAILED, START, Host, Surroundings
from .invariants import Invariants
from .liars import make_liar
from .network import Network
from .queue import Queue
from .trace import Trace
from .trainer import Bench
from .world import FAULTS, LIARS, Fault, Latency, Outcome, PeerPlan, Sample, Violation, Weather, World

INTRODUCE_EVERY_S: Final = 60.0
"""How often a device hears again who is near, as mDNS tells it."""

LARGE: Final = 64
SMALL_VIEW: Final = 16
"""Networks of more peers than this, and what each of their peers knows (see World.view)."""

__all__ = [
    "FAULTS", "LIARS", "START", "Fault", "Latency", "Outcome", "PeerPlan", "Sample", "Simulation", "Violation", "Weather", "World",
]  # fmt: skip


class Simulation:
    """One run of a world. Use once."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        self.queue = Queue()
        self.trace = Trace()
        self._random = Random(f"chinwag/{seed}")
        founder = member(0)
        self.task = task_of(world, founder)
        self.card = sign_card("task", self.task.encode(), founder.key)
        self.task_id = TaskId(card_id(self.card))
        self.hosts = [self._host(k, plan) for k, plan in enumerate(world.peers)]
        self.network = Network(world.weather, self.queue, Random(self._random.getrandbits(64)), self.hosts)
        self.invariants = Invariants(world, seed, self.task, self.task_id, self.hosts, self.network, self.queue, self.trace)
        self.exchanges = [0] * len(self.hosts)
        self._unfinished = len(self.hosts)
        self._samples: list[Sample] = []
        self._spread: list[tuple[float, float]] = []
        around = Surroundings(self.queue, self.network, seed, world.sync_ms / 1000.0, self._happened, self.invariants.written)
        for host in self.hosts:
            host.place(around)
        self.faults = Faults(self)

    def run(self) -> Outcome:
        """Run to the end. What does not hold is in `verdicts` and `violations`; nothing is raised for it."""
        for host, plan in zip(self.hosts, self.world.peers, strict=True):
            self.queue.at(plan.joins_at, self.start, (host,))
        self.faults.plan(self.world.faults)
        if self.world.sample_every_s > 0.0:
            self.queue.at(self.world.sample_every_s, self._sample_again)
        self.queue.run(self.world.seconds, self._is_over)
        self._sample()
        self.invariants.finish()
        peers = [
            {
                "name": p.name,
                "exchanges": s.exchanges,
                "bytes_sent": s.bytes_sent,
                "score": s.score,
                "alone": self.hosts[s.peer].bench.alone(),
            }
            for p, s in zip(self.world.peers, self._samples[-len(self.hosts) :], strict=True)
        ]
        return Outcome(
            self._samples, self.trace.events, self.invariants.verdicts(), peers, self._spread, self.queue.now, self.invariants.violations()
        )

    def start(self, host: Host) -> None:
        """Switch a device on: it takes part in the task and hears who is near."""
        if host.is_up:
            return
        self.trace.add(self.queue.now, host.number, "host.started", {})
        host.boot()
        host.accept(self.card, self.task_id)
        self._introduce(host, host.boots)

    # inside ----------------------------------------------------------------------------------------------------------

    def _host(self, number: int, plan: PeerPlan) -> Host:
        world = self.world
        view = world.view or (MAX_NEIGHBOURS if len(world.peers) <= LARGE else SMALL_VIEW)
        config = NodeConfig(plan.name, period_s=world.period_s, lost_after_s=world.lost_after_s, max_neighbours=view)
        bench = Bench(self.task, plan.rows, self.world.test, self.world.sample_every_s)
        host = Host(number, member(number), config, bench, plan.cpu)
        if plan.liar is not None:
            make_liar(plan.liar, host, Random(self._random.getrandbits(64)))
        return host

    def _introduce(self, host: Host, boots: int) -> None:
        """Tell a device of some that are near and on. Those it tells of hear of it when it dials them."""
        if not host.is_up or host.boots != boots:
            return
        near = [k for k in self.network.reach(host.number) if self.hosts[k].is_up]
        count = self.world.introductions
        if count and len(near) > count and self.world.weather.topology is None:
            near = self._random.sample(near, count)
        for other in near:
            host.feed(ev.Candidate(self.hosts[other].address))
        self.queue.after(INTRODUCE_EVERY_S, self._introduce, (host, boots))

    def _happened(self, host: int, kind: str, facts: Mapping[str, Any]) -> None:
        self.trace.add(self.queue.now, host, kind, facts)
        if kind == FAILED:
            self.invariants.failed(host, facts["error"])
        if kind == "exchange.committed":
            self.exchanges[host] += 1
            if self.exchanges[host] == self.world.exchanges:
                self._unfinished -= 1

    def _is_over(self) -> bool:
        return self._unfinished == 0

    def _sample_again(self) -> None:
        self._sample()
        self.invariants.look()
        self.queue.after(self.world.sample_every_s, self._sample_again)

    def _sample(self) -> None:
        now = self.queue.now
        models = []
        for host in self.hosts:
            used = self._in_use(host)
            score = host.bench.sample(*used, now) if used is not None else None
            self._samples.append(Sample(now, host.number, self.exchanges[host.number], self.network.bytes_sent[host.number], score))
            if used is not None and host.is_up:
                models.append(np.concatenate([np.ravel(a) for a in (used[1] or used[0]).values()]))
        if models:
            rows = np.stack(models)
            middle = rows.mean(0)
            far = float(np.linalg.norm(rows - middle, axis=1).max() / (np.linalg.norm(middle) + 1e-300))
            self._spread.append((now, float(f"{far:.9e}")))

    def _in_use(self, host: Host) -> tuple[Arrays, Arrays] | None:
        """The published statistics and weights that this peer predicts with; no weights if its model has none."""
        statistics = host.disk.results.get((self.task_id, "statistics"))
        if "weights" not in self.task.parts:
            return (statistics.arrays, {}) if statistics is not None else None
        weights, held = host.disk.results.get((self.task_id, "weights")), host.disk.states.get((self.task_id, "weights"))
        if weights is None or held is None:
            return None
        prefix = "preparation/"
        return {n.removeprefix(prefix): a for n, a in held.arrays.items() if n.startswith(prefix)}, weights.arrays


@cache
def member(number: int) -> Identity:
    """Member of one and the same network for every run: the first its founder, all may not invite but him."""
    if number == 0:
        return found_network(_seed("root"), _seed("authority"), _seed("peer 0"), START)
    founder = member(0)
    assert founder.authority_key is not None
    assert founder.authority is not None
    key = key_from_seed(_seed(f"peer {number}"))
    return Identity(key, founder.root, founder.authority, issue_leaf(founder.authority_key, founder.authority, key.public_key(), START))


def _seed(text: str) -> bytes:
    return hashlib.sha256(f"chinwag scenario {text}".encode()).digest()


def task_of(world: World, author: Identity) -> Task:
    """The card of the world's task. Values may be missing in columns in which any peer's are."""
    given = [p.rows for p in world.peers if p.rows is not None]
    gaps = np.any([np.isnan(r.X).any(axis=0) for r in [*given, world.test]], axis=0)
    return Task(
        name="scenario",
        about="",
        columns=tuple(Column(name=f"c{k}", is_gappy=bool(gap)) for k, gap in enumerate(gaps)),
        target=Target(name="target", classes=world.classes),
        model=world.model,
        alpha=world.alpha,
        protocol="gossip",
        encoding=world.encoding,
        privacy="open",
        thresholds=Thresholds(min_rows=world.min_rows, min_peers=world.min_peers),
        network=author.network,
        author=author.peer,
        created=int(START),
    )
