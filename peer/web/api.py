"""The endpoints: each reads what the owner sent, asks the daemon, and answers in JSON.

Everything the commands can do is here once. Nothing is decided here but what is a fault of the request itself; what the brain refuses it
says in a Notify, which comes out as the answer's error.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from protocol.cards import card_id, sign_card
from protocol.identity import PeerId
from protocol.joining import MAX_INVITE_ADDRESSES, Invite, invite_link
from protocol.wire import WireError

from ..control import API, ControlError, Exit
from ..events import AcceptTask, AddTask, Event, LeaveTask, OpenInvite, RevokePeer, RowsChanged, Seconds, TaskId
from .guard import Guard, JsonAnswer, Refusal, bounded_body, error_answer
from .schemas import (
    MAX_INVITE_S,
    MIN_INVITE_S,
    Acceptance,
    Body,
    Departure,
    JoinRequest,
    NewInvite,
    NewTask,
    RevokeRequest,
    read_body,
)

if TYPE_CHECKING:
    from ..daemon import Daemon

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 32
"""Open event streams. A browser keeps six connections to one address; every `watch` is one."""

TOKEN_BYTES: Final = 16
"""An invite's token: 128 bits, used once, so nobody guesses it."""

Answer = Callable[[Request], Awaitable[Response]]
B = TypeVar("B", bound=Body)


class Api:
    """One method an endpoint."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._streams = 0

    def app(self, token: str) -> ASGIApp:
        """The ASGI application, guarded by this token."""
        routes = [
            Route(f"{API}/status", _json(self.status), methods=["GET"]),
            Route(f"{API}/peers", _json(self.peers), methods=["GET"]),
            Route(f"{API}/tasks", _json(self.tasks), methods=["GET"]),
            Route(f"{API}/tasks", _json(self.add_task), methods=["POST"]),
            Route(f"{API}/tasks/{{id}}/accept", _json(self.accept_task), methods=["POST"]),
            Route(f"{API}/tasks/{{id}}/leave", _json(self.leave_task), methods=["POST"]),
            Route(f"{API}/invites", _json(self.invite), methods=["POST"]),
            Route(f"{API}/join", _json(self.join), methods=["POST"]),
            Route(f"{API}/revocations", _json(self.revoke), methods=["POST"]),
            Route(f"{API}/stop", _json(self.stop), methods=["POST"]),
            Route(f"{API}/events", self.events, methods=["GET"]),
        ]
        handlers = {ControlError: _on_control_error, HTTPException: _on_http_error, Exception: _on_fault}
        return Guard(Starlette(routes=routes, exception_handlers=handlers), token)

    # looking ----------------------------------------------------------------------------------------------------------

    async def status(self, request: Request) -> Mapping[str, Any]:
        return self._daemon.status()

    async def peers(self, request: Request) -> Mapping[str, Any]:
        return {"peers": self._daemon.peers()}

    async def tasks(self, request: Request) -> Mapping[str, Any]:
        return {"tasks": self._daemon.tasks()}

    async def events(self, request: Request) -> Response:
        if self._streams >= MAX_STREAMS:
            raise Refusal(503, f"There are {MAX_STREAMS} event streams already.", None, Exit.FAILED)
        last = request.headers.get("last-event-id", "")
        stream = self._daemon.ring.follow(int(last) if last.isascii() and last.isdigit() and len(last) < 20 else None)

        async def counted() -> Any:
            self._streams += 1
            try:
                async for piece in stream:
                    yield piece
            finally:
                self._streams -= 1

        return StreamingResponse(counted(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    # tasks ------------------------------------------------------------------------------------------------------------

    async def add_task(self, request: Request) -> Mapping[str, Any]:
        new = await _body(request, NewTask)
        identity = self._daemon.identity
        try:
            task = new.card(identity.network, identity.peer, int(self._daemon.clock.now()))
            card = sign_card("task", task.encode(), identity.key)
        except WireError as error:
            raise ControlError(f"The task cannot be made: {error}.", None, Exit.SCHEMA) from None
        await self._ask(AddTask(card))
        known = card_id(card).hex()
        if all(found["id"] != known for found in self._daemon.tasks()):
            raise ControlError("This device cannot keep more tasks than it has.", None, Exit.FAILED)
        return {"id": known}

    async def accept_task(self, request: Request) -> Mapping[str, Any]:
        """Take part, once the rows have been seen to fit: a file that does not fit is found here, by whoever can mend it, and nothing is
        accepted."""
        wanted = await _body(request, Acceptance)
        task, found = self._task(request)
        if wanted.holdout is not None and not 0 <= wanted.holdout < 1:
            raise ControlError("holdout is a share of the rows: 0 or more, and less than 1.", None, Exit.USAGE)
        table = self._daemon.table_for(task, found["name"], wanted)
        if not table.source:
            sentence = f"This device has no rows for the task {found['name']!r} yet."
            raise ControlError(sentence, f"chinwag task accept {found['name']} --data FILE", Exit.SCHEMA)
        report = await self._daemon.try_rows(task, table)
        self._daemon.keep_table(task, found["name"], table)
        await self._ask(RowsChanged(task) if found["decision"] == "accepted" else AcceptTask(task))
        return {"id": task.hex(), "report": report}

    async def leave_task(self, request: Request) -> Mapping[str, Any]:
        wanted = await _body(request, Departure)
        task, _ = self._task(request)
        await self._ask(LeaveTask(task, wanted.erase))
        return {"id": task.hex()}

    # membership -------------------------------------------------------------------------------------------------------

    async def invite(self, request: Request) -> Mapping[str, Any]:
        wanted = await _body(request, NewInvite)
        identity = self._daemon.identity
        if not identity.may_invite:
            raise ControlError("This device may not invite others into the network.", "ask the device that invited this one", Exit.REFUSED)
        if wanted.may_invite and not identity.may_make_inviters:
            sentence = "Only the device that founded the network may pass on the right to invite."
            raise ControlError(sentence, "chinwag invite without --may-invite", Exit.REFUSED)
        if not MIN_INVITE_S <= wanted.ttl_s <= MAX_INVITE_S:
            raise ControlError(f"An invite lives {MIN_INVITE_S} s to {MAX_INVITE_S // 86400} days.", None, Exit.USAGE)
        addresses = tuple(self._daemon.addresses()[:MAX_INVITE_ADDRESSES])
        if not addresses:
            raise ControlError("No network interface of this device can be reached by others.", "chinwag doctor", Exit.UNREACHABLE)
        token, expires = secrets.token_bytes(TOKEN_BYTES), int(self._daemon.clock.now()) + wanted.ttl_s
        await self._ask(OpenInvite(token, Seconds(expires), wanted.may_invite))
        link = invite_link(Invite(addresses=addresses, inviter=identity.peer, token=token, expires=expires))
        return {"link": link, "expires": expires, "addresses": list(addresses)}

    async def join(self, request: Request) -> Mapping[str, Any]:
        wanted = await _body(request, JoinRequest)
        await self._daemon.join(wanted.link, wanted.name, wanted.leave_network)
        identity = self._daemon.identity
        return {"network": identity.network.hex(), "peer": identity.peer.hex()}

    async def revoke(self, request: Request) -> Mapping[str, Any]:
        wanted = await _body(request, RevokeRequest)
        peer = self._peer(wanted.peer)
        await self._ask(RevokePeer(peer))
        return {"peer": peer.hex()}

    async def stop(self, request: Request) -> Mapping[str, Any]:
        # The answer leaves first: a stopping server finishes what it is answering.
        self._daemon.stop()
        return {"stopping": True}

    # parts ------------------------------------------------------------------------------------------------------------

    async def _ask(self, event: Event) -> None:
        """Give the brain an event of the owner's. What it refuses is the answer's error."""
        for notify in await self._daemon.ask(event):
            if notify.kind == "command.refused":
                raise ControlError(f"{_capital(str(notify.facts['reason']))}.", None, Exit.REFUSED)

    def _task(self, request: Request) -> tuple[TaskId, Mapping[str, Any]]:
        """The task that the path names, by its whole id, the beginning of it, or its name."""
        given = request.path_params["id"]
        found = [t for t in self._daemon.tasks() if t["id"] == given or t["name"] == given]
        found = found or [t for t in self._daemon.tasks() if len(given) >= 6 and t["id"].startswith(given)]
        if len(found) != 1:
            sentence = f"There are {len(found)} tasks {given[:64]!r}; name one by its id." if found else f"There is no task {given[:64]!r}."
            raise Refusal(404, sentence, "chinwag task list", Exit.USAGE)
        return TaskId(bytes.fromhex(found[0]["id"])), found[0]

    def _peer(self, given: str) -> PeerId:
        """The peer that is meant: by its whole id, its short form, or a name that only one has."""
        known = self._daemon.peers()
        found = [p for p in known if given.lower() == p["id"] or given.upper() == p["short"]] or [p for p in known if p["name"] == given]
        if len(found) != 1:
            text = given[:64]
            sentence = f"{len(found)} peers are called {text!r}; name one by its id." if found else f"No peer {text!r} is known here."
            raise Refusal(404, sentence, "chinwag peers", Exit.USAGE)
        return PeerId(bytes.fromhex(found[0]["id"]))


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _json(endpoint: Callable[[Request], Awaitable[Mapping[str, Any]]]) -> Answer:
    async def answer(request: Request) -> Response:
        return JsonAnswer(await endpoint(request))

    return answer


async def _body(request: Request, schema: type[B]) -> B:
    return read_body(schema, await bounded_body(request))


async def _on_control_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ControlError)
    return error_answer(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_answer(Refusal(error.status_code, f"{request.method} {request.url.path[:80]}: {error.detail}.", None, Exit.USAGE))


async def _on_fault(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_answer(ControlError("The daemon failed at this request; its log says how.", None, Exit.FAILED))
