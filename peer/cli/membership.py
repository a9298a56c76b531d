"""`chinwag invite`, `join` and `revoke`: who belongs to this network."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import click

from .command import Command
from .screen import Screen, ago, clock, screen

if TYPE_CHECKING:
    from ..config import Home

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Span(click.ParamType):  # type: ignore[type-arg]  # generic only in click 8.4 and later
    """A span of time as one types it: 90s, 10m, 2h, 1d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if found := re.fullmatch(r"(\d{1,6})\s*([smhd])", str(value).strip().lower()):
            return int(found[1]) * UNITS[found[2]]
        self.fail(f"{value!r} is no span of time; write 90s, 10m, 2h or 1d", param, ctx)


@click.command(cls=Command)
@click.option("--ttl", type=Span(), default="10m", show_default=True, help="How long the invite is good for.")
@click.option("--may-invite", is_flag=True, help="The new device may invite others in turn.")
@click.option("--qr/--no-qr", "has_code", default=None, help="Draw the QR code (default: on a terminal).")
def invite(ttl: int, may_invite: bool, has_code: bool | None) -> None:
    """Let one other device into this network: a link, for one use."""
    from ..control import Control

    out = screen()
    found = Control.of(out.home).post("/invites", {"ttl_s": ttl, "may_invite": may_invite})
    command = f"chinwag join {found['link']}"
    code = _code(out, found["link"]) if has_code or (has_code is None and out.is_terminal) else []
    lines = ["On the other device run:", "", f"  {command}", ""]
    out.answer(found | {"command": command}, *lines, *code)
    limit = f"It can be used once, for {ago(found['expires'] - time.time())} (until {clock(found['expires'])}), on a network that reaches"
    out.say(f"{limit} {' or '.join(found['addresses'])}.", "Whoever has the link can join: send it the way you would send a password.")


def _code(out: Screen, link: str) -> list[str]:
    """The QR code of this text for a terminal, two modules a character high. With colours it is black on white in every theme; without, the
    terminal's own ink is taken for paper, as most of them are dark."""
    import segno

    # Capitals make a code a fifth smaller, and a link says the same in them.

    rows = [[bool(m) for m in row] for row in segno.make(link.upper(), error="l", micro=False).matrix_iter(border=2)]
    rows += [[False] * len(rows[0])] * (len(rows) % 2)
    ink = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        if out.has_colour:
            line = click.style("".join(ink[a, b] for a, b in zip(upper, lower, strict=True)), fg="black", bg="bright_white")
        else:
            line = "".join(ink[not a, not b] for a, b in zip(upper, lower, strict=True))
        lines.append("  " + line)
    return [*lines, ""]


@click.command(cls=Command)
@click.argument("link", nargs=-1, required=True)
@click.option("--name", help="What the others call this device (default: its host name).")
@click.option("--leave-network", is_flag=True, help="Leave the network that this device is in now.")
def join(link: tuple[str, ...], name: str | None, leave_network: bool) -> None:
    """Become a member of the network that LINK invites to. Nothing of this device takes part in anything yet.

    The daemon may run or not, and `init` need not have been typed before.
    """
    from protocol.joining import read_link

    from ..control import JOIN_TIMEOUT_S, Control, ControlError, Exit

    out = screen()
    text = "".join(link)  # a terminal or a mail program may have broken it
    read_link(text)
    try:
        control: Control | None = Control.of(out.home)
    except ControlError as error:
        if error.exit != Exit.NOT_RUNNING:
            raise
        control = None
    if control is not None and control.is_answering():
        said = {"link": text, "leave_network": leave_network} | ({"name": name} if name else {})
        with out.busy("joining …"):
            answer = control.post("/join", said, timeout_s=JOIN_TIMEOUT_S)
        tasks = control.get("/tasks")["tasks"]
        out.answer(answer | {"tasks": tasks}, "This device is a member now.")
        if not tasks:
            out.say("The tasks of the network come with the first neighbour that is met.")
        out.next(f"chinwag task accept {tasks[0]['name']}" if tasks else "chinwag task list")
        return
    answer = _join_without_daemon(out, text, name, leave_network)
    out.answer(answer, "This device is a member now.")
    out.next("chinwag start", "then, in another terminal: chinwag task list")


def _join_without_daemon(out: Screen, link: str, name: str | None, leave_network: bool) -> dict[str, Any]:
    """Join, and make the home or change it. The store lets go of what belonged to another network once it is opened in this one."""
    import asyncio

    from protocol.joining import read_link

    from .. import joining
    from ..config import Home, NoPeerHere, load_identity, save_identity
    from ..control import ControlError, Exit
    from ..store import Store, read_saved
    from .init import settings

    home = Home(out.home)
    try:
        before = load_identity(home)
    except NoPeerHere:
        before = None
    if before is not None and not leave_network:
        saved = read_saved(home.path)
        if before.root_key is None or saved.records or saved.certificates:
            sentence = "This device is in a network with others; it can be in one network only."
            raise ControlError(sentence, out.settings.typed("--leave-network"), Exit.REFUSED)
    config = settings(home, None, None, name)
    # Holding the store makes sure that no daemon runs on the identity that is about to be replaced.
    store = Store(home.path)
    try:
        with out.busy("joining …"):
            identity = asyncio.run(joining.join(link, config.peer.name))
    finally:
        store.close()
    save_identity(home, identity)
    _keep_addresses(home, read_link(link).addresses)
    return {"network": identity.network.hex(), "peer": identity.peer.hex()}


def _keep_addresses(home: Home, addresses: tuple[str, ...]) -> None:
    """Where multicast does not reach, the inviter's addresses are all that is known of the others: the daemon dials them."""
    import msgspec

    from ..config import load_config, save_config

    config = load_config(home)
    static = (*config.peer.static, *(a for a in addresses if a not in config.peer.static))
    save_config(home, msgspec.structs.replace(config, peer=msgspec.structs.replace(config.peer, static=static)))


@click.command(cls=Command)
@click.argument("peer")
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask.")
def revoke(peer: str, is_sure: bool) -> None:
    """Take PEER's membership away for good: its id, short id, or name.

    It takes effect here before the next exchange, and spreads to every member before anything else does.
    """
    from ..control import Control, ControlError, Exit

    out = screen()
    control = Control.of(out.home)
    if not is_sure:
        if not out.is_terminal:
            raise ControlError("A revocation cannot be undone.", f"chinwag revoke {peer} --yes", Exit.USAGE)
        click.confirm(f"Take {peer}'s membership away? This cannot be undone", abort=True)
    answer = control.post("/revocations", {"peer": peer})
    out.answer(answer | {"revoked": True}, f"{peer} is no longer a member. Its rows leave the model with the next epoch.")
