"""docs/scenarios.md says of every setting what settings.py declares, and its example is a scenario."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from scenarios.scenario import cells, parse
from scenarios.settings import TABLES

TEXT = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text("utf-8")


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_stands_in_the_document_with_its_default(table: str) -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("|")]
    for field in msgspec.structs.fields(TABLES[table]):
        default = "–" if field.default is None else f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        meant = [meta.description for meta in getattr(field.type, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        meant += [getattr(getattr(field.type, "__origin__", None), "description", None)]
        description = next(found for found in meant if found)
        assert any(f"| `{field.name}` | {default} | {description}" in row for row in rows), f"[{table}] {field.name}"


def test_the_example_is_a_scenario_of_four_cells() -> None:
    [example] = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    scenario = parse(example, "skew")
    assert len(cells(scenario)) * len(scenario.seeds) == 20
