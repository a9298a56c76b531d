"""The REST API over real sockets: what it takes, what it refuses, and who is let in at all."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from peer.config import TaskTable
from peer.control import Control, ControlError, Exit
from peer.driver import Clock
from peer.events import AcceptTask, AddTask, Event, LeaveTask, Notify, OpenInvite, RevokePeer, RowsChanged, TaskId
from peer.web.api import Api
from peer.web.events import EventRing
from peer.web.guard import MAX_BODY_BYTES
from peer.web.schemas import Acceptance
from peer.web.server import WebServer
from protocol.cards import card_id, open_card
from protocol.identity import Identity, PeerId, found_network, short
from protocol.joining import read_link
from protocol.tasks import Task
from protocol.wire import decode

TASK = {"name": "pumps", "columns": [{"name": "temp"}], "target": {"name": "fault", "classes": ["no", "yes"]}, "model": "lda"}
LAPTOP, NAS = "11" * 32, "22" * 32


class Stub:
    """A daemon as the API sees one."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ring = EventRing(1)
        self.identity: Identity = found_network(b"r" * 32, b"a" * 32, b"p" * 32, self.clock.now())
        self.asked: list[Event] = []
        self.answer: tuple[Notify, ...] = ()
        self.known: list[dict[str, Any]] = [{"id": "ab" * 32, "name": "digits", "decision": "offered"}]
        self.reachable = ["192.168.1.20:8786"]
        self.kept: list[TaskTable] = []
        self.source: str | None = "all.csv"
        self.fault: ControlError | None = None
        self.is_stopped = False

    def status(self) -> dict[str, Any]:
        if self.fault is not None:
            raise self.fault
        return {"name": "pi", "loss": float("nan")}

    def peers(self) -> list[dict[str, Any]]:
        return [
            {"id": LAPTOP, "short": short(PeerId(bytes.fromhex(LAPTOP))), "name": "laptop"},
            {"id": NAS, "short": short(PeerId(bytes.fromhex(NAS))), "name": "twin"},
            {"id": "33" * 32, "short": "XXXX-XXXX", "name": "twin"},
        ]

    def tasks(self) -> list[dict[str, Any]]:
        return self.known

    def addresses(self) -> list[str]:
        return self.reachable

    def stop(self) -> None:
        self.is_stopped = True

    async def ask(self, event: Event) -> tuple[Notify, ...]:
        self.asked.append(event)
        if isinstance(event, AddTask):
            self.known.append({"id": card_id(event.card).hex(), "name": "pumps", "decision": "offered"})
        return self.answer

    def table_for(self, task: TaskId, name: str, wanted: Acceptance) -> TaskTable:
        return TaskTable(source=wanted.source or self.source, map=wanted.map or {})

    async def try_rows(self, task: TaskId, table: TaskTable) -> Mapping[str, Any]:
        if table.source == "bad.csv":
            raise ControlError("The file has no column 'temp'.", "chinwag data map digits temp=Temp_C", Exit.SCHEMA)
        return {"rows": 3}

    def keep_table(self, task: TaskId, name: str, table: TaskTable) -> None:
        self.kept.append(table)

    async def join(self, link: str, name: str | None, leave_network: bool) -> None:
        raise RuntimeError("a defect of ours")


def play(home: Path, act: Callable[[Stub, Control], None]) -> None:
    """Serve a stub, and let `act` talk to it from a thread."""

    async def serve() -> None:
        stub = Stub()
        web = WebServer(home / "control.json", 0)
        await web.start(Api(stub).app(web.token))  # type: ignore[arg-type]
        try:
            await asyncio.to_thread(act, stub, Control.of(home))
        finally:
            stub.ring.close()
            await web.stop()

    asyncio.run(serve())


def refused(call: Callable[[], object]) -> ControlError:
    with pytest.raises(ControlError) as caught:
        call()
    return caught.value


def raw(control: Control, path: str, headers: dict[str, str], method: str = "GET", body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    """One request with exactly these headers."""
    connection = http.client.HTTPConnection(control.host, control.port, timeout=5)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in (headers | ({} if body is None else {"Content-Length": str(len(body))})).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_control_json_is_private_names_an_address_that_answers_and_goes_when_the_daemon_goes(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        path = tmp_path / "control.json"
        assert json.loads(path.read_text()).keys() == {"url", "token", "pid"}
        if sys.platform != "win32":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert control.pid == os.getpid()
        assert control.get("/status") == {"name": "pi", "loss": None}

    play(tmp_path, act)
    assert not (tmp_path / "control.json").exists()


def test_a_daemon_that_ends_leaves_the_control_json_of_another_alone(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        (tmp_path / "control.json").write_text('{"token": "another"}')

    play(tmp_path, act)
    assert (tmp_path / "control.json").exists()


def test_nobody_without_the_token_gets_anything(tmp_path: Path) -> None:
    wrong = [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x"]

    def act(stub: Stub, control: Control) -> None:
        for token in wrong:
            headers = {"Host": "localhost"}
            if token is not None:
                headers["Authorization"] = token.format(token=control.token)
            for path in ("/api/v1/status", "/api/v1/nothing", "/api/v1/events"):
                status, found = raw(control, path, headers)
                assert status == 401
                assert found["exit"] == Exit.REFUSED

    play(tmp_path, act)


def test_a_name_that_was_pointed_at_this_computer_is_refused(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        def status(host: str) -> int:
            return raw(control, "/api/v1/status", {"Host": host, "Authorization": f"Bearer {control.token}"})[0]

        for host in (f"127.0.0.1:{control.port}", "localhost", "LOCALHOST:1", "[::1]:80"):
            assert status(host) == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost:80:evil", "evil.example:80", ""):
            assert status(host) == 403

    play(tmp_path, act)


def test_a_body_that_is_too_large_is_refused_even_if_it_does_not_say_so(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        error = refused(lambda: control.post("/join", {"link": "x" * MAX_BODY_BYTES}))
        assert "256 KiB" in error.sentence
        connection = http.client.HTTPConnection(control.host, control.port, timeout=5)
        pieces = (b"x" * 65536 for _ in range(5))
        connection.request("POST", "/api/v1/join", pieces, {"Authorization": f"Bearer {control.token}"}, encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()

    play(tmp_path, act)


def test_every_error_has_one_form(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        headers = {"Host": "localhost", "Authorization": f"Bearer {control.token}"}
        assert raw(control, "/api/v1/nothing", headers)[0] == 404
        status, found = raw(control, "/api/v1/status", headers, "DELETE")
        assert (status, found.keys()) == (405, {"error", "next", "exit"})
        status, found = raw(control, "/api/v1/join", headers, "POST", b'{"link": "x"}')
        assert (status, found["exit"]) == (500, Exit.FAILED)
        status, found = raw(control, "/api/v1/join", headers, "POST", b'{"lonk": "x"}')
        assert (status, found["exit"]) == (400, Exit.USAGE)
        assert "did you mean 'link'" in found["error"]
        stub.fault = ControlError("The daemon is changing networks.", "chinwag status", Exit.NOT_RUNNING)
        status, found = raw(control, "/api/v1/status", headers)
        assert status == 503
        assert found == {"error": "The daemon is changing networks.", "next": "chinwag status", "exit": Exit.NOT_RUNNING}

    play(tmp_path, act)


def test_a_task_is_signed_by_this_device_and_known_by_its_hash(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        found = control.post("/tasks", TASK)
        [event] = stub.asked
        assert isinstance(event, AddTask)
        signer, body = open_card("task", event.card)
        task = decode(Task, body)
        assert (signer, task.author, task.network) == (stub.identity.peer, stub.identity.peer, stub.identity.network)
        assert abs(task.created - stub.clock.now()) < 60
        assert found == {"id": card_id(event.card).hex()}

    play(tmp_path, act)


def test_a_task_that_cannot_be_says_why(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        error = refused(lambda: control.post("/tasks", TASK | {"model": "gpt"}))
        assert error.exit == Exit.SCHEMA
        assert "Task.model" in error.sentence
        assert stub.asked == []

    play(tmp_path, act)


def test_rows_that_do_not_fit_are_found_before_anything_is_accepted(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        error = refused(lambda: control.post("/tasks/digits/accept", {"source": "bad.csv"}))
        assert (error.exit, error.next) == (Exit.SCHEMA, "chinwag data map digits temp=Temp_C")
        stub.source = None
        assert refused(lambda: control.post("/tasks/digits/accept")).exit == Exit.SCHEMA
        assert refused(lambda: control.post("/tasks/digits/accept", {"source": "a.csv", "holdout": 1.0})).exit == Exit.USAGE
        assert refused(lambda: control.post("/tasks/nothing/accept", {})).exit == Exit.USAGE
        assert stub.asked == stub.kept == []

    play(tmp_path, act)


def test_accepting_keeps_the_rows_and_then_tells_the_brain(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        task = "ab" * 32
        assert control.post(f"/tasks/{task}/accept", {"source": "good.csv", "map": {"temp": "T"}}) == {"id": task, "report": {"rows": 3}}
        assert stub.kept == [TaskTable(source="good.csv", map={"temp": "T"})]
        assert stub.asked == [AcceptTask(TaskId(bytes.fromhex(task)))]
        stub.known[0]["decision"] = "accepted"
        control.post(f"/tasks/{task[:8]}/accept", {})
        assert stub.asked[1:] == [RowsChanged(TaskId(bytes.fromhex(task)))]

    play(tmp_path, act)


def test_two_tasks_of_one_name_must_be_told_apart(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        stub.known.append({"id": "cd" * 32, "name": "digits", "decision": "offered"})
        assert "2 tasks" in refused(lambda: control.post("/tasks/digits/leave")).sentence
        assert control.post("/tasks/cdcdcdcd/leave", {"erase": True}) == {"id": "cd" * 32}
        assert stub.asked == [LeaveTask(TaskId(b"\xcd" * 32), True)]

    play(tmp_path, act)


def test_an_invite_is_a_link_to_this_device_with_a_token_that_the_brain_knows(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        found = control.post("/invites", {"ttl_s": 600, "may_invite": True})
        invite = read_link(found["link"])
        [event] = stub.asked
        assert isinstance(event, OpenInvite)
        assert (event.token, event.expires, event.may_invite) == (invite.token, invite.expires, True)
        assert invite.inviter == stub.identity.peer
        assert list(invite.addresses) == found["addresses"] == ["192.168.1.20:8786"]
        assert control.post("/invites")["link"] != found["link"]

    play(tmp_path, act)


def test_who_may_not_invite_or_cannot_be_reached_gives_no_link(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        assert refused(lambda: control.post("/invites", {"ttl_s": 1})).exit == Exit.USAGE
        stub.reachable = []
        assert refused(lambda: control.post("/invites")).exit == Exit.UNREACHABLE
        founder = stub.identity
        stub.identity = Identity(founder.key, founder.root, founder.inviter, founder.leaf, founder.authority_key, founder.authority)
        assert refused(lambda: control.post("/invites", {"may_invite": True})).exit == Exit.REFUSED
        stub.identity = Identity(founder.key, founder.root, founder.inviter, founder.leaf)
        assert refused(lambda: control.post("/invites")).exit == Exit.REFUSED
        assert stub.asked == []

    play(tmp_path, act)


def test_a_peer_is_revoked_by_any_of_its_names(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        for given in (LAPTOP, LAPTOP.upper(), short(PeerId(bytes.fromhex(LAPTOP))).lower(), "laptop"):
            assert control.post("/revocations", {"peer": given}) == {"peer": LAPTOP}
        assert stub.asked == [RevokePeer(PeerId(bytes.fromhex(LAPTOP)))] * 4

    play(tmp_path, act)


def test_a_name_of_two_peers_revokes_neither_and_a_refusal_of_the_brain_is_the_answer(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        assert "2 peers" in refused(lambda: control.post("/revocations", {"peer": "twin"})).sentence
        assert refused(lambda: control.post("/revocations", {"peer": "nobody"})).exit == Exit.USAGE
        assert stub.asked == []
        stub.answer = (Notify("command.refused", {"reason": "this device did not invite that one"}),)
        error = refused(lambda: control.post("/revocations", {"peer": "laptop"}))
        assert (error.sentence, error.exit) == ("This device did not invite that one.", Exit.REFUSED)

    play(tmp_path, act)


def test_the_event_stream_goes_on_where_the_reader_left_off(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        stub.ring.publish("peer.connected", {"name": "laptop"})
        stub.ring.publish("score", {"now": 0.93})
        stream = control.events(last=1)
        event = next(stream)
        assert (event.id, event.kind, event.facts) == (2, "score", {"now": 0.93})
        stream.close()
        first = next(control.events(last=0))
        assert (first.id, first.kind) == (1, "peer.connected")
        odd = http.client.HTTPConnection(control.host, control.port, timeout=5)
        odd.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {control.token}", "Last-Event-ID": "-1; x"})
        assert odd.getresponse().status == 200
        odd.close()

    play(tmp_path, act)


def test_stop_is_answered_before_the_daemon_stops(tmp_path: Path) -> None:
    def act(stub: Stub, control: Control) -> None:
        assert control.post("/stop") == {"stopping": True}
        assert stub.is_stopped

    play(tmp_path, act)
