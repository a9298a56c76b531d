from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.joining import Invite, invite_link

Run = Callable[..., Any]

LINK = invite_link(Invite(addresses=("192.168.1.20:8786",), inviter=b"i" * 32, token=b"t" * 16, expires=2_000_000_000))


@pytest.fixture
def inviting(daemon: Any) -> Any:
    daemon.says("POST /invites", {"link": LINK, "expires": int(time.time()) + 600, "addresses": ["192.168.1.20:8786"]})
    return daemon


def test_an_invite_is_the_command_to_type_on_the_other_device(chinwag: Run, inviting: Any) -> None:
    ran = chinwag("invite")
    assert f"  chinwag join {LINK}\n" in ran.out
    assert "█" not in ran.out
    assert inviting.body_of("POST /invites") == {"ttl_s": 600, "may_invite": False}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)])
def test_a_time_is_written_the_way_one_says_it(chinwag: Run, inviting: Any, text: str, seconds: int) -> None:
    chinwag("invite", "--ttl", text, "--may-invite")
    assert inviting.body_of("POST /invites") == {"ttl_s": seconds, "may_invite": True}


def test_a_time_without_a_unit_is_refused(chinwag: Run, inviting: Any) -> None:
    assert chinwag("invite", "--ttl", "10").code == 2


def test_the_code_is_drawn_when_asked_for(chinwag: Run, inviting: Any) -> None:
    lines = [line for line in chinwag("invite", "--qr").out.splitlines() if set(line) & set("█▀▄")]
    assert len({len(line.rstrip()) for line in lines}) == 1
    assert all(len(line) <= 80 for line in lines)


def test_joining_through_the_daemon_ends_with_what_is_offered(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status())
    daemon.says("POST /join", {"network": "cd" * 32, "peer": "ab" * 32})
    daemon.says("GET /tasks", {"tasks": [sample.card()]})
    ran = chinwag("join", LINK, "--name", "laptop")
    assert ran.code == 0, ran.err
    assert daemon.body_of("POST /join") == {"link": LINK, "leave_network": False, "name": "laptop"}
    assert "next: chinwag task accept pump-faults" in ran.out


@pytest.mark.parametrize("broken", [LINK[:-3], "hello", LINK.replace("chinwag:", "https:"), LINK[:30] + "a" + LINK[31:]])
def test_a_damaged_link_is_found_before_anything_is_sent(chinwag: Run, daemon: Any, broken: str) -> None:
    ran = chinwag("join", broken)
    assert ran.code == 2
    assert daemon.asked == []


def test_a_link_that_was_broken_over_two_lines_still_works(chinwag: Run, daemon: Any, sample: Any) -> None:
    daemon.says("GET /status", sample.status())
    daemon.says("POST /join", {"network": "cd" * 32, "peer": "ab" * 32})
    daemon.says("GET /tasks", {"tasks": []})
    assert chinwag("join", LINK[:40], LINK[40:]).code == 0
    assert daemon.body_of("POST /join")["link"] == LINK


def test_a_revocation_needs_a_yes(chinwag: Run, daemon: Any) -> None:
    daemon.says("POST /revocations", {"peer": "ab" * 32})
    assert chinwag("revoke", "nas").code == 2
    assert chinwag("revoke", "nas", "--yes").code == 0
    assert daemon.body_of("POST /revocations") == {"peer": "nas"}


def test_a_refusal_of_the_daemon_keeps_its_exit_code(chinwag: Run, daemon: Any) -> None:
    daemon.says("POST /invites", {"error": "This device may not invite.", "next": "ask the founder", "exit": 4}, 409)
    assert chinwag("invite").code == 4


def test_a_device_that_was_invited_does_not_slip_into_another_network(chinwag: Run, home: Path) -> None:
    from peer.config import Home, save_identity
    from protocol.identity import Identity, found_network, issue_leaf, key_from_seed

    founder = found_network(b"r" * 32, b"a" * 32, b"p" * 32, time.time())
    assert founder.authority_key is not None
    assert founder.authority is not None
    key = key_from_seed(b"k" * 32)
    leaf = issue_leaf(founder.authority_key, founder.authority, key.public_key(), time.time())
    chinwag("init")
    save_identity(Home(home), Identity(key, founder.root, founder.authority, leaf))
    ran = chinwag("join", LINK)
    assert ran.code == 4
    assert "--leave-network" in ran.err
