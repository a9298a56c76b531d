"""`chinwag start` and `chinwag stop`: the daemon's life, seen from a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .command import Command
from .screen import Screen, screen

if TYPE_CHECKING:
    from ..config import Config, Home

READY_S: Final = 30.0
"""A daemon answers after half a second on an idle computer; a small device that is starting up itself needs longer."""

GONE_S: Final = 15.0
"""A daemon ends within two seconds; one that is asked in the middle of writing a large model takes a little longer."""

MAX_LOG_BYTES: Final = 8 * 1024 * 1024
"""A log of the background daemon beyond this size is put aside at the next start; one older log is kept."""


@click.command(cls=Command, short_help="Run this device's peer.")
@click.option("--background", is_flag=True, help="Leave it running and give the terminal back.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="End when standard input closes: with whoever started it.")
def start(background: bool, until_stdin_closes: bool) -> None:
    """Run this device's peer: find the others, learn with them, answer the other commands.

    In the foreground it writes a line for everything that happens (with --json: a JSON object), until Ctrl-C.
    """
    from ..config import Home, load_config
    from ..control import Control, ControlError, Exit

    out = screen()
    home = Home(out.home)
    config = load_config(home)
    try:
        running: Control | None = Control.of(home.path)
    except ControlError:
        running = None
    if running is not None and running.is_answering():
        raise ControlError(f"The daemon runs already (process {running.pid}).", "chinwag status", Exit.FAILED)
    if background:
        _in_background(out, home)
    else:
        _in_foreground(out, home, config, until_stdin_closes)


@click.command(cls=Command)
def stop() -> None:
    """Stop the daemon, and wait until it is gone. Nothing is lost: it goes on where it was."""
    from ..control import Control, ControlError, Exit

    out = screen()
    control = Control.of(out.home)
    control.post("/stop")
    deadline = time.monotonic() + GONE_S
    while not is_gone(control.pid):
        if time.monotonic() > deadline:
            raise ControlError(f"The daemon (process {control.pid}) has not ended within {GONE_S:.0f} s.", "chinwag status", Exit.TIMEOUT)
        time.sleep(0.02)
    out.answer({"stopped": True, "pid": control.pid}, "Stopped.")


def _in_foreground(out: Screen, home: Home, config: Config, until_stdin_closes: bool) -> None:
    import asyncio
    import logging

    from ..daemon import Daemon
    from ..logs import set_up

    level = logging.DEBUG if out.settings.verbosity else logging.WARNING if out.settings.is_quiet else logging.INFO
    set_up(is_json=out.is_json, level=level)
    out.say(*_greeting(out, home, config))
    sys.stdout.flush()

    async def live() -> None:
        # Made inside the loop that it will live in.
        await Daemon(home, config, stop_with_stdin=until_stdin_closes).run()

    asyncio.run(live())


def _greeting(out: Screen, home: Home, config: Config) -> list[str]:
    """Who this is, where it looks for others, and what it takes part in, before the first line of the log."""
    from protocol.identity import short

    from ..config import load_identity
    from ..interfaces import choose, read_interfaces
    from ..store import read_saved
    from .cards import open_task

    identity = load_identity(home)
    used = [c for c in choose(read_interfaces(), config.peer.interfaces) if c.is_used] if "mdns" in config.peer.discovery else []
    where = ", ".join(f"{c.interface.name} {c.networks[0].ip}" for c in used) or "no interface (see: chinwag doctor)"
    tasks = [f"{open_task(kept.card).name} ({kept.decision})" for kept in read_saved(home.path).tasks.values()]
    return [
        f"{out.strong(config.peer.name)}  {short(identity.peer)}   home {home.path}",
        f"  looks for peers on: {where}"
        if "mdns" in config.peer.discovery
        else f"  mDNS is off; dials {', '.join(config.peer.static) or 'nobody'}",
        f"  tasks: {', '.join(tasks) or 'none yet'}",
        out.faint(f"  Ctrl-C stops it; in another terminal: {out.settings.at_home('chinwag status')}"),
    ]


def _in_background(out: Screen, home: Home) -> None:
    import subprocess

    from . import child

    log = home.path / "daemon.log"
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    words = child.command_line("chinwag", "--home", str(home.path), "start", "--json", *["-v"] * out.settings.verbosity)
    with log.open("ab") as file:
        began = file.tell()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=child.environment(), **child.detached())
    with out.busy("starting …"):
        status = _answering(process, home, log, began)
    shown = {"pid": process.pid, "log": str(log), "name": status["name"], "addresses": status["addresses"]}
    out.answer(
        shown,
        f"{out.strong(status['name'])} runs in the background at {', '.join(status['addresses']) or 'no address'} (process {process.pid}).",
    )
    out.say(f"Its log: {log}")
    out.next("chinwag status", "chinwag stop ends it")


def _answering(process: Any, home: Home, log: Path, began: int) -> dict[str, Any]:
    """The first status of a daemon that was just started. Raises ControlError if it ends, with what it said last."""
    from ..control import Control, ControlError, Exit

    deadline = time.monotonic() + READY_S
    while True:
        code = process.poll()
        if code is not None:
            raise _last_words(log, began, code)
        try:
            control = Control.of(home.path)
            if control.pid == process.pid:
                return control.get("/status", timeout_s=5.0)
        except ControlError:
            pass
        if time.monotonic() > deadline:
            raise ControlError(f"The daemon does not answer after {READY_S:.0f} s; its log is {log}.", "chinwag doctor", Exit.TIMEOUT)
        time.sleep(0.05)


def _last_words(log: Path, began: int, code: int) -> Exception:
    from ..control import ControlError, Exit

    with log.open("rb") as file:
        file.seek(began)
        lines = file.read().decode("utf-8", "replace").strip().splitlines() or ["it left no word."]
    try:
        said = json.loads(lines[-1])
        return ControlError(said["error"], said.get("next"), said["exit"])
    except (ValueError, KeyError, TypeError):
        return ControlError(f"The daemon ended at once (exit code {code}): {lines[-1][:300]}", f"see {log}", Exit.FAILED)


def is_gone(pid: int) -> bool:
    """Whether this process has ended. One that has, and that its parent has not asked after yet, holds nothing any more: it is gone too."""
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE; os.kill(pid, 0) would end it here
        if not handle:
            return True
        try:
            return bool(ctypes.windll.kernel32.WaitForSingleObject(handle, 0) == 0)
        finally:
            ctypes.windll.kernel32.CloseHandle(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
