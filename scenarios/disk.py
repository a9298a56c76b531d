"""A peer's disk: what `peer.store` keeps, in memory. A transaction is there whole or not at all."""

from __future__ import annotations

from typing import Any, assert_never

from peer.events import TaskId
from peer.saved import (
    AddScore,
    Apply,
    EraseTask,
    ForgetRecord,
    HoldState,
    KeepCertificate,
    KeepInvite,
    KeepLeaf,
    KeepRecord,
    KeepResult,
    KeepRevocation,
    KeepSequence,
    KeepTask,
    Prepare,
    Saved,
    Settle,
    SpendInvite,
)
from protocol.identity import PeerId

Record = (
    HoldState | KeepResult | Prepare | Settle | Apply | KeepTask | EraseTask | KeepRevocation | KeepRecord | ForgetRecord
    | KeepCertificate | KeepInvite | SpendInvite | KeepLeaf | KeepSequence | AddScore
)  # fmt: skip

MAX_SCORES = 100
"""Scores kept of a task: a restarted peer needs the last one."""


class Disk:
    """What is durable at one peer."""

    def __init__(self) -> None:
        self.states: dict[tuple[TaskId, str], HoldState] = {}
        self.results: dict[tuple[TaskId, str], KeepResult] = {}
        self.prepared: dict[bytes, Prepare] = {}
        self.applied: dict[tuple[PeerId, TaskId, str], bytes] = {}
        self.tasks: dict[TaskId, KeepTask] = {}
        self.revocations: list[bytes] = []
        self.records: dict[PeerId, bytes] = {}
        self.certificates: dict[PeerId, bytes] = {}
        self.invites: dict[bytes, KeepInvite] = {}
        self.sequence = 0
        self.scores: dict[TaskId, list[AddScore]] = {}
        self.leaf: KeepLeaf | None = None

    def commit(self, records: tuple[Any, ...]) -> None:
        """One transaction."""
        for record in records:
            self._take(record)

    def _take(self, record: Record) -> None:
        match record:
            case HoldState():
                self.states[record.task, record.part] = record
            case KeepResult():
                self.results[record.task, record.part] = record
            case Prepare():
                assert record.xid not in self.prepared, "an xid is never used twice"
                self.prepared[record.xid] = record
            case Settle(xid):
                del self.prepared[xid]
            case Apply():
                self.applied[record.partner, record.task, record.part] = record.xid
            case KeepTask():
                self.tasks[record.task] = record
            case EraseTask(task):
                self._erase(task)
            case KeepRevocation(card):
                self.revocations.append(card)
            case KeepRecord(peer, card):
                self.records[peer] = card
            case ForgetRecord(peer):
                self.records.pop(peer, None)
            case KeepCertificate(peer, leaf):
                self.certificates[peer] = leaf
            case KeepInvite():
                self.invites[record.digest] = record
            case SpendInvite(spent):
                del self.invites[spent]
            case KeepSequence(number):
                assert number > self.sequence, "the number of a record never goes back"
                self.sequence = number
            case AddScore():
                self.scores[record.task] = [*self.scores.get(record.task, [])[-MAX_SCORES:], record]
            case KeepLeaf():
                self.leaf = record
            case _:
                assert_never(record)

    def _erase(self, task: TaskId) -> None:
        for key in [k for k in self.states if k[0] == task]:
            del self.states[key]
        for key in [k for k in self.results if k[0] == task]:
            del self.results[key]
        self.prepared = {x: p for x, p in self.prepared.items() if p.task != task}
        self.applied = {k: x for k, x in self.applied.items() if k[1] != task}
        self.scores.pop(task, None)

    def saved(self) -> Saved:
        """What a peer that starts finds."""
        return Saved(
            dict(self.states),
            dict(self.results),
            dict(self.prepared),
            dict(self.applied),
            dict(self.tasks),
            tuple(self.revocations),
            dict(self.records),
            dict(self.certificates),
            dict(self.invites),
            self.sequence,
            {t: tuple(s) for t, s in self.scores.items()},
        )
