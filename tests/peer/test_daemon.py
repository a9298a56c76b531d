"""The daemon on real sockets and a real disk: it starts, says where it is, meets others, moves to another network, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peer.config import Config, ControlTable, Home, PeerTable, load_config, save_config, save_identity
from peer.control import Control, ControlError, Exit
from peer.daemon import Daemon
from peer.events import Train, Trained
from peer.life import Life
from peer.membership import Membership
from peer.store import Store, StoreFull
from peer.trainer import Trainer
from protocol.identity import Identity, found_network, issue_leaf, key_from_seed

ROOT = Path(__file__).parents[2]
ONE = found_network(b"r" * 32, b"a" * 32, b"p" * 32, time.time())
OTHER = found_network(b"R" * 32, b"A" * 32, b"P" * 32, time.time())
TASK = {
    "name": "pumps",
    "columns": [{"name": "temp"}, {"name": "rpm"}],
    "target": {"name": "fault", "classes": ["no", "yes"]},
    "model": "lda",
    "thresholds": {"min_rows": 5, "min_peers": 1},
}


def make_home(path: Path, identity: Identity, **peer: Any) -> Home:
    """A peer that keeps to loopback and looks for nobody but those it is told of."""
    home = Home(path)
    table = PeerTable(name=path.name, port=0, discovery=("static",), interfaces=("127.0.0.1",), period_s=0.05)
    save_config(home, Config(peer=msgspec.structs.replace(table, **peer)))
    save_identity(home, identity)
    return home


def member_of(network: Identity, seed: bytes) -> Identity:
    assert network.authority_key is not None
    assert network.authority is not None
    key = key_from_seed(seed * 32)
    leaf = issue_leaf(network.authority_key, network.authority, key.public_key(), time.time())
    return Identity(key, network.root, network.authority, leaf)


def make_rows(path: Path, shift: float) -> Path:
    lines = [f"{20 + shift + n % 7},{1000 + 13 * n % 90},{'yes' if n % 3 else 'no'}" for n in range(40)]
    path.write_text("temp,rpm,fault\n" + "\n".join(lines) + "\n")
    return path


async def begin(home: Home) -> tuple[Daemon, asyncio.Task[None], Control]:
    """A daemon in this process that answers."""
    daemon = Daemon(home, load_config(home))
    task = asyncio.create_task(daemon.run())
    while not home.control.exists():
        await asyncio.wait([task], timeout=0.01)
        if task.done():
            task.result()
    return daemon, task, Control.of(home.path)


@contextlib.asynccontextmanager
async def running(home: Home) -> AsyncIterator[Control]:
    """The same, until the block ends."""
    daemon, task, control = await begin(home)
    try:
        yield control
    finally:
        daemon.stop()
        await task


async def get(control: Control, path: str = "/status") -> dict[str, Any]:
    return await asyncio.to_thread(control.get, path)


async def post(control: Control, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    return await asyncio.to_thread(control.post, path, body, 60.0)


async def until(control: Control, holds: Callable[[dict[str, Any]], bool], path: str = "/status") -> dict[str, Any]:
    """What the daemon answers once this holds."""
    async with asyncio.timeout(30):
        while not holds(found := await get(control, path)):  # noqa: ASYNC110 — the daemon is asked as a command would
            await asyncio.sleep(0.05)
        return found


def test_a_daemon_says_where_it_is_and_stops_when_asked(tmp_path: Path) -> None:
    home = make_home(tmp_path / "pi", ONE)

    async def play() -> None:
        _, task, control = await begin(home)
        status = await get(control)
        assert status["name"] == "pi"
        assert status["peer"] == ONE.peer.hex()
        assert status["pid"] == os.getpid()
        assert status["addresses"] == [f"127.0.0.1:{status['port']}"]
        assert status["alone_since"] is not None
        assert status["tasks"] == []
        assert status["version"]
        await post(control, "/stop")
        began = time.monotonic()
        await task
        assert time.monotonic() - began < 2  # a promise to the system that stops services, not a measurement
        assert not home.control.exists()

    asyncio.run(play())


def test_two_daemons_cannot_share_a_folder(tmp_path: Path) -> None:
    home = make_home(tmp_path / "pi", ONE)

    async def play() -> None:
        async with running(home) as control:
            with pytest.raises(ControlError, match=str(os.getpid())) as caught:
                await Daemon(home, load_config(home)).run()
            assert caught.value.next == "chinwag status"
            assert (await get(control))["name"] == "pi"

    asyncio.run(play())


@pytest.mark.parametrize("which", ["peer", "control"])
def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path: Path, which: str) -> None:
    home = make_home(tmp_path / "pi", ONE)
    config = load_config(home)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1" if which == "control" else "", 0))
        taken.listen()
        port = taken.getsockname()[1]
        if which == "control":
            config = Config(peer=config.peer, control=ControlTable(port=port))
        else:
            config = Config(peer=msgspec.structs.replace(config.peer, port=port))
        with pytest.raises(ControlError, match=str(port)) as caught:
            asyncio.run(Daemon(home, config).run())
        assert caught.value.next is not None
        assert not home.control.exists()
    asyncio.run(begin_and_end(home))  # nothing was left open


async def begin_and_end(home: Home) -> None:
    async with running(home):
        pass


def test_a_disk_that_is_full_ends_the_daemon_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path / "pi", ONE)
    commit, commits = Store.commit, []

    def fail(store: Store, records: Any) -> None:
        commits.append(records)
        if len(commits) > 1:
            raise StoreFull("The disk is full.", "free some space")
        commit(store, records)

    monkeypatch.setattr(Store, "commit", fail)

    async def play() -> None:
        _, task, control = await begin(home)
        with pytest.raises(ControlError):
            await post(control, "/invites")
        with pytest.raises(ControlError) as caught:
            await task
        assert caught.value.sentence.startswith("The disk is full.")
        assert caught.value.exit == Exit.FAILED
        assert not home.control.exists()

    asyncio.run(play())


def test_a_fault_of_the_brain_ends_the_daemon_and_what_is_on_disk_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path / "pi", ONE)

    def fail(membership: Membership, token: bytes, expires: float, *, may_invite: bool) -> None:
        raise AssertionError("the mean moved")

    async def play() -> None:
        _, task, control = await begin(home)
        await post(control, "/tasks", TASK)
        with monkeypatch.context() as patch:
            patch.setattr(Membership, "open_invite", fail)
            with pytest.raises(ControlError):
                await post(control, "/invites")
        with pytest.raises(ControlError) as caught:
            await task
        assert caught.value.exit == Exit.FAILED
        async with running(home) as again:
            assert [t["name"] for t in (await get(again))["tasks"]] == ["pumps"]

    asyncio.run(play())


def test_a_device_joins_through_the_api_and_lives_on_in_the_other_network(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(make_home(tmp_path / "laptop", ONE)) as laptop, running(make_home(tmp_path / "pi", OTHER)) as pi:
            await post(pi, "/tasks", TASK)
            link = (await post(laptop, "/invites"))["link"]
            with pytest.raises(ControlError) as caught:
                await post(pi, "/join", {"link": link[:-3]})
            assert caught.value.exit == Exit.USAGE
            assert (await get(pi))["network"] == OTHER.network.hex()

            answer = await post(pi, "/join", {"link": link, "name": "kitchen-pi"})
            assert answer["network"] == ONE.network.hex()
            status = await get(pi)  # the address and the token are what they were
            assert (status["network"], status["peer"], status["name"]) == (ONE.network.hex(), answer["peer"], "kitchen-pi")
            assert status["tasks"] == []  # what belonged to the other network has gone with it
            found = await until(laptop, lambda f: any(p["state"] == "live" for p in f["peers"]), "/peers")
            assert found["peers"][0]["id"] == answer["peer"]

            with pytest.raises(ControlError):  # an invite is for one
                await post(pi, "/join", {"link": link, "leave_network": True})
            with pytest.raises(ControlError, match="one network only") as caught:
                await post(pi, "/join", {"link": link})
            assert caught.value.exit == Exit.REFUSED
            assert (await get(pi))["network"] == ONE.network.hex()
        assert load_config(Home(tmp_path / "pi")).peer.name == "kitchen-pi"

    asyncio.run(play())


def test_a_daemon_that_cannot_live_in_the_network_it_joined_ends_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with running(make_home(tmp_path / "laptop", ONE)) as laptop:
            link = (await post(laptop, "/invites"))["link"]
            _, task, pi = await begin(make_home(tmp_path / "pi", OTHER))

            async def fail(life: Life, port: int) -> None:
                raise ControlError("The port is gone.", None, Exit.FAILED)

            monkeypatch.setattr(Life, "begin", fail)
            with pytest.raises(ControlError, match="port is gone"):
                await post(pi, "/join", {"link": link})
            with pytest.raises(ControlError, match="port is gone"):
                await task

    asyncio.run(play())


def test_rows_are_read_once_when_a_task_is_accepted_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peer.life.POLL_S", 0.05)
    jobs: list[str] = []
    run = Trainer.run

    async def counted(trainer: Trainer, job: Train, settings: Mapping[str, Any] | None = None) -> Trained:
        jobs.append(job.job)
        return await run(trainer, job, settings)

    monkeypatch.setattr(Trainer, "run", counted)
    rows = make_rows(tmp_path / "rows.csv", 0.0)

    async def play() -> None:
        async with running(make_home(tmp_path / "pi", ONE)) as pi:
            task = (await post(pi, "/tasks", TASK))["id"]
            await post(pi, f"/tasks/{task}/accept", {"source": str(rows)})
            before = await until(pi, lambda s: s["tasks"][0]["now"] is not None)
            assert jobs.count("open") == 1
            rows.write_text(rows.read_text() + "25,1100,no\n" * 60)
            await until(pi, lambda s: s["tasks"][0]["rows"] > before["tasks"][0]["rows"])
            assert jobs.count("open") == 2

    asyncio.run(play())


def test_whoever_follows_the_events_sees_who_comes(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(make_home(tmp_path / "laptop", ONE)) as laptop:
            where = (await get(laptop))["addresses"][0]
            async with running(make_home(tmp_path / "pi", member_of(ONE, b"q"), static=(where,))):
                event = await asyncio.to_thread(lambda: next(e for e in laptop.events(last=0) if e.kind == "peer.connected"))
                assert event.facts["peer"] == member_of(ONE, b"q").peer.hex()
                assert event.facts["at"] == pytest.approx(time.time(), abs=60)

    asyncio.run(play())


def test_two_devices_learn_from_their_own_files_and_go_on_after_a_restart(tmp_path: Path) -> None:
    laptop_rows, pi_rows = make_rows(tmp_path / "laptop.csv", 0.0), make_rows(tmp_path / "pi.csv", 3.0)

    def is_agreed(status: dict[str, Any]) -> bool:
        return any(t["name"] == "pumps" and t["exchanges"] > 0 and t["peers"] == 2 for t in status["tasks"])

    async def play() -> None:
        async with running(make_home(tmp_path / "laptop", ONE)) as laptop:
            where = (await get(laptop))["addresses"][0]
            home = make_home(tmp_path / "pi", member_of(ONE, b"q"), static=(where,))
            async with running(home) as pi:
                task = (await post(laptop, "/tasks", TASK))["id"]
                report = (await post(laptop, f"/tasks/{task}/accept", {"source": str(laptop_rows)}))["report"]
                assert report["rows"] == 40
                await until(pi, lambda f: any(t["id"] == task for t in f["tasks"]), "/tasks")

                bad = tmp_path / "bad.csv"
                bad.write_text(pi_rows.read_text().replace("temp", "Temp_C"))
                with pytest.raises(ControlError) as caught:
                    await post(pi, f"/tasks/{task}/accept", {"source": str(bad)})
                assert caught.value.exit == Exit.SCHEMA
                assert "Temp_C" in caught.value.sentence + str(caught.value.next)
                [here] = (await get(pi))["tasks"]
                assert here["state"] == "offered"

                await post(pi, f"/tasks/{task}/accept", {"source": str(bad), "map": {"temp": "Temp_C"}})
                await until(pi, is_agreed)
                await until(laptop, is_agreed)
            async with running(home) as pi:
                [before] = (await get(pi))["tasks"]
                assert before["exchanges"] > 0
                await until(pi, lambda s: s["tasks"][0]["exchanges"] > before["exchanges"])

    asyncio.run(play())


def start(home: Home, *words: str) -> subprocess.Popen[bytes]:
    """The daemon as a process of its own, answering."""
    command = [sys.executable, "-m", "peer.cli", "--home", str(home.path), "start", "--json", *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if Control.of(home.path).is_answering():
                return process
        except ControlError:
            pass
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate()[0].decode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    home = make_home(tmp_path / "pi", ONE)
    process = start(home)
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0, output
    assert b"Traceback" not in output
    assert not home.control.exists()


def test_a_daemon_ends_with_whoever_started_it(tmp_path: Path) -> None:
    home = make_home(tmp_path / "pi", ONE)
    process = start(home, "--until-stdin-closes")
    output, _ = process.communicate(timeout=10)  # closes its stdin
    assert process.returncode == 0, output
    assert not home.control.exists()


def test_a_daemon_that_is_killed_leaves_nothing_that_keeps_it_from_starting_again(tmp_path: Path) -> None:
    home = make_home(tmp_path / "pi", ONE)
    first = start(home)
    first.kill()
    first.communicate()
    assert home.control.exists()
    second = start(home)
    assert Control.of(home.path).pid == second.pid
    second.terminate()
    second.communicate(timeout=10)
    assert second.returncode == 0


LOADED = """
import asyncio, sys
from pathlib import Path
from peer.config import Home, load_config
from peer.daemon import Daemon
from peer.events import Train, Trained
from peer.life import Life
from peer.membership import Membership
home = Home(Path(sys.argv[1]))
async def live():
    daemon = Daemon(home, load_config(home))
    task = asyncio.create_task(daemon.run())
    while not home.control.exists():
        await asyncio.sleep(0.01)
    daemon.stop()
    await task
asyncio.run(live())
print([name for name in ("sklearn", "scipy", "pandas", "rich") if name in sys.modules])
"""


def test_a_daemon_never_loads_scikit_learn(tmp_path: Path) -> None:
    home = make_home(tmp_path / "pi", ONE)
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, str(home.path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.strip() == "[]", ended.stderr
