"""Carries out a world's faults, each at its time (`world.Fault` says what each is)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from peer import events as ev

from .host import Host
from .network import Barrier
from .world import Fault

if TYPE_CHECKING:
    from .simulator import Simulation

BARRIERS: Final = {"partition": (True, False), "one_way": (False, False), "clog": (False, True)}
"""Whether the other direction is stopped too, and whether they cannot even talk among themselves."""


class Faults:
    """Of one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def plan(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self._simulation.queue.at(fault.at, self._begin, (fault,))

    def _begin(self, fault: Fault) -> None:
        run = self._simulation
        facts = {"peers": list(fault.peers), "until": fault.until, "value": fault.value}
        run.trace.add(run.queue.now, -1, f"fault.{fault.kind}", facts)
        run.invariants.changed(fault.peers if fault.kind == "rows_change" else ())
        if fault.kind in BARRIERS:
            is_both, is_total = BARRIERS[fault.kind]
            barrier = Barrier(frozenset(fault.peers), is_both, is_total)
            run.network.raise_barrier(barrier)
            self._later(fault, lambda: run.network.lift_barrier(barrier))
        elif fault.kind == "cut":
            run.network.break_links(fault.peers, 1.0 if fault.value is None else fault.value)
        else:
            for number in fault.peers:
                _EACH[fault.kind](self, run.hosts[number], fault)

    def _later(self, fault: Fault, end: Callable[[], None]) -> None:
        """Let the fault end."""
        run = self._simulation

        def over() -> None:
            run.trace.add(run.queue.now, -1, f"fault.{fault.kind}.over", {"peers": list(fault.peers)})
            run.invariants.changed()
            end()

        if fault.until is not None:
            run.queue.at(fault.until, over)

    def _crash(self, host: Host, fault: Fault) -> None:
        if fault.value == 1.0:
            host.fails_at_write = True
        else:
            host.power_off(is_silent=True)

        def again() -> None:
            host.fails_at_write = False
            self._simulation.start(host)

        self._later(fault, again)

    def _restart(self, host: Host, fault: Fault) -> None:
        host.power_off(is_silent=False, is_durable=True)
        at = fault.at if fault.until is None else fault.until
        self._later(Fault(fault.at, fault.kind, fault.peers, at), lambda: self._simulation.start(host))

    def _stop(self, host: Host, fault: Fault) -> None:
        host.power_off(is_silent=False, is_durable=True)
        host.is_silent = True
        self._later(fault, lambda: self._simulation.start(host))

    def _slow(self, host: Host, fault: Fault) -> None:
        host.cpu = host.usual_cpu * (0.1 if fault.value is None else fault.value)
        self._later(fault, lambda: setattr(host, "cpu", host.usual_cpu))

    def _clock(self, host: Host, fault: Fault) -> None:
        if fault.kind == "clock_jump":
            host.bend_clock(jump=fault.value or 0.0)
        else:
            host.bend_clock(drift=fault.value or 0.0)
            self._later(fault, lambda: host.bend_clock(drift=0.0))

    def _fill_disk(self, host: Host, fault: Fault) -> None:
        host.is_disk_full = True

        def room() -> None:
            host.is_disk_full = False
            self._simulation.start(host)

        self._later(fault, room)

    def _leave(self, host: Host, fault: Fault) -> None:
        task = self._simulation.task_id
        host.feed(ev.LeaveTask(task, erase=fault.value == 1.0))
        self._later(fault, lambda: host.feed(ev.AcceptTask(task)))

    def _change_rows(self, host: Host, fault: Fault) -> None:
        if host.bench.rows is not None:
            host.bench.keep(0.5 if fault.value is None else fault.value)
            host.feed(ev.RowsChanged(self._simulation.task_id))


_EACH: Final[dict[str, Callable[[Faults, Host, Fault], None]]] = {
    "crash": Faults._crash,
    "restart": Faults._restart,
    "stop": Faults._stop,
    "slow_cpu": Faults._slow,
    "clock_jump": Faults._clock,
    "clock_drift": Faults._clock,
    "full_disk": Faults._fill_disk,
    "leave": Faults._leave,
    "rows_change": Faults._change_rows,
}
