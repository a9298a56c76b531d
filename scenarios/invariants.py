"""What must hold in every run. What does not becomes a Violation: the seed, the time, and the last events before it.

total       The brain takes every event in every state: it never raises.
conserved   Both ends of an exchange move by opposite amounts, weighted, to rounding; and nothing else moves what a peer holds but a restart
            from its own rows, a change of them, and training. Judged by what is durable, not by what anybody says.
once        No exchange is applied twice, nor on one side only once its initiator knows the outcome; unless one of the two has left the
            epoch by then, the defect that peers themselves report.
finite      Every number that is held or published is one.
bounded     A brain remembers the links that it has, dials and neighbours within its bounds.
settled     After the last fault: all that run and can reach each other are connected, and none of them is in doubt about another.
pooled      After the last fault and two epochs: what every peer predicts with are the pooled moments of the peers that take part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from peer.events import TaskId
from peer.node import MAX_DIALS, MAX_LINKS
from peer.saved import Apply, EraseTask, HoldState, KeepResult, KeepTask, Prepare, Settle
from peer.view import MAX_CANDIDATES, MAX_NEIGHBOURS
from protocol.exchange import Epoch
from protocol.tasks import Task
from protocol.tensors import Arrays

from .host import Host
from .network import Network
from .queue import Queue
from .trace import Trace
from .world import Violation, World

NAMES: Final = ("total", "conserved", "once", "finite", "bounded", "settled", "pooled")

ROUNDING: Final = 1e-12
"""Relative: what float64 loses in one addition is 1e-16, and states are sums of thousands of rows."""

AGREES: Final = 1e-6
"""Relative difference of published moments from the pooled ones that counts as none (DESIGN 5)."""

QUIET_S: Final = 240.0
"""Seconds after the last fault, and twice `lost_after_s`, until everything must have come right: a half-noticed break (45 s), dials that
backed off (60 s), a quiet network's period (60 s), and two epochs."""

IN_FLIGHT_S: Final = 30.0
"""An exchange that was prepared later than this ago may be under way."""

MUTE: Final = ("silence", "false_sizes")
"""Liars with whom no exchange comes about; whoever else takes part cannot have their rows."""


@dataclass(slots=True)
class Halves:
    """What became of one exchange."""

    part: str
    initiator: int
    epoch: Epoch
    at: float
    given: Arrays | None = None
    """What the responder moved by, times its weight."""
    responder: int = -1
    is_settled: bool = False
    is_left: bool = False
    """Settled because its initiator left the epoch, or the task."""


class Invariants:
    """Of one simulation."""

    def __init__(
        self, world: World, seed: int, task: Task, task_id: TaskId, hosts: Sequence[Host], network: Network, queue: Queue, trace: Trace
    ) -> None:
        self._world, self._seed, self._task, self._task_id = world, seed, task, task_id
        self._hosts, self._network, self._queue, self._trace = hosts, network, queue, trace
        self._numbers = {h.peer: h.number for h in hosts}
        self._held: dict[tuple[int, str], HoldState] = {}
        self._halves: dict[bytes, Halves] = {}
        self._rows_changed: dict[int, float] = {}
        self._changed_at = max((p.joins_at for p in world.peers), default=0.0)
        self._found: dict[str, Violation] = {}
        self._shown = {"total", "conserved", "once", "finite", "bounded"}

    def changed(self, rows_of: Iterable[int] = ()) -> None:
        """A fault began or ended; these peers' rows are others now."""
        self._changed_at = max(self._changed_at, self._queue.now)
        for host in rows_of:
            self._rows_changed[host] = self._queue.now

    def violations(self) -> tuple[Violation, ...]:
        return tuple(self._found.values())

    def verdicts(self) -> dict[str, str]:
        """By invariant: "holds" or what was seen. Those that this run could not show are left out."""
        return {n: self._found[n].says if n in self._found else "holds" for n in NAMES if n in self._found or n in self._shown}

    def _violated(self, name: str, says: str) -> None:
        if name not in self._found:
            self._found[name] = Violation(name, self._seed, round(self._queue.now, 6), says, self._trace.last())

    def failed(self, host: int, says: str) -> None:
        """A brain raised."""
        self._violated("total", f"the brain of {self._name(host)} failed: {says}")

    # every transaction -----------------------------------------------------------------------------------------------

    def written(self, host: int, records: tuple[Any, ...]) -> None:
        """A transaction is durable at this host."""
        held: dict[str, HoldState] = {}
        is_left = False
        for record in records:
            match record:
                case HoldState():
                    held[record.part] = record
                    self._check_finite(host, record.part, record.arrays)
                case KeepResult():
                    self._check_finite(host, record.part, record.arrays)
                case Prepare(xid, _, part, _, epoch, _):
                    self._halves[xid] = Halves(part, host, epoch, self._queue.now)
                case KeepTask(_, _, "left") | EraseTask():
                    is_left = True
        moved = False
        for record in records:
            if isinstance(record, Apply):
                self._applied(host, record, held[record.part])
                moved = True
            elif isinstance(record, Settle):
                moved |= self._settled(host, record.xid, held, is_left=is_left)
        if "statistics" in held and not moved:
            self._check_source(host, held["statistics"], held.get("own"))
        if is_left:
            self._held.pop((host, "statistics"), None)
        for part, state in held.items():
            self._held[host, part] = state

    def _applied(self, host: int, record: Apply, after: HoldState) -> None:
        halves = self._halves.get(record.xid)
        if halves is None:
            self._violated("once", f"{self._name(host)} applied an exchange that its initiator has not made durable")
        elif halves.given is not None:
            self._violated("once", f"{self._name(host)} applied one exchange twice")
        elif halves.is_settled and not halves.is_left:
            self._violated("once", f"{self._name(host)} moved, after {self._name(halves.initiator)} was told that it had not")
        else:
            halves.given, halves.responder = self._moved_by(host, record.part, after), host
            if halves.is_settled:
                del self._halves[record.xid]

    def _settled(self, host: int, xid: bytes, held: Mapping[str, HoldState], *, is_left: bool) -> bool:
        """The initiator forgets the exchange. Whether it moved."""
        halves = self._halves[xid]
        after = held.get(halves.part) or self._held.get((host, halves.part))
        halves.is_settled, halves.is_left = True, is_left or after is None or after.epoch != halves.epoch
        is_moved = halves.part in held and not halves.is_left
        if is_moved:
            if halves.given is None:
                self._violated("once", f"{self._name(host)} moved and its partner did not")
            else:
                self._check_opposite(host, halves, self._moved_by(host, halves.part, held[halves.part]))
        elif halves.given is None:
            return False
        elif not halves.is_left and self._epoch(halves.responder, halves.part) == halves.epoch:
            self._violated("once", f"{self._name(halves.responder)} moved, and {self._name(host)} took it for aborted")
        del self._halves[xid]
        return is_moved

    def _moved_by(self, host: int, part: str, after: HoldState) -> Arrays:
        """What a transaction added to what is held, times the peer's weight."""
        before = self._held.get((host, part))
        if before is None:
            self._violated("conserved", f"{self._name(host)} exchanged what it did not hold")
            return {}
        weight = len(self._hosts[host].bench.rows or ()) if part == "weights" else 1
        names = [n for n in after.arrays if part == "statistics" or n.startswith("weights/")]
        return {n: weight * (after.arrays[n] - before.arrays[n]) for n in names}

    def _check_opposite(self, host: int, halves: Halves, taken: Arrays) -> None:
        assert halves.given is not None
        if halves.part == "weights" and any(h in self._rows_changed for h in (host, halves.responder)):
            return  # the weight that they agreed on may be that of the rows before
        held = [self._held[h, halves.part].arrays for h in (host, halves.responder) if (h, halves.part) in self._held]
        for name, change in taken.items():
            rest = float(np.abs(change + halves.given[name]).max())
            if rest == 0.0:
                continue
            weight = max(len(self._hosts[h].bench.rows or ()) for h in (host, halves.responder)) if halves.part == "weights" else 1
            size = weight * max(float(np.abs(arrays[name]).max()) for arrays in held) + float(np.abs(change).max())
            if not rest <= ROUNDING * size:
                names = f"{self._name(host)} and {self._name(halves.responder)}"
                self._violated("conserved", f"{names} did not move by opposite amounts: {name} is off by {rest / size:.3g} of its size")

    def _check_source(self, host: int, after: HoldState, own_after: HoldState | None) -> None:
        """Statistics that no exchange moved: a restart from own rows, or the difference of changed ones."""
        own_before, before = self._held.get((host, "own")), self._held.get((host, "statistics"))
        own = own_after or own_before
        if own is None:
            self._violated("conserved", f"{self._name(host)} holds moments without rows")
        elif int(after.facts["exchanges_in_epoch"]) == 0 and (before is None or after.epoch != before.epoch):
            if not all(np.array_equal(after.arrays[n], own.arrays[n]) for n in own.arrays if n != "starter"):
                self._violated("conserved", f"{self._name(host)} began an epoch with other moments than its own")
        elif before is not None and own_before is not None:
            for name, value in own.arrays.items():
                if name == "starter":
                    continue
                rest = after.arrays[name] - before.arrays[name] - (value - own_before.arrays[name])
                size = max(float(np.abs(a).max()) for a in (after.arrays[name], before.arrays[name], value, own_before.arrays[name]))
                if not float(np.abs(rest).max()) <= ROUNDING * size:
                    self._violated("conserved", f"{self._name(host)} changed what it holds by other than its rows' difference")

    def _check_finite(self, host: int, part: str, arrays: Arrays) -> None:
        if not math.isfinite(sum(float(a.sum()) for a in arrays.values())):
            self._violated("finite", f"{part} of {self._name(host)} are no finite numbers")

    # now and then ----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """What a look into every running brain shows."""
        for host in self._hosts:
            node = host.node
            if node is None or host.is_busy:
                continue
            view = node._view
            links = {link.id for link in node._links}
            open_ends = self._network.open_ends(host.number)
            bounds = {
                "links that are closed": (len(links - open_ends), 0),
                "links": (len(links), MAX_LINKS),
                "dials under way": (view.dials_under_way, MAX_DIALS),
                "neighbours": (len(view.neighbours), MAX_NEIGHBOURS + MAX_LINKS),
                "candidates": (len(view._candidates), MAX_CANDIDATES),
                "halves in doubt": (len(host.disk.prepared), len(self._task.parts) * MAX_NEIGHBOURS),
            }
            for what, (count, most) in bounds.items():
                if count > most:
                    self._violated("bounded", f"{self._name(host.number)} has {count} {what}; the bound is {most}")

    def finish(self) -> None:
        """The end of the run."""
        self.look()
        if self._queue.now < self._changed_at + QUIET_S + 2 * self._world.lost_after_s:
            return
        self._shown.add("settled")
        self._check_connected()
        for host in self._hosts:
            old = [x for x in host.disk.prepared if self._halves[x].at < self._queue.now - IN_FLIGHT_S]
            waiting = sorted({self._numbers[host.disk.prepared[x].partner] for x in old})
            if host.is_up and any(self._hosts[k].is_up for k in waiting):
                self._violated("settled", f"{self._name(host.number)} is still in doubt about an exchange")
        if not any(p.liar in MUTE for p in self._world.peers):
            self._shown.add("pooled")
            self._check_pooled()

    def components(self) -> list[list[int]]:
        """The running hosts, by who can reach whom."""
        up = [h.number for h in self._hosts if h.is_up]
        reach = {k: [n for n in self._network.reach(k) if self._hosts[n].is_up and not self._network.is_stopped(k, n)] for k in up}
        return _components(reach)

    def _check_connected(self) -> None:
        links = {h.number: self._network.neighbours(h.number) for h in self._hosts if h.is_up}
        linked = _components(links)
        if linked != self.components():
            self._violated("settled", f"the running peers are {len(linked)} networks that do not meet")

    def _check_pooled(self) -> None:
        for component in self.components():
            here = [k for k in component if self._takes_part(k)]
            if not here:
                continue
            own = [self._held[k, "own"].arrays for k in here]
            truth = {n: sum(o[n] for o in own) / len(own) for n in own[0] if n != "starter"}
            for number in here:
                result = self._hosts[number].disk.results.get((self._task_id, "statistics"))
                if result is None:
                    self._violated("pooled", f"{self._name(number)} has no result")
                    continue
                size = {n: float(np.linalg.norm(t)) + 1e-300 for n, t in truth.items()}
                error = max(float(np.linalg.norm(result.arrays[n] - t)) / size[n] for n, t in truth.items())
                if not error <= AGREES:
                    says = f"the moments that {self._name(number)} uses are off by {error:.3g} from those of the {len(here)} peers present"
                    self._violated("pooled", says)

    def _takes_part(self, number: int) -> bool:
        host = self._hosts[number]
        accepted = self._task_id in host.disk.tasks and host.disk.tasks[self._task_id].decision == "accepted"
        return accepted and (number, "own") in self._held and len(host.bench.rows or ()) >= self._task.thresholds.min_rows

    def _epoch(self, host: int, part: str) -> Epoch | None:
        state = self._held.get((host, part))
        return state.epoch if state is not None else None

    def _name(self, host: int) -> str:
        return self._world.peers[host].name


def _components(links: Mapping[int, Iterable[int]]) -> list[list[int]]:
    """Connected parts of a graph, each sorted, in order of their first member."""
    found: list[list[int]] = []
    seen: set[int] = set()
    for first in sorted(links):
        if first in seen:
            continue
        part, edge = {first}, [first]
        while edge:
            for other in links[edge.pop()]:
                if other in links and other not in part:
                    part.add(other)
                    edge.append(other)
        seen |= part
        found.append(sorted(part))
    return found
