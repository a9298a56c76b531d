"""The brain of a peer: events in, actions out, in order (DESIGN "The brain's contract").

It routes; the state machines decide: `protocol/connection.py` what bytes mean, `protocol/exchange.py` who moves, `participation.py` what a
task wants, `membership.py` who belongs, `view.py` whom to dial. It reads no clock, no socket, no file and no random source: time is an
argument, randomness is given once. What the simulator finds is true of the daemon because it is the same object.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from random import Random
from typing import Any, Final, assert_never

from protocol.cards import card_id, open_card
from protocol.connection import ChunkReceived, Closed, Connection, Greeted, MessageReceived
from protocol.identity import Identity, MemberCertificate, PeerId, short
from protocol.joining import JoinRefused
from protocol.messages import (
    VERSION,
    Aborted,
    Accept,
    CloseCode,
    Commit,
    Done,
    Fetch,
    Hello,
    Join,
    Message,
    Propose,
    Records,
    Refuse,
    Renew,
    Renewed,
    Resolve,
    Result,
    Revocation,
    TaskCard,
)
from protocol.records import format_address
from protocol.revocations import MayNotRevoke
from protocol.tasks import Task
from protocol.wire import WireError, decode

from . import events as ev
from .events import Action, Address, Disconnect, Event, LinkId, Notify, Persist, Seconds, Send, TaskId, Trained, at_once
from .exchanging import Exchanging
from .links import Link, Links
from .membership import INVITER, Membership
from .participation import Participation
from .saved import EraseTask, KeepRecord, KeepTask, Saved
from .view import MAX_NEIGHBOURS, View

MAX_LINKS: Final = 64
"""Connections at once, those that others opened included: sockets and buffers of one small device."""

TARGET_LINKS: Final = 24
"""Connections this peer keeps of its own accord. Up to 25 peers all are linked; beyond, partners are dialled as they are drawn."""

MAX_DIALS: Final = 8
"""Dials under way at once."""

MAX_TASKS: Final = 256
"""Task cards kept: 15 MiB at worst. A member that floods the network with cards fills this, and no more."""

HOUSEKEEPING_S: Final = 5.0
"""Seconds between looks at what ends by the calendar: certificates, invites, neighbours not heard from."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the owner set. `period_s`: pace of exchanges; `lost_after_s`: silence after which a neighbour counts as gone for good."""

    name: str
    period_s: float = 0.25
    lost_after_s: float = 60.0
    static: tuple[Address, ...] = ()
    agent: str = "chinwag"
    max_neighbours: int = MAX_NEIGHBOURS


class Node:
    """See the module. `handle` is total: every event in every state."""

    def __init__(self, identity: Identity, config: NodeConfig, saved: Saved, random: Random) -> None:
        self._config, self._random = config, random
        self._me = identity.peer
        self._membership = Membership(identity, config.name, saved)
        self._view = View(self._me, config.name, Random(random.getrandbits(64)), config.lost_after_s, config.max_neighbours)
        self._links = Links()
        self._tasks: dict[TaskId, Participation] = {}
        for kept in saved.tasks.values():
            self._add_participation(kept.task, kept.card, kept.decision, saved)
        self._exchanging = Exchanging(self._me, self._tasks, self._links, self._view, random, saved)
        self._saved_records = dict(saved.records)
        self._is_started = False
        self._housekeeping_at = 0.0
        self._here: dict[TaskId, int] = {}
        """Partners of each task as of the last event."""
        self._links_due = math.inf
        """No link is due before. What arrives only puts that off, so it is found anew at a Tick and not at every event."""
        self._alone_since: float | None = None
        self._now = Seconds(0.0)

    # the contract ----------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Seconds) -> list[Action]:
        """Take in one event; what is to be done, in order."""
        self._now = now
        actions = [] if self._is_started else self._start(now)
        actions += self._route(event, now)
        if not self._membership.is_self_revoked:
            actions += self._advance(now)
        return actions

    def next_deadline(self) -> Seconds | None:
        """When to send a Tick, at the latest."""
        waits: list[float | None] = [self._housekeeping_at, self._exchanging.next_deadline(), self._links_due]
        if not self._membership.is_self_revoked:
            waits.append(self._view.next_deadline(self._now) if self._dial_room() > 0 else None)
            waits += [p.next_deadline(self._here.get(p.task_id, 0)) for p in self._tasks.values()]
        known = [w for w in waits if w is not None]
        return Seconds(min(known)) if known else None

    def _start(self, now: Seconds) -> list[Action]:
        self._is_started, self._alone_since = True, now
        self._view.load(self._saved_records, self._membership.certificates, now)
        for address in self._config.static:
            self._view.add_candidate(address, now, is_static=True)
        actions: list[Action] = [self._membership.door()]
        for participation in self._tasks.values():
            actions += participation.open()
        return actions

    def _route(self, event: Event, now: Seconds) -> list[Action]:
        match event:
            case ev.Candidate(address):
                self._view.add_candidate(address, now)
            case ev.Connected():
                return self._connected(event, now)
            case ev.DialFailed(address, reason):
                self._view.dial_failed(address, now)
                return [Notify("dial.failed", {"address": format_address(address), "reason": reason})]
            case ev.Received(link, data):
                return self._received(link, data, now)
            case ev.Disconnected(link, reason):
                return self._drop(link, reason, now)
            case ev.Tick():
                return self._tick(now)
            case Trained():
                participation = self._tasks.get(event.task)
                return participation.trained(event, now) if participation else []
            case ev.RowsChanged(task):
                participation = self._tasks.get(task)
                return participation.open() if participation else []
            case ev.AddTask(card):
                return self._take_task(card, None, now)
            case ev.AcceptTask(task):
                return self._accept(task)
            case ev.LeaveTask(task, erase):
                return self._leave(task, erase, now)
            case ev.OpenInvite(token, expires, may_invite):
                return self._membership.open_invite(token, expires, may_invite=may_invite)
            case ev.RevokePeer(peer):
                return self._revoke(peer, now)
            case ev.AddressesChanged(addresses):
                self._membership.addresses = addresses
            case _:
                assert_never(event)
        return []

    # links -----------------------------------------------------------------------------------------------------------

    def _connected(self, event: ev.Connected, now: Seconds) -> list[Action]:
        certificate = event.certificate
        connection = Connection(event.dialled is None, self._hello(), is_member=certificate is not None)
        if (refusal := self._refusal(certificate, event)) is not None:
            if event.dialled is not None:
                self._view.dial_failed(event.dialled, now)
                return [Disconnect(event.link)]
            return [Send(event.link, connection.close(refusal)), Disconnect(event.link)]
        greeting = connection.start(now)
        self._links_due = min(self._links_due, connection.next_deadline())
        self._links.add(Link(event.link, connection, certificate, event.dialled is not None, now))
        actions: list[Action] = []
        if certificate is not None:
            self._view.connected(certificate.peer, event.link, event.dialled)
            self._exchanging.wanted.discard(certificate.peer)
            actions += self._membership.met(certificate)
        return [*actions, Send(event.link, greeting)] if greeting else actions

    def _refusal(self, certificate: MemberCertificate | None, event: ev.Connected) -> CloseCode | None:
        if certificate is not None and certificate.peer == self._me:
            if event.dialled is not None:
                self._view.is_own(event.dialled)
            return CloseCode.SELF_CONNECT
        if certificate is not None and (self._membership.is_revoked(certificate) or self._membership.is_self_revoked):
            return CloseCode.REVOKED
        if certificate is not None and certificate.not_after <= self._now:
            return CloseCode.NOT_MEMBER
        return CloseCode.LIMIT if len(self._links) >= MAX_LINKS else None

    def _received(self, link_id: LinkId, data: bytes, now: Seconds) -> list[Action]:
        link = self._links.get(link_id)
        if link is None:
            return []
        events, answer = link.connection.receive(data, now)
        actions: list[Action] = [Send(link_id, answer)] if answer else []
        if link.certificate is not None:
            self._view.heard(link.certificate.peer, now)
        for event in events:
            if link_id not in self._links:
                break
            match event:
                case Greeted(hello):
                    actions += self._greeted(link, hello, now)
                case MessageReceived(message):
                    actions += self._message(link, message, now)
                case ChunkReceived(xid, piece):
                    actions += self._exchanging.chunk(link, xid, piece, now) if link.certificate is not None else []
                case Closed(code, _, reason):
                    actions += [*self._drop(link_id, reason or f"closed with code {code}", now), Disconnect(link_id)]
        return actions

    def _greeted(self, link: Link, hello: Hello, now: Seconds) -> list[Action]:
        """Both sides have said HELLO: tell what the other may not know, revocations first, then settle what is in doubt."""
        assert link.certificate is not None
        link.hello = hello
        peer = link.certificate.peer
        actions = self._close_duplicate(peer, now)
        if link.id not in self._links:
            return actions
        self._alone_since = None
        self._view.greeted(peer)
        actions += self._introduce(link)
        if hello.revocations != self._membership.revocations.digest():
            actions += [self._links.say(link, Revocation(card=card)) for card in self._membership.revocations.cards()]
        if hello.tasks != self._tasks_digest():
            actions += [self._links.say(link, TaskCard(card=p.card)) for p in self._tasks.values()]
        actions += self._own_record(now)
        actions.append(self._links.say(link, Records(cards=(self._membership.record, *self._view.sample()))))
        actions += self._exchanging.greeted(link, now)
        if INVITER in hello.capabilities and self._membership.wants_renewal(now):
            self._membership.asked_renewal(now)
            actions.append(self._links.say(link, Renew()))
        return actions

    def _introduce(self, link: Link) -> list[Action]:
        """Say once that a neighbour is here, when its name is known: with HELLO, or with its first record right after."""
        assert link.peer is not None
        if link.is_introduced or self._view.neighbours[link.peer].record is None:
            return []
        is_news = not any(k.is_introduced for k in self._links.greeted(link.peer))
        link.is_introduced = True
        return [Notify("peer.connected", {"peer": link.peer.hex(), "name": self._view.name(link.peer)})] if is_news else []

    def _close_duplicate(self, peer: PeerId, now: Seconds) -> list[Action]:
        """Two peers that dialled each other at once keep the connection of the lower peer id."""
        greeted = [k for k in self._links if k.certificate is not None and k.certificate.peer == peer and k.hello is not None]
        if len(greeted) < 2:
            return []
        lower_dialled = [k for k in greeted if k.is_dialled == (self._me < peer)]
        keep = min(lower_dialled or greeted, key=lambda k: k.id)
        spare = [k for k in greeted if k is not keep and not self._exchanging.is_busy(k)]
        return [a for k in spare for a in self._close(k, CloseCode.DUPLICATE_CONNECTION, now)]

    def _close(self, link: Link, code: CloseCode, now: Seconds) -> list[Action]:
        goodbye = link.connection.close(code)
        return [Send(link.id, goodbye), *self._drop(link.id, f"closed: {code.name.lower().replace('_', ' ')}", now), Disconnect(link.id)]

    def _drop(self, link_id: LinkId, reason: str, now: Seconds) -> list[Action]:
        link = self._links.pop(link_id)
        if link is None:
            return []
        actions = self._exchanging.link_lost(link_id, now)
        if link.certificate is None:
            return actions
        peer = link.certificate.peer
        self._view.disconnected(peer, link_id, now)
        if not self._links.greeted() and self._alone_since is None:
            self._alone_since = now
        if link.hello is not None and not self._view.neighbours[peer].links:
            actions.append(Notify("peer.disconnected", {"peer": peer.hex(), "name": self._view.name(peer), "reason": reason}))
        return actions

    def _hello(self) -> Hello:
        capabilities = (INVITER,) if self._membership.identity.may_invite else ()
        known = self._membership.revocations.digest()
        return Hello(
            versions=(VERSION,), agent=self._config.agent, capabilities=capabilities, revocations=known, tasks=self._tasks_digest()
        )

    # messages --------------------------------------------------------------------------------------------------------

    def _message(self, link: Link, message: Message, now: Seconds) -> list[Action]:
        if isinstance(message, Join):
            return self._join(link, message, now)
        if link.certificate is None:
            return []
        peer = link.certificate.peer
        try:
            match message:
                case Revocation(card):
                    return self._take_revocation(card, link, now)
                case TaskCard(card):
                    return self._take_task(card, link, now)
                case Records(cards):
                    return [a for card in cards for a in self._take_record(card, link, now)] + self._introduce(link)
                case Propose() | Accept() | Refuse() | Commit() | Done() | Aborted() | Resolve() | Fetch() | Result():
                    return self._exchanging.receive(link, message, now)
                case Renew():
                    renewed = self._membership.renew_other(link.certificate, now)
                    return [self._links.say(link, renewed)] if renewed else []
                case Renewed():
                    return self._membership.renewed(message, now)
        except WireError as error:
            return [Notify("card.refused", {"peer": peer.hex(), "reason": str(error)}), *self._close(link, CloseCode.PROTOCOL, now)]
        return []

    def _join(self, link: Link, join: Join, now: Seconds) -> list[Action]:
        if link.certificate is not None:
            return self._close(link, CloseCode.BAD_STATE, now)
        try:
            joined, actions = self._membership.admit(join, now)
        except (JoinRefused, WireError) as error:
            return [Notify("join.refused", {"reason": str(error)}), *self._close(link, CloseCode.INVITE_REFUSED, now)]
        return [*actions, self._links.say(link, joined), *self._close(link, CloseCode.NORMAL, now)]

    # cards -----------------------------------------------------------------------------------------------------------

    def _take_revocation(self, card: bytes, source: Link | None, now: Seconds) -> list[Action]:
        actions = self._membership.take_revocation(card)
        return actions + self._spread_revocation(card, source, now) if actions else []

    def _spread_revocation(self, card: bytes, source: Link | None, now: Seconds) -> list[Action]:
        """Tell the others, and shut out whom it concerns before anything else is said."""
        actions: list[Action] = []
        for link in [k for k in self._links if k.certificate is not None and self._membership.is_revoked(k.certificate)]:
            actions += [self._links.say(link, Revocation(card=card)), *self._close(link, CloseCode.REVOKED, now)]
        actions += self._links.tell_all(Revocation(card=card), but=source)
        for neighbour in [n for n in self._view.neighbours.values() if self._membership.is_barred(n.peer)]:
            for participation in self._tasks.values():
                if neighbour.takes_part_in(participation.task_id):
                    participation.request_epoch(now)
            self._view.forget(neighbour.peer)
        if self._membership.is_self_revoked:
            actions += [a for k in self._links for a in self._close(k, CloseCode.REVOKED, now)]
            actions.append(Notify("identity.revoked", {}))
        return actions

    def _take_record(self, card: bytes, source: Link, now: Seconds) -> list[Action]:
        neighbour = self._view.take_record(card, now)
        if neighbour is None:
            return []
        if self._membership.is_barred(neighbour.peer):
            self._view.forget(neighbour.peer)
            return []
        assert neighbour.record is not None
        old = neighbour.former
        for task in old.tasks if old is not None else ():
            if task not in neighbour.record.tasks and (participation := self._tasks.get(TaskId(task))):
                participation.request_epoch(now)
        for task in neighbour.record.tasks:
            if participation := self._tasks.get(TaskId(task)):
                participation.met_partner(now, is_new=old is None or task not in old.tasks)
        return [Persist((KeepRecord(neighbour.peer, card),)), *self._links.tell_all(Records(cards=(card,)), but=source)]

    def _take_task(self, card: bytes, source: Link | None, now: Seconds) -> list[Action]:
        signer, body = open_card("task", card)
        task_id, task = TaskId(card_id(card)), decode(Task, body)
        if task_id in self._tasks or len(self._tasks) >= MAX_TASKS:
            return []
        if task.author != signer or task.network != self._membership.identity.network or self._membership.is_barred(signer):
            return []
        self._add_participation(task_id, card, "offered", Saved())
        notice = Notify("task.offered", {"task": task.name, "id": task_id.hex(), "author": self._view.name(signer)})
        return [Persist((KeepTask(task_id, card, "offered"),)), notice, *self._links.tell_all(TaskCard(card=card), but=source)]

    def _add_participation(self, task_id: TaskId, card: bytes, decision: str, saved: Saved) -> None:
        _, body = open_card("task", card)
        stream = Random(self._random.getrandbits(64))
        self._tasks[task_id] = Participation(self._me, task_id, card, decode(Task, body), decision, self._config.period_s, stream, saved)

    # the owner's commands --------------------------------------------------------------------------------------------

    def _accept(self, task: TaskId) -> list[Action]:
        participation = self._tasks.get(task)
        if participation is None:
            return []
        kept = KeepTask(task, participation.card, "accepted")
        return [Persist((kept,)), Notify("task.accepted", {"task": participation.task.name}), *participation.accept()]

    def _leave(self, task: TaskId, erase: bool, now: Seconds) -> list[Action]:
        participation = self._tasks.get(task)
        if participation is None:
            return []
        actions = self._exchanging.abandon(participation, participation.task.parts, now)
        participation.leave(erase=erase)
        records: list[Any] = [KeepTask(task, participation.card, "left")]
        if erase:
            records.append(EraseTask(task))
            self._exchanging.forget(task)
        return at_once([*actions, Persist(tuple(records)), Notify("task.left", {"task": participation.task.name, "erased": erase})])

    def _revoke(self, peer: PeerId, now: Seconds) -> list[Action]:
        try:
            card, actions = self._membership.revoke(peer, now)
        except MayNotRevoke as error:
            return [Notify("command.refused", {"reason": str(error)})]
        return actions + self._spread_revocation(card, None, now)

    # time ------------------------------------------------------------------------------------------------------------

    def _tick(self, now: Seconds) -> list[Action]:
        actions = self._exchanging.tick(now)
        if now >= self._links_due:
            for link in self._links:
                events, out = link.connection.tick(now)
                actions += [Send(link.id, out)] if out else []
                for event in events:
                    if isinstance(event, Closed):
                        actions += [*self._drop(link.id, event.reason, now), Disconnect(link.id)]
            self._links_due = min((k.connection.next_deadline() for k in self._links), default=math.inf)
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING_S
            actions += self._housekeeping(now)
        return actions

    def _housekeeping(self, now: Seconds) -> list[Action]:
        actions = self._membership.expire_invites(now) + self._membership.renew_self(now) + self._exchanging.ask_again(now)
        for link in [k for k in self._links if k.certificate is not None and k.certificate.not_after <= now]:
            actions += self._close(link, CloseCode.NOT_MEMBER, now)
        for neighbour in self._view.newly_lost(now):
            actions.append(Notify("peer.lost", {"peer": neighbour.peer.hex(), "name": neighbour.name}))
            for participation in self._tasks.values():
                if neighbour.takes_part_in(participation.task_id):
                    participation.request_epoch(now)
        idle = [k for k in self._links if k.hello is not None and not self._exchanging.is_busy(k)]
        for link in sorted(idle, key=lambda k: k.used)[: max(len(self._links) - TARGET_LINKS, 0)]:
            actions += self._close(link, CloseCode.NORMAL, now)
        inviter = next((k for k in self._links if k.hello is not None and INVITER in k.hello.capabilities), None)
        if inviter is not None and self._membership.wants_renewal(now):
            self._membership.asked_renewal(now)
            actions.append(self._links.say(inviter, Renew()))
        return actions

    def _advance(self, now: Seconds) -> list[Action]:
        """What is due in every task, then the dials that this and the view want."""
        actions = self._own_record(now)
        for participation in self._tasks.values():
            is_alone = not self._view.partners(participation.task_id, with_lost=True)
            here = self._here[participation.task_id] = self._view.present(participation.task_id)
            if participation.is_epoch_due(here, now, is_cut_off=here == 0 and not is_alone):
                epoch = participation.statistics.next_epoch()
                actions += self._exchanging.enter(participation, epoch, now)
            actions += participation.advance(here, now, is_alone=is_alone)
            actions += self._exchanging.advance(participation, now)
        for address, peer in self._view.to_dial(
            now, self._exchanging.wanted, self._dial_room(), only_wanted=len(self._links) >= TARGET_LINKS
        ):
            actions.append(ev.Dial(address, peer))
        return actions

    def _dial_room(self) -> int:
        return min(MAX_DIALS, MAX_LINKS - len(self._links)) - self._view.dials_under_way

    def _own_record(self, now: Seconds) -> list[Action]:
        """Sign this peer's record anew if it changed, and tell everybody."""
        tasks = [p.task_id for p in self._tasks.values() if p.would_contribute and not p.has_ended(now)]
        actions = self._membership.sign_record(tasks, now)
        return actions + self._links.tell_all(Records(cards=(self._membership.record,))) if actions else []

    # small things ----------------------------------------------------------------------------------------------------

    def _tasks_digest(self) -> bytes:
        return hashlib.sha256(b"".join(sorted(self._tasks))).digest()

    # for people ------------------------------------------------------------------------------------------------------

    def status(self, now: Seconds) -> dict[str, Any]:
        """What `chinwag status` shows. Plain JSON values."""
        tasks = []
        for p in self._tasks.values():
            in_doubt = self._exchanging.in_doubt(p.task_id)
            tasks.append(p.status(self._view.present(p.task_id), in_doubt, now))
        last = self._exchanging.last
        return {
            "name": self._config.name,
            "peer": self._me.hex(),
            "short": short(self._me),
            "network": self._membership.identity.network.hex(),
            "alone_since": self._alone_since,
            "live_peers": len({k.peer for k in self._links.greeted()}),
            "known_peers": len(self._view.neighbours),
            "is_revoked": self._membership.is_self_revoked,
            "last_exchange": {"at": last[0], "name": self._view.name(last[1])} if last else None,
            "tasks": tasks,
            **self._membership.status(),
        }

    def peers(self, now: Seconds) -> list[dict[str, Any]]:
        """What `chinwag peers` shows."""
        return self._view.describe({p.task_id: p.task.name for p in self._tasks.values()}, self._membership.revoked_peers())

    def tasks(self) -> list[dict[str, Any]]:
        """What `chinwag task list` and `task show` show."""
        return [{**p.describe(), "author_name": self._view.name(PeerId(p.task.author))} for p in self._tasks.values()]

    def card(self, task: TaskId) -> bytes:
        """A task's card as its author signed it. KeyError if there is no such task."""
        return self._tasks[task].card
