"""What stands before every endpoint: only this computer, only who holds the token, only bodies of a bounded size.

The API listens on loopback, yet every web page in the owner's browser can reach loopback too. A page that points its own name at 127.0.0.1
is stopped by the Host header, every other by the token, which is never in a cookie.
"""

from __future__ import annotations

import hmac
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..control import ControlError, Exit

MAX_BODY_BYTES = 256 * 1024
"""A request body. The largest is a task of 1,024 columns, about 100 KiB of JSON."""

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Refusal(ControlError):
    """A request that is not carried out: as ControlError, with the HTTP status where the exit code does not give it."""

    def __init__(self, status: int, sentence: str, next: str | None, exit: int) -> None:
        super().__init__(sentence, next, exit)
        self.status = status


STATUS: dict[int, int] = {
    Exit.FAILED: 500,
    Exit.USAGE: 400,
    Exit.NOT_RUNNING: 503,
    Exit.REFUSED: 403,
    Exit.UNREACHABLE: 502,
    Exit.SCHEMA: 422,
    Exit.VERSION: 409,
    Exit.TIMEOUT: 504,
}
"""The HTTP status that goes with an exit code, where no other is given."""


class JsonAnswer(Response):
    """A JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


def error_answer(error: ControlError) -> Response:
    """The one form of every error."""
    status = error.status if isinstance(error, Refusal) else STATUS.get(error.exit, 500)
    return JsonAnswer({"error": error.sentence, "next": error.next, "exit": error.exit}, status_code=status)


class Guard:
    """ASGI middleware around the whole API."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            self._check(Headers(scope=scope))
        except Refusal as refusal:
            await error_answer(refusal)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name, colon, port = host.rpartition(":")
        if (name if colon and port.isdigit() else host).lower() not in LOOPBACK_NAMES:
            raise Refusal(403, "This API answers to 127.0.0.1 and localhost only.", None, Exit.REFUSED)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token):
            raise Refusal(
                401, "The token of this daemon is missing or wrong.", "read it from control.json in this peer's home", Exit.REFUSED
            )


async def bounded_body(request: Request) -> bytes:
    """The request's body, or Refusal once it is longer than MAX_BODY_BYTES, whatever its headers claim."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"The request is larger than {MAX_BODY_BYTES // 1024} KiB.", None, Exit.USAGE)
    return bytes(body)
