"""The driver: feeds events to the brain one at a time and carries its actions out in order.

The order is the safety contract (DESIGN "one brain"): a Persist is on disk before the next action of the same list begins, so nothing is
said that a crash could take back. From this follow the two ways in which a driver ends early, both with the state on disk intact:

    the disk refuses        nothing after the Persist is sent; the peer stops
    the brain raises        its actions of that event are unknown; the peer stops

Nothing here decides anything about the protocol, and nothing here knows what a task is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, assert_never

from protocol.identity import PeerId

from .control import ControlError, Exit
from .events import (
    Action,
    Address,
    Dial,
    Disconnect,
    Event,
    LinkId,
    Notify,
    OpenDoor,
    Persist,
    Received,
    Seconds,
    Send,
    Tick,
    Train,
    Trained,
)
from .store import StoreError

log = logging.getLogger(__name__)

SHORTEST_WAIT_S = 0.005
"""A deadline that is over, and stays over because nothing can be done about it yet, wakes the device 200 times a second and not without
pause."""

LONGEST_WAIT_S = 3600.0
"""The timer is set anew at least this often: the calendar may be put forward while it runs."""

MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Received bytes in the inbox above which no link is read. A disk that takes a second to flush (an SD card) would otherwise let neighbours
on a gigabit network put 100 MB into memory. They are read again when a quarter is left."""

Answer = asyncio.Future[tuple[Notify, ...]]


class Brain(Protocol):
    """What a driver needs of `peer.node.Node`."""

    def handle(self, event: Event, now: Seconds) -> list[Action]: ...

    def next_deadline(self) -> Seconds | None: ...


class Wire(Protocol):
    """What a driver needs of `peer.transport.Transport`."""

    def dial(self, address: Address, expected: PeerId | None) -> None: ...

    def send(self, link: LinkId, data: bytes) -> None: ...

    def disconnect(self, link: LinkId) -> None: ...

    def set_door(self, is_open: bool) -> None: ...

    def hold(self, is_held: bool) -> None: ...


class Clock:
    """The calendar's time that never goes back.

    It follows the calendar forward at once (a device without a battery starts in 1970 and is put right by the network). When the calendar
    is put back, it goes on at half speed until the calendar has caught up: deadlines then come late, but they come, and in order.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._now, self._seen = wall(), steady()

    def now(self) -> Seconds:
        steady = self._steady()
        self._now = max(self._wall(), self._now + (steady - self._seen) / 2)
        self._seen = steady
        return Seconds(self._now)


class Driver:
    """One brain, its inbox, and the parts that do what it says.

    `commit` is called in one thread of its own, in order; `kept` hears of the records once they are on disk. `train` answers one job.
    `publish` takes every Notify.
    """

    def __init__(
        self,
        brain: Brain,
        wire: Wire,
        *,
        commit: Callable[[tuple[Any, ...]], None],
        writer: ThreadPoolExecutor,
        train: Callable[[Train], Awaitable[Trained]],
        publish: Callable[[str, Mapping[str, Any]], None],
        kept: Callable[[tuple[Any, ...]], None],
        clock: Clock,
    ) -> None:
        self._brain, self._wire = brain, wire
        self._commit, self._writer = commit, writer
        self._train, self._publish, self._kept = train, publish, kept
        self._clock = clock
        self._inbox: asyncio.Queue[tuple[Event, Answer | None]] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._waiting_bytes = 0
        self._is_tick_due = False
        self._is_over = False

    def offer(self, event: Event) -> None:
        """Queue an event. After the end it is dropped."""
        if self._is_over:
            return
        self._inbox.put_nowait((event, None))
        if isinstance(event, Received):
            self._waiting_bytes += len(event.data)
            if self._waiting_bytes > MAX_WAITING_BYTES:
                self._wire.hold(True)

    async def ask(self, event: Event) -> tuple[Notify, ...]:
        """Queue an event of the owner's and wait until all its actions are carried out; the answer is what the brain told of it.

        Raises ControlError if the driver ends first.
        """
        if self._is_over:
            raise _stopped()
        answer: Answer = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait((event, answer))
        return await answer

    async def run(self) -> None:
        """Work until cancelled. Raises ControlError if the peer cannot go on."""
        try:
            self._set_timer()
            while True:
                event, answer = await self._inbox.get()
                try:
                    told = await self._handle(event)
                except BaseException:
                    _refuse(answer)
                    raise
                if answer is not None and not answer.done():
                    answer.set_result(told)
                self._set_timer()
                await asyncio.sleep(0)  # an inbox that is never empty must not keep the sockets waiting
        finally:
            self._end()

    async def _handle(self, event: Event) -> tuple[Notify, ...]:
        if isinstance(event, Tick):
            self._is_tick_due = False
        elif isinstance(event, Received):
            self._waiting_bytes -= len(event.data)
            if self._waiting_bytes <= MAX_WAITING_BYTES // 4:
                self._wire.hold(False)
        try:
            actions = self._brain.handle(event, self._clock.now())
        except Exception:
            log.exception("the brain failed at %s; stopping, the state on disk is intact", type(event).__name__)
            raise ControlError("This peer stopped at a fault in its own program; nothing is lost.", "chinwag start", Exit.FAILED) from None
        for action in actions:
            await self._carry_out(action)
        return tuple(action for action in actions if isinstance(action, Notify))

    async def _carry_out(self, action: Action) -> None:
        match action:
            case Persist(records):
                await self._persist(records)
            case Send(link, data):
                self._wire.send(link, data)
            case Dial(address, expected):
                self._wire.dial(address, expected)
            case Disconnect(link):
                self._wire.disconnect(link)
            case Train():
                job = asyncio.create_task(self._run_job(action), name=f"train {action.job}")
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)
            case OpenDoor(until):
                self._wire.set_door(until is not None)
            case Notify(kind, facts):
                self._publish(kind, facts)
            case _:
                assert_never(action)

    async def _persist(self, records: tuple[Any, ...]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._commit, records)
        except StoreError as error:
            log.error("%s", error.sentence)
            sentence = f"{error.sentence} This peer has stopped; it has said nothing that is not on its disk."
            raise ControlError(sentence, error.next or "chinwag start", error.exit) from error
        self._kept(records)

    async def _run_job(self, job: Train) -> None:
        self.offer(await self._train(job))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._is_tick_due:
            return
        deadline = self._brain.next_deadline()
        if deadline is None:
            self._timer = None
            return
        wait = min(max(deadline - self._clock.now(), SHORTEST_WAIT_S), LONGEST_WAIT_S)
        self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def _tick(self) -> None:
        self._is_tick_due = True
        self.offer(Tick())

    def _end(self) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        for job in self._jobs:
            job.cancel()
        while not self._inbox.empty():
            _, answer = self._inbox.get_nowait()
            _refuse(answer)


def _refuse(answer: Answer | None) -> None:
    if answer is not None and not answer.done():
        answer.set_exception(_stopped())


def _stopped() -> ControlError:
    return ControlError("The daemon is stopping.", "chinwag start", Exit.NOT_RUNNING)
