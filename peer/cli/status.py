"""`chinwag status` and `chinwag peers`: how this peer is, and who the others are."""

from __future__ import annotations

import time
from typing import Any

import click

from .command import Command
from .screen import Screen, ago, clock, cut, plural, score, screen, size


@click.command(cls=Command)
def status() -> None:
    """How this peer is: its tasks, its scores, whom it talks to."""
    from ..control import Control

    out = screen()
    found = Control.of(out.home).get("/status")
    out.answer(found, *_status_lines(out, found, time.time()))
    for command in dict.fromkeys(t["next"] for t in found["tasks"] if t.get("next")):
        out.next(command)
    if not found["tasks"]:
        out.next("chinwag task new NAME --model lda", "or, if another device has made a task: chinwag task list")
    elif not found["known_peers"] and found["may_invite"]:
        out.next("chinwag invite", "to let another device in")


@click.command(cls=Command)
def peers() -> None:
    """The other peers of this network, and when each was heard last."""
    from ..control import Control

    out = screen()
    found = Control.of(out.home).get("/peers")
    now = time.time()
    if found["peers"]:
        rows = [["peer", "id", "", "heard", "exchanges", "tasks", "addresses"]]
        rows += [_peer_row(out, peer, now) for peer in sorted(found["peers"], key=_order)]
        out.answer(found, *out.table(rows))
    else:
        out.answer(found, "No other peer is known yet. This one learns alone until then.")
        out.next("chinwag invite", "to let another device in; chinwag doctor, if one should be here")


STATES = ("live", "quiet", "lost", "revoked")


def _order(peer: dict[str, Any]) -> tuple[int, str]:
    state = peer["state"]
    return (STATES.index(state) if state in STATES else len(STATES), peer["name"] or "")


def _peer_row(out: Screen, peer: dict[str, Any], now: float) -> list[str]:
    state = peer["state"]
    shown = out.good(state) if state == "live" else out.bad(state) if state in ("lost", "revoked") else state
    heard = f"{ago(now - peer['last_heard'])} ago" if peer.get("last_heard") else "never"
    tasks = ", ".join(peer["tasks"]) or "–"
    return [
        out.strong(cut(peer["name"] or "?", 24)),
        peer["short"],
        shown,
        heard,
        f"{peer['exchanges']:,}",
        tasks,
        " ".join(peer["addresses"][:2]),
    ]


def _status_lines(out: Screen, found: dict[str, Any], now: float) -> list[str]:
    about = [f"{out.strong(found['name'])}  {found['short']}", f"up {ago(now - found['since'])}", f"port {found['port']}"]
    lines = ["   ".join(about), f"  {standing(found, now)}"]
    if last := found.get("last_exchange"):
        lines[-1] += f"   last exchange {ago(now - last['at'])} ago with {last['name'] or 'a peer'}"
    for task in found["tasks"]:
        lines += _task_lines(out, task)
    return lines


def standing(found: dict[str, Any], now: float) -> str:
    """Whether this peer has company."""
    if found["alone_since"] is not None:
        known = f" ({plural(found['known_peers'], 'peer')} known, none answers)" if found["known_peers"] else ""
        return f"alone since {clock(found['alone_since'], now)}{known}"
    return f"peers {found['live_peers']} of {found['known_peers']} live"


def scores(task: dict[str, Any]) -> str:
    """What the owner came for: how good alone, how good now."""
    if task["now"] is None and task["alone"] is None:
        return "no score yet"
    metric = "R²" if task["metric"] == "r2" else task["metric"] or "score"
    return f"{metric} {score(task['now'], task['metric'])} (alone {score(task['alone'], task['metric'])})"


def _task_lines(out: Screen, task: dict[str, Any]) -> list[str]:
    state = task["state"]
    shown = out.good(state) if state == "running" else out.bad(state) if state == "failed" else state
    lines = [f"  task {out.strong(task['name'])} ({task['model']})   {shown}   {scores(task)}"]
    if task.get("why"):
        lines.append(f"    {task['why']}")
    facts = []
    if task["peers"]:
        settled = "" if task["is_settled"] else ", still settling"
        facts.append(f"made of {plural(task['peers'], 'peer')}, {plural(task['rows_total'] or 0, 'row')} (epoch {task['epoch']}{settled})")
    if task["rows"] is not None:
        facts.append(f"own rows {task['rows']:,}")
    if facts:
        lines.append("    " + "   ".join(facts))
    facts = []
    if task["exchanges"]:
        facts.append(f"{plural(task['exchanges'], 'exchange')}, sent {size(task['bytes_sent'])}, received {size(task['bytes_received'])}")
    if task["in_doubt"]:
        facts.append(f"{plural(task['in_doubt'], 'exchange')} in doubt, settled at the next contact")
    if facts:
        lines.append("    " + "   ".join(facts))
    return lines
