"""`chinwag data`: the owner's own rows. What is in them, whether they fit a task, and which of their columns is which of the task's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, Group
from .screen import Screen, aligned, plural, screen

if TYPE_CHECKING:
    from ..learning.report import DataReport


@click.group(cls=Group)
def data() -> None:
    """Look at this device's own rows, and fit them to a task."""


@data.command(cls=Command)
@click.argument("file", required=False)
@click.option("--target", help="The column that is to be predicted.")
@click.option("--task", "name", help="Also see whether the rows fit this task.")
def check(file: str | None, target: str | None, name: str | None) -> None:
    """Say what is in FILE (default: the file given at init), without sharing any of it."""
    from ..config import Home, load_config
    from ..control import ControlError, Exit
    from ..learning.report import report

    out = screen()
    if file is None:
        config = load_config(Home(out.home))
        file, target = config.rows.source, target or config.rows.target
        if file is None:
            raise ControlError("Say which file to look at.", "chinwag data check FILE", Exit.USAGE)
    source = absolute(file)
    found = report(source, target)
    lines = report_lines(out, found)
    fits = _fits(out.home, name, source) if name is not None else None
    if fits is not None:
        lines.append(f"It fits the task {name}: {plural(fits, 'row')}.")
    out.answer(asdict(found) | ({"task": name, "fits": True} if fits is not None else {}), *lines)


@data.command("map", cls=Command)
@click.argument("task")
@click.argument("pairs", metavar="THEIRS=OURS...", nargs=-1, required=True)
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask when this makes the device take part.")
def map_columns(task: str, pairs: tuple[str, ...], is_sure: bool) -> None:
    """Say once which column of this device's file is meant by a column of TASK: temp=Temp_C.

    It is kept in config.toml. THEIRS= without a column takes a pair back.
    """
    from ..control import READ_TIMEOUT_S, Control, ControlError, Exit, segment
    from .cards import card_lines, consent
    from .task import find_task, taking_part

    out = screen()
    wanted = dict(pair.split("=", 1) if "=" in pair else _not_a_pair(pair) for pair in pairs)
    try:
        control = Control.of(out.home)
        found = find_task(control.get("/tasks")["tasks"], task)
    except ControlError as error:
        if error.exit != Exit.NOT_RUNNING:
            raise
        kept = _keep(out.home, task, wanted)
        out.answer({"task": task, "map": kept}, f"Kept in config.toml; the daemon uses it when it starts: {_shown(kept)}")
        return
    known = {c["name"] for c in found["columns"]} | {found["target"]}
    if strange := [name for name in wanted if name not in known]:
        import difflib

        near = difflib.get_close_matches(strange[0], known, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ControlError(
            f"The task {found['name']} has no column {strange[0]!r}{meant}", f"chinwag task show {found['name']}", Exit.SCHEMA
        )
    if found["decision"] != "accepted":
        out.say(*card_lines(out, found), "")
        consent(out, is_sure, "Take part in this task with these columns?")
    mapping = _merged(_table_map(out.home, found), wanted)
    answer = control.post(f"/tasks/{segment(found['id'])}/accept", {"map": mapping}, timeout_s=READ_TIMEOUT_S)
    out.answer(answer | {"map": mapping}, f"{found['name']}: {_shown(mapping)}", *taking_part(answer.get("report") or {}))


def absolute(source: str) -> str:
    """A source that means the same from every folder: the daemon has another one."""
    return source if source.startswith("sklearn:") else str(Path(source).expanduser().absolute())


def report_lines(out: Screen, found: DataReport) -> list[str]:
    """The report for a person: one line that says it all, then the columns, then what stands in the way."""
    target = f", target '{found.target}'" if found.target else ""
    if found.classes:
        target += f" ({plural(len(found.classes), 'class', 'classes')}: {_counts(found.classes)})"
    lines = [out.strong(f"{plural(found.rows, 'row')}, {plural(len(found.columns), 'column')}{target}.")]
    gaps = [f"{c.name} {_share(c.missing, found.rows)}" for c in found.columns if c.missing]
    lines.append(f"Missing: {', '.join(gaps)}." if gaps else "Nothing is missing.")
    shown = [c for c in found.columns if c.name != found.target][:12]
    lines += [f"  {line}" for line in aligned([[c.name, c.kind, _span(c), f"{_distinct(c.distinct)} different"] for c in shown])]
    if len(found.columns) - 1 > len(shown):
        lines.append(f"  and {len(found.columns) - len(shown) - bool(found.target)} more columns")
    return [*lines, *(out.bad("! ") + text for text in found.problems), *found.notes]


def _counts(classes: dict[str, int]) -> str:
    shown = [f"{name} {count:,}" for name, count in list(classes.items())[:10]]
    return ", ".join(shown) + (" …" if len(classes) > 10 else "")


def _share(part: int, whole: int) -> str:
    per_cent = 100 * part / whole
    return f"{per_cent:.0f} %" if per_cent >= 1 else "under 1 %"


def _span(column: Any) -> str:
    return f"{column.low:g} to {column.high:g}" if column.low is not None else ""


def _distinct(count: int) -> str:
    from protocol.tasks import MAX_CLASSES

    return f"more than {MAX_CLASSES}" if count > MAX_CLASSES else str(count)


def _fits(home: Path, name: str | None, source: str) -> int:
    """How many rows of this source the task can use. Raises DataError if it cannot use them all."""
    from ..config import Home, load_config
    from ..learning.dataset import read_rows
    from .cards import saved_task

    task_id, task, _ = saved_task(home, name)
    tables = load_config(Home(home)).tasks
    table = tables.get(task_id.hex()[:16]) or tables.get(task.name)
    return len(read_rows(task, source, table.map if table else {}))


def _not_a_pair(text: str) -> Any:
    raise click.UsageError(f"{text!r} is not of the form THEIRS=OURS: the task's column, then this device's.")


def _merged(before: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
    return {theirs: ours for theirs, ours in (before | wanted).items() if ours}


def _table_map(home: Path, task: dict[str, Any]) -> dict[str, str]:
    from ..config import Home, load_config

    tables = load_config(Home(home)).tasks
    table = tables.get(task["id"][:16]) or tables.get(task["name"])
    return dict(table.map) if table else {}


def _keep(home: Path, task: str, wanted: dict[str, str]) -> dict[str, str]:
    """Write the pairs into config.toml; no daemon runs that could."""
    import msgspec

    from ..config import Home, TaskTable, load_config, save_config

    folder = Home(home)
    config = load_config(folder)
    table = config.tasks.get(task, TaskTable())
    mapping = _merged(dict(table.map), wanted)
    table = msgspec.structs.replace(table, map=mapping)
    save_config(folder, msgspec.structs.replace(config, tasks={**config.tasks, task: table}))
    return mapping


def _shown(mapping: dict[str, str]) -> str:
    return ", ".join(f"{theirs} is {ours}" for theirs, ours in mapping.items()) or "every column by its own name"
