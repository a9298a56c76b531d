"""`chinwag demo`: several real peers on this computer teach each other ten digits of which each knows four."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import click

from .command import Command
from .screen import Screen, plural, score, screen

if TYPE_CHECKING:
    from .demo_peers import DemoNetwork, DemoPeer

UNATTENDED_S: Final = 20.0
"""How long it runs where nobody can press a key, and nobody said how long."""

LOOK_S: Final = 0.5
"""Between two looks at the daemons."""

LINE_S: Final = 2.0
"""Between two lines where no picture can be drawn."""


@click.command(cls=Command, short_help="Watch three peers on this computer teach each other.")
@click.option("--peers", "count", type=click.IntRange(1, 12), default=3, show_default=True, help="How many peers.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), help="How long to run once all take part (default: until q; 20 where nobody watches)."
)
@click.option("--model", type=click.Choice(["lda", "gaussian-nb", "logistic"]), default="lda", show_default=True, help="What they learn.")
@click.option("--keep", "is_kept", is_flag=True, help="Leave the peers' folders there afterwards, to look at.")
def demo(count: int, seconds: float | None, model: str, is_kept: bool) -> None:
    """Three peers on this computer, each knowing some of ten handwritten digits, teach each other the rest.

    Real daemons, real TLS, real mDNS, over the loopback interface; nothing leaves this computer, and nothing is left on it.
    """
    from ..control import ControlError, Exit
    from .demo_peers import NAMES, DemoNetwork
    from .digits import known_digits

    out = screen()
    _end_cleanly_when_told()
    if seconds is None and not out.is_terminal:
        seconds = UNATTENDED_S
    with DemoNetwork(list(NAMES[:count]), known_digits(count), model, is_kept) as network:
        with out.busy(f"starting {plural(count, 'peer')} …"):
            rows = _start(network)
        title = f"{plural(count, 'peer')} on this computer, {rows['rows']:,} real handwritten digits, nothing leaves it"
        if out.is_terminal:
            _show(out, network, title, seconds)
        else:
            assert seconds is not None
            _tell(out, network, title, seconds)
        network.look()
        unheard = [p.name for p in network.peers if p.is_wanted and not _has_learned(p, count)]
        if unheard:
            sentence = f"{' and '.join(unheard)} {'has' if len(unheard) == 1 else 'have'} not learned from anybody in {seconds or 0:.0f} s."
            raise ControlError(sentence, "chinwag demo --seconds 60, or chinwag doctor", Exit.FAILED)
        if out.is_json:
            out.answer({"peers": [_outcome(p, network.pooled) for p in network.peers]})
    if is_kept:
        out.note(f"kept: {network.folder}")
    out.next("chinwag init --data FILE --target COLUMN", "to make this device a peer with rows of its own")


def _start(network: DemoNetwork) -> dict[str, Any]:
    network.found()
    for peer in network.peers:
        peer.start()
    rows = network.deal()
    network.take_part()
    return rows


def _has_learned(peer: DemoPeer, count: int) -> bool:
    task = peer.task
    return bool(task) and task["now"] is not None and task["alone"] is not None and (task["exchanges"] > 0 or count == 1)


def _outcome(peer: DemoPeer, pooled: float | None) -> dict[str, Any]:
    task = peer.task
    found = {"name": peer.name, "alone": task.get("alone"), "now": task.get("now"), "pooled": pooled}
    return found | {"exchanges": task.get("exchanges", 0), "bytes_sent": task.get("bytes_sent", 0)}


def _tell(out: Screen, network: DemoNetwork, title: str, seconds: float) -> None:
    """Progress as plain lines: a log, a pipe, a build."""
    out.note(title)
    for peer in network.peers:
        out.note(f"{peer.name:5} knows only {' '.join(map(str, peer.knows))}")
    began = time.monotonic()
    next_line = began
    while (now := time.monotonic()) < began + seconds:
        network.look()
        if now >= next_line:
            next_line += LINE_S
            shown = "   ".join(f"{p.name} {score(p.task.get('now'), 'accuracy')}" for p in network.peers)
            pooled = f"   all rows in one place {score(network.pooled, 'accuracy')}" if network.pooled is not None else ""
            out.note(f"{now - began:4.0f} s   {shown}{pooled}")
        time.sleep(min(LOOK_S, max(began + seconds - time.monotonic(), 0.01)))
    network.look()
    from .demo_picture import lines

    if not out.is_json:
        out.say(*lines(network))


def _show(out: Screen, network: DemoNetwork, title: str, seconds: float | None) -> None:
    """The live picture, and the keys."""
    from rich.live import Live

    from .demo_picture import picture
    from .keys import Keys

    console = out.console()
    began, looked = time.monotonic(), 0.0
    with Keys() as keys, Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while seconds is None or time.monotonic() < began + seconds:
            key = keys.pressed()
            if key == "q":
                break
            if key in ("k", "r"):
                _press(key, network)
            if key or time.monotonic() - looked >= LOOK_S:
                network.look()
                looked = time.monotonic()
                live.update(picture(network, title, looked - began), refresh=True)
            time.sleep(0.05)
        live.update(picture(network, title, time.monotonic() - began, is_over=True), refresh=True)


def _press(key: str, network: DemoNetwork) -> None:
    peer = to_kill(network) if key == "k" else to_revive(network)
    if peer is not None:
        peer.kill() if key == "k" else peer.start()


def to_kill(network: DemoNetwork) -> DemoPeer | None:
    """The peer that [k] kills: the second first, so that the one that made the task is seen to be no server later."""
    alive = [p for p in [*network.peers[1:], network.peers[0]] if p.is_running]
    return alive[0] if len(alive) > 1 else None


def to_revive(network: DemoNetwork) -> DemoPeer | None:
    """The peer that [r] brings back."""
    return next((p for p in network.peers if not p.is_running), None)


def _end_cleanly_when_told() -> None:
    """Let SIGTERM and a closed terminal end the demo the way Ctrl-C does, so that its peers are stopped and its folder is deleted."""
    if threading.current_thread() is not threading.main_thread():
        return

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
