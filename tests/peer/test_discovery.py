"""Discovery on this computer's loopback; tests/lan has it on networks."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import peer.discovery as discovery
from peer.discovery import GOODBYE_S, NO_INTERFACE, Discovery
from peer.interfaces import Interface

LOOPBACK = ["127.0.0.1"]
PATIENCE_S = 15.0


def nobody(address: tuple[str, int]) -> None:
    raise AssertionError(f"{address} was found")


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what other tasks and the kernel bring about; there is no event to wait on."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


@pytest.fixture
def tag() -> str:
    """A network of this test's own: other tests may be running on the same loopback."""
    return secrets.token_hex(8)


def test_two_daemons_find_each_other_and_a_goodbye_removes(tag: str) -> None:
    async def work() -> None:
        found: dict[str, list[tuple[str, int]]] = {"a": [], "b": []}
        a = Discovery(tag, 1001, found["a"].append, LOOPBACK)
        b = Discovery(tag, 1002, found["b"].append, LOOPBACK)
        await a.start()
        await b.start()
        assert a.why_off is None
        assert a.addresses() == ("127.0.0.1",)
        await until(lambda: found == {"a": [("127.0.0.1", 1002)], "b": [("127.0.0.1", 1001)]})
        assert a.candidates() == (("127.0.0.1", 1002),)
        await b.stop()
        await until(lambda: a.candidates() == ())
        await a.stop()

    run(work)


def test_leaving_is_quick_and_leaves_no_task_behind(tag: str) -> None:
    async def work() -> None:
        a = Discovery(tag, 1001, nobody, LOOPBACK)
        await a.start()
        async with asyncio.timeout(GOODBYE_S):
            await a.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await a.stop()

    run(work)


def test_without_a_port_it_looks_and_is_not_seen(tag: str) -> None:
    async def work() -> None:
        found: list[tuple[str, int]] = []
        a = Discovery(tag, 1001, nobody, LOOPBACK)
        looker = Discovery(tag, None, found.append, LOOPBACK)
        await a.start()
        await looker.start()
        await until(lambda: found == [("127.0.0.1", 1001)])
        await looker.stop()
        await a.stop()

    run(work)


def test_a_daemon_of_another_network_is_not_found(tag: str) -> None:
    async def work() -> None:
        found: list[tuple[str, int]] = []
        a = Discovery(tag, 1001, found.append, LOOPBACK)
        stranger = Discovery(tag[::-1], 1002, nobody, LOOPBACK)
        friend = Discovery(tag, 1003, found.append, LOOPBACK)
        for each in (a, stranger, friend):
            await each.start()
        await until(lambda: set(found) == {("127.0.0.1", 1001), ("127.0.0.1", 1003)})
        for each in (a, stranger, friend):
            await each.stop()

    run(work)


def test_an_interface_that_does_not_exist_turns_it_off_with_a_sentence(tag: str, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        a = Discovery(tag, 1001, nobody, ["eth77"])
        await a.start()
        assert a.why_off == NO_INTERFACE
        assert a.addresses() == ()
        await a.stop()

    run(work)
    assert caplog.messages == ["The configuration names the interface eth77, which this device does not have.", NO_INTERFACE]


def test_udp_5353_refused_turns_it_off_and_it_comes_back(
    tag: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = discovery.AsyncZeroconf
    refusals = [PermissionError(13, "Permission denied")] * 3

    def refusing(places: list[str]) -> Any:
        if refusals:
            raise refusals.pop()
        return real(places)

    monkeypatch.setattr(discovery, "AsyncZeroconf", refusing)
    monkeypatch.setattr(discovery, "POLL_S", 0.02)

    async def work() -> None:
        a = Discovery(tag, 1001, nobody, LOOPBACK)
        await a.start()
        assert a.why_off is not None
        assert a.why_off.startswith("UDP port 5353 cannot be used (Permission denied)")
        assert a.addresses() == ("127.0.0.1",)
        await until(lambda: a.why_off is None)
        await a.stop()

    run(work)
    assert len(caplog.messages) == 1  # said once, however often it is tried


def test_changed_addresses_are_told_and_announced_when_they_have_settled(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interface(name: str, *networks: str) -> Interface:
        return Interface(name, name, 1, tuple(ipaddress.ip_interface(network) for network in networks))

    ours = interface("lo", "127.0.0.1/8")
    monkeypatch.setattr(discovery, "read_interfaces", lambda: [ours, interface("other", "127.0.0.9/8")])
    monkeypatch.setattr(discovery, "POLL_S", 0.01)
    monkeypatch.setattr(discovery, "SETTLE_S", 0.3)
    monkeypatch.setattr(discovery, "ANNOUNCE_GAP_S", 0.6)  # longer than the three announcements of a start, as the real one is

    async def work() -> None:
        nonlocal ours
        told: list[tuple[str, ...]] = []
        found: list[tuple[str, int]] = []
        a = Discovery(tag, 1001, nobody, ["lo"], on_change=told.append)
        looker = Discovery(tag, None, found.append, ["other"])
        await looker.start()
        await a.start()
        await until(lambda: found == [("127.0.0.1", 1001)])
        ours = interface("lo", "127.0.0.1/8", "127.0.0.2/8")
        await asyncio.sleep(0.1)  # it is seen, and is gone before it has settled
        ours = interface("lo", "127.0.0.3/8")
        await until(lambda: found == [("127.0.0.1", 1001), ("127.0.0.3", 1001)])
        assert told == [("127.0.0.3",)]
        assert looker.candidates() == (("127.0.0.3", 1001),)
        await looker.stop()
        await a.stop()

    run(work)


def test_a_neighbour_is_offered_again_when_it_answers_again(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "QUESTION_GAPS_S", (0.3,))
    monkeypatch.setattr(discovery, "QUESTION_GAP_S", (0.3, 0.4))
    monkeypatch.setattr("peer.candidates.OFFER_AGAIN_S", 0.5)

    async def work() -> None:
        found: list[tuple[str, int]] = []
        a = Discovery(tag, 1001, found.append, LOOPBACK)
        b = Discovery(tag, 1002, lambda address: None, LOOPBACK)
        await a.start()
        await b.start()
        await until(lambda: len(found) >= 3)
        assert set(found) == {("127.0.0.1", 1002)}
        await b.stop()
        await a.stop()

    run(work)


def test_who_hears_a_round_of_answers_lets_its_own_question_be(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "QUESTION_GAPS_S", (0.2, 0.2))
    monkeypatch.setattr(discovery, "QUESTION_GAP_S", (0.2, 0.2))

    async def work() -> None:
        a = Discovery(tag, 1001, lambda address: None, LOOPBACK)
        asked: list[bool] = []
        monkeypatch.setattr(a, "_ask", lambda with_known_answers: asked.append(with_known_answers))
        await a.start()
        await until(lambda: len(asked) == 4)
        assert asked == [True, True, False, False]  # nobody is in sight, so every question is asked
        a._candidates.see("somebody", ("127.0.0.1", 1002), 0.0)
        a._seen_since_question = 10**6
        await until(lambda: a._seen_since_question == 0)
        count = len(asked)
        await until(lambda: len(asked) == count + 1)  # the answers of one round spare one question
        await a.stop()

    run(work)
