"""The same scenario on real daemons: processes on this computer's loopback interface, or each on a host of a LAN of network namespaces.

Why: what the simulator finds is only worth something if the daemon does it too. The rows, the task, the faults and what is measured are
those of the simulated world; the clock is the wall's, so two runs are never the same, and what a scenario asks for that only a virtual
network or processor can do is refused before anything starts. The delay of a packet is what this computer makes it, whatever the file says.
"""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from peer.cli import child
from peer.config import Config, Home, PeerTable, TaskTable, save_config, save_identity
from peer.control import READ_TIMEOUT_S, ControlError, Exit
from peer.learning.dataset import Rows

from .door import Door
from .lan import Host, Lan
from .results import HOLDS
from .village import PATIENCE_S, Device, Place, admitted, founded
from .world import Fault, Outcome, Sample, World

TASK: Final = "scenario"

TARGET: Final = "target"

MAX_DAEMONS: Final = 32
"""Daemons of one run: each takes 200 MiB with its trainer, and two cores are busy with twelve."""

LOOPBACK: Final = "127.0.0.1"

EVERYWHERE: Final = ("crash", "restart", "stop", "leave", "rows_change")
"""Faults that a daemon's process can have."""

ON_A_LAN: Final = (*EVERYWHERE, "cut", "partition")
"""Faults that hosts with cables can have besides."""

LOOK_EVERY_S: Final = 0.02
"""Between two looks at the clock."""

Step = tuple[float, Callable[[], None]]


def run_live(world: World, seed: int, on: Literal["processes", "lan"]) -> Outcome:
    """Run the world on real daemons. Raises ControlError if it cannot be, or if they do not start."""
    if why := why_not(world, on):
        raise ControlError(why, "the same with --on sim", Exit.USAGE)
    with tempfile.TemporaryDirectory(prefix="chinwag-scenario-") as folder, _places(world, on) as (places, lan):
        town = _Town(world, Path(folder), places, lan)
        try:
            town.open()
            town.live()
            return town.outcome()
        finally:
            town.close()


def why_not(world: World, on: Literal["processes", "lan"]) -> str | None:
    """What of this world needs the simulator, in one sentence; None if nothing does."""
    where = "on a LAN of namespaces" if on == "lan" else "by real daemons on one loopback interface"
    asked = {
        f"{len(world.peers)} peers": len(world.peers) > MAX_DAEMONS,
        "a topology": world.weather.topology is not None,
        "loss of packets": world.weather.loss > 0 and on != "lan",
        "a limit of bandwidth": world.weather.bytes_per_s is not None and on != "lan",
        "a slow processor": any(plan.cpu != 1 for plan in world.peers),
        "a liar": any(plan.liar for plan in world.peers),
        "a first peer that is late or has no rows": world.peers[0].joins_at > 0 or world.peers[0].rows is None,
        "an interrupted write": any(fault.kind == "crash" and fault.value == 1 for fault in world.faults),
    }
    asked |= {f"the fault {f.kind}": True for f in world.faults if f.kind not in (ON_A_LAN if on == "lan" else EVERYWHERE)}
    for what, is_asked in asked.items():
        if is_asked:
            return f"The scenario asks for {what}, which cannot be had {where}."
    return f"Not here: {why}." if on == "lan" and (why := Lan.why_not()) else None


class _Loopback:
    """This computer, as a place for a daemon. What is started here ends when this process does."""

    def __init__(self, name: str) -> None:
        self.name = name

    def popen(self, argv: Sequence[str], **kw: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(argv, **{**kw, "stdin": subprocess.PIPE}, **child.apart())

    def run(self, argv: Sequence[str], *, timeout: float = PATIENCE_S, check: bool = False, **kw: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, timeout=timeout, check=check, capture_output=True, text=True, **kw)


@contextmanager
def _places(world: World, on: Literal["processes", "lan"]) -> Iterator[tuple[Sequence[Place], Lan | None]]:
    if on == "processes":
        yield [_Loopback(plan.name) for plan in world.peers], None
        return
    with Lan(len(world.peers)) as lan:
        for host in lan.hosts:
            if world.weather.loss:
                # A packet is lost on the sender's cable or on the receiver's.
                host.lossy(100.0 * (1.0 - (1.0 - world.weather.loss) ** 0.5))
            if world.weather.bytes_per_s is not None:
                host.slow(max(round(world.weather.bytes_per_s * 8 / 1000), 1))
        yield lan.hosts, lan


class _Town:
    """All daemons of one run. The clock begins when those that are there from the start take part."""

    def __init__(self, world: World, folder: Path, places: Sequence[Place], lan: Lan | None) -> None:
        self.world, self.folder, self.lan = world, folder, lan
        self.devices = [Device(place, folder / plan.name / "home") for place, plan in zip(places, world.peers, strict=True)]
        self.doors: list[Door] = []
        self.task = ""
        self.began = 0.0
        self.began_at = 0.0
        """The same moment in seconds since 1970, as logs have it."""
        self.ended = 0.0
        self.seen: list[dict[str, Any]] = [{} for _ in self.devices]
        self.samples: list[Sample] = []
        self._wanted: set[int] = set()
        self._died: list[str] = []

    # beginning and end -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Found the network, deal the rows, start everybody who is there from the beginning, and let them take part."""
        self._found()
        first = [k for k, plan in enumerate(self.world.peers) if plan.joins_at == 0]
        for k in first:
            self._start(k)
        for k in first:
            self.devices[k].wait_until_up()
        self.doors = [Door(device.host, device.home) for device in self.devices]
        self.task = self.doors[0].post("/tasks", self._card())["id"]
        with ThreadPoolExecutor(len(first)) as pool:
            list(pool.map(self._accept, first))
        self.began, self.began_at = time.monotonic(), time.time()

    def live(self) -> None:
        """Carry out what is planned, look at everybody in between, until the time is over or all have exchanged enough."""
        steps = sorted(self._planned(), key=itemgetter(0))
        look_at = self.world.sample_every_s
        with ThreadPoolExecutor(len(self.devices)) as pool:
            self._pool = pool
            while (now := self._now()) < self.world.seconds:
                while steps and steps[0][0] <= now:
                    steps.pop(0)[1]()
                if now >= look_at:
                    self._look(now)
                    look_at = max(look_at + self.world.sample_every_s, now)
                    if self._is_enough():
                        break
                time.sleep(LOOK_EVERY_S)
        self.ended = self._now()
        self._look(self.ended)
        for k in sorted(self._wanted):
            if not self.devices[k].is_up:
                self._died.append(f"{self.world.peers[k].name} ended: {self.devices[k].last_words()[-300:]}")

    def close(self) -> None:
        """End whatever still runs."""
        for device in self.devices:
            if device.is_up:
                device.kill()
        for door in self.doors:
            door.close()

    def outcome(self) -> Outcome:
        """What was seen."""
        last = self.samples[-len(self.devices) :]
        peers = [
            {
                "name": plan.name,
                "exchanges": sample.exchanges,
                "bytes_sent": sample.bytes_sent,
                "score": sample.score,
                "alone": seen.get("alone"),
            }
            for plan, sample, seen in zip(self.world.peers, last, self.seen, strict=True)
        ]
        verdicts = {"running": self._died[0] if self._died else HOLDS, "foreseen": self._traceback() or HOLDS}
        return Outcome(self.samples, self._trace(), verdicts, peers, [], self.ended, ())

    # inside ----------------------------------------------------------------------------------------------------------

    def _found(self) -> None:
        now = time.time()
        founder = founded(now)
        test = self.folder / "test.csv"
        _write(test, self.world.test, self.world.classes)
        for k, (device, plan) in enumerate(zip(self.devices, self.world.peers, strict=True)):
            device.home.mkdir(parents=True)
            tasks = {}
            if plan.rows is not None:
                _write(self._csv(k), plan.rows, self.world.classes)
                tasks = {TASK: TaskTable(source=str(self._csv(k)), test=str(test), holdout=0.0)}
            table = PeerTable(
                name=plan.name,
                port=0,
                interfaces=(LOOPBACK,) if self.lan is None else "auto",
                period_s=self.world.period_s,
                lost_after_s=self.world.lost_after_s,
            )
            save_config(Home(device.home), Config(peer=table, tasks=tasks))
            save_identity(Home(device.home), founder if k == 0 else admitted(founder, now))

    def _card(self) -> dict[str, Any]:
        given = [plan.rows.X for plan in self.world.peers if plan.rows is not None]
        gaps = np.any([np.isnan(X).any(axis=0) for X in [*given, self.world.test.X]], axis=0)
        return {
            "name": TASK,
            "about": "",
            "model": self.world.model,
            "alpha": self.world.alpha,
            "encoding": self.world.encoding,
            "columns": [{"name": f"c{k}", "is_gappy": bool(gap)} for k, gap in enumerate(gaps)],
            "target": {"name": TARGET, "classes": list(self.world.classes)},
            "thresholds": {"min_rows": self.world.min_rows, "min_peers": self.world.min_peers},
        }

    def _accept(self, k: int) -> None:
        """Take part, as soon as the task has come by gossip. A peer without rows hears of it and has nothing to accept with."""
        deadline = time.monotonic() + PATIENCE_S
        while not any(task["id"] == self.task for task in self.doors[k].get("/tasks")["tasks"]):
            if time.monotonic() > deadline:
                raise ControlError(f"{self.world.peers[k].name} did not hear of the task.", "chinwag doctor", Exit.TIMEOUT)
            time.sleep(0.1)
        if self.world.peers[k].rows is not None:
            self.doors[k].post(f"/tasks/{self.task}/accept", {}, READ_TIMEOUT_S)

    def _start(self, k: int) -> None:
        self._wanted.add(k)
        self.devices[k].start(*(("--until-stdin-closes",) if self.lan is None else ()))

    def _end(self, k: int, how: Callable[[Device], None]) -> None:
        self._wanted.discard(k)
        if self.devices[k].is_up:
            how(self.devices[k])

    def _now(self) -> float:
        return time.monotonic() - self.began

    def _look(self, now: float) -> None:
        for k, device in enumerate(self.devices):
            if device.is_up:
                try:
                    tasks = self.doors[k].get("/status", 2.0)["tasks"]
                except ControlError:
                    tasks = []  # just started, or just told to stop
                self.seen[k] = next((task for task in tasks if task["id"] == self.task), self.seen[k])
            seen = self.seen[k]
            self.samples.append(Sample(round(now, 3), k, seen.get("exchanges", 0), seen.get("bytes_sent", 0), seen.get("now")))

    def _is_enough(self) -> bool:
        wanted = self.world.exchanges
        return wanted is not None and all(seen.get("exchanges", 0) >= wanted for seen in self.seen)

    def _csv(self, k: int) -> Path:
        return self.folder / self.world.peers[k].name / "rows.csv"

    # what goes wrong -------------------------------------------------------------------------------------------------

    def _planned(self) -> Iterator[Step]:
        for k, plan in enumerate(self.world.peers):
            if plan.joins_at > 0:
                yield plan.joins_at, lambda k=k: self._join(k)  # type: ignore[misc]
        for fault in self.world.faults:
            yield fault.at, lambda fault=fault: self._happens(fault)  # type: ignore[misc]
            until = fault.at if fault.until is None and fault.kind == "restart" else fault.until
            if until is not None:
                yield until, lambda fault=fault: self._is_over(fault)  # type: ignore[misc]

    def _join(self, k: int) -> None:
        self._start(k)

        def accept() -> None:
            self.devices[k].wait_until_up()
            self._accept(k)

        self._pool.submit(accept)

    def _happens(self, fault: Fault) -> None:
        for k in fault.peers:
            match fault.kind:
                case "crash":
                    self._end(k, Device.kill)
                case "restart" | "stop":
                    self._end(k, Device.stop)
                case "leave":
                    self.doors[k].post(f"/tasks/{self.task}/leave", {"erase": fault.value == 1})
                case "rows_change":
                    rows = self.world.peers[k].rows
                    assert rows is not None
                    kept = round(len(rows) * (0.5 if fault.value is None else fault.value))
                    _write(self._csv(k), rows.take(np.arange(kept)), self.world.classes)
                case "cut":
                    self._host(k).link(False)
        if fault.kind == "partition":
            assert self.lan is not None
            inside = [self._host(k) for k in fault.peers]
            self.lan.partition(inside, [host for host in self.lan.hosts if host not in inside])

    def _is_over(self, fault: Fault) -> None:
        for k in fault.peers:
            match fault.kind:
                case "crash" | "restart" | "stop":
                    self._start(k)
                case "leave":
                    self._pool.submit(self._accept, k)
                case "cut":
                    self._host(k).link(True)
        if fault.kind == "partition":
            assert self.lan is not None
            self.lan.heal()

    def _host(self, k: int) -> Host:
        assert self.lan is not None
        return self.lan.hosts[k]

    # reading the logs ------------------------------------------------------------------------------------------------

    def _lines(self, k: int) -> Iterator[dict[str, Any]]:
        for line in self.devices[k].log.read_text("utf-8", "replace").splitlines() if self.devices[k].log.exists() else ():
            try:
                found = json.loads(line)
            except ValueError:
                continue  # cut off by a crash
            if isinstance(found, dict) and "event" in found:
                yield found

    def _trace(self) -> list[dict[str, Any]]:
        """The daemons' logs in the form of a simulation's trace, all in order of time."""
        found = []
        for k in range(len(self.devices)):
            for line in self._lines(k):
                facts = {name: value for name, value in line.items() if name not in ("at", "event", "level")}
                found.append({"at": round(line["at"] - self.began_at, 3), "peer": k, "kind": line["event"], "facts": facts})
        return sorted(found, key=itemgetter("at"))

    def _traceback(self) -> str | None:
        """The first exception that nobody foresaw."""
        for k, plan in enumerate(self.world.peers):
            log = self.devices[k].log
            if log.exists() and "Traceback" in (text := log.read_text("utf-8", "replace")):
                return f"{plan.name}: {text[text.index('Traceback') :][:500]}"
        return None


def _write(path: Path, rows: Rows, classes: Sequence[str]) -> None:
    """Rows as their owner's file. A missing value is an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"c{k}" for k in range(rows.X.shape[1])), TARGET])
        for x, y in zip(rows.X.tolist(), rows.y.tolist(), strict=True):
            writer.writerow([*("" if value != value else repr(value) for value in x), classes[int(y)] if classes else repr(y)])
