"""The owner's file as named columns of text, read in blocks: CSV in the dialects that spreadsheets and meters write, or a bundled set.

A file is judged before it is read (kind, permission, size, binary or text) and read once, in bounded memory: nothing here holds more than
one block. Every fault is a DataError: one sentence that names the file and the line, and, where there is one, the command that helps.
"""

from __future__ import annotations

import codecs
import csv
import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
"""One file of rows. As numbers in memory a file takes up to four times its size, which a device of 1 GB can still hold."""

MAX_FILE_COLUMNS: Final = 4096
"""Columns of a file. A task has 1,024 at most; a file may have others beside them."""

MAX_LINE_CHARACTERS: Final = 1024 * 1024
"""One line: 4,096 columns of 250 characters. Without it a file without line ends would be taken in whole."""

BLOCK_ROWS: Final = 1024
"""Rows read at a time: a megabyte or so of text."""

SNIFF_LINES: Final = 20
"""Lines looked at to tell which character separates the columns."""

SEPARATORS: Final = {",": "comma", ";": "semicolon", "\t": "tab"}

MISSING: Final = frozenset({"", "na", "nan", "null", "-"})
"""What stands for a value that is not there, in any case of letters."""

NOT_TEXT: Final = {b"PK\x03\x04": "an Excel workbook or zip archive", b"PAR1": "a Parquet file", b"SQLite format 3": "a SQLite database"}
"""First bytes of what people give instead of a CSV file."""


class DataError(Exception):
    """The owner's rows cannot be used. `sentence` says why in plain words; `next` is a command or a step that helps, or None."""

    def __init__(self, sentence: str, next: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next = next


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows: where each lies in the file, and for each column the text of its cells, stripped."""

    lines: tuple[int, ...]
    columns: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A source that was found readable. `names` are the columns in the order of the file; `notes` are what the owner should know."""

    source: str
    names: tuple[str, ...]
    notes: tuple[str, ...]
    has_decimal_comma: bool
    dialect: _Dialect | None

    def blocks(self) -> Iterator[Block]:
        """The rows, a block at a time. Raises DataError at the first row that does not fit the header."""
        if self.dialect is None:
            from .bundled import rows

            lines = ((i + 1, row) for i, row in enumerate(rows(self.source)))
            yield from _in_blocks(lines)
        else:
            yield from _in_blocks(_checked_rows(self.source, self.dialect, self.names))

    def where(self, line: int) -> str:
        """How a person finds a row."""
        return f"line {line} of {label(self.source)}" if self.dialect is not None else f"row {line} of {self.source}"


@dataclass(frozen=True, slots=True)
class _Dialect:
    encoding: str
    separator: str


def read_table(source: str) -> Table:
    """Look at a source and its header. Raises DataError for whatever is not a table with a header and two columns or more."""
    if source.startswith("sklearn:"):
        from .bundled import names

        return Table(source, names(source), (), False, None)
    path = _judged(source)
    encoding, notes = _encoding(path)
    dialect = _Dialect(encoding, _separator(path, encoding))
    names_found = _header(path, dialect)
    return Table(source, names_found, notes, dialect.separator == ";", dialect)


def numbers(cells: Sequence[str], has_decimal_comma: bool) -> tuple[list[float], list[int]]:
    """The values of some cells, NaN where one is missing or is no finite number, and the places of those that are no number."""
    text = [c.replace(",", ".") for c in cells] if has_decimal_comma else cells
    try:
        values = [float(c) if c else float("nan") for c in text]
    except ValueError:
        values = []
    if values and not any(v in (float("inf"), float("-inf")) for v in values):
        return values, []
    values, strange = [], []
    for i, cell in enumerate(text):
        value = number(cell)
        if value is None:
            strange.append(i)
        values.append(float("nan") if value is None else value)
    return values, strange


def number(cell: str) -> float | None:
    """The finite number that a cell holds, NaN if it is missing, None if it is something else. Decimal points only."""
    if cell.lower() in MISSING:
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if value - value == 0.0 else None


def label(source: str) -> str:
    """The short name of a source, for sentences."""
    return source if source.startswith("sklearn:") else Path(source).name or source


# judging a file ------------------------------------------------------------------------------------------------------


def _judged(source: str) -> Path:
    """The path, if a regular, readable file of bearable size is there."""
    try:
        path = Path(source).expanduser()
        found = path.stat()
    except FileNotFoundError:
        raise DataError(f"There is no file {source}.") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{source} cannot be read: {_reason(error)}.") from None
    if stat.S_ISDIR(found.st_mode):
        raise DataError(f"{source} is a folder; name the file in it that holds the rows.")
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{source} is not a file but a device or pipe.")
    if found.st_size == 0:
        raise DataError(f"{label(source)} is empty.")
    if found.st_size > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 2**20
        raise DataError(f"{label(source)} has {found.st_size / 2**20:,.0f} MiB; a file of rows may have {limit} MiB at most.")
    if not os.access(path, os.R_OK):
        raise DataError(f"{source} cannot be read: permission denied.", f"chmod u+r {source}")
    return path


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _encoding(path: Path) -> tuple[str, tuple[str, ...]]:
    """How the file's text is written. Every byte is looked at: a wrong guess found in the middle of reading would be too late."""
    try:
        with path.open("rb") as file:
            first = file.read(64 * 1024)
            if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16", ()
            kind = next((k for magic, k in NOT_TEXT.items() if first.startswith(magic)), "a binary file")
            if kind != "a binary file" or b"\0" in first:
                raise DataError(f"{label(str(path))} is {kind}, not a table of text; export it as CSV.")
            decoder = codecs.getincrementaldecoder("utf-8-sig")()
            block, is_utf8, is_cp1252 = first, True, True
            while True:
                if b"\0" in block:
                    raise DataError(f"{label(str(path))} is a binary file, not a table of text; export it as CSV.")
                is_cp1252 = is_cp1252 and not block.translate(None, _UNUSED_IN_CP1252_KEPT)
                if is_utf8:
                    try:
                        decoder.decode(block, final=not block)
                    except UnicodeDecodeError:
                        is_utf8 = False
                if not block:
                    break
                block = file.read(1024 * 1024)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from None
    if is_utf8:
        return "utf-8-sig", ()
    encoding = "cp1252" if is_cp1252 else "latin-1"
    return encoding, (f"{label(str(path))} is not UTF-8; it was read as {encoding}.",)


_UNUSED_IN_CP1252_KEPT: Final = bytes(b for b in range(256) if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D))
"""The bytes that code page 1252 knows; deleting them leaves those that it does not."""


# rows of text --------------------------------------------------------------------------------------------------------


def _lines(file: TextIO, name: str) -> Iterator[str]:
    while line := file.readline(MAX_LINE_CHARACTERS + 1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise DataError(f"{name} has a line of more than {MAX_LINE_CHARACTERS:,} characters; it is not a table of rows.")
        if "\0" in line:
            raise DataError(f"{name} is a binary file, not a table of text; export it as CSV.")
        yield line


def _rows(source: str, dialect: _Dialect) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row in which something stands, the header first."""
    name = label(source)
    try:
        with Path(source).expanduser().open(encoding=dialect.encoding, newline="") as file:
            reader = csv.reader(_lines(file, name), delimiter=dialect.separator)
            for row in reader:
                cells = [c.strip() for c in row]
                if any(cells):
                    yield reader.line_num, cells
    except UnicodeError:
        raise DataError(f"{name} is not the text it claims to be ({dialect.encoding}); export it as CSV in UTF-8.") from None
    except csv.Error:
        raise DataError(f"{name} has a field of more than {csv.field_size_limit():,} characters; is a quotation mark left open?") from None
    except OSError as error:
        raise DataError(f"{name} cannot be read: {_reason(error)}.") from None


def _separator(path: Path, encoding: str) -> str:
    """The separator that cuts the first lines into the most columns, and all of them into equally many if any does."""
    best = (False, 1, ",")
    for separator in SEPARATORS:
        counts = []
        for _, cells in _rows(str(path), _Dialect(encoding, separator)):
            counts.append(len(cells))
            if len(counts) == SNIFF_LINES:
                break
        if counts and counts[0] > 1:
            best = max(best, (len(set(counts)) == 1, counts[0], separator), key=lambda b: b[:2])
    return best[2]


def _header(path: Path, dialect: _Dialect) -> tuple[str, ...]:
    name = label(str(path))
    rows = _rows(str(path), dialect)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} is empty.")
    cells = first[1]
    if len(cells) == 1:
        separators = ", ".join(SEPARATORS.values())
        raise DataError(f"{name} has one column only; a table needs a target and something to predict it from, separated by {separators}.")
    if len(cells) > MAX_FILE_COLUMNS:
        raise DataError(f"{name} has {len(cells):,} columns; a file may have {MAX_FILE_COLUMNS:,} at most.")
    if all(number(c.replace(",", ".")) is not None for c in cells) and any(cells):
        raise DataError(f"{name} has no header: its first line holds numbers, not the names of the columns.")
    names = tuple(unicodedata.normalize("NFC", c) if c else f"column {i + 1}" for i, c in enumerate(cells))
    if twice := sorted({n for n in names if names.count(n) > 1}) if len(set(names)) < len(names) else []:
        raise DataError(f"{name} names the column {twice[0]!r} twice; columns are chosen by name.")
    if next(rows, None) is None:
        raise DataError(f"{name} has a header and no rows.")
    return names


def _checked_rows(source: str, dialect: _Dialect, names: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    rows = _rows(source, dialect)
    next(rows, None)
    for line, cells in rows:
        if len(cells) != len(names):
            raise DataError(f"Line {line} of {label(source)} has {len(cells)} values, the header names {len(names)} columns.")
        yield line, cells


def _in_blocks(rows: Iterator[tuple[int, list[str]]]) -> Iterator[Block]:
    lines: list[int] = []
    held: list[list[str]] = []
    for line, cells in rows:
        lines.append(line)
        held.append(cells)
        if len(held) == BLOCK_ROWS:
            yield Block(tuple(lines), tuple(zip(*held, strict=True)))
            lines, held = [], []
    if held:
        yield Block(tuple(lines), tuple(zip(*held, strict=True)))
