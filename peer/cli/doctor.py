"""`chinwag doctor`: what keeps peers from finding or reaching each other here, and what to type about it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .command import Command
from .screen import Screen, screen

if TYPE_CHECKING:
    from ..doctor import Check


@click.command(cls=Command)
@click.pass_context
def doctor(context: click.Context) -> None:
    """Look at interfaces, multicast, port, firewall, clock and disk. Changes nothing; ends with 5 if something is in the way."""
    import asyncio

    from ..control import Exit
    from ..doctor import run_checks

    out = screen()
    settings, trouble = _settings(out)
    with out.busy("looking …"):
        checks = [*trouble, *asyncio.run(run_checks(out.home, **settings))]
    is_well = all(check.is_ok for check in checks)
    out.answer({"is_ok": is_well, "checks": [asdict(check) for check in checks]}, *_lines(out, checks))
    context.exit(Exit.OK if is_well else Exit.UNREACHABLE)


def _settings(out: Screen) -> tuple[dict[str, Any], list[Check]]:
    """What this device's peer is set to, as far as it can be read, and a failed check for whatever cannot."""
    from ..config import DEFAULT_PORT, ConfigError, Home, NoPeerHere, load_config, load_identity
    from ..control import Control, ControlError
    from ..doctor import Check

    home = Home(out.home)
    found: dict[str, Any] = {"port": DEFAULT_PORT}
    trouble = []
    try:
        peer = load_config(home).peer
        found |= {"port": peer.port, "interfaces": peer.interfaces, "uses_mdns": "mdns" in peer.discovery}
    except NoPeerHere:
        pass  # the check of the folder says so
    except ConfigError as error:
        trouble.append(Check("config", False, error.sentence, error.next or f"edit {home.config}"))
    try:
        identity = load_identity(home)
        found |= {"validity": (identity.certificate.not_before, identity.certificate.not_after), "tag": identity.tag}
    except NoPeerHere:
        pass
    except ConfigError as error:
        trouble.append(Check("identity", False, error.sentence, error.next))
    try:
        status = Control.of(home.path).get("/status", timeout_s=3.0)
        found |= {"daemon": status["pid"], "port": status["port"]}
    except ControlError:
        pass
    return found, trouble


def _lines(out: Screen, checks: list[Check]) -> list[str]:
    """A mark, the name and the sentence of each check; under what failed, what to do."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        "✓✗".encode(encoding)
        good, bad = "✓", "✗"
    except UnicodeEncodeError:
        good, bad = "ok", "!!"
    lines = []
    for check in checks:
        lines.append(f"{out.good(good) if check.is_ok else out.bad(bad)} {check.name}: {check.says}")
        if check.next and not check.is_ok:
            lines.append(f"    next: {out.settings.at_home(check.next)}")
    failed = sum(not check.is_ok for check in checks)
    lines.append("Nothing is in the way." if not failed else f"{failed} of {len(checks)} checks failed.")
    return lines
