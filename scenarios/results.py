"""What a run leaves behind: result.json, metrics.csv and trace.msgpack, written and read in one place.

One seed gives the same bytes on every machine, so nothing here knows when or where it ran. A finished cell lies in a folder of its own
before the next begins: a run that was killed goes on from there.

    DIR/scenario.toml, origin.txt          what was run, to the letter, and where its relative paths begin
    DIR/cells/CELL/SEED/result.json …      one finished cell and seed
    DIR/result.json, metrics.csv, trace.msgpack, report.html      all of them together
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgpack
import msgspec

from peer.files import write_whole

METRICS: Final = ("cell", "seed", "at", "peer", "exchanges", "bytes_sent", "score")
"""Columns of metrics.csv. `peer` is its number in the list of result.json; `at` is seconds of the run; no score is an empty field."""

MODE: Final = 0o644
"""Results are there to be shown; the rows they come from are not in them."""

CELL_FILES: Final = ("trace.msgpack", "metrics.csv", "result.json")

MAX_NAME: Final = 120
"""Characters of a folder's name, less than half of what file systems take."""

HOLDS: Final = "holds"
"""The verdict on an invariant or a finding that is as it should be; anything else says why not."""

Sample = tuple[float, int, int, int, float | None]
"""at, peer, exchanges, bytes_sent, score"""


class ResultsError(Exception):
    """A folder of results cannot be used: a sentence, and what to type next."""

    exit: Final = 6

    def __init__(self, sentence: str, next: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next = next


class PeerScore(msgspec.Struct, frozen=True):
    """Where one peer stood at the end. `alone` is what it reached with its own rows; None: it had too few, or was not there."""

    name: str
    rows: int
    exchanges: int
    bytes_sent: int
    score: float | None
    alone: float | None
    liar: str | None = None
    """How it lies; what it claims of itself then counts for nothing."""


class CellResult(msgspec.Struct, frozen=True):
    """One cell of a sweep under one seed."""

    cell: str
    axes: dict[str, Any]
    """The swept settings, by their dotted name in the file, and their values in this cell."""
    seed: int
    on: str
    """sim, processes or lan."""
    metric: str
    peers: tuple[PeerScore, ...]
    baselines: dict[str, float]
    """Scores on the same split at equal local work: alone, pooled, fedavg, scaffold."""
    courses: dict[str, tuple[tuple[int, int, float], ...]]
    """Of those with a server: rounds, bytes that a peer has sent, score."""
    verdicts: dict[str, str]
    findings: dict[str, str]
    """Each finding that the scenario expects, and whether it holds."""
    faults: tuple[dict[str, Any], ...] = ()
    talked: tuple[tuple[int, int, int], ...] = ()
    """Pairs of peers and how many exchanges they finished with each other."""
    spread: tuple[tuple[float, float], ...] = ()
    violations: tuple[dict[str, Any], ...] = ()
    """Of invariants: name, at, says, and the events before."""
    samples: tuple[Sample, ...] = ()
    """The course of every peer; on disk it is metrics.csv."""

    @property
    def key(self) -> tuple[str, int]:
        return self.cell, self.seed

    @property
    def score(self) -> float | None:
        """The mean over the honest peers that have one."""
        found = self.scores
        return sum(found) / len(found) if found else None

    @property
    def scores(self) -> list[float]:
        """Of the honest peers that have one."""
        return [peer.score for peer in self.peers if peer.score is not None and peer.liar is None]

    @property
    def faults_found(self) -> dict[str, str]:
        """What does not hold, invariants and findings alike."""
        return {name: says for name, says in {**self.verdicts, **self.findings}.items() if says != HOLDS}


class Results(msgspec.Struct, frozen=True):
    """All cells and seeds of a scenario that are finished, in the order of the file."""

    scenario: str
    about: str
    on: str
    cells: tuple[CellResult, ...]


def store_cell(folder: Path, result: CellResult, trace: bytes) -> None:
    """Make one finished cell durable. result.json is written last: where it lies, the others do."""
    place = _place(folder, result.key)
    place.mkdir(parents=True, exist_ok=True)
    for name, content in cell_files(result, trace).items():
        write_whole(place / name, content, MODE)


def cell_files(result: CellResult, trace: bytes) -> dict[str, bytes]:
    """The files of one finished cell, in the order in which they are written."""
    return {"trace.msgpack": trace, "metrics.csv": metrics([result]), "result.json": _json(_without_samples(result))}


def stored_bytes(folder: Path, key: tuple[str, int]) -> dict[str, bytes] | None:
    """The files of this cell, as they lie there; None if they do not."""
    try:
        return {name: (_place(folder, key) / name).read_bytes() for name in CELL_FILES}
    except OSError:
        return None


def stored_cell(folder: Path, key: tuple[str, int]) -> CellResult | None:
    """This cell as an earlier run finished it; None if none did."""
    place = _place(folder, key)
    try:
        result = msgspec.json.decode((place / "result.json").read_bytes(), type=CellResult)
        return _with_samples((result,), (place / "metrics.csv").read_text("utf-8"))[0]
    except (OSError, msgspec.DecodeError, ValueError):
        return None


def write(folder: Path, results: Results) -> None:
    """Put all finished cells together."""
    bare = msgspec.structs.replace(results, cells=tuple(map(_without_samples, results.cells)))
    write_whole(folder / "metrics.csv", metrics(results.cells), MODE)
    write_whole(folder / "trace.msgpack", b"".join(_trace_of(folder, result.key) for result in results.cells), MODE)
    write_whole(folder / "result.json", _json(bare), MODE)


def load(folder: Path) -> Results:
    """The results in this folder. Raises ResultsError."""
    try:
        bare = msgspec.json.decode((folder / "result.json").read_bytes(), type=Results)
        cells = _with_samples(bare.cells, (folder / "metrics.csv").read_text("utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"There are no results in {folder}.", f"chinwag scenario run NAME --out {folder}") from None
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise ResultsError(f"The results in {folder} cannot be read: {error}.") from None
    return msgspec.structs.replace(bare, cells=cells)


def metrics(results: Iterable[CellResult]) -> bytes:
    """The course of every peer, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(METRICS)
    for result in results:
        for at, peer, exchanges, sent, score in result.samples:
            writer.writerow([result.cell, result.seed, repr(at), peer, exchanges, sent, "" if score is None else repr(score)])
    return text.getvalue().encode()


def unpacked(trace: bytes) -> list[dict[str, Any]]:
    """The events of a trace."""
    reader = msgpack.Unpacker(raw=False, strict_map_key=False)
    reader.feed(trace)
    return list(reader)


def _place(folder: Path, key: tuple[str, int]) -> Path:
    cell, seed = key
    if len(cell) > MAX_NAME:
        cell = f"{cell[: MAX_NAME - 9]}-{hashlib.sha256(cell.encode()).hexdigest()[:8]}"
    return folder / "cells" / cell / str(seed)


def _trace_of(folder: Path, key: tuple[str, int]) -> bytes:
    """A cell's trace, after one map that says whose it is."""
    head: bytes = msgpack.packb({"cell": key[0], "seed": key[1]})
    return head + (_place(folder, key) / "trace.msgpack").read_bytes()


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=1) + b"\n"


def _without_samples(result: CellResult) -> CellResult:
    return msgspec.structs.replace(result, samples=())


def _with_samples(cells: tuple[CellResult, ...], text: str) -> tuple[CellResult, ...]:
    found: dict[tuple[str, int], list[Sample]] = {cell.key: [] for cell in cells}
    rows = csv.reader(io.StringIO(text))
    if tuple(next(rows, ())) != METRICS:
        raise ValueError("metrics.csv has other columns")
    for cell, seed, at, peer, exchanges, sent, score in rows:
        found[cell, int(seed)].append((float(at), int(peer), int(exchanges), int(sent), float(score) if score else None))
    return tuple(msgspec.structs.replace(cell, samples=tuple(found[cell.key])) for cell in cells)
