"""`chinwag init`: make this device a peer, in a network of its own until it invites somebody or joins another."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .command import Command
from .rows import absolute, report_lines
from .screen import screen

if TYPE_CHECKING:
    from protocol.identity import Identity

    from ..config import Config, Home
    from ..learning.report import DataReport


@click.command(cls=Command)
@click.option("--data", "source", metavar="FILE", help="This device's rows: a CSV file, or sklearn:NAME (iris, digits, wine, …).")
@click.option("--target", metavar="COLUMN", help="The column that is to be predicted.")
@click.option("--name", help="What the others call this device (default: its host name).")
@click.option("--force", is_flag=True, help="Found a new network even if this device belongs to one; the old identity is kept beside it.")
def init(source: str | None, target: str | None, name: str | None, force: bool) -> None:
    """Make this device a peer. Nothing is shared by it, and a second time changes only what is said."""
    from protocol.identity import short

    from ..config import Home

    out = screen()
    home = Home(out.home)
    found = _look_at(source, target)
    identity, is_new = _identity(home, force)
    config = settings(home, source, target, name)
    lines = [f"{out.strong(config.peer.name)} {short(identity.peer)} is {'now' if is_new else 'already'} a peer; its home is {home.path}"]
    if is_new:
        lines.append("It is a network of one, until it invites another device or joins one.")
    if found is not None:
        lines += report_lines(out, found)
    told: dict[str, Any] = {"home": str(home.path), "name": config.peer.name, "peer": identity.peer.hex(), "short": short(identity.peer)}
    told |= {"network": identity.network.hex(), "is_new": is_new, "report": asdict(found) if found else None}
    out.answer(told, *lines, "Nothing is shared yet.")
    out.next("chinwag start", "then, in another terminal: chinwag invite, or chinwag join LINK" if is_new else "")


def _look_at(source: str | None, target: str | None) -> DataReport | None:
    """The report, before anything is made: a file that cannot be used leaves no trace."""
    if source is None:
        return None
    from ..learning.report import report

    return report(absolute(source), target)


def _identity(home: Home, force: bool) -> tuple[Identity, bool]:
    """Who this device is. Raises ControlError if a daemon runs on the identity that is to be replaced."""
    from protocol.identity import found_network

    from ..config import NoPeerHere, load_identity, save_identity
    from ..control import Control, ControlError, Exit

    if not force:
        try:
            return load_identity(home), False
        except NoPeerHere:
            pass
    elif home.control.exists() and Control.of(home.path).is_answering():
        raise ControlError("The daemon of this identity is running.", "chinwag stop", Exit.REFUSED)
    identity = found_network(os.urandom(32), os.urandom(32), os.urandom(32), time.time())
    save_identity(home, identity)
    return identity, True


def settings(home: Home, source: str | None, target: str | None, name: str | None) -> Config:
    """What was said, in config.toml; the rest as it is, or at its default."""
    import msgspec

    from ..config import Config, NoPeerHere, PeerTable, RowsTable, load_config, save_config

    try:
        config = load_config(home)
    except NoPeerHere:
        config = Config(peer=_named(PeerTable, name or host_name()))
        save_config(home, config)
    changed: dict[str, Any] = {}
    if name is not None and name != config.peer.name:
        changed["peer"] = _named(lambda name: msgspec.structs.replace(config.peer, name=name), name)
    if source is not None or target is not None:
        changed["rows"] = RowsTable(absolute(source) if source is not None else config.rows.source, target or config.rows.target)
    if changed:
        config = msgspec.structs.replace(config, **changed)
        save_config(home, config)
    return config


def _named(make: Any, name: str) -> Any:
    try:
        return make(name=name)
    except ValueError as error:
        raise click.UsageError(f"A device cannot be called that: {error}.") from None


def host_name() -> str:
    """The name this computer goes by, as far as it can stand on a peer's record."""
    name = "".join(c for c in socket.gethostname().partition(".")[0] if c.isascii() and c.isprintable())
    return name[:64] or "peer"
