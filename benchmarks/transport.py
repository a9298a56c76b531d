"""Our transport beside plain asyncio TLS and plain TCP, in one run: the same bytes, one direction, over loopback, both ends in one process.

A stall is the time by which a timer of 1 ms on the same event loop comes late: what every other task of the daemon would feel.
"""

from __future__ import annotations

import asyncio
import ssl
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from peer.events import Connected, Event, LinkId, Received
from peer.tls import dialling_context, listening_context
from peer.transport import Transport
from protocol.identity import Identity, found_network, issue_leaf, key_from_seed

from .table import Row

MIB = 1024 * 1024
SIZES = (1, 16, 64)
SLICE = 256 * 1024
RUNS = 7

Send = Callable[[bytes], Awaitable[None]]


def measure() -> list[Row]:
    """MiB/s of the three, medians of RUNS, alternating; and the stalls while 64 MiB go through ours."""
    return asyncio.run(_measure())


async def _measure() -> list[Row]:
    async with AsyncExitStack() as opened:
        return await _compare(opened)


async def _compare(opened: AsyncExitStack) -> list[Row]:
    now = time.time()
    founder = found_network(b"r" * 32, b"a" * 32, b"p" * 32, now)
    assert founder.authority_key is not None
    assert founder.authority is not None
    key = key_from_seed(b"q" * 32)
    other = Identity(key, founder.root, founder.authority, issue_leaf(founder.authority_key, founder.authority, key.public_key(), now))
    ways = {
        "chinwag": await _chinwag(opened, founder, other),
        "asyncio TLS": await _streams(opened, listening_context(founder), dialling_context(other)),
        "asyncio TCP": await _streams(opened, None, None),
    }
    rows = []
    for size in SIZES:
        payload = b"\x5a" * (size * MIB)
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        stalls: list[float] = []
        for _ in range(RUNS):
            for name, send in ways.items():
                watch = asyncio.create_task(_stalls())
                began = time.perf_counter()
                await send(payload)
                speeds[name].append(size / (time.perf_counter() - began))
                watch.cancel()
                if name == "chinwag":
                    stalls += await watch
                else:
                    await watch
        medians = {name: statistics.median(found) for name, found in speeds.items()}
        measured = ", ".join(f"{name} {speed:,.0f}" for name, speed in medians.items())
        ratio = statistics.median(a / b for a, b in zip(speeds["chinwag"], speeds["asyncio TLS"], strict=True))
        rows.append(
            Row(
                f"{size} MiB over loopback, MiB/s (medians of {RUNS})",
                f"{measured}; {ratio:.2f} × asyncio TLS",
                "≥ 400" if size == 64 else "",
            )
        )
        if size == 64:
            worst = sorted(stalls)[int(0.999 * len(stalls))]
            rows.append(Row("loop stall meanwhile, p99.9", f"{worst * 1000:.1f} ms", "≤ 20 ms"))
    return rows


async def _stalls() -> list[float]:
    late = []
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - began - 0.001)
    except asyncio.CancelledError:
        return late


async def _chinwag(opened: AsyncExitStack, listener: Identity, dialler: Identity) -> Send:
    arrived = 0
    whole = asyncio.Event()
    wanted = 0
    links: asyncio.Queue[LinkId] = asyncio.Queue()

    def received(event: Event) -> None:
        nonlocal arrived
        if isinstance(event, Received):
            arrived += len(event.data)
            if arrived >= wanted:
                whole.set()

    def dialled(event: Event) -> None:
        if isinstance(event, Connected):
            links.put_nowait(event.link)

    here, there = Transport(listener, received), Transport(dialler, dialled)
    opened.push_async_callback(here.close)
    opened.push_async_callback(there.close)
    port = await here.listen("127.0.0.1", 0)
    there.dial(("127.0.0.1", port), listener.peer)
    link = await links.get()

    async def send(payload: bytes) -> None:
        nonlocal arrived, wanted
        arrived, wanted = 0, len(payload)
        whole.clear()
        view = memoryview(payload)
        for start in range(0, len(payload), SLICE):
            there.send(link, bytes(view[start : start + SLICE]))
        await whole.wait()

    return send


async def _streams(opened: AsyncExitStack, listening: ssl.SSLContext | None, dialling: ssl.SSLContext | None) -> Send:
    """asyncio's streams, used as well as one can: slices of the same size, with drain."""
    arrived = 0
    wanted = 0
    whole = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        while data := await reader.read(SLICE):
            arrived += len(data)
            if arrived >= wanted:
                whole.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=listening)
    port = server.sockets[0].getsockname()[1]
    opened.callback(server.close)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=dialling, server_hostname="" if dialling else None)
    opened.callback(writer.close)

    async def send(payload: bytes) -> None:
        nonlocal arrived, wanted
        arrived, wanted = 0, len(payload)
        whole.clear()
        view = memoryview(payload)
        for start in range(0, len(payload), SLICE):
            writer.write(view[start : start + SLICE])
            await writer.drain()
        await whole.wait()

    return send
