"""What the owner may send to the REST API: every request body, declared once.

A field that is not declared is an error that names the one that was meant: a misspelt threshold must not silently become no threshold.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import Any, TypeVar

import msgspec

from protocol.tasks import DEFAULT_MIN_ROWS, Task
from protocol.wire import WireError

from ..control import ControlError, Exit

MIN_INVITE_S = 60
"""An invite lives at least this long: it must be carried to another device and typed."""

MAX_INVITE_S = 7 * 24 * 3600
"""An invite is a key to the network that lies in somebody's messages; a week is a long time for that."""

DEFAULT_INVITE_S = 600

DEFAULT_ALPHA = 1e-4
"""Penalty per row: scikit-learn's own default for SGD, and small enough not to move a closed-form model of a few hundred rows."""


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every request body."""


class NewColumn(Body, frozen=True):
    name: str
    is_gappy: bool = False
    unit: str | None = None
    low: float | None = None
    high: float | None = None


class NewTarget(Body, frozen=True):
    name: str
    classes: tuple[str, ...] = ()


class NewThresholds(Body, frozen=True):
    min_rows: int = DEFAULT_MIN_ROWS
    min_peers: int = 2


class NewTask(Body, frozen=True):
    """The fields of a task card that its author chooses; network, author and time are filled in."""

    name: str
    columns: tuple[NewColumn, ...]
    target: NewTarget
    model: str
    about: str = ""
    alpha: float = DEFAULT_ALPHA
    protocol: str = "gossip"
    encoding: str = "int8"
    privacy: str = "open"
    thresholds: NewThresholds = NewThresholds()
    ends: int | None = None

    def card(self, network: bytes, author: bytes, created: int) -> Task:
        """The task card. Raises WireError with the sentence that says which field is wrong."""
        if self.ends is not None and self.ends <= created:
            raise WireError("Task.ends: the task would be over before it begins")
        fields = _without_none(msgspec.to_builtins(self))
        return Task(**fields, network=network, author=author, created=created)


class Acceptance(Body, frozen=True):
    """Which rows of this device belong to a task. What is left out is as it was, or as [rows] in config.toml says."""

    source: str | None = None
    map: dict[str, str] | None = None
    test: str | None = None
    holdout: float | None = None


class Departure(Body, frozen=True):
    erase: bool = False


class NewInvite(Body, frozen=True):
    ttl_s: int = DEFAULT_INVITE_S
    may_invite: bool = False


class JoinRequest(Body, frozen=True):
    link: str
    name: str | None = None
    leave_network: bool = False


class RevokeRequest(Body, frozen=True):
    """`peer` is a full id, the short form, or a name that only one peer has."""

    peer: str


B = TypeVar("B", bound=Body)


def read_body(schema: type[B], data: bytes) -> B:
    """The request body. No bytes at all are an empty one. Raises ControlError with one sentence."""
    try:
        return msgspec.json.decode(data or b"{}", type=schema)
    except msgspec.ValidationError as error:
        raise ControlError(_sentence(schema, str(error)), None, Exit.USAGE) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ControlError(f"The request body is not valid JSON: {error}.", None, Exit.USAGE) from None


def _sentence(schema: type[Body], text: str) -> str:
    if not (unknown := re.search(r"unknown field `(.*?)`", text)):
        return text.replace("`", "'") + "."
    name, known = unknown[1][:64], sorted(_names(schema))
    close = difflib.get_close_matches(name, known, n=1)
    return f"There is no field {name!r}" + (f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(known)}.")


def _names(schema: type[Body]) -> set[str]:
    """Names of all fields of a body, those of its parts too."""
    names = set(schema.__struct_fields__)
    for part in _PARTS.get(schema, ()):
        names |= _names(part)
    return names


_PARTS: dict[type[Body], tuple[type[Body], ...]] = {NewTask: (NewColumn, NewTarget, NewThresholds)}


def _without_none(value: Any) -> Any:
    """Absent fields left out, and text in the one Unicode form the wire has: a keyboard may type another."""
    match value:
        case dict():
            return {k: _without_none(v) for k, v in value.items() if v is not None}
        case list() | tuple():
            return tuple(_without_none(v) for v in value)
        case str():
            return unicodedata.normalize("NFC", value)
        case _:
            return value
