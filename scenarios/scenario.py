"""A scenario: a TOML file in, the cells of its sweep and the worlds of each out.

    load("label-skew")        one that is shipped, by name, or any file, by path
    cells(scenario)           every combination of the settings that are lists
    build(cell, seed)         the world that this seed makes of a cell: a pure function of both

`settings.py` declares what may stand in the file. A misspelt key is an error that names the key that was meant.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from peer import toml
from peer.learning.dataset import DataError, Rows

from . import churn, partition, topology
from .rows import Dataset, joined, read
from .settings import TABLES, Attack, Churn, Data, FaultAt, Finding, Head, Network, Peers, Protocol, Stop
from .world import Fault, Latency, PeerPlan, Weather, World

SHIPPED: Final = Path(__file__).parent
"""Where the scenarios lie that come with the program."""

DEFAULT_PEERS: Final = 8

CELL_OF_NO_SWEEP: Final = "all"
"""The name of the only cell of a scenario without axes."""


class ScenarioError(Exception):
    """A scenario cannot be used: a sentence, and what to type next."""

    exit: Final = 2

    def __init__(self, sentence: str, next: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next = next


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file that was read and found right. `tables` is what it says, lists included; `text` is the file to the letter."""

    name: str
    about: str
    seeds: tuple[int, ...]
    tables: Mapping[str, Mapping[str, Any]]
    faults: tuple[FaultAt, ...]
    findings: tuple[Finding, ...]
    folder: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of a sweep. `name` may be a folder's; `axes` are the swept settings by their dotted name."""

    scenario: str
    name: str
    axes: Mapping[str, Any]
    data: Data
    peers: Peers
    network: Network
    churn: Churn
    attack: Attack
    protocol: Protocol
    stop: Stop
    faults: tuple[FaultAt, ...]
    findings: tuple[Finding, ...]
    folder: str


# reading ----------------------------------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """The scenarios that are shipped."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load(path_or_name: str | Path) -> Scenario:
    """Read a scenario. Raises ScenarioError."""
    path = Path(path_or_name)
    if path.suffix != ".toml" and not path.is_file():
        if str(path_or_name) not in names():
            raise ScenarioError(
                f"There is no scenario {str(path_or_name)!r}.{toml.meant(str(path_or_name), names())}", "chinwag scenario list"
            )
        path = SHIPPED / f"{path_or_name}.toml"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.", "chinwag scenario list") from None
    return parse(text, path.stem, str(path.parent.absolute()), str(path))


def parse(text: str, name: str, folder: str = ".", label: str = "the scenario") -> Scenario:
    """Read a scenario from its text. Relative files in it are looked for in `folder`. Raises ScenarioError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{label} is not TOML: {error}.") from None
    try:
        scenario = _scenario(document, name, folder, text)
        cells(scenario)  # a mistake in any cell is told before the first of them runs for an hour
    except toml.Mistake as mistake:
        line = toml.line_of(text, mistake.path, mistake.key)
        raise ScenarioError(f"{label}{f', line {line}' if line else ''}: {mistake}") from None
    return scenario


def _scenario(document: dict[str, Any], name: str, folder: str, text: str) -> Scenario:
    known = ("scenario", *TABLES, "fault", "finding")
    for key in document:
        if key not in known:
            raise toml.Mistake((), key, f"There is no table [{key}].{toml.meant(key, known)}")
    head = toml.table(("scenario",), document.get("scenario", {}), Head)
    tables = {table: document[table] for table in TABLES if table in document}
    for table, found in tables.items():
        if not isinstance(found, dict):
            raise toml.Mistake((), table, f"put [{table}] on a line of its own, and its settings below.")
        for key, value in found.items():
            if value == []:
                raise toml.Mistake((table,), key, f"[{table}] {key} is a list of no values.")
    faults = tuple(toml.table(("[fault]",), each, FaultAt) for each in document.get("fault", []))
    findings = tuple(toml.table(("[finding]",), each, Finding) for each in document.get("finding", []))
    axes = {f"{table}.{key}": value for table, found in tables.items() for key, value in found.items()}
    for finding in findings:
        for key, value in finding.when.items():
            values = axes.get(key, [])
            if value not in (values if isinstance(values, list) else [values]):
                raise toml.Mistake(("[finding]",), None, f"[[finding]] when: no cell has {key} = {value!r}.")
    return Scenario(head.name or name, head.about, head.seeds, tables, faults, findings, folder, text)


def cells(scenario: Scenario) -> list[Cell]:
    """Every combination, in the order of the file, the last axis fastest."""
    axes = {(table, key): value for table, found in scenario.tables.items() for key, value in found.items() if isinstance(value, list)}
    found = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        tables: dict[str, Any] = {}
        for name, kind in TABLES.items():
            given = scenario.tables.get(name, {})
            tables[name] = toml.table((name,), {key: chosen.get((name, key), value) for key, value in given.items()}, kind)
        named = {f"{table}.{key}": value for (table, key), value in chosen.items()}
        label = ",".join(f"{key}={_plain(value)}" for key, value in named.items()) or CELL_OF_NO_SWEEP
        found.append(
            Cell(scenario.name, label, named, **tables, faults=scenario.faults, findings=scenario.findings, folder=scenario.folder)
        )
    return found


def _plain(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in text)


# building ---------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A data set as one seed dealt it: `shares` are the training rows of every peer, None for one that has none."""

    dataset: Dataset
    shares: tuple[Rows | None, ...]


def split(cell: Cell, seed: int) -> Split:
    """Who holds which rows. Raises ScenarioError."""
    data, protocol = cell.data, cell.protocol
    try:
        dataset = read(data.source, data.target, protocol.model, protocol.alpha, data.test, data.rows, seed, cell.folder)
        if data.partition == "files":
            shares: list[Rows | None] = list(dataset.batches)
            if cell.peers.count not in (None, len(shares)):
                raise ScenarioError(f"[peers] count is {cell.peers.count}, and {data.source} is {len(shares)} files, one for each peer.")
            return Split(dataset, tuple(shares))
        count = cell.peers.count or DEFAULT_PEERS
        relays = round(cell.peers.relays * count)
        rows = joined(dataset.batches)
        dealt = partition.deal(
            rows, count - relays, data.partition, alpha=data.alpha, shards=data.shards, least=data.least, chance=stream(seed, "deal")
        )
        return Split(dataset, (*(rows.take(mine) for mine in dealt), *[None] * relays))
    except DataError as error:
        raise ScenarioError(error.sentence, error.next) from None
    except partition.TooFewRows as error:
        raise ScenarioError(f"[data] {data.source}: {error}.") from None


def build(cell: Cell, seed: int) -> World:
    """The world that a seed makes of a cell. Raises ScenarioError."""
    dealt = split(cell, seed)
    count, peers, network, protocol = len(dealt.shares), cell.peers, cell.network, cell.protocol
    liars = groups(cell, count)["liars"]
    plans = tuple(
        PeerPlan(
            name=f"peer-{k:0{len(str(count - 1))}d}",
            rows=dealt.shares[k],
            joins_at=peers.late_at_s if k in groups(cell, count)["late"] else 0.0,
            cpu=peers.slow_cpu if k in groups(cell, count)["slow"] else 1.0,
            liar=cell.attack.kind if k in liars else None,
        )
        for k in range(count)
    )
    try:
        pairs = topology.graph(peers.topology, count, degree=peers.degree, cities=peers.cities, chance=stream(seed, "topology"))
    except topology.NoSuchGraph as error:
        raise ScenarioError(f"[peers] {error}.") from None
    return World(
        peers=plans,
        test=dealt.dataset.test,
        model=protocol.model,
        classes=dealt.dataset.task.target.classes,
        alpha=dealt.dataset.task.alpha,
        encoding=protocol.encoding,
        min_rows=protocol.min_rows,
        min_peers=protocol.min_peers,
        weather=Weather(
            Latency(network.latency_ms, network.latency_spread, network.latency_across), network.bytes_per_s, network.loss, pairs
        ),
        faults=_faults(cell, count, seed),
        period_s=protocol.period_s,
        lost_after_s=protocol.lost_after_s,
        seconds=cell.stop.seconds,
        sample_every_s=cell.stop.sample_every_s,
        exchanges=cell.stop.exchanges,
    )


def groups(cell: Cell, count: int) -> dict[str, frozenset[int]]:
    """Which peers are late, slow or lie, by number; `others` are none of these."""
    last = {
        name: frozenset(range(count - round(share * count), count))
        for name, share in (("late", cell.peers.late), ("slow", cell.peers.slow))
    }
    liars = round(cell.attack.share * count) if cell.attack.kind != "none" else 0
    found = {**last, "liars": frozenset(range(liars))}
    return {**found, "others": frozenset(range(count)).difference(*found.values())}


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The random numbers for one purpose, so that another use of chance does not change who holds what."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose.encode()])))


def _faults(cell: Cell, count: int, seed: int) -> tuple[Fault, ...]:
    chance, found = stream(seed, "faults"), []
    for fault in cell.faults:
        peers = fault.peers
        if peers is None:
            assert fault.share is not None
            peers = tuple(sorted(int(k) for k in chance.permutation(count)[: max(round(fault.share * count), 1)]))
        if strange := [k for k in peers if not 0 <= k < count]:
            raise ScenarioError(f"[[fault]] {fault.kind}: there is no peer {strange[0]}; there are {count}, and the first is 0.")
        found.append(Fault(fault.at_s, fault.kind, peers, fault.until_s, fault.value))
    try:
        absences = churn.absences(cell.churn, count, cell.stop.seconds, cell.folder, stream(seed, "churn"))
    except churn.BadTrace as error:
        raise ScenarioError(str(error)) from None
    found += [Fault(off, "stop", (peer,), on) for peer, off, on in absences]
    return tuple(sorted(found, key=lambda f: (f.at, f.kind, f.peers)))


__all__ = ["Cell", "Scenario", "ScenarioError", "Split", "build", "cells", "groups", "load", "names", "parse", "split", "stream"]
