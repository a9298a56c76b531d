"""Who belongs: strangers, members of other networks, revoked and expired members get nothing, and an invite lets in one device, once.

Real daemons, and a TLS client that is not ours (stranger.py) in the part of those who try.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer.config import Home, save_identity
from protocol.frames import FrameReader, message_frame
from protocol.identity import Identity, found_network, short
from protocol.joining import Joiner, read_link
from protocol.messages import CHUNK_TYPE, VERSION, Close, CloseCode, Fetch, Hello, Message, Propose, Result, decode_message
from scenarios.lan import Lan
from scenarios.village import Device, admitted, become_members, until

TASK = "leaks"
PORT = 8786

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Told:
    """The types of the frames that came, the codes of those that were CLOSE, and whether the connection was ended."""

    types: tuple[int, ...]
    codes: tuple[int, ...]
    is_ended: bool


@dataclass(frozen=True)
class Village:
    """Three members that have learned something together, and a host from which others try."""

    lan: Lan
    members: list[Device]
    outside: Device
    folder: Path

    def tries(self, identity: Identity | None, *messages: Message, manner: str = "patient") -> Told:
        """What somebody with this identity (None: without a certificate) is told by the first member."""
        files: list[str] = []
        if identity is not None:
            home = Home(self.folder / "somebody")
            save_identity(home, identity)
            files = [str(home.identity / "leaf.pem"), str(home.identity / "key.pem")]
        argv = [sys.executable, str(Path(__file__).with_name("stranger.py")), self.members[0].host.address, str(PORT), manner, *files]
        process = self.outside.host.popen(argv, stdin=-1, stdout=-1, text=True)
        out, _ = process.communicate(b"".join(map(message_frame, messages)).hex(), timeout=60)
        answer = json.loads(out)
        frames = list(FrameReader().receive(bytes.fromhex(answer["received"])))
        codes = [decode_message(f.type, f.payload).code for f in frames if f.type == Close.TYPE]
        return Told(tuple(f.type for f in frames), tuple(codes), answer["ended"] != "still open")

    def wishes(self) -> Sequence[Message]:
        """What a member would say to get at the network's results, and to exchange."""
        [(task, _)] = self.members[0].saved().results
        held = self.members[0].saved().states[task, "statistics"]
        about = {"task": task, "part": "statistics"}
        offer = {"schema": bytes(32), "encoding": "f64", "weight": 1, "size": 8, "digest": bytes(32)}
        return (
            Hello(versions=(VERSION,), agent="stranger", capabilities=(), revocations=bytes(32), tasks=bytes(32)),
            Fetch(xid=os.urandom(16), **about),
            Propose(xid=os.urandom(16), epoch=held.epoch.number, starter=held.epoch.starter, **about, **offer),
        )


@pytest.fixture(scope="module")
def three(village: Callable[[int], tuple[Lan, list[Device]]], tmp_path_factory: pytest.TempPathFactory) -> Village:
    folder = tmp_path_factory.mktemp("rows")
    lan, [*members, outside] = village(4)
    become_members(members, period_s=0.1)
    for member in members:
        member.start()
    for member in members:
        member.wait_until_up()
    chance = np.random.default_rng(1)
    for member in members:
        kind = chance.integers(2, size=50)
        lines = [f"{x},{y},{'yes' if k else 'no'}" for k, (x, y) in zip(kind, chance.normal(size=(50, 2)) + kind[:, None], strict=True)]
        file = folder / f"{member.host.name}.csv"
        file.write_text("\n".join(["x,y,leak", *lines]) + "\n")
        rows = ("--data", str(file), "--holdout", "0", "--yes")
        if member is members[0]:
            member.chinwag("task", "new", TASK, "--model", "lda", "--target", "leak", *rows)
        else:
            wait_for(member, "task.offered")
            member.chinwag("task", "accept", TASK, *rows)
    for member in members:
        wait_for_rows(member, 150)
    return Village(lan, members, outside, folder)


def wait_for(device: Device, event: str) -> None:
    until(lambda: device.happened(event), device.last_words)


def wait_for_rows(device: Device, rows: int) -> None:
    """Until a device has published a settled result over this many rows."""

    def is_there() -> bool:
        results = list(device.saved().results.values())
        return any(r.facts["is_settled"] and round(r.arrays["rows"] / r.arrays["starter"]) == rows for r in results)

    until(is_there, device.last_words)


# members only ------------------------------------------------------------------------------------------------------------------


def test_who_is_no_member_gets_not_a_byte(three: Village) -> None:
    founder, now = three.members[0].identity(), time.time()
    foreigner = found_network(os.urandom(32), os.urandom(32), os.urandom(32), now)
    expired = admitted(founder, now - 2 * 86_400, days=1)
    for identity in (None, foreigner, expired):
        for manner in ("patient", "eager"):
            assert three.tries(identity, *three.wishes(), manner=manner) == Told((), (), True)
    member = three.tries(admitted(founder, now), *three.wishes(), Close(code=int(CloseCode.NORMAL)))
    assert {Hello.TYPE, Result.TYPE, CHUNK_TYPE} <= set(member.types), "what the others do not get"


def test_a_daemon_of_another_network_exchanges_nothing_and_is_nobodys_neighbour(three: Village) -> None:
    first = three.members[0]
    become_members([three.outside], static=(f"{first.host.address}:{PORT}",))
    three.outside.start("-v")
    wait_for(three.outside, "dial.failed")
    assert three.outside.peers() == {}
    three.outside.stop()
    peer = three.outside.identity().peer.hex()
    assert not any(peer in member.log.read_text() for member in three.members)
    assert peer not in {neighbour["id"] for neighbour in first.peers().values()}


def test_a_revoked_member_is_told_so_and_nothing_else(three: Village) -> None:
    *rest, revoked = three.members
    peer = revoked.identity().peer.hex()
    rest[0].chinwag("revoke", revoked.host.name, "--yes")
    for member in rest:
        wait_for_rows(member, 100)
        wait_for(member, "peer.revoked")
    wait_for(revoked, "identity.revoked")
    before = [exchanges_with(member, peer) for member in rest]
    assert three.tries(revoked.identity(), *three.wishes()) == Told((Close.TYPE,), (CloseCode.REVOKED,), True)
    # Its owner lets it forget that it was revoked, and it tries again in good faith.
    revoked.kill()
    with closing(sqlite3.connect(revoked.home / "state.db")) as store, store:
        store.execute("DELETE FROM revocations")
    others = len(revoked.happened("exchange.committed"))
    revoked.start()
    wait_for_another(revoked, "task.opened")
    until(lambda: {peer["state"] for peer in revoked.peers().values()} & {"lost", "quiet", "revoked"}, revoked.last_words, every_s=0.3)
    time.sleep(3)  # what must not happen has a dozen periods to happen in
    assert [exchanges_with(member, peer) for member in rest] == before
    assert len(revoked.happened("exchange.committed")) == others
    assert all(member.peers()[short(revoked.identity().peer)]["state"] == "revoked" for member in rest)


def exchanges_with(device: Device, peer: str) -> int:
    return sum(1 for event in device.happened("exchange.committed") if event["peer"] == peer)


def wait_for_another(device: Device, event: str) -> None:
    before = len(device.happened(event))
    until(lambda: len(device.happened(event)) > before, device.last_words)


# invites -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expiring(three: Village) -> dict[str, Any]:
    """An invite of one minute, the shortest there is."""
    return dict(three.members[0].chinwag("invite", "--ttl", "60s", "--json").json)


def test_while_an_invite_is_open_a_stranger_hears_a_greeting_and_no_more(three: Village, expiring: dict[str, Any]) -> None:
    assert expiring["expires"] > time.time()
    assert three.tries(None, *three.wishes()[1:]) == Told((Hello.TYPE, Close.TYPE), (CloseCode.BAD_STATE,), True)


def test_an_invite_lets_in_one_device_once(three: Village) -> None:
    link = three.members[0].chinwag("invite", "--json").json["link"]
    first, second = (Device(three.outside.host, three.folder / name) for name in ("first", "second"))
    first.chinwag("join", link, "--name", "guest")
    assert first.identity().network == three.members[0].identity().network
    refused = second.chinwag("join", link, code=4)
    assert "used already" in refused.err
    assert not (second.home / "identity").exists()


def test_a_mistyped_link_is_found_out_before_anything_is_sent(three: Village) -> None:
    link = three.members[0].chinwag("invite", "--json").json["link"]
    guest = Device(three.outside.host, three.folder / "mistyped")
    rules = "add table inet watch; add chain inet watch out { type filter hook output priority 0; }"
    guest.host.run(["nft", f"{rules}; add rule inet watch out tcp flags syn counter"], check=True)
    for at in range(12, len(link), len(link) // 6):
        wrong = link[:at] + ("a" if link[at] != "a" else "b") + link[at + 1 :]
        assert "copy it once more" in guest.chinwag("join", wrong, code=2).err
    assert guest.chinwag("join", link[:-3], code=2).err
    assert dials(guest) == 0
    guest.chinwag("join", link)
    assert dials(guest) > 0


def dials(device: Device) -> int:
    """TCP connections that this device has tried to open, as the kernel counts."""
    listed = json.loads(device.host.run(["nft", "-j", "list", "table", "inet", "watch"], check=True).stdout)["nftables"]
    [counter] = [part["counter"] for line in listed if "rule" in line for part in line["rule"]["expr"] if "counter" in part]
    return int(counter["packets"])


def test_an_invite_that_has_expired_is_refused_by_the_clock_of_either_side(three: Village, expiring: dict[str, Any]) -> None:
    remaining = expiring["expires"] - time.time()
    assert remaining < 60
    time.sleep(max(remaining + 0.5, 0))
    late = Device(three.outside.host, three.folder / "late")
    assert "expired" in late.chinwag("join", expiring["link"], code=4).err
    three.members[0].chinwag("invite")
    told = three.tries(None, join_by_a_slow_clock(three, expiring))
    assert told == Told((Hello.TYPE, Close.TYPE), (CloseCode.INVITE_REFUSED,), True)


def join_by_a_slow_clock(three: Village, expiring: dict[str, Any]) -> Message:
    """What a joiner would say if its clock were an hour behind: it takes the invite for a good one."""
    founder = three.members[0].identity()
    joiner = Joiner(read_link(expiring["link"]), founder.leaf, "late", os.urandom(32), os.urandom(32), time.time() - 3600)
    greeting = Hello(versions=(VERSION,), agent="chinwag", capabilities=(), revocations=bytes(32), tasks=bytes(32))
    [asked] = FrameReader().receive(joiner.receive(message_frame(greeting), time.time() - 3600))
    return decode_message(asked.type, asked.payload)
