"""SPEC.md is the code's: every rule in it has a number, every table in it is a declaration read out. Its examples are in
test_spec_examples.py; the tables of the exchange are played through in test_spec_exchange.py."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from peer.learning.moments import layout
from protocol import cards, joining, messages, records, revocations, tasks, wire
from protocol.connection import BETWEEN_MEMBERS, MAY_SEND, TRANSITIONS, State
from protocol.messages import MESSAGES, CloseCode, Message
from protocol.wire import U64, Bool, Bytes, Choice, Float, Kind, Many, Nested, Structure, Text, UInt, WireError, declared

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "protocol" / "SPEC.md").read_text(encoding="utf-8")

HEADING = re.compile(r"^#{2,3} (\d+(?:\.\d+)?) (.+)$", re.M)
CLAUSE = re.compile(r"^\*\*(\d+\.\d+\.\d+)\*\* ", re.M)
REFERENCE = re.compile(r"(?:§|chapter) ?(\d+(?:\.\d+)*)")

STRUCTURES: dict[str, type[Structure]] = {
    **{m.__name__: m for m in MESSAGES.values()},
    "Signed": cards.Signed,
    "PeerRecord": records.PeerRecord,
    "RevocationBody": revocations.Revocation,
    "Invite": joining.Invite,
    **{s.__name__: s for s in (tasks.Task, tasks.Column, tasks.Target, tasks.Thresholds)},
}


# reading the document -------------------------------------------------------------------------------------------------


def section(number: str) -> str:
    """The text under one heading, up to the next of any level."""
    start = re.search(rf"^#+ {re.escape(number)} .+$", SPEC, re.M)
    assert start, f"no section {number}"
    following = HEADING.search(SPEC, start.end())
    return SPEC[start.end() : following.start() if following else len(SPEC)]


def titled(name: str) -> str:
    """The text of the section with this title, with or without a message's type after it."""
    return section(next(number for number, title in HEADING.findall(SPEC) if re.sub(r" \(.*\)$", "", title) == name))


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in a text, without its head."""
    table = re.search(r"(?:^\|.*\|\n)+", text, re.M)
    assert table, "no table"
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table[0].splitlines()][2:]


def declaration(name: str) -> str:
    """The text that declares a structure: a message's section, or what follows the structure's name in italics."""
    caption = f"\n*{name}:*\n"
    return SPEC.partition(caption)[2] if caption in SPEC else titled(name)


def in_words(kind: Kind) -> str:
    """A kind as the tables write it."""
    match kind:
        case UInt(low, high):
            return f"uint {low}..{_power(high)}"
        case Bool():
            return "bool"
        case Float(low, _):
            return "float >= 0" if low == 0.0 else "float"
        case Bytes(low, high):
            return f"bytes {low}" if low == high else f"bytes {low}..{high}"
        case Text(high, low):
            return f"text {low}..{high}"
        case Choice(words):
            return "one of " + ("§ 5.2" if words == messages.REASONS else ", ".join(words))
        case Many(item, high, low):
            return f"list {low}..{high} of {in_words(item)}"
        case Nested(structure):
            return f"map {structure.__name__}"
    raise AssertionError(kind)


def _power(value: int) -> str:
    exponent = value.bit_length() - 1
    return "2^64-1" if value == U64 else f"2^{exponent}" if value == 2**exponent and exponent >= 20 else str(value)


# numbers and rules ----------------------------------------------------------------------------------------------------


def test_chapters_and_sections_are_numbered_in_order() -> None:
    numbers = [tuple(map(int, number.split("."))) for number, _ in HEADING.findall(SPEC)]
    assert numbers[0] == (1,)
    for before, after in pairwise(numbers):
        depth = len(after)
        assert depth <= len(before) + 1
        assert after == ((*before, 1) if depth > len(before) else (*before[: depth - 1], before[depth - 1] + 1))


def test_every_clause_has_its_own_number_in_its_own_section() -> None:
    for number, _ in HEADING.findall(SPEC):
        found = CLAUSE.findall(section(number))
        assert found == [f"{number}.{k}" for k in range(1, len(found) + 1)]


def test_every_rule_stands_in_a_numbered_clause() -> None:
    text = re.sub(r"^```.*?^```$", "", SPEC[SPEC.index("\n## 2 ") :], flags=re.M | re.S)
    loose = [p for p in re.split(r"\n\s*\n", text) if re.search(r"\b(MUST|SHOULD|MAY)\b", p) and not CLAUSE.match(p.strip())]
    assert loose == []


def test_there_are_rules_enough_to_be_a_specification() -> None:
    assert len(CLAUSE.findall(SPEC)) >= 150
    assert len(re.findall(r"\bMUST\b", SPEC)) >= 120


def test_every_reference_leads_somewhere() -> None:
    known = {number for number, _ in HEADING.findall(SPEC)} | set(CLAUSE.findall(SPEC))
    assert {r for r in REFERENCE.findall(SPEC) if r not in known} == set()
    sources = [p for folder in ("protocol", "peer", "tests") for p in (ROOT / folder).rglob("*.py")]
    inside = {(p.name, r) for p in sources for r in re.findall(r"SPEC (\d+(?:\.\d+)*)", p.read_text(encoding="utf-8"))}
    assert {(name, r) for name, r in inside if r not in known} == set()


def test_no_line_is_longer_than_the_codes() -> None:
    assert [k for k, line in enumerate(SPEC.splitlines(), 1) if len(line) > 140 and not line.startswith("|")] == []


# tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_table_of_each_structure_is_its_declaration(name: str) -> None:
    fields = declared(STRUCTURES[name])
    text = declaration(name)
    if not fields:
        assert "No fields." in text
        return
    expected = [[field, in_words(kind), "optional" if is_optional else "required"] for field, kind, is_optional in fields]
    assert [row[:3] for row in rows(text)] == expected


def test_no_structure_of_the_protocol_is_left_out() -> None:
    def below(structure: type[Structure]) -> set[str]:
        # By name: a slotted dataclass is made twice, and the first make may still be about.
        return {f"{structure.__module__}.{structure.__name__}"}.union(*(below(s) for s in structure.__subclasses__()))

    found = {name for name in below(Structure) if name.startswith("protocol.")}
    assert found == {f"{s.__module__}.{s.__name__}" for s in (*STRUCTURES.values(), Structure, Message)}


def test_each_message_stands_in_chapter_4_with_its_number() -> None:
    found = re.findall(r"^### 4\.\d+ (\w+) \((0x[0-9a-f]{2})\)$", SPEC, re.M)
    assert found == [*((m.__name__, f"0x{m.TYPE:02x}") for m in MESSAGES.values()), ("Chunk", f"0x{messages.CHUNK_TYPE:02x}")]


def test_the_table_of_kinds_covers_every_kind() -> None:
    assert {row[0].split("` ")[0] for row in rows(titled("Kinds"))} == {"uint", "bool", "float", "bytes", "text", "one of", "list", "map"}


def test_the_table_of_faults_names_every_wire_error() -> None:
    names = {c.__name__ for _, c in inspect.getmembers(wire, inspect.isclass) if issubclass(c, WireError)} - {"WireError"}
    assert {row[0] for row in rows(titled("Faults"))} == names


def test_the_table_of_close_codes_is_the_codes() -> None:
    assert [(int(row[0]), row[1]) for row in rows(titled("Ending"))] == [(int(c), c.name) for c in CloseCode]


def test_the_table_of_states_is_the_connections() -> None:
    members = {m.__name__ for m in BETWEEN_MEMBERS} - {"Close"}
    table = rows(titled("States"))
    assert [row[0] for row in table] == [s.name for s in State]
    for state, _, taken, said in table:
        leads = {}
        for name, after in re.findall(r"([\w ]+) → (\w+)", taken):
            leads |= dict.fromkeys(members if name.strip() == "any other" else {name.strip()}, after)
        # A closed connection ignores what the code's table, for the sake of totality, lets CLOSE lead to.
        expected = {m.__name__: after.name for (before, m), after in TRANSITIONS.items() if before.name == state != "CLOSED"}
        assert leads == expected
        allowed = {m.__name__ for m in MAY_SEND.get(State[state], ())} - {"Close"}
        assert {"any other": members, "nothing": set()}.get(said, {said}) == allowed


def test_the_table_of_reasons_is_the_reasons() -> None:
    assert tuple(row[0] for row in rows(section("5.2"))) == messages.REASONS


def test_the_table_of_encodings_is_the_encodings() -> None:
    assert tuple(row[0] for row in rows(section("5.3"))) == messages.ENCODINGS


def test_the_table_of_arrays_is_what_each_model_lays_out() -> None:
    columns = (tasks.Column("a", True), tasks.Column("b", False), tasks.Column("c", True))
    size = {"K": 4, "d": 3, "e": 5, "e+1": 6, "e(e+1)/2": 15, "(e+1)(e+2)/2": 21}
    table = rows(section("7.3"))
    assert [row[0] for row in table] == [*tasks.MODELS]
    for model, arrays in table:
        target = tasks.Target("y", ("p", "q", "r", "s") if model in tasks.CLASSIFIERS else ())
        task = tasks.Task(
            *("t", "", columns, target, model, 0.0, "gossip", "int8", "open"), tasks.Thresholds(1, 1), bytes(32), bytes(32), 0
        )
        written = [
            (name, tuple(size[s] for s in shape.split(", ") if s)) for name, shape in re.findall(r"(\w+)(?: \((\S+(?:, \w)?)\))?", arrays)
        ]
        assert written == [(t.name, t.shape) for t in layout(task, "statistics").tensors]
        assert ("weights" in task.parts) == (model == "logistic")
    assert [
        (t.name, t.shape) for t in layout(replace(task, model="logistic", target=tasks.Target("y", ("p", "q"))), "weights").tensors
    ] == [
        ("coef", (3, 2)),
        ("intercept", (2,)),
    ]


LIMITS = {row[3]: row[1] for number in ("8.1", "8.2") for row in rows(section(number))}


@pytest.mark.parametrize("where", LIMITS)
def test_each_limit_is_the_codes_constant(where: str) -> None:
    module, _, name = where.rpartition(".")
    assert ast.literal_eval(LIMITS[where].replace(",", "")) == getattr(importlib.import_module(module), name)


def constants() -> Iterator[str]:
    """Every number in capitals that a module of the protocol declares."""
    for path in sorted((ROOT / "protocol").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Name) and re.fullmatch("[A-Z][A-Z0-9_]+", target.id):
                value: Any = getattr(importlib.import_module(f"protocol.{path.stem}"), target.id)
                if type(value) in (int, float):
                    yield f"protocol.{path.stem}.{target.id}"


def test_no_limit_of_the_protocol_is_left_out() -> None:
    assert set(constants()) - set(LIMITS) == {"protocol.keys.PRIME", "protocol.wire.U64"}
