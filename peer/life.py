"""One peer's time in one network: everything that belongs to one identity, opened in order and ended in the opposite order.

A daemon has one life at a time, and a new one after it has joined another network. What is opened here, in this order: the database (which
also makes sure that no other daemon lives in this folder), the port, the trainer, the brain with its driver, and last what brings others
here: discovery.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

from protocol.identity import Identity
from protocol.records import format_address, parse_address
from protocol.wire import WireError

from .config import Config, Home, TaskTable, load_identity
from .control import ControlError, Exit
from .discovery import Discovery
from .driver import Clock, Driver
from .events import Address, AddressesChanged, Candidate, Event, Notify, RowsChanged, TaskId, Train, Trained
from .interfaces import addresses_to_tell, choose, read_interfaces
from .node import Node, NodeConfig
from .rows import POLL_S, OwnersRows, RowsWatch, open_settings
from .saved import KeepLeaf, Saved
from .store import Store, StoreError
from .trainer import Trainer
from .transport import Transport

log = logging.getLogger(__name__)

GOODBYE_S: Final = 1.0
"""What each part may take to end. A neighbour that does not answer our goodbye must not hold up a shutdown."""

Publish = Callable[[str, Mapping[str, Any]], None]


class Life:
    """See the module. `begin`, then `run` until it is cancelled or fails, then `end`."""

    def __init__(self, home: Home, rows: OwnersRows, clock: Clock, publish: Publish, agent: str) -> None:
        self._home, self._rows, self._clock, self._publish, self._agent = home, rows, clock, publish, agent
        self._open = AsyncExitStack()
        self._tried: dict[TaskId, tuple[TaskTable, Trained]] = {}
        self._watch = RowsWatch()
        self.port = 0
        self.identity: Identity
        self.node: Node
        self._driver: Driver
        self._hosts: tuple[str, ...] = ()
        self._transport: Transport
        self._trainer: Trainer

    async def begin(self, port: int) -> None:
        """Open everything. Raises ControlError or ConfigError, and then nothing is left open."""
        try:
            await self._begin(port)
        except BaseException:
            await self.end()
            raise

    async def run(self) -> None:
        """Work until cancelled. Raises ControlError if this peer cannot go on."""
        polling = asyncio.create_task(self._poll(), name="poll")
        try:
            await self._driver.run()
        finally:
            polling.cancel()

    async def end(self) -> None:
        await self._open.aclose()

    async def ask(self, event: Event) -> tuple[Notify, ...]:
        return await self._driver.ask(event)

    def addresses(self) -> list[str]:
        """Where others reach this peer, as "host:port"."""
        return [format_address((host, self.port)) for host in self._hosts]

    def meet(self, address: Address) -> None:
        """Somebody may listen there."""
        self._driver.offer(Candidate(address))

    async def try_rows(self, task: TaskId, table: TaskTable) -> Trained:
        """Open a task's rows in the trainer without the brain knowing. If it asks for the same next, it gets this answer: a large file is
        read once."""
        found = await self._open_rows(task, table)
        if found.error is None:
            self._tried[task] = (table, found)
        return found

    # opening ----------------------------------------------------------------------------------------------------------

    async def _begin(self, port: int) -> None:
        config, opened = self._rows.config, self._open
        loop = asyncio.get_running_loop()
        writer = ThreadPoolExecutor(1, "store")
        opened.callback(writer.shutdown)
        store, saved = await loop.run_in_executor(writer, _open_store, self._home)
        opened.push_async_callback(loop.run_in_executor, writer, store.close)
        for loss in store.losses:
            self._publish("store.damaged", {"why": loss})
        self.identity = load_identity(self._home)

        self._transport = Transport(self.identity, lambda event: self._driver.offer(event))
        opened.push_async_callback(_in_time, self._transport.close, "sockets")
        self.port = await _listen(self._transport, port)
        self._trainer = Trainer()
        opened.push_async_callback(_in_time, self._trainer.close, "trainer")

        statics = tuple(_static(text) for text in config.peer.static) if "static" in config.peer.discovery else ()
        settings = NodeConfig(config.peer.name, config.peer.period_s, config.peer.lost_after_s, statics, self._agent)
        self.node = Node(self.identity, settings, saved, random.SystemRandom())
        self._driver = Driver(
            self.node,
            self._transport,
            commit=store.commit,
            writer=writer,
            train=self._train,
            publish=self._publish,
            kept=self._kept,
            clock=self._clock,
        )
        await self._discover(config)
        for address in statics:
            self.meet(address)

    async def _discover(self, config: Config) -> None:
        """Announce and look out. Without multicast a peer still has its static addresses, and those that its neighbours tell it of."""
        if "mdns" in config.peer.discovery:
            wanted = config.peer.interfaces
            discovery = Discovery(self.identity.tag, self.port, self.meet, wanted, on_change=self._addresses_changed)
            await discovery.start()
            self._open.push_async_callback(_in_time, discovery.stop, "discovery")
            self._addresses_changed(discovery.addresses())
            if discovery.why_off:
                self._publish("discovery.failed", {"why": discovery.why_off, "next": "chinwag doctor"})
        else:
            self._addresses_changed(self._own_addresses())

    # what the driver calls --------------------------------------------------------------------------------------------

    async def _train(self, job: Train) -> Trained:
        if job.job != "open":
            return await self._trainer.run(job)
        while True:
            table = self._rows.table(job.task, self._name(job.task))
            tried = self._tried.pop(job.task, None)
            found = tried[1] if tried is not None and tried[0] == table else await self._open_rows(job.task, table)
            if table == self._rows.table(job.task, self._name(job.task)):
                return found

    async def _open_rows(self, task: TaskId, table: TaskTable) -> Trained:
        await asyncio.to_thread(self._watch.reading, task, table)
        settings = {"card": self.node.card(task), **open_settings(table, self.identity.peer, task)}
        return await self._trainer.run(Train(task, "open", {}, settings))

    def _kept(self, records: tuple[Any, ...]) -> None:
        for record in records:
            if isinstance(record, KeepLeaf):
                self.identity = replace(self.identity, leaf=record.leaf, inviter=record.inviter)
                self._transport.replace_identity(self.identity)

    def _own_addresses(self) -> tuple[str, ...]:
        try:
            return addresses_to_tell(choose(read_interfaces(), self._rows.config.peer.interfaces))
        except OSError:
            return ()

    def _addresses_changed(self, hosts: tuple[str, ...]) -> None:
        if hosts != self._hosts:
            self._hosts = hosts
            self._driver.offer(AddressesChanged(tuple((host, self.port) for host in hosts)))

    def _name(self, task: TaskId) -> str:
        return next((str(t["name"]) for t in self.node.tasks() if t["id"] == task.hex()), "")

    async def _poll(self) -> None:
        """Look at what no system call tells us of: the owner's files and, where mDNS does not do it, our own addresses."""
        while True:
            if "mdns" not in self._rows.config.peer.discovery:
                self._addresses_changed(self._own_addresses())
            accepted = {TaskId(bytes.fromhex(t["id"])): str(t["name"]) for t in self.node.tasks() if t["decision"] == "accepted"}
            tables = {task: self._rows.table(task, name) for task, name in accepted.items()}
            for task in await asyncio.to_thread(self._watch.look, tables):
                self._tried.pop(task, None)
                self._driver.offer(RowsChanged(task))
            await asyncio.sleep(POLL_S)


def _open_store(home: Home) -> tuple[Store, Saved]:
    try:
        store = Store(home.path)
        return store, store.load()
    except StoreError as error:
        raise ControlError(error.sentence, error.next, error.exit) from error


async def _listen(transport: Transport, port: int) -> int:
    try:
        return await transport.listen(None, port)
    except OSError as error:
        sentence = f"Port {port} cannot be used: {error.strerror or error}."
        raise ControlError(sentence, "set another port (0: any free one) under [peer] in config.toml", Exit.FAILED) from None


def _static(text: str) -> Address:
    try:
        return parse_address(text)
    except WireError as error:
        raise ControlError(f"[peer] static: {text!r} is not an address: {error}.", 'write it as "host:port"', Exit.USAGE) from None


async def _in_time(end: Callable[[], Awaitable[None]], what: str) -> None:
    """End one part, and go on without it if it does not end within GOODBYE_S."""
    try:
        await asyncio.wait_for(end(), GOODBYE_S)
    except TimeoutError:
        log.warning("%s did not end within %s s", what, GOODBYE_S)
