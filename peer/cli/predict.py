"""`chinwag predict` and `chinwag evaluate`: use the model this device holds. Nothing is asked of the network."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from .command import Command
from .screen import aligned, plural, score, screen

if TYPE_CHECKING:
    from .results import Held


@click.command(cls=Command, short_help="Predict for the rows of a file.")
@click.argument("file")
@click.option("-o", "--out", "target", metavar="OUT", default="-", help="Where the table goes (default: standard output).")
@click.option("--task", "name", help="Which task's model (default: the only one there is).")
def predict(file: str, target: str, name: str | None) -> None:
    """Predict for the rows of FILE: the table again, with a column `prediction` (and `probability`, for classes).

    Columns are found by name, with the names given at `data map`. FILE may be - for standard input.
    """
    from .results import held_model, readable

    out = screen()
    held = held_model(out.home, name)
    with readable(file) as source:
        header, rows = _predicted(held, source)
        if target == "-" and out.is_json:
            for row in rows:
                click.echo(json.dumps(dict(zip(header, row, strict=True))))
        elif target == "-":
            _write(sys.stdout, header, rows)
        else:
            count = _replace(Path(target), header, rows)
    if target != "-":
        told = {"task": held.task.name, "rows": count, "out": str(Path(target).absolute()), "epoch": held.result.epoch.number}
        out.answer(told, f"{plural(count, 'row')} predicted into {target}")
    if not out.is_json:
        out.note(f"model: {held.about()}")


@click.command(cls=Command, short_help="Score the model on rows that hold the target.")
@click.argument("file")
@click.option("--task", "name", help="Which task's model (default: the only one there is).")
def evaluate(file: str, name: str | None) -> None:
    """Score this device's model on the rows of FILE, which hold the target too."""
    from ..learning.dataset import read_rows
    from .results import held_model, readable

    out = screen()
    held = held_model(out.home, name)
    with readable(file) as source:
        rows = read_rows(held.task, source, held.mapping)
    value = held.model.score(rows)
    told: dict[str, Any] = {"task": held.task.name, "metric": held.metric, "score": value, "rows": len(rows)}
    told["epoch"] = held.result.epoch.number
    lines = [f"{'R²' if held.metric == 'r2' else held.metric} {out.strong(score(value, held.metric))} on {plural(len(rows), 'row')}"]
    if held.task.is_classification:
        right = held.model.predict(rows.X) == rows.y
        table = [["class", "rows", "right"]]
        told["classes"] = {}
        for index, label in enumerate(held.task.target.classes):
            count, hits = int((rows.y == index).sum()), int(right[rows.y == index].sum())
            told["classes"][label] = {"rows": count, "right": hits}
            table.append([label, f"{count:,}", f"{100 * hits / count:.0f} %" if count else "–"])
        lines += aligned(table)
    out.answer(told, *lines)
    if not out.is_json:
        out.note(f"model: {held.about()}")


def _predicted(held: Held, source: str) -> tuple[list[str], Iterator[list[str]]]:
    """Header and rows of the table with its predictions. The rows are read twice: once as numbers, once as the text that is given back."""
    from ..learning.dataset import read_features
    from ..learning.models import Classifier
    from ..learning.tables import read_table
    from .results import plain

    X = read_features(held.task, source, held.mapping)
    found = held.model.predict(X)
    classes = held.task.target.classes
    table = read_table(source)
    added = ["prediction"]
    if isinstance(held.model, Classifier):
        added.append("probability")
        sure = held.model.predict_proba(X).max(axis=1)
        cells = [[classes[int(k)], f"{p:.6g}"] for k, p in zip(found, sure, strict=True)]
    else:
        cells = [[repr(plain(v))] for v in found]
    header = [*table.names, *(_unused(name, table.names) for name in added)]

    def rows() -> Iterator[list[str]]:
        texts = (row for block in table.blocks() for row in zip(*block.columns, strict=True))
        return ([*text, *cell] for text, cell in zip(texts, cells, strict=True))

    return header, rows()


def _unused(name: str, names: tuple[str, ...]) -> str:
    """This name, or with a number behind it if the file has such a column already."""
    number, free = 2, name
    while free in names:
        free, number = f"{name}_{number}", number + 1
    return free


def _write(file: TextIO, header: list[str], rows: Iterator[list[str]]) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    return count


def _replace(path: Path, header: list[str], rows: Iterator[list[str]]) -> int:
    """Write the whole table or none of it."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("w", newline="", encoding="utf-8") as file:
            count = _write(file, header, rows)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return count
