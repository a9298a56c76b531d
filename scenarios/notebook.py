"""Scenarios from a notebook, under the names of the file.

    from chinwag import Scenario

    skew = Scenario("skew", data={"source": "digits", "partition": "dirichlet", "alpha": [0.1, 1.0]}, peers={"count": 16}, seeds=[1, 2, 3])
    run = skew.run("runs/skew")      # shown as a table with confidence intervals
    run.records()                    # the same as plain numbers, for pandas.DataFrame
    run.results.cells[0].peers       # every peer's score

What is run is the text `skew.text`, kept beside the results, so anybody can run it again without Python.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import compare, results, runner, scenario
from .results import Results
from .runner import On, Places


class Scenario:
    """A scenario by its tables: `data`, `peers`, `network`, `churn`, `attack`, `protocol`, `stop`, and lists of them: `fault`, `finding`.

    A list of values is an axis of the sweep, as in the file. Raises ScenarioError, which says what is wrong and where.
    """

    def __init__(self, name: str = "scenario", about: str = "", seeds: Sequence[int] = (1, 2, 3), folder: str | Path = ".", **tables: Any):
        head = {"name": name, "about": about, "seeds": list(seeds)}
        self._scenario = scenario.parse(_text({"scenario": head, **tables}), name, str(Path(folder).absolute()))

    @classmethod
    def load(cls, path_or_name: str | Path) -> Scenario:
        """One that comes with Chinwag, by name, or any file."""
        found = cls.__new__(cls)
        found._scenario = scenario.load(path_or_name)
        return found

    @property
    def text(self) -> str:
        """The file."""
        return self._scenario.text

    def run(
        self,
        out: str | Path,
        *,
        seeds: Sequence[int] | None = None,
        on: On = "sim",
        jobs: int = 1,
        cluster: str | None = None,
        resume: bool = False,
    ) -> Run:
        """Run all cells under all seeds; results and report.html go to the folder `out`."""
        from . import report

        found = runner.run(self._scenario, Path(out), on=on, seeds=seeds, places=Places(jobs, cluster), is_resumed=resume)
        report.write(found, Path(out) / "report.html")
        return Run(Path(out), found)

    def __repr__(self) -> str:
        return f"<Scenario {self._scenario.name}: {len(scenario.cells(self._scenario))} cells, seeds {list(self._scenario.seeds)}>"


@dataclass(frozen=True, slots=True)
class Run:
    """Results and the folder they lie in; a notebook shows it as a table."""

    folder: Path
    results: Results

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """An earlier run."""
        return cls(Path(folder), results.load(Path(folder)))

    def records(self) -> list[dict[str, Any]]:
        """One dict a cell, in plain numbers."""
        return compare.records(self._lines())

    def __repr__(self) -> str:
        rows = compare.table(self._lines())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        head, *rows = ([html.escape(cell) for cell in row] for row in compare.table(self._lines()))
        body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
        return f"<table><tr><th>{'</th><th>'.join(head)}</th></tr>{body}</table>"

    def _lines(self) -> list[compare.Line]:
        return compare.compare({str(self.folder): self.results})


def _text(tables: Mapping[str, Any]) -> str:
    """These tables as a scenario file."""
    blocks = []
    for name, table in tables.items():
        for each in table if isinstance(table, list) else [table]:
            header = f"[[{name}]]" if isinstance(table, list) else f"[{name}]"
            lines = [f"{_key(key)} = {_value(value)}" for key, value in each.items() if value is not None]
            blocks.append("\n".join([header, *lines]))
    return "\n\n".join(blocks) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _value(value: Any) -> str:
    """A value as TOML, of which JSON's numbers, strings and truth values are a part."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
