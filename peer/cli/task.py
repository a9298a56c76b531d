"""`chinwag task`: what is learned. Made by one member, seen by all, and joined by whoever's owner says yes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from .command import Command, Group
from .rows import absolute
from .screen import Screen, aligned, plural, score, screen

if TYPE_CHECKING:
    from protocol.tasks import Task

    from ..control import Control

GAPPY_COLUMNS: Final = 32
"""Columns up to which gaps are allowed unless the owner says otherwise: another device may have some. It makes four times the numbers."""


@click.group(cls=Group)
def task() -> None:
    """Make a task, see what tasks there are, take part in one."""


class Date(click.ParamType):  # type: ignore[type-arg]  # generic only in click 8.4 and later
    """A day; the task ends when it is over, by this device's calendar."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from datetime import date, datetime, timedelta

        if isinstance(value, int):
            return value
        try:
            day = date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no day; write 2026-12-31", param, ctx)
        return int(datetime.combine(day + timedelta(days=1), datetime.min.time()).astimezone().timestamp())


class Pair(click.ParamType):  # type: ignore[type-arg]
    """COLUMN=VALUE."""

    name = "pair"

    def __init__(self, form: str) -> None:
        self.form = form

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        column, equals, said = str(value).rpartition("=")
        if not equals or not column or not said:
            self.fail(f"{value!r} is not of the form {self.form}", param, ctx)
        return column, said


def _own_rows(command: Any) -> Any:
    """Options that say which rows of this device belong to a task."""
    for option in (
        click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask."),
        click.option(
            "--holdout", type=click.FloatRange(0, 1, max_open=True), help="Share of the rows kept back to score on (default 0.2)."
        ),
        click.option("--test", metavar="FILE", help="Rows to score on, never trained on."),
        click.option("--data", "source", metavar="FILE", help="This device's rows (default: those given at init)."),
    ):
        command = option(command)
    return command


@task.command(cls=Command)
@click.argument("name")
@click.option(
    "--model", type=click.Choice(["lda", "ridge", "gaussian-nb", "logistic"]), help="What is fitted (default: what suits the target)."
)
@click.option("--target", metavar="COLUMN", help="The column to predict (default: that of init).")
@click.option("--about", default="", help="A sentence for the others' owners: what it is for.")
@click.option("--unit", "units", type=Pair("COLUMN=UNIT"), multiple=True, help="What a column is measured in, e.g. temp=°C.")
@click.option("--range", "ranges", type=Pair("COLUMN=LOW:HIGH"), multiple=True, help="What a column can be, e.g. temp=-40:120.")
@click.option("--class", "classes", metavar="A,B,C", multiple=True, help="Classes beside those in the file, which only others' files hold.")
@click.option(
    "--gaps/--no-gaps",
    "has_gaps",
    default=None,
    help="Whether values may be missing (default: in up to 32 columns yes; else as in the file).",
)
@click.option("--drop", metavar="COLUMN", multiple=True, help="Leave a column out.")
@click.option("--min-rows", type=click.IntRange(1), default=20, show_default=True, help="Rows below which a device contributes nothing.")
@click.option("--min-peers", type=click.IntRange(1), default=2, show_default=True, help="Devices below which nobody contributes.")
@click.option("--ends", type=Date(), help="The last day of the task (default: none).")
@click.option("--alpha", type=click.FloatRange(0), help="Penalty per row (default: what suits the model).")
@click.option(
    "--encoding", type=click.Choice(["int8", "f32"]), default="int8", show_default=True, help="How weights travel (logistic only)."
)
@_own_rows
def new(
    name: str,
    source: str | None,
    test: str | None,
    holdout: float | None,
    is_sure: bool,
    **chosen: Any,
) -> None:
    """Make the task NAME from this device's own file, and take part in it.

    The card that all members see names the columns, which of them may have gaps, the target and its classes; never a value of a row, nor
    the smallest or largest. Give ranges and units with --range and --unit. Gaps are filled with everybody's mean, exactly. min-peers is 2
    unless you say more: with two devices each could work out the other's sums, so ask for more where that matters.
    """
    from ..control import Control, segment
    from .cards import card_lines, consent

    out = screen()
    control = Control.of(out.home)
    source = _source(out, source)
    card, shown = _card(out, name, source, chosen)
    out.say(
        *card_lines(out, shown),
        "  Every member of the network sees this card. It says nothing that was counted or measured in your rows.",
        "",
    )
    consent(out, is_sure, "Make this task, and take part in it?")
    found = control.post("/tasks", card)
    answer = _accept(control, found["id"], {"source": source, "test": absolute(test) if test else None, "holdout": holdout})
    out.answer(found | answer, f"Made {out.strong(name)} ({found['id'][:8]}).", *taking_part(answer.get("report") or {}))
    out.next("chinwag watch", "the other devices' owners take part with: chinwag task accept " + segment(name))


@task.command("list", cls=Command)
def list_tasks() -> None:
    """The tasks this network has, and whether this device takes part."""
    from ..control import Control

    out = screen()
    control = Control.of(out.home)
    found = control.get("/tasks")
    states = {t["id"]: t for t in control.get("/status")["tasks"]}
    rows = [["task", "id", "learns", "model", "by", "here"]]
    for card in found["tasks"]:
        state = states.get(card["id"], {}).get("state", card["decision"])
        here = "waits for your yes" if state == "offered" else state
        rows.append(
            [out.strong(card["name"]), card["id"][:8], card["target"], card["model"], card["author_name"] or card["author"][:8], here]
        )
    out.answer(found, *(aligned(rows) if found["tasks"] else ["There is no task yet."]))
    waiting = [card["name"] for card in found["tasks"] if card["decision"] == "offered"]
    out.next(f"chinwag task accept {waiting[0]}" if waiting else None if found["tasks"] else "chinwag task new NAME --model lda")


@task.command(cls=Command)
@click.argument("name", metavar="TASK")
def show(name: str) -> None:
    """The card of a task: what is learned from which columns, and what leaves this device."""
    from ..control import Control
    from .cards import card_lines

    out = screen()
    found = find_task(Control.of(out.home).get("/tasks")["tasks"], name)
    out.answer(found, *card_lines(out, found), f"  here      {found['decision']}")
    if found["decision"] == "offered":
        out.next(f"chinwag task accept {found['name']}")


@task.command(cls=Command)
@click.argument("name", metavar="TASK")
@click.option("--map", "pairs", type=Pair("THEIRS=OURS"), multiple=True, help="The task's column, and what this device's file calls it.")
@_own_rows
def accept(
    name: str, source: str | None, test: str | None, holdout: float | None, is_sure: bool, pairs: tuple[tuple[str, str], ...]
) -> None:
    """Take part in TASK with this device's rows, after showing its card."""
    from ..control import Control
    from .cards import card_lines, consent

    out = screen()
    control = Control.of(out.home)
    found = find_task(control.get("/tasks")["tasks"], name)
    out.say(*card_lines(out, found), "")
    consent(out, is_sure, "Take part in this task?")
    wanted = {"source": absolute(source) if source else None, "test": absolute(test) if test else None, "holdout": holdout}
    answer = _accept(control, found["id"], wanted | {"map": dict(pairs) or None})
    out.answer(answer, f"This device takes part in {out.strong(found['name'])}.", *taking_part(answer.get("report") or {}))
    out.next("chinwag watch")


def find_task(tasks: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The task that is meant by its name or the beginning of its id. Raises ControlError if none is, or more than one."""
    from ..control import ControlError, Exit

    found = [t for t in tasks if t["name"] == name] or [t for t in tasks if len(name) >= 6 and t["id"].startswith(name.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(t["id"][:8] for t in found)
        raise ControlError(f"{len(found)} tasks are called {name}; name one by its id: {ids}.", "chinwag task list", Exit.USAGE)
    import difflib

    near = difflib.get_close_matches(name, [t["name"] for t in tasks], 1)
    raise ControlError(f"There is no task {name!r} here{f'; did you mean {near[0]!r}?' if near else '.'}", "chinwag task list", Exit.USAGE)


def taking_part(report: dict[str, Any]) -> list[str]:
    """What came of this device's rows, in one line."""
    if "train_rows" not in report:
        return []
    alone = f"; alone it reaches {report['metric']} {score(report['alone'], report['metric'])}" if report.get("alone") is not None else ""
    return [f"{plural(report['train_rows'], 'row')} to learn from, {report.get('test_rows') or 0:,} kept back to score on{alone}."]


def _accept(control: Control, task_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
    from ..control import READ_TIMEOUT_S

    said = {key: value for key, value in wanted.items() if value is not None}
    return control.post(f"/tasks/{task_id}/accept", said, timeout_s=READ_TIMEOUT_S)


def _source(out: Screen, source: str | None) -> str:
    from ..config import Home, load_config
    from ..control import ControlError, Exit

    source = source or load_config(Home(out.home)).rows.source
    if source is None:
        raise ControlError(
            "Say which file holds this device's rows.", out.settings.typed("--data", "FILE", "--target", "COLUMN"), Exit.USAGE
        )
    return absolute(source)


def _card(out: Screen, name: str, source: str, chosen: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The card's fields as the REST API takes them, and as a person is shown them."""
    from ..cards import leaves
    from ..config import Home, load_config
    from ..control import ControlError, Exit
    from ..learning.report import card_fields, report

    target = chosen["target"] or load_config(Home(out.home)).rows.target
    if target is None:
        raise ControlError("Say which column is to be predicted.", out.settings.typed("--target", "COLUMN"), Exit.USAGE)
    if chosen["ends"] is not None and chosen["ends"] <= time.time():
        raise click.UsageError("The task would be over before it begins.")
    found = report(source, target)
    names = [c.name for c in found.columns]
    units, ranges = dict(chosen["units"]), {column: _bounds(text) for column, text in chosen["ranges"]}
    for column in [*units, *ranges, *chosen["drop"]]:
        _must_be_column(column, names)
    more = [c.strip() for text in chosen["classes"] for c in text.split(",") if c.strip()]
    fields = card_fields(found, chosen["model"], leave_out=chosen["drop"], more_classes=more)
    columns = []
    for column in fields.columns:
        low, high = ranges.get(column.name, (None, None))
        is_gappy = chosen["has_gaps"] if chosen["has_gaps"] is not None else column.is_gappy or len(fields.columns) <= GAPPY_COLUMNS
        columns.append({"name": column.name, "is_gappy": is_gappy, "unit": units.get(column.name), "low": low, "high": high})
    card = {
        "name": name,
        "about": chosen["about"],
        "columns": columns,
        "target": {"name": fields.target.name, "classes": list(fields.target.classes)},
        "model": fields.model,
        "alpha": fields.alpha if chosen["alpha"] is None else chosen["alpha"],
        "encoding": chosen["encoding"],
        "thresholds": {"min_rows": chosen["min_rows"], "min_peers": chosen["min_peers"]},
        "ends": chosen["ends"],
    }
    return card, card | {"target": fields.target.name, "classes": list(fields.target.classes), "leaves": leaves(_task(card))}


def _task(card: dict[str, Any]) -> Task:
    """The task that this card will make, but for who signs it. Raises ControlError if it cannot be one."""
    from protocol.tasks import Column, Target, Task, Thresholds
    from protocol.wire import WireError

    from ..control import ControlError, Exit

    nobody = bytes(32)
    try:
        parts = {
            "columns": tuple(Column(**c) for c in card["columns"]),
            "target": Target(card["target"]["name"], tuple(card["target"]["classes"])),
            "thresholds": Thresholds(**card["thresholds"]),
        }
        fixed = {"protocol": "gossip", "privacy": "open", "network": nobody, "author": nobody, "created": int(time.time())}
        return Task(**card | parts | fixed)
    except WireError as error:
        raise ControlError(f"The task cannot be made: {error}.", "chinwag task new --help", Exit.USAGE) from None


def _bounds(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise click.UsageError(f"{text!r} is no range; write -40:120.") from None


def _must_be_column(name: str, names: list[str]) -> None:
    if name not in names:
        import difflib

        from ..control import ControlError, Exit

        near = difflib.get_close_matches(name, names, 1)
        meant = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(names[:12])}."
        raise ControlError(f"The file has no column {name!r}{meant}", "chinwag data check", Exit.SCHEMA)
