"""Run one cell under one seed again, to look at it, and to see that it gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peer.control import ControlError, Exit

from . import results, runner
from .results import CellResult
from .scenario import Cell, Scenario, cells, load


@dataclass(frozen=True, slots=True)
class Replay:
    """What came out this time. `is_same`: whether the files are those in the folder, byte for byte; None if there were none."""

    result: CellResult
    events: list[dict[str, Any]]
    is_same: bool | None


def replay(what: str, seed: int | None, name: str | None) -> Replay:
    """Run the cell of this name under this seed; the first of each by default. `what`: a scenario, or a folder of results."""
    folder = Path(what)
    is_folder = (folder / "scenario.toml").is_file()
    scenario = runner.ran_in(folder) if is_folder else load(what)
    cell = _cell(scenario, name)
    seed = scenario.seeds[0] if seed is None else seed
    result, trace = runner.run_cell(cell, seed)
    is_same = None
    if is_folder and (then := results.stored_bytes(folder, result.key)) is not None:
        old = results.stored_cell(folder, result.key)
        if old is None or old.on == "sim":  # real daemons never do the same twice
            is_same = then == results.cell_files(result, trace)
    return Replay(result, results.unpacked(trace), is_same)


def line(event: dict[str, Any], result: CellResult) -> str:
    """An event for a person."""
    peer = event["peer"]
    who = result.peers[peer].name if 0 <= peer < len(result.peers) else "–"
    facts = " ".join(f"{key}={value}" for key, value in event["facts"].items())
    return f"{event['at']:10.3f} s  {who:10}  {event['kind']:20}  {facts}"


def _cell(scenario: Scenario, name: str | None) -> Cell:
    planned = cells(scenario)
    if name is None:
        return planned[0]
    for cell in planned:
        if cell.name == name:
            return cell
    raise ControlError(f"There is no cell {name!r}; the first is {planned[0].name!r}.", "chinwag scenario list", Exit.USAGE)
