"""Run a scenario: every cell under every seed, each a pure function of the file and the seed; what is finished is durable at once.

Why pure: then it does not matter on which machine a cell runs, a killed one is simply run again, and anybody who has the file and the seed
has the result, byte for byte. Nothing of a clock, a host or the order in which cells ended is written down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

import chinwag
from peer.control import ControlError, Exit
from peer.files import write_whole

from . import results, sweep
from .results import MODE, CellResult, PeerScore, Results
from .scenario import Cell, Scenario, build, cells, parse

if TYPE_CHECKING:
    from .world import Fault, Outcome, Violation, World

On = Literal["sim", "processes", "lan"]
"""A virtual network; real daemons on the loopback interface; real daemons, each in a network namespace."""

ORIGIN: Final = "origin.txt"
"""Beside the copy of the file: the folder that its relative paths begin from. Nothing that was found depends on it."""

COMMITTED: Final = "exchange.committed"
"""The event of a trace that says that two peers have finished an exchange; both tell it."""


class Watcher(Protocol):
    """Who looks on: told what an earlier run had done, and every cell that ends."""

    def kept(self, cost: float) -> None: ...

    def ended(self, cost: float, what: str) -> None: ...


class Nobody:
    """Nobody looks on."""

    def kept(self, cost: float) -> None:
        pass

    def ended(self, cost: float, what: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Places:
    """Where cells are computed: on `jobs` processes here, or on the dask cluster at `cluster`."""

    jobs: int = 1
    cluster: str | None = None


def run(
    scenario: Scenario,
    folder: Path,
    *,
    on: On = "sim",
    seeds: Sequence[int] | None = None,
    places: Places | None = None,
    is_resumed: bool = False,
    watcher: Watcher | None = None,
) -> Results:
    """Run all cells under all seeds and write what they gave to `folder`. Raises ControlError, ScenarioError, OSError.

    is_resumed: take what an earlier run finished there as it is. The file must then be the same.
    """
    watcher = watcher or Nobody()
    chosen = tuple(scenario.seeds if seeds is None else seeds)
    _claim(folder, scenario, is_resumed)
    found: dict[tuple[str, int], CellResult] = {}
    jobs: list[sweep.Job] = []
    planned = cells(scenario)
    for index, cell in enumerate(planned):
        for seed in chosen:
            old = results.stored_cell(folder, (cell.name, seed))
            if old is not None and old.on == on:
                found[old.key] = old
                watcher.kept(cost(cell))
            else:
                jobs.append((chinwag.__version__, scenario.text, scenario.name, scenario.folder, index, seed, on))
    for job, finished in _computed(jobs, on, places or Places()):
        result, trace = msgspec.msgpack.decode(finished, type=tuple[CellResult, bytes])
        results.store_cell(folder, result, trace)
        found[result.key] = result
        watcher.ended(cost(planned[job[4]]), f"{result.cell}, seed {result.seed}")
    in_order = tuple(found[cell.name, seed] for cell in planned for seed in chosen)
    together = Results(scenario.name, scenario.about, on, in_order)
    results.write(folder, together)
    return together


def cost(cell: Cell) -> float:
    """What a cell takes, in units that only compare: peers times seconds."""
    return (cell.peers.count or 1) * cell.stop.seconds


def total_cost(scenario: Scenario, seeds: Sequence[int]) -> float:
    """The cost of all cells under these seeds."""
    return sum(map(cost, cells(scenario))) * len(seeds)


def cell_bytes(version: str, text: str, name: str, folder: str, index: int, seed: int, on: On) -> bytes:
    """One cell under one seed, as bytes that any process can make from these plain values."""
    if version != chinwag.__version__:
        sentence = f"This worker has Chinwag {chinwag.__version__}, and the sweep is of {version}: its numbers would be others."
        raise ControlError(sentence, f"pip install chinwag=={version} on the workers", Exit.VERSION)
    cell = cells(parse(text, name, folder))[index]
    return msgspec.msgpack.encode(run_cell(cell, seed, on))


def run_cell(cell: Cell, seed: int, on: On = "sim") -> tuple[CellResult, bytes]:
    """What one cell gives under one seed, and its trace. Raises ScenarioError; with another `on` than sim also LiveError."""
    from . import findings
    from .baselines import baselines
    from .trace import packed

    world = build(cell, seed)
    outcome = _outcome(world, seed, on)
    others = baselines(cell, seed, round(fmean(peer["exchanges"] for peer in outcome.peers)))
    result = CellResult(
        cell=cell.name,
        axes=dict(cell.axes),
        seed=seed,
        on=on,
        metric="accuracy" if world.classes else "r2",
        peers=tuple(_peer(world, number, told) for number, told in enumerate(outcome.peers)),
        baselines=dict(others.scores),
        courses=dict(others.courses),
        verdicts=dict(outcome.verdicts),
        findings={},
        faults=tuple(_fault(fault) for fault in world.faults),
        talked=talked(outcome.trace, [plan.name for plan in world.peers]),
        spread=tuple((at, value) for at, value in outcome.spread),
        violations=tuple(_violation(found) for found in outcome.violations),
        samples=tuple((s.at, s.peer, s.exchanges, s.bytes_sent, s.score) for s in outcome.samples),
    )
    return msgspec.structs.replace(result, findings=findings.check(cell, result)), packed(outcome.trace)


def talked(trace: Iterable[Mapping[str, Any]], names: Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """Pairs of peers and how many exchanges they finished. Both tell of each, unless one has crashed before it could."""
    numbers = {name: number for number, name in enumerate(names)}
    pairs: dict[str, tuple[int, int]] = {}
    for event in trace:
        if event["kind"] == COMMITTED and event["facts"]["name"] in numbers:
            a, b = event["peer"], numbers[event["facts"]["name"]]
            pairs[event["facts"]["xid"]] = (min(a, b), max(a, b))
    return tuple((a, b, count) for (a, b), count in sorted(Counter(pairs.values()).items()))


def _outcome(world: World, seed: int, on: On) -> Outcome:
    if on == "sim":
        from .simulator import Simulation

        return Simulation(world, seed).run()
    from .live import run_live

    return run_live(world, seed, on)


def _peer(world: World, number: int, told: dict[str, Any]) -> PeerScore:
    plan = world.peers[number]
    rows = 0 if plan.rows is None else len(plan.rows)
    return PeerScore(told["name"], rows, told["exchanges"], told["bytes_sent"], told["score"], told["alone"], plan.liar)


def _violation(found: Violation) -> dict[str, Any]:
    return {"name": found.name, "at": found.at, "says": found.says, "events": list(found.events)}


def _fault(fault: Fault) -> dict[str, Any]:
    return {"at": fault.at, "until": fault.until, "kind": fault.kind, "peers": list(fault.peers), "value": fault.value}


def _computed(jobs: Sequence[sweep.Job], on: On, places: Places) -> Iterator[tuple[sweep.Job, bytes]]:
    if places.cluster is not None:
        return sweep.on_cluster(cell_bytes, jobs, places.cluster)
    if places.jobs > 1 and len(jobs) > 1 and on == "sim":  # real daemons take the computer for themselves
        return sweep.on_processes(cell_bytes, jobs, places.jobs)
    return sweep.here(cell_bytes, jobs)


def _claim(folder: Path, scenario: Scenario, is_resumed: bool) -> None:
    """Write down what runs in this folder, and leave alone what somebody else's results are."""
    path = folder / "scenario.toml"
    if path.exists():
        if not is_resumed:
            sentence = f"{folder} holds the results of an earlier run."
            raise ControlError(sentence, "the same again with --resume, or with another --out", Exit.USAGE)
        if path.read_text("utf-8") != scenario.text:
            sentence = f"{folder} holds results of another version of this scenario; they would not compare."
            raise ControlError(sentence, "another --out", Exit.USAGE)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, scenario.text.encode(), MODE)
    write_whole(folder / ORIGIN, scenario.folder.encode(), MODE)


def ran_in(folder: Path) -> Scenario:
    """The scenario whose results lie in this folder. Raises ScenarioError, OSError."""
    origin = folder / ORIGIN
    return parse((folder / "scenario.toml").read_text("utf-8"), folder.name, origin.read_text("utf-8"), str(folder / "scenario.toml"))
