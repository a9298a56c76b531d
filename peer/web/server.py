"""The web server inside the daemon's own event loop, on loopback, and the file that tells the owner's commands where it is.

`control.json` holds a token, so it is readable by the owner only, and it is written after the port is bound: an address that stands there
answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from ..control import ControlError, Exit
from ..files import write_whole

GOODBYE_S = 0.5
"""What a reply or a stream may still take when the daemon stops; the whole stop has two seconds."""

LOOPBACK = "127.0.0.1"


class _Server(uvicorn.Server):
    """Uvicorn as a guest: it neither takes the signals of its host nor leaves one waiting to know that it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_listening.set()


class WebServer:
    """`start`, then requests are answered until `stop`. `token` is what they must carry, `url` where they go."""

    def __init__(self, control_path: Path, port: int) -> None:
        self.token = secrets.token_urlsafe(32)
        self.url = ""
        self._path = control_path
        self._port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, app: Any) -> None:
        """Bind, serve, then say where in control.json. Raises ControlError if the port is taken."""
        listener = self._bind()
        self.url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = server = _Server(config)
        self._task = asyncio.create_task(server.serve(sockets=[listener]), name="web")
        self._task.add_done_callback(lambda _: server.is_listening.set())  # a server that fails must not be waited for
        await server.is_listening.wait()
        if self._task.done():
            self._task.result()
        write_whole(self._path, json.dumps({"url": self.url, "token": self.token, "pid": os.getpid()}).encode())

    async def stop(self) -> None:
        """Take the address away, finish what is being answered, within GOODBYE_S."""
        if self._server is None or self._task is None:
            return
        self._remove()
        self._server.should_exit = True
        await asyncio.wait([self._task], timeout=GOODBYE_S)
        self._server.force_exit = True
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":
            # On Windows this option would let another program share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, self._port))
        except OSError as error:
            listener.close()
            raise ControlError(
                f"The control port {self._port} cannot be used: {error.strerror or error}.",
                "set port = 0 under [control] in config.toml",
                Exit.FAILED,
            ) from None
        return listener

    def _remove(self) -> None:
        """Delete control.json, unless another daemon has put its own there."""
        try:
            if json.loads(self._path.read_bytes())["token"] == self.token:
                self._path.unlink()
        except (OSError, ValueError, KeyError, TypeError):
            pass
