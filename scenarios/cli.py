"""`chinwag scenario`: many peers, scripted. Parse, call, print, exit code; what is loaded is loaded by the command that needs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from peer.cli.command import Command, Group
from peer.cli.screen import Screen, plural, screen

if TYPE_CHECKING:
    from .results import CellResult, Results
    from .runner import On

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Group, short_help="Many peers by script: any fault, one seed, a report.")
def scenario() -> None:
    """Many peers by script: the code that devices run, under any fault, with one seed for all chance; then a report and a table.

    A scenario is a TOML file: rows and who holds them, peers, network, faults, liars. The same file and seed give the same bytes.
    """


@scenario.command("list", cls=Command)
def list_() -> None:
    """The scenarios that come with Chinwag."""
    from .scenario import cells, load, names

    out = screen()
    found = [load(name) for name in names()]
    if out.is_json:
        for one in found:
            out.answer({"name": one.name, "about": one.about, "cells": len(cells(one)), "seeds": list(one.seeds)})
        return
    width = max(len(one.name) for one in found)
    out.answer({}, *(f"{one.name.ljust(width)}  {one.about}" for one in found))
    out.next(f"chinwag scenario run {found[0].name}")


@scenario.command(cls=Command)
@click.argument("what", metavar="NAME_OR_FILE")
@click.option("--out", "folder", type=FOLDER, help="Where the results go (default: runs/NAME).")
@click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, help="Instead of the file's seeds; may be given several times.")
@click.option(
    "--on",
    type=click.Choice(["sim", "processes", "lan"]),
    default="sim",
    show_default=True,
    help="A virtual network; real daemons here; real daemons, each in a network namespace.",
)
@click.option("--jobs", "-j", type=click.IntRange(1), help="Cells computed at the same time (default: one for each core).")
@click.option("--on-cluster", "cluster", metavar="tcp://HOST:PORT", help="Compute the cells on this dask.distributed scheduler's workers.")
@click.option("--resume", "is_resumed", is_flag=True, help="Keep what an earlier run has finished there.")
def run(
    what: str, folder: Path | None, seeds: Sequence[int], on: On, jobs: int | None, cluster: str | None, is_resumed: bool
) -> int | None:
    """Run a scenario, one of those that come with Chinwag or a file, and write result.json, metrics.csv, trace.msgpack and report.html."""
    _think_in_one_thread()
    from . import report, runner
    from .progress import Progress
    from .scenario import cells, load

    out = screen()
    chosen = load(what)
    folder = folder or Path("runs") / chosen.name
    planned = tuple(seeds) or chosen.seeds
    if not out.is_json:
        count = len(cells(chosen)) * len(planned)
        out.note(f"{chosen.name}: {plural(len(cells(chosen)), 'cell')}, {plural(len(planned), 'seed')}, {plural(count, 'run')}")
    places = runner.Places(jobs or os.cpu_count() or 1, cluster)
    try:
        with Progress(out, runner.total_cost(chosen, planned)) as progress:
            found = runner.run(chosen, folder, on=on, seeds=planned, places=places, is_resumed=is_resumed, watcher=progress)
    except KeyboardInterrupt:
        out.note(f"what was finished is kept; to go on: {out.settings.typed(*([] if is_resumed else ['--resume']))}")
        raise
    report.write(found, folder / "report.html")
    _show(out, {str(folder): found}, None)
    wrong = [result for result in found.cells if result.faults_found]
    for result in wrong:
        _complain(out, result, folder)
    out.say(f"report: {folder / 'report.html'}")
    out.next(f"chinwag scenario compare {folder}")
    return 1 if wrong else None


@scenario.command(cls=Command)
@click.argument("folders", metavar="DIR...", type=FOLDER, nargs=-1, required=True)
@click.option("--against", metavar="CELL", help="Hold every cell against this one (of the first DIR), seed by seed.")
@click.option("--csv", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write the table as CSV too.")
def compare(folders: Sequence[Path], against: str | None, target: Path | None) -> None:
    """Means with 95 % confidence intervals over seeds, and differences paired by seed, of one run or several.

    Each cell is held against alone, pooled and FedAvg on its own split; cells of a second DIR also against the same cell of the first. A
    star marks a difference whose interval leaves zero out.
    """
    from . import results

    runs = {str(folder): results.load(folder) for folder in folders}
    _show(screen(), runs, against, target)


@scenario.command(cls=Command)
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("-o", "--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="The page (default: DIR/report.html).")
def report(folder: Path, target: Path | None) -> None:
    """Make the page of results again: one file, which needs no network to be looked at."""
    from . import report, results

    path = target or folder / "report.html"
    report.write(results.load(folder), path)
    screen().answer({"report": str(path)}, str(path))


@scenario.command(cls=Command)
@click.argument("name")
@click.option("--from", "source", default="first-light", show_default=True, help="The scenario to begin with.")
def new(name: str, source: str) -> None:
    """Write NAME.toml, a copy of a scenario that comes with Chinwag, to change as you like."""
    from peer.control import ControlError, Exit

    from .scenario import load

    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    text = load(source).text
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ControlError(f"{path} is there already.", f"chinwag scenario run {path}", Exit.USAGE) from None
    out = screen()
    out.answer({"file": str(path)}, str(path))
    out.next(f"chinwag scenario run {path}", "after you have changed it")


@scenario.command(cls=Command)
@click.argument("what", metavar="NAME_FILE_OR_DIR")
@click.option("--seed", type=click.IntRange(0), help="The seed (default: the first).")
@click.option("--cell", help="The cell, as result.json names it (default: the first).")
@click.option("--last", type=click.IntRange(0), default=50, show_default=True, help="Events to show from the end of the trace.")
def replay(what: str, seed: int | None, cell: str | None, last: int) -> int | None:
    """Run one cell under one seed again, show how it ended, and say whether all invariants hold.

    Given a folder of results, it also says whether the bytes are the same as then.
    """
    _think_in_one_thread()
    from . import replaying

    out = screen()
    again = replaying.replay(what, seed, cell)
    result = again.result
    shown = again.events[-last:] if last else []
    if out.is_json:
        out.answer({"cell": result.cell, "seed": result.seed, "is_same": again.is_same, "verdicts": result.verdicts, "last": shown})
    else:
        out.answer({}, *(replaying.line(event, result) for event in shown))
        out.say(f"{result.cell}, seed {result.seed}: {plural(len(again.events), 'event')}, {len(result.verdicts)} invariants looked at")
        if again.is_same is not None:
            out.say(out.good("the same bytes as then") if again.is_same else out.bad("other bytes than then"))
    for name, says in result.faults_found.items():
        out.note(f"{name}: {says}")
    return 1 if result.faults_found or again.is_same is False else None


def _show(out: Screen, runs: dict[str, Results], against: str | None, target: Path | None = None) -> None:
    from peer.files import write_whole

    from . import compare

    lines = compare.compare(runs, (next(iter(runs)), against) if against else None)
    if target is not None:
        write_whole(target, compare.as_csv(lines).encode(), 0o644)
    if out.is_json:
        for record in compare.records(lines):
            out.answer(record)
    else:
        out.answer({}, *out.table(compare.table(lines)))


def _complain(out: Screen, result: CellResult, folder: Path) -> None:
    """What does not hold, the events before a violated invariant, and how to see it again."""
    from . import replaying

    for name, says in result.faults_found.items():
        out.note(f"{result.cell}, seed {result.seed}: {name}: {says}")
    for violation in result.violations[:1]:
        for event in violation["events"]:
            out.note(replaying.line(event, result))
    out.note(f"  again: chinwag scenario replay {folder} --cell '{result.cell}' --seed {result.seed}")


def _think_in_one_thread() -> None:
    """Sums of many numbers differ in their last bits with the number of threads; results must not. Counts if numpy is not loaded yet."""
    from peer.trainer import ONE_THREAD

    os.environ.update(ONE_THREAD)
