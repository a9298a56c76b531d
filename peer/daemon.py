"""The daemon: the process of one peer. It holds what outlives a change of network, and decides when the process ends.

    Daemon      web API, events, signals, the owner's settings              until the process ends
    Life        one identity: database, port, trainer, brain, discovery     until it ends, or another network is joined

It ends when the owner says so, or when the life cannot go on (the disk is full, the brain failed); then `run` raises the sentence and the
exit code.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from protocol.identity import Identity
from protocol.joining import read_link
from protocol.records import parse_address

from .config import Config, Home, TaskTable, save_identity
from .control import ControlError, Exit
from .driver import Clock
from .events import Event, Notify, TaskId
from .joining import join
from .life import Life
from .logs import log_event
from .rows import OwnersRows
from .web.api import Api
from .web.events import EventRing
from .web.schemas import Acceptance
from .web.server import WebServer

log = logging.getLogger(__name__)

STDIN: Final = 0


class Daemon:
    """See the module. `stop_with_stdin` ends it when its standard input closes: with whoever started it, then, on every system."""

    def __init__(self, home: Home, config: Config, *, stop_with_stdin: bool = False) -> None:
        self._home = home
        self._rows = OwnersRows(home, config)
        self._stop_with_stdin = stop_with_stdin
        self._version = version()
        self._since = time.time()
        self._stop = asyncio.Event()
        self._joining = asyncio.Lock()
        self._life: Life | None = None
        self._running: asyncio.Task[None] | None = None
        self._failure: ControlError | None = None
        self.clock = Clock()
        self.ring = EventRing(int(self._since * 1000))
        self._web = WebServer(home.control, config.control.port)

    async def run(self) -> None:
        """Live until stopped. Raises ControlError or ConfigError with the sentence that says why it cannot begin or go on."""
        with self._signals():
            try:
                await self._begin_life(self._rows.config.peer.port)
                await self._web.start(Api(self).app(self._web.token))
                if self._stop_with_stdin:
                    self._watch_stdin()
                self.publish("peer.started", {"name": self._rows.config.peer.name, "addresses": self.addresses(), "url": self._web.url})
                await self._wait()
                self.publish("peer.stopped", {"name": self._rows.config.peer.name})
            finally:
                self.ring.close()
                await asyncio.gather(self._web.stop(), self._end_life())

    def stop(self) -> None:
        """End, cleanly, soon."""
        self._stop.set()

    def publish(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Tell everybody who listens: the log, and the event streams."""
        at = self.clock.now()
        log_event(kind, facts)
        self.ring.publish(kind, {"at": at, **facts})

    # what the API asks ------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        return self._alive.identity

    def addresses(self) -> list[str]:
        return self._alive.addresses()

    def status(self) -> dict[str, Any]:
        own = {
            "name": self._rows.config.peer.name,
            "version": self._version,
            "pid": os.getpid(),
            "since": self._since,
            "port": self._alive.port,
            "addresses": self.addresses(),
        }
        return {**self._alive.node.status(self.clock.now()), **own}

    def peers(self) -> list[dict[str, Any]]:
        return self._alive.node.peers(self.clock.now())

    def tasks(self) -> list[dict[str, Any]]:
        return self._alive.node.tasks()

    async def ask(self, event: Event) -> tuple[Notify, ...]:
        return await self._alive.ask(event)

    def table_for(self, task: TaskId, name: str, wanted: Acceptance) -> TaskTable:
        """What would be set for this task if the owner's wish were followed."""
        return self._rows.changed(self._rows.table(task, name), wanted.source, wanted.map, wanted.test, wanted.holdout)

    async def try_rows(self, task: TaskId, table: TaskTable) -> Mapping[str, Any]:
        """Read the rows as the task would. Raises ControlError with what is wrong with them, and how to mend it."""
        found = await self._alive.try_rows(task, table)
        if found.error is not None:
            raise ControlError(found.error, found.facts.get("next"), found.facts.get("exit", Exit.FAILED))
        return found.facts

    def keep_table(self, task: TaskId, name: str, table: TaskTable) -> None:
        others = [t for t in self.tasks() if t["name"] == name and t["id"] != task.hex() and t["decision"] == "accepted"]
        self._rows.keep(task, name, table, is_name_taken=bool(others))

    # another network --------------------------------------------------------------------------------------------------

    async def join(self, link: str, name: str | None, leave_network: bool) -> None:
        """Become a member of the network that the link invites to, and live there from then on. Raises ControlError; then all is as
        before."""
        if self._joining.locked():
            raise ControlError("This device is joining a network already.", "chinwag status", Exit.FAILED)
        async with self._joining:
            status = self._alive.node.status(self.clock.now())
            if not leave_network and not (self.identity.root_key is not None and status["known_peers"] == 0):
                sentence = "This device is in a network with others; it can be in one network only."
                raise ControlError(sentence, "chinwag join LINK --leave-network", Exit.REFUSED)
            if name is not None:
                self._rows.rename(name)
            identity = await join(link, self._rows.config.peer.name)
            # Whoever asked may hang up; a change of network that has begun is finished all the same.
            await asyncio.shield(asyncio.create_task(self._move(identity)))
            # Where multicast does not reach, the invite is all that is known of the others.
            for text in read_link(link).addresses:
                self._alive.meet(parse_address(text))

    async def _move(self, identity: Identity) -> None:
        port = self._alive.port
        await self._end_life()
        try:
            # The store, opened under another root certificate than before, lets go of what belonged to the old network.
            await asyncio.to_thread(save_identity, self._home, identity)
            await self._begin_life(port)
        except ControlError as error:
            self._failure = error
            self.stop()
            raise
        self.publish("network.joined", {"network": identity.network.hex(), "peer": identity.peer.hex()})

    # living and ending ------------------------------------------------------------------------------------------------

    @property
    def _alive(self) -> Life:
        if self._life is None:
            raise ControlError("The daemon is changing networks or stopping.", "chinwag status", Exit.NOT_RUNNING)
        return self._life

    async def _begin_life(self, port: int) -> None:
        life = Life(self._home, self._rows, self.clock, self.publish, f"chinwag/{self._version}")
        await life.begin(port)
        self._life, self._running = life, asyncio.create_task(life.run(), name="life")
        self._running.add_done_callback(lambda task: self._stop.set() if not task.cancelled() else None)

    async def _end_life(self) -> None:
        life, running, self._life = self._life, self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
        if life is not None:
            await life.end()

    async def _wait(self) -> None:
        await self._stop.wait()
        if self._failure is not None:
            raise self._failure
        if self._running is not None and self._running.done() and not self._running.cancelled():
            self._running.result()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM (and Ctrl-Break on Windows) end the daemon; only the main thread of a process may say so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        names = ("SIGINT", "SIGTERM", "SIGBREAK")
        before = {number: signal.getsignal(number) for name in names if (number := getattr(signal, name, None)) is not None}
        for number in before:
            # signal.signal rather than the loop's own way, which Windows does not have.
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch_stdin(self) -> None:
        loop = asyncio.get_running_loop()

        def wait() -> None:
            try:
                while os.read(STDIN, 4096):
                    pass
            except OSError:
                pass
            try:
                loop.call_soon_threadsafe(self.stop)
            except RuntimeError:
                pass  # the loop is closed: the daemon has ended before

        # os.read, not sys.stdin: a thread that sits in the latter keeps the interpreter from ending.
        threading.Thread(target=wait, name="stdin", daemon=True).start()


def version() -> str:
    """The version of the installed distribution."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("chinwag")
    except PackageNotFoundError:
        return "0+checkout"
