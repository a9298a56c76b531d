"""A device: processor, clock, disk and rows, and `peer.node.Node` while it is on. Carries out the brain's actions as `peer/driver.py` does.

One event at a time, its actions in order, none before the one before is done; a write takes time, and power may fail in its middle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from peer import events as ev
from peer.driver import Clock
from peer.events import Action, Address, Notify, Seconds, TaskId
from peer.node import Node, NodeConfig
from peer.saved import Apply, KeepLeaf, Prepare, Settle
from protocol.identity import Identity, MemberCertificate

from .disk import Disk
from .network import Network
from .queue import Queue
from .trainer import Bench

START: Final = 1_800_000_000.0
"""The calendar's time when every run begins."""

FAILED: Final = "brain.failed"
"""What the trace says of a brain that raised."""

JOB_S: Final = {"open": 0.02, "score": 0.005, "train": 0.01}
"""What the trainer takes on a laptop, in seconds."""

EVENT_S: Final = 0.001
"""What one event takes a laptop's brain. Counted only for processors that are slower than that."""

SHORTEST_WAIT_S: Final = 0.001
"""As the driver's: no timer is shorter."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all hosts of a run share."""

    queue: Queue
    network: Network
    seed: int
    sync_s: float
    happened: Callable[[int, str, Any], None]
    written: Callable[[int, tuple[Any, ...]], None]


class Host:
    """See the module. `outgoing` may change what a lying peer sends."""

    def __init__(self, number: int, identity: Identity, config: NodeConfig, bench: Bench, cpu: float = 1.0) -> None:
        self.number, self.identity, self.config, self.bench = number, identity, config, bench
        self.address: Address = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 8786)
        self.peer = identity.peer
        self.certificate = MemberCertificate.from_der(identity.leaf)
        self.disk = Disk()
        self.node: Node | None = None
        self.cpu = self.usual_cpu = cpu
        self.boots = 0
        self.is_silent = False
        """Off without a kernel that would refuse connections."""
        self.is_disk_full = self.fails_at_write = False
        self.outgoing: Callable[[bytes], list[bytes]] | None = None
        self._offset, self._drift, self._bent_at = 0.0, 0.0, 0.0
        self._clock: Clock | None = None
        self._inbox: deque[ev.Event] = deque()
        self.is_busy = False
        self._writing: tuple[Any, ...] | None = None
        self._armed: float | None = None
        self._around: Surroundings | None = None

    def place(self, around: Surroundings) -> None:
        """Put the host into a run."""
        self._around = around

    @property
    def around(self) -> Surroundings:
        assert self._around is not None
        return self._around

    @property
    def is_up(self) -> bool:
        return self.node is not None

    # on and off --------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the daemon with what the disk holds."""
        if self.node is not None:
            return
        self.boots += 1
        self.is_silent = False
        self._armed = None
        random = Random(f"{self.around.seed}/{self.number}/{self.boots}")
        self.node = Node(self.identity, self.config, self.disk.saved(), random)
        self.around.network.reset_old(self.number)
        self.feed(ev.AddressesChanged((self.address,)))

    def power_off(self, *, is_silent: bool, is_durable: bool = False) -> None:
        """The daemon is gone. A write under way is on disk or is not."""
        if self.node is None:
            return
        if self._writing is not None and is_durable:
            self._commit(self._writing)
        self.node, self._writing, self.is_busy, self.is_silent = None, None, False, is_silent
        self._inbox.clear()
        self.around.network.power_off(self.number, is_silent=is_silent)

    # the clock ---------------------------------------------------------------------------------------------------------

    def now(self) -> Seconds:
        """The device's own time, which never goes back (as the driver's)."""
        return Seconds(START + self.around.queue.now) if self._clock is None else self._clock.now()

    def bend_clock(self, jump: float = 0.0, drift: float | None = None) -> None:
        """Put the clock forward or back, or let it run fast or slow from now on."""
        if self._clock is None:
            self._clock = Clock(self._wall, lambda: self.around.queue.now)
        self._offset = self._wall() - START - self.around.queue.now + jump
        self._bent_at = self.around.queue.now
        self._drift = self._drift if drift is None else drift

    def _wall(self) -> float:
        now = self.around.queue.now
        return START + now + self._offset + self._drift * (now - self._bent_at)

    # the brain ---------------------------------------------------------------------------------------------------------

    def feed(self, event: ev.Event) -> None:
        """Give the brain an event, when it is done with those before."""
        if self.node is None:
            return
        if self.is_busy:
            self._inbox.append(event)
            return
        self._take(event)

    def feed_if(self, boots: int, event: ev.Event) -> None:
        """Give it an event that belongs to one of its lives."""
        if self.boots == boots:
            self.feed(event)

    def _take(self, event: ev.Event) -> None:
        assert self.node is not None
        self.is_busy = True
        try:
            actions = self.node.handle(event, self.now())
        except Exception as error:  # as the driver's outermost loop: the daemon stops
            self.around.happened(self.number, FAILED, {"event": type(event).__name__, "error": f"{type(error).__name__}: {error}"})
            self.power_off(is_silent=False)
            return
        self._carry_on(actions, 0, self.boots)

    def _carry_on(self, actions: list[Action], first: int, boots: int) -> None:
        """Carry out actions from this one on; come back later if one takes time."""
        if self.boots != boots or self.node is None:
            return
        if first and self._writing is not None:
            self._commit(self._writing)
            self._writing = None
        for place in range(first, len(actions)):
            action = actions[place]
            if isinstance(action, ev.Send):
                self._send(action)
            elif isinstance(action, Notify):
                self.around.happened(self.number, action.kind, action.facts)
            elif isinstance(action, ev.Persist):
                if self._fails(action.records):
                    return
                if self.around.sync_s > 0.0:
                    self._writing = action.records
                    self.around.queue.after(self.around.sync_s / self.cpu, self._carry_on, (actions, place + 1, boots))
                    return
                self._commit(action.records)
            elif isinstance(action, ev.Train):
                self.around.queue.after(JOB_S[action.job] / self.cpu, self._train, (action, boots))
            elif isinstance(action, ev.Dial):
                self.around.network.dial(self, action.address, action.expected)
            elif isinstance(action, ev.Disconnect):
                self.around.network.close(action.link, self.number)
        if self.cpu < 1.0:
            self.around.queue.after(EVENT_S / self.cpu, self._rest, (boots,))
        else:
            self._rest(boots)

    def _rest(self, boots: int) -> None:
        """Done with an event: take the next."""
        if self.boots != boots or self.node is None:
            return
        self.is_busy = False
        if self._inbox:
            self._take(self._inbox.popleft())
        else:
            self._arm()

    def _send(self, action: ev.Send) -> None:
        if self.outgoing is None:
            self.around.network.send(action.link, self.number, action.data)
            return
        for data in self.outgoing(action.data):
            self.around.network.send(action.link, self.number, data)

    def _train(self, job: ev.Train, boots: int) -> None:
        if self.boots == boots and self.node is not None:
            self.feed(self.bench.run(job, self.around.queue.now))

    # the disk ----------------------------------------------------------------------------------------------------------

    def _fails(self, records: tuple[Any, ...]) -> bool:
        """Whether the daemon ends at this write."""
        if self.is_disk_full:
            self.around.happened(self.number, "fault.disk_full", {})
            self.power_off(is_silent=False)
            return True
        if self.fails_at_write and any(isinstance(r, Prepare | Apply | Settle) for r in records):
            self.fails_at_write = False
            is_durable = Random(f"{self.around.seed}/{self.number}/{self.boots}/write").random() < 0.5
            self._writing = records
            self.around.happened(self.number, "fault.power_failed", {"is_written": is_durable})
            self.power_off(is_silent=True, is_durable=is_durable)
            return True
        return False

    def _commit(self, records: tuple[Any, ...]) -> None:
        self.disk.commit(records)
        for record in records:
            if isinstance(record, KeepLeaf):
                self.identity = replace(self.identity, leaf=record.leaf, inviter=record.inviter)
                self.certificate = MemberCertificate.from_der(record.leaf)
        self.around.written(self.number, records)

    # timers ------------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        assert self.node is not None
        deadline = self.node.next_deadline()
        if deadline is None:
            return
        now = self.around.queue.now
        at = now + max(deadline - self.now(), SHORTEST_WAIT_S)
        if self._armed is None or at < self._armed:
            self._armed = at
            self.around.queue.at(at, self._tick, (self.boots, at))

    def _tick(self, boots: int, at: float) -> None:
        if self.boots == boots and self._armed == at:
            self._armed = None
            self.feed(ev.Tick())

    def accept(self, card: bytes, task: TaskId) -> None:
        """The owner's first acts: take the card, and let the device take part."""
        if task not in self.disk.tasks:
            self.feed(ev.AddTask(card))
            self.feed(ev.AcceptTask(task))
