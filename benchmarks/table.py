"""One row of the table: what was measured, the number, and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`asked` is empty where there is nothing to reach, only something to know."""

    what: str
    measured: str
    asked: str = ""


def show(rows: list[Row]) -> None:
    """Print the rows as Markdown."""
    print("| what | measured | asked |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.measured} | {row.asked} |")
