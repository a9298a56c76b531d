"""The driver: the order of actions, the two ways to stop, time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from peer.control import ControlError, Exit
from peer.driver import Clock, Driver
from peer.events import (
    Action,
    Candidate,
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
    TaskId,
    Tick,
    Train,
    Trained,
)
from peer.saved import KeepSequence
from peer.store import StoreFull

TASK = TaskId(b"t" * 32)


class Script:
    """A brain that answers as it was told."""

    def __init__(self, answer: Callable[[Event], list[Action]], deadline: Callable[[], float | None] = lambda: None) -> None:
        self.answer, self.deadline = answer, deadline
        self.heard: list[Event] = []

    def handle(self, event: Event, now: Seconds) -> list[Action]:
        self.heard.append(event)
        return self.answer(event)

    def next_deadline(self) -> Seconds | None:
        deadline = self.deadline()
        return None if deadline is None else Seconds(deadline)


class Stage:
    """A driver whose wire, disk and trainer write down what they are told, in one list."""

    def __init__(self, brain: Script) -> None:
        self.told: list[Any] = []
        self.fault: Exception | None = None
        self.is_held = False
        self.disk = threading.Event()
        self.disk.set()
        self.clock = Clock()
        self.driver = Driver(
            brain,
            self,
            commit=self.commit,
            writer=ThreadPoolExecutor(1),
            train=self.train,
            publish=lambda kind, facts: self.told.append(("notify", kind)),
            kept=lambda records: self.told.append(("kept", records)),
            clock=self.clock,
        )

    def commit(self, records: tuple[Any, ...]) -> None:
        self.disk.wait(5)
        if self.fault is not None:
            raise self.fault
        self.told.append(("commit", records))

    async def train(self, job: Train) -> Trained:
        self.told.append(("train", job.job))
        return Trained(job.task, job.job, facts={"rows": 3})

    def send(self, link: LinkId, data: bytes) -> None:
        self.told.append(("send", data))

    def dial(self, address: Any, expected: Any) -> None:
        self.told.append(("dial", address))

    def disconnect(self, link: LinkId) -> None:
        self.told.append(("disconnect", link))

    def set_door(self, is_open: bool) -> None:
        self.told.append(("door", is_open))

    def hold(self, is_held: bool) -> None:
        self.is_held = is_held


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 — what is waited for is a list that grows
            await asyncio.sleep(0.001)


LINK = LinkId(1)
RECORD = (KeepSequence(1),)
HELLO = Candidate(("10.0.0.1", 8786))


def test_actions_of_one_event_are_carried_out_in_their_order() -> None:
    actions: list[Action] = [
        Send(LINK, b"a"),
        Persist(RECORD),
        Send(LINK, b"b"),
        Notify("x.y", {}),
        OpenDoor(None),
        OpenDoor(Seconds(9.0)),
        Dial(("h", 1), None),
        Disconnect(LINK),
    ]

    async def play() -> list[Any]:
        stage = Stage(Script(lambda event: actions))
        running = asyncio.create_task(stage.driver.run())
        stage.driver.offer(HELLO)
        await until(lambda: ("disconnect", LINK) in stage.told)
        running.cancel()
        return stage.told

    told = asyncio.run(play())
    assert told == [
        ("send", b"a"),
        ("commit", RECORD),
        ("kept", RECORD),
        ("send", b"b"),
        ("notify", "x.y"),
        ("door", False),
        ("door", True),
        ("dial", ("h", 1)),
        ("disconnect", LINK),
    ]


def test_nothing_after_a_persist_is_said_before_it_is_on_disk_and_no_event_overtakes_it() -> None:
    async def play() -> None:
        brain = Script(lambda event: [Persist(RECORD), Send(LINK, b"promise")] if event is HELLO else [Send(LINK, b"later")])
        stage = Stage(brain)
        running = asyncio.create_task(stage.driver.run())
        stage.disk.clear()
        stage.driver.offer(HELLO)
        stage.driver.offer(Received(LINK, b"x"))
        await asyncio.sleep(0.05)
        assert stage.told == []
        assert brain.heard == [HELLO]
        stage.disk.set()
        await until(lambda: ("send", b"later") in stage.told)
        running.cancel()
        assert [t[0] for t in stage.told] == ["commit", "kept", "send", "send"]

    asyncio.run(play())


def test_a_full_disk_stops_the_peer_and_nothing_that_came_after_is_sent() -> None:
    async def play() -> None:
        stage = Stage(Script(lambda event: [Persist(RECORD), Send(LINK, b"promise")]))
        stage.fault = StoreFull("The disk is full.", "free some space")
        stage.driver.offer(HELLO)
        stage.driver.offer(HELLO)
        with pytest.raises(ControlError) as caught:
            await stage.driver.run()
        assert caught.value.exit == Exit.FAILED
        assert caught.value.sentence.startswith("The disk is full.")
        assert stage.told == []
        with pytest.raises(ControlError):
            await stage.driver.ask(HELLO)

    asyncio.run(play())


def test_a_fault_of_the_brain_stops_the_peer_with_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> list[Action]:
        raise AssertionError("the mean moved")

    async def play() -> None:
        stage = Stage(Script(fail))
        asked = asyncio.create_task(stage.driver.ask(HELLO))
        await asyncio.sleep(0)
        with pytest.raises(ControlError) as caught:
            await stage.driver.run()
        assert caught.value.exit == Exit.FAILED
        with pytest.raises(ControlError):  # whoever asked is told, and does not wait for ever
            await asked

    asyncio.run(play())
    assert "the mean moved" in caplog.text


def test_an_owner_who_asks_is_answered_when_everything_is_done() -> None:
    async def play() -> None:
        stage = Stage(Script(lambda event: [Persist(RECORD), Notify("task.accepted", {"task": "digits"})]))
        running = asyncio.create_task(stage.driver.run())
        told = await stage.driver.ask(HELLO)
        assert [n.kind for n in told] == ["task.accepted"]
        assert ("commit", RECORD) in stage.told
        running.cancel()

    asyncio.run(play())


def test_a_job_runs_beside_the_events_and_its_outcome_comes_back_as_one() -> None:
    async def play() -> None:
        brain = Script(lambda event: [Train(TASK, "open")] if event is HELLO else [])
        stage = Stage(brain)
        running = asyncio.create_task(stage.driver.run())
        stage.driver.offer(HELLO)
        await until(lambda: len(brain.heard) == 2)
        assert brain.heard[1] == Trained(TASK, "open", facts={"rows": 3})
        running.cancel()

    asyncio.run(play())


def test_the_brain_is_woken_at_its_deadline_and_a_deadline_that_stays_over_does_not_spin() -> None:
    async def play() -> None:
        brain = Script(lambda event: [], deadline=lambda: 0.0)
        stage = Stage(brain)
        running = asyncio.create_task(stage.driver.run())
        await asyncio.sleep(0.2)
        running.cancel()
        assert set(map(type, brain.heard)) == {Tick}
        assert 2 <= len(brain.heard) <= 45

    asyncio.run(play())


def test_no_link_is_read_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peer.driver.MAX_WAITING_BYTES", 100)

    async def play() -> None:
        stage = Stage(Script(lambda event: [Persist(RECORD)]))
        stage.disk.clear()
        running = asyncio.create_task(stage.driver.run())
        for _ in range(11):
            stage.driver.offer(Received(LINK, b"x" * 10))
        assert stage.is_held
        stage.disk.set()
        await until(lambda: not stage.is_held)
        await until(lambda: len(stage.told) == 22)
        assert not stage.is_held
        running.cancel()

    asyncio.run(play())


class Watches:
    """A calendar and a steady clock that can be set."""

    def __init__(self) -> None:
        self.wall, self.steady = 1000.0, 50.0

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady)


def test_time_follows_the_calendar_forward_and_never_goes_back() -> None:
    watches = Watches()
    clock = watches.clock()
    watches.wall, watches.steady = 1010.0, 60.0
    assert clock.now() == 1010.0
    watches.wall = 5000.0
    assert clock.now() == 5000.0
    watches.wall, watches.steady = 1400.0, 70.0
    assert clock.now() == 5005.0
    watches.steady = 80.0
    assert clock.now() == 5010.0
    watches.wall = 5011.0
    assert clock.now() == 5011.0
