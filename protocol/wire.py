"""The one encoding of every structure on the wire: strict, canonical msgpack (SPEC 2).

A structure is a frozen dataclass whose fields are declared with the kinds below; its bytes are one msgpack map, keys in the order of
declaration, absent optional fields left out. A structure has exactly one encoding: the decoder encodes what it read once more and refuses
bytes that differ. So duplicate keys, reordered keys, long forms of small integers and trailing bytes need no rule of their own; they are
still refused by name, because an implementer wants to know which.

No I/O, no clock: bytes in, values out.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

import msgpack

MAX_DEPTH = 8
"""Nesting of one structure, in containers. The deepest we send is 3; the C decoder itself gives up at 1024 only."""

MAX_NODES = 16_384
"""Values in one structure. A task of 1,024 columns needs about 8,000; a megabyte of empty arrays would cost 70 times its size in memory."""

U64 = 2**64 - 1


class WireError(ValueError):
    """Bytes that are not the one encoding of the structure they should be. Each subclass names the clause that is broken."""


class Truncated(WireError):
    """The bytes end before the structure does."""


class TrailingBytes(WireError):
    """Bytes follow the structure."""


class DuplicateKey(WireError):
    """A map names a key twice."""


class UnknownKey(WireError):
    """A map has a key that the structure does not."""


class MissingKey(WireError):
    """A required field is absent."""


class WrongType(WireError):
    """A value is of another msgpack type than its field."""


class OutOfBounds(WireError):
    """A number, text, byte string or list is outside its field's bounds."""


class NotFinite(WireError):
    """A number is NaN or infinite."""


class TooDeep(WireError):
    """Nesting or the count of values is above the limit."""


class NotCanonical(WireError):
    """A longer form, or another order, of what has one encoding only."""


class Kind(Protocol):
    """What a field may hold: `check` returns the value to store or raises a WireError; `plain` turns it back into msgpack's types."""

    def check(self, value: Any, where: str) -> Any: ...

    def plain(self, value: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class UInt:
    """An unsigned integer from `low` to `high`."""

    low: int = 0
    high: int = U64

    def check(self, value: Any, where: str) -> int:
        if type(value) is not int:
            raise WrongType(f"{where}: an integer is needed")
        if not self.low <= value <= self.high:
            raise OutOfBounds(f"{where}: {value} is not within {self.low}..{self.high}")
        return value

    def plain(self, value: int) -> int:
        return value


@dataclass(frozen=True, slots=True)
class Bool:
    """true or false; never 0 or 1."""

    def check(self, value: Any, where: str) -> bool:
        if type(value) is not bool:
            raise WrongType(f"{where}: true or false is needed")
        return value

    def plain(self, value: bool) -> bool:
        return value


@dataclass(frozen=True, slots=True)
class Float:
    """A finite number, always in msgpack's float64 form (never an integer, so that one value has one encoding)."""

    low: float = -1.7e308
    high: float = 1.7e308

    def check(self, value: Any, where: str) -> float:
        if type(value) is not float:
            raise WrongType(f"{where}: a float64 is needed")
        if not math.isfinite(value):
            raise NotFinite(f"{where}: {value} is not a finite number")
        if not self.low <= value <= self.high:
            raise OutOfBounds(f"{where}: {value} is not within {self.low}..{self.high}")
        return value

    def plain(self, value: float) -> float:
        return value


@dataclass(frozen=True, slots=True)
class Bytes:
    """A byte string of `low` to `high` bytes."""

    low: int
    high: int

    def check(self, value: Any, where: str) -> bytes:
        if type(value) is not bytes:
            raise WrongType(f"{where}: a byte string is needed")
        if not self.low <= len(value) <= self.high:
            raise OutOfBounds(f"{where}: {len(value)} bytes, not {self.low}..{self.high}")
        return value

    def plain(self, value: bytes) -> bytes:
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text of `low` to `high` bytes, in form NFC, without control or direction-changing characters."""

    high: int
    low: int = 1

    def check(self, value: Any, where: str) -> str:
        if type(value) is not str:
            raise WrongType(f"{where}: text is needed")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise OutOfBounds(f"{where}: not valid Unicode text") from None
        if not self.low <= size <= self.high:
            raise OutOfBounds(f"{where}: {size} bytes of text, not {self.low}..{self.high}")
        if not value.isascii():
            if not unicodedata.is_normalized("NFC", value):
                raise NotCanonical(f"{where}: text is not in Unicode form NFC")
            if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in value):
                raise OutOfBounds(f"{where}: control characters are not allowed in text")
        elif not value.isprintable():
            raise OutOfBounds(f"{where}: control characters are not allowed in text")
        return value

    def plain(self, value: str) -> str:
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a closed list of words."""

    words: tuple[str, ...]

    def check(self, value: Any, where: str) -> str:
        if type(value) is not str:
            raise WrongType(f"{where}: text is needed")
        if value not in self.words:
            raise OutOfBounds(f"{where}: not one of {', '.join(self.words)}")
        return value

    def plain(self, value: str) -> str:
        return value


@dataclass(frozen=True, slots=True)
class Many:
    """A list of `low` to `high` values of one kind, held as a tuple."""

    item: Kind
    high: int
    low: int = 0

    def check(self, value: Any, where: str) -> tuple[Any, ...]:
        if type(value) not in (list, tuple):
            raise WrongType(f"{where}: a list is needed")
        if not self.low <= len(value) <= self.high:
            raise OutOfBounds(f"{where}: {len(value)} items, not {self.low}..{self.high}")
        return tuple(self.item.check(v, f"{where}[{i}]") for i, v in enumerate(value))

    def plain(self, value: tuple[Any, ...]) -> list[Any]:
        return [self.item.plain(v) for v in value]


@dataclass(frozen=True, slots=True)
class Nested:
    """Another structure inside this one."""

    structure: type[Structure]

    def check(self, value: Any, where: str) -> Structure:
        if isinstance(value, self.structure):
            return value
        if type(value) is not dict:
            raise WrongType(f"{where}: a map is needed")
        return _build(self.structure, value, where)

    def plain(self, value: Structure) -> dict[str, Any]:
        return _plain(value)


def wire(kind: Kind) -> Any:
    """Declare a required field of this kind."""
    return field(metadata={"kind": kind, "optional": False})


def optional(kind: Kind) -> Any:
    """Declare a field that may be absent; absent is None."""
    return field(default=None, metadata={"kind": kind, "optional": True})


class Structure:
    """Base of every structure. Building one checks its fields, so a value that exists is a value that may be sent."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __post_init__(self) -> None:
        for name, kind, is_optional in declared(type(self)):
            value = getattr(self, name)
            if value is not None or not is_optional:
                object.__setattr__(self, name, kind.check(value, f"{type(self).__name__}.{name}"))
        self.validate()

    def validate(self) -> None:
        """Rules that concern more than one field. Raise OutOfBounds."""

    def encode(self) -> bytes:
        """The structure's one encoding."""
        return _pack(_plain(self))


S = TypeVar("S", bound=Structure)


_DECLARED: dict[type[Structure], tuple[tuple[str, Kind, bool], ...]] = {}


def declared(structure: type[Structure]) -> tuple[tuple[str, Kind, bool], ...]:
    """(name, kind, is optional) of each field, in wire order."""
    if structure not in _DECLARED:
        _DECLARED[structure] = _declared(structure)
    return _DECLARED[structure]


def _declared(structure: type[Structure]) -> tuple[tuple[str, Kind, bool], ...]:
    return tuple((f.name, f.metadata["kind"], f.metadata["optional"]) for f in fields(structure))


def decode(structure: type[S], data: bytes) -> S:
    """Read one structure from exactly these bytes, or raise the WireError that names what is wrong with them."""
    value = _build(structure, _unpack(data), structure.__name__)
    if value.encode() != data:
        raise NotCanonical(f"{structure.__name__}: not the canonical encoding")
    return value


def _pack(value: Any) -> bytes:
    return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]


def _unpack(data: bytes) -> dict[str, Any]:
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, object_pairs_hook=_no_duplicates, ext_hook=_no_extension)
    except WireError:
        raise
    except msgpack.ExtraData:
        raise TrailingBytes("bytes follow the structure") from None
    except msgpack.StackError:
        raise TooDeep("nested too deeply") from None
    except UnicodeDecodeError:
        raise OutOfBounds("text is not valid UTF-8") from None
    except (msgpack.FormatError, TypeError) as error:
        raise WrongType(f"not valid msgpack: {error or 'reserved byte'}") from None
    except (ValueError, msgpack.UnpackException) as error:
        raise _named(error) from None
    _bound(value)
    if type(value) is not dict:
        raise WrongType("a map is needed")
    return value


def _named(error: Exception) -> WireError:
    """msgpack tells most faults by the text of a ValueError only; a short read is by far the commonest."""
    text = str(error)
    if "map key" in text or "not allowed" in text:
        return WrongType("map keys are text")
    if "exceeds" in text:
        return Truncated("a length is claimed that the bytes do not hold")
    if "timestamp" in text.lower() or "nanoseconds" in text:
        return WrongType("extension types are not used")
    return Truncated("the bytes end before the structure does")


def _no_duplicates(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if type(key) is not str:
            raise WrongType("map keys are text")
        if key in found:
            raise DuplicateKey(f"{key!r} twice")
        found[key] = value
    return found


def _no_extension(code: int, data: bytes) -> NoReturn:
    raise WrongType("extension types are not used")


def _bound(value: Any) -> None:
    nodes, level, depth = 0, [value], 0
    while level:
        depth += 1
        nodes += len(level)
        if depth > MAX_DEPTH + 1 or nodes > MAX_NODES:
            raise TooDeep(f"more than {MAX_DEPTH} levels or {MAX_NODES} values")
        level = [v for c in level if type(c) in (list, dict) for v in (c.values() if type(c) is dict else c)]


def _build(structure: type[S], found: dict[str, Any], where: str) -> S:
    known = declared(structure)
    if unknown := found.keys() - {name for name, _, _ in known}:
        raise UnknownKey(f"{where}: {min(unknown)[:40]!r}")
    if missing := [name for name, _, is_optional in known if name not in found and not is_optional]:
        raise MissingKey(f"{where}.{missing[0]}")
    if empty := [name for name, value in found.items() if value is None]:
        raise WrongType(f"{where}.{empty[0]}: nil is not used; leave the field out")
    return structure(**found)


def _plain(value: Structure) -> dict[str, Any]:
    return {n: k.plain(v) for n, k, _ in declared(type(value)) if (v := getattr(value, n)) is not None}
