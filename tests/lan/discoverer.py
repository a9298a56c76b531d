"""A daemon that does nothing but look for neighbours: run on a host of a test's LAN, it writes what it sees as JSON, one object a line.

Arguments: the network's tag, the TCP port to announce, and interfaces ("auto", or names and addresses parted by commas). It stops, with a
goodbye, when its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from peer.discovery import Discovery


def say(**what: object) -> None:
    print(json.dumps({"at": time.time(), **what}), flush=True)


async def main(tag: str, port: str, interfaces: str = "auto") -> None:
    wanted = "auto" if interfaces == "auto" else interfaces.split(",")
    discovery = Discovery(
        tag,
        int(port),
        lambda address: say(found=address),
        wanted,
        on_change=lambda addresses: say(changed=addresses),
    )
    await discovery.start()
    say(started=discovery.instance, off=discovery.why_off, addresses=discovery.addresses())
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "candidates":
            say(candidates=discovery.candidates())
    await discovery.stop()
    say(stopped=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
