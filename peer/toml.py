"""TOML that a person wrote: reading it into declared tables, with mistakes told by line, and changing it without losing the comments.

The standard library reads TOML; writing it, and finding lines again, is here. `config.py` declares the tables.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

Path = tuple[str, ...]
"""A table's place: `[task."a b"]` is ("task", "a b")."""


class Table(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every declared table. A field's description is its comment in a new file, and ends the sentence about a wrong value."""


T = TypeVar("T", bound=Table)


class Mistake(Exception):
    """Something is wrong at one key of one table; without a key, with the table."""

    def __init__(self, path: Path, key: str | None, sentence: str) -> None:
        super().__init__(sentence)
        self.path = path
        self.key = key


# reading ----------------------------------------------------------------------------------------------------------------------------------


def table(path: Path, found: Any, kind: type[T]) -> T:
    """What was found at this place, as the table that is declared for it. Raises Mistake."""
    if not isinstance(found, dict):
        raise Mistake(path[:-1], path[-1], f"{path[-1]}: put {title(path)} on a line of its own, and its settings below.")
    declared = {field.name: field for field in msgspec.structs.fields(kind)}
    for key in found:
        if key not in declared:
            raise Mistake(path, key, f"{title(path)} has no setting {key!r}.{meant(key, declared)}")
    for key, field in declared.items():
        if field.required and key not in found:
            raise Mistake(path, None, f"{title(path)} needs a setting {key!r}{_about(field.type)}.")
    values = {}
    for key, value in found.items():
        try:
            values[key] = msgspec.convert(value, declared[key].type)
        except msgspec.ValidationError as error:
            sentence = f"{title(path)} {key}: {_in_words(str(error), value, declared[key].type)}{_about(declared[key].type)}."
            raise Mistake(path, key, sentence) from None
    try:
        return kind(**values)
    except ValueError as error:
        raise Mistake(path, None, f"{title(path)} {error}.") from None


def meant(word: str, known: Collection[str]) -> str:
    """The known word that is closest to this one, or all of them, as a sentence to append."""
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f" Did you mean {close[0]!r}?" if close else f" Known are: {', '.join(known)}."


WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "array": "a list",
    "object": "a table",
    "bool": "true or false",
}


def _in_words(error: str, value: Any, kind: Any) -> str:
    """msgspec's message in the owner's words."""
    place = re.search(r" - at `\$\[(\d+)\]`$", error)
    where = f"item {int(place[1]) + 1}: " if place else ""
    what = re.sub(r" - at `.*`$", "", error)
    if word := re.fullmatch(r"Invalid enum value '(.*)'", what):
        known = _literals(kind)
        close = difflib.get_close_matches(word[1], known, 1, 0.5) or known
        return f"{where}{word[1]!r} is not known; {' or '.join(map(repr, close))} is"
    if expected := re.fullmatch(r"Expected `([^`]+)`(?:, got `([^`]+)`)?( [<>]=? .+)?", what):
        needed = " or ".join(WORDS.get(w, w) for w in expected[1].split(" | ") if w != "null")
        return f"{where}{needed}{expected[3] or ''} is needed, not {WORDS.get(expected[2], expected[2]) if expected[2] else value}"
    return where + what


def _literals(kind: Any) -> list[str]:
    """Every word that a type admits by name."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [word for part in get_args(kind) for word in _literals(part)]


def _about(kind: Any) -> str:
    described = [part.description for part in get_args(kind) if isinstance(part, msgspec.Meta) and part.description]
    return f" ({described[0]})" if described else ""


# lines ------------------------------------------------------------------------------------------------------------------------------------


def line_of(text: str, path: Path, key: str | None) -> int | None:
    """The line of this key, or of its table's header, counted from 1; None where it is written in a way that we do not look for."""
    current: Path = ()
    sought = path if key is None else (*path, key)
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _header(line)) is not None:
            current = header
            if current == sought:
                return number
        elif key is not None and current == path and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line):
            return number
    return None


def _header(line: str) -> Path | None:
    """The table whose header this line is."""
    if not line.lstrip().startswith("["):
        return None
    try:
        found: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    path = []
    while isinstance(found, dict) and len(found) == 1:
        [(name, found)] = found.items()
        path.append(name)
    return tuple(path) if path and found == {} else None


# writing ----------------------------------------------------------------------------------------------------------------------------------


def title(path: Path) -> str:
    """A table's header. The second name is the owner's, so it is quoted."""
    return f"[{path[0]}]" if len(path) == 1 else f"[{path[0]}.{_value(path[1])}]"


def written(tables: Mapping[Path, Table]) -> str:
    """A new file. Settings that have their default stand in it as comments."""
    return "\n".join(_written(path, each, is_new=True) for path, each in tables.items())


def edited(text: str, tables: Mapping[Path, Table]) -> str:
    """The file with changed tables written anew, others dropped or added at the end, and every table that need not change as it stands.

    Cuts at lines that look like headers, so a header inside a text of many lines misleads it: read the result again before it is used.
    """
    kept, seen = [], set()
    for path, block in _blocks(text, {path[0] for path in tables if len(path) > 1}):
        if not path:
            kept.append(block)
        elif path in tables and path not in seen:
            seen.add(path)
            found: Any = tomllib.loads(block)
            for name in path:
                found = found[name]
            kept.append(block if table(path, found, type(tables[path])) == tables[path] else _written(path, tables[path]) + "\n")
    added = [_written(path, each) for path, each in tables.items() if path not in seen and msgspec.to_builtins(each)]
    return "\n".join([("".join(kept).rstrip() + "\n").lstrip("\n"), *added])


def _blocks(text: str, named: set[str]) -> list[tuple[Path, str]]:
    """The file cut into tables with what is nested in them; comments right above a header belong to it. First, under (), what precedes.

    named: tables of which there are many, each with a name of its own.
    """
    blocks: list[tuple[Path, list[str]]] = [((), [])]
    for line in text.splitlines(keepends=True):
        if (header := _header(line)) is not None:
            path = header[: 2 if header[0] in named else 1]
            if path != blocks[-1][0]:
                above = blocks[-1][1]
                start = len(above)
                while start and above[start - 1].startswith("#"):
                    start -= 1
                blocks.append((path, above[start:]))
                del above[start:]
        blocks[-1][1].append(line)
    return [(path, "".join(lines)) for path, lines in blocks]


def _written(path: Path, values: Table, is_new: bool = False) -> str:
    lines = [title(path)]
    chosen = msgspec.to_builtins(values)
    for field in msgspec.structs.fields(type(values)):
        if field.name in chosen:
            lines.append(f"{field.name} = {_value(chosen[field.name])}")
        elif is_new:
            default = "" if field.default in (None, msgspec.NODEFAULT) else f" = {_value(msgspec.to_builtins(field.default))} "
            lines.append(f"# {field.name}{default}{_about(field.type)}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
