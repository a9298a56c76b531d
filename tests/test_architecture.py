"""What no module may do, checked on the source itself. The directions of imports are import-linter's (setup.cfg)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("protocol", "peer", "scenarios", "benchmarks", "tests", ".ci")

IO_AND_CHANCE = {"asyncio", "socket", "ssl", "time", "random", "os", "threading", "secrets", "subprocess", "pathlib", "io", "select"}
"""What the protocol may not import: it takes bytes, times and seeds as arguments."""

CLOCKS = {"now", "utcnow", "today", "monotonic", "perf_counter", "urandom", "default_rng", "generate", "random_serial_number"}
"""Calls that read a clock or draw a random number, whatever they are called on."""

UNSAFE = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
"""Formats whose reading runs code."""

EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "data", "misc", "tools"}
"""Names that say nothing of what is inside."""


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> set[str]:
    """The first names of everything imported, in functions too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def calls(tree: ast.Module) -> set[str]:
    """The last names of everything called: `datetime.now()` is "now"."""
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {f.attr if isinstance(f, ast.Attribute) else f.id for f in called if isinstance(f, ast.Attribute | ast.Name)}


def test_the_protocol_imports_no_input_output_no_clock_and_no_chance() -> None:
    assert {name: found for name, tree in modules("protocol") if (found := imports(tree) & IO_AND_CHANCE)} == {}


def test_the_protocol_reads_no_clock_and_draws_no_number() -> None:
    assert {name: found for name, tree in modules("protocol") if (found := (calls(tree) | imports(tree)) & CLOCKS)} == {}


def test_the_protocol_opens_no_file() -> None:
    assert [name for name, tree in modules("protocol") if {"open", "print", "input"} & calls(tree)] == []


def test_nothing_reads_a_format_that_runs_code() -> None:
    assert {name: found for name, tree in modules(*SOURCES) if (found := imports(tree) & UNSAFE)} == {}


def test_every_module_says_why_it_exists() -> None:
    assert [name for name, tree in modules(*SOURCES) if tree.body and not name.startswith("tests/") and not ast.get_docstring(tree)] == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    found = [path.relative_to(ROOT) for folder in SOURCES for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    assert found
    assert [str(path) for path in found if path.stem in EMPTY_NAMES] == []
