"""What people give instead of a CSV file: each gets one clear sentence and exit code 6, soon and in bounded memory, never a traceback.

Every file is shown to `init`, which looks at it in the command's own process, and to a running daemon by `task accept`, where the trainer
reads it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peer.cli import child
from peer.config import Home, load_config, save_config

HEADER = "x,y,leak\n"
ROWS = "".join(f"{i % 7}.5,{i % 5},{'yes' if i % 3 else 'no'}\n" for i in range(60))

PATIENCE_S = 60.0
"""Nothing here takes more than a second of an idle computer."""

MAX_BYTES = 400 * 2**20
"""The daemon and the trainer take about 150 MiB each; a file of 2 GB that was taken in whole would show."""


def hole(path: Path, size: int, head: bytes = b"") -> None:
    """A sparse file: as large as it likes, and nothing in it."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def locked(path: Path) -> None:
    path.write_text(HEADER + ROWS)
    path.chmod(0)


@dataclass(frozen=True)
class Bad:
    """How such a file comes about, and what the sentence must say. `at_init` is False for faults of rows: init reports, and goes on."""

    make: Callable[[Path], Any]
    says: str
    at_init: bool = True


BAD = {
    "missing": Bad(lambda path: None, "There is no file"),
    "empty": Bad(lambda path: path.touch(), "is empty"),
    "blank": Bad(lambda path: path.write_text("\n \n\n"), "is empty"),
    "folder": Bad(lambda path: path.mkdir(), "is a folder"),
    "pipe": Bad(lambda path: os.mkfifo(path), "not a file but a device or pipe"),
    "locked": Bad(locked, "permission denied"),
    "binary": Bad(lambda path: path.write_bytes(bytes(range(256)) * 64), "is a binary file"),
    "workbook": Bad(lambda path: path.write_bytes(b"PK\x03\x04" + bytes(999)), "an Excel workbook or zip archive"),
    "sparse-2-gb": Bad(lambda path: hole(path, 2 * 2**30), "2,048 MiB"),
    "sparse-200-mb": Bad(lambda path: hole(path, 200 * 2**20, HEADER.encode()), "is a binary file"),
    "one-endless-line": Bad(lambda path: path.write_bytes(HEADER.encode() + b"1" * 2**26), "a line of more than"),
    "one-column": Bad(lambda path: path.write_text("leak\nyes\nno\n"), "has one column only"),
    "ten-thousand-columns": Bad(
        lambda path: path.write_text(",".join(f"c{i}" for i in range(10_000)) + "\n" + "1," * 9_999 + "1\n"), "10,000"
    ),
    "header-only": Bad(lambda path: path.write_text(HEADER), "has a header and no rows"),
    "no-header": Bad(lambda path: path.write_text(ROWS), "has no column"),
    "ragged": Bad(lambda path: path.write_text(HEADER + ROWS + "1.5,yes\n"), "Line 62"),
    "open-quote": Bad(lambda path: path.write_text(HEADER + ROWS + '1,"2,yes\n' + ROWS * 400), "quotation mark"),
    "torn-utf-16": Bad(lambda path: path.write_bytes((HEADER + ROWS).encode("utf-16") + b"\0"), "utf-16"),
    "target-nan": Bad(lambda path: path.write_text(HEADER + ROWS + "1.5,2,nan\n"), "Line 62", at_init=False),
    "target-all-nan": Bad(lambda path: path.write_text(HEADER + "1.5,2,nan\n" * 50), "Line 2", at_init=False),
    "mixed-types": Bad(lambda path: path.write_text(HEADER + ROWS + "1.5,warm,yes\n"), "'warm'", at_init=False),
    "infinite": Bad(lambda path: path.write_text(HEADER + ROWS + "1.5,inf,yes\n"), "'inf'", at_init=False),
    "unknown-class": Bad(lambda path: path.write_text(HEADER + ROWS + "1.5,2,perhaps\n"), "perhaps", at_init=False),
}

WORLD = (
    ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("setpriv")
    else []
)
"""Root reads what it likes; without these rights it is a user like any other."""


@dataclass(frozen=True)
class Peer:
    home: Path
    daemon: subprocess.Popen[bytes]

    def chinwag(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit code and answer. There must be one object, and nothing else may have been said."""
        return run(self.home, *words)


def run(home: Path, *words: str) -> tuple[int, dict[str, Any]]:
    argv = [*WORLD, *child.command_line("peer.cli", "--home", str(home), *words, "--json")]
    ran = subprocess.run(argv, env=child.environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert ran.stderr == ""
    [line] = ran.stdout.splitlines()
    return ran.returncode, json.loads(line)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A daemon with a good file and a task; it looks for nobody."""
    folder = tmp_path_factory.mktemp("peer")
    home, log = folder / "home", folder / "daemon.log"
    (folder / "good.csv").write_text(HEADER + ROWS)
    assert run(home, "init", "--data", str(folder / "good.csv"), "--target", "leak")[0] == 0
    config = load_config(Home(home))
    quiet = msgspec.structs.replace(config.peer, discovery=("static",), port=0)
    save_config(Home(home), msgspec.structs.replace(config, peer=quiet))
    with log.open("wb") as file:
        words = [*WORLD, *child.command_line("peer.cli", "--home", str(home), "start", "--json")]
        daemon = subprocess.Popen(words, env=child.environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while run(home, "status")[0] != 0:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert run(home, "task", "new", "leaks", "--model", "lda", "--min-peers", "1", "--yes")[0] == 0
        yield Peer(home, daemon)
    finally:
        daemon.terminate()
        daemon.wait()
    assert "raceback" not in log.read_text()


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bad")
    yield folder
    for path in folder.iterdir():
        path.unlink() if not path.is_dir() else path.rmdir()


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_gets_one_sentence_and_exit_code_6(name: str, peer: Peer, bad_files: Path, tmp_path: Path) -> None:
    if name == "locked" and hasattr(os, "geteuid") and os.geteuid() == 0 and not WORLD:
        pytest.skip("root reads what it likes, and there is no setpriv (package util-linux)")
    bad, path = BAD[name], bad_files / f"{name}.csv"
    bad.make(path)
    answers = [peer.chinwag("task", "accept", "leaks", "--data", str(path), "--yes")]
    if bad.at_init:
        answers.append(run(tmp_path / "home", "init", "--data", str(path), "--target", "leak"))
        assert not (tmp_path / "home").exists(), "a file that cannot be used leaves no trace"
    for code, answer in answers:
        sentence = answer["error"]
        assert (code, answer["exit"]) == (6, 6)
        assert bad.says in sentence
        assert path.name in sentence
        assert sentence.endswith((".", "?"))
        assert len(sentence) < 300
        assert "\n" not in sentence
    assert peer.chinwag("status")[1]["tasks"][0]["state"] == "running", "the rows that were good before are still in use"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_files_of_spreadsheets_are_read_whatever_their_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "messdaten.csv"
    path.write_bytes(("Temp °C,Öl,Zustand\n" + ROWS.replace("no", "schön")).encode(encoding))
    code, answer = run(tmp_path / "home", "init", "--data", str(path), "--target", "Zustand")
    assert code == 0
    assert [column["name"] for column in answer["report"]["columns"]] == ["Temp °C", "Öl", "Zustand"]
    assert answer["report"]["classes"] == {"schön": 20, "yes": 40}


def test_after_all_that_the_daemon_is_well_and_small(peer: Peer) -> None:
    code, answer = peer.chinwag("task", "accept", "leaks", "--yes")
    assert (code, answer["report"]["train_rows"]) == (0, 48)
    processes = Path("/proc")
    if not processes.exists():
        return
    of_daemon = [str(peer.daemon.pid)]
    for path in processes.glob("[0-9]*/stat"):
        try:
            pid, _, rest = path.read_text().partition(" ")
        except OSError:
            continue  # gone meanwhile
        if rest.rpartition(")")[2].split()[1] == of_daemon[0]:
            of_daemon.append(pid)
    assert len(of_daemon) >= 2, "the daemon and its trainer"
    for pid in of_daemon:
        [peak] = [line.split()[1] for line in (processes / pid / "status").read_text().splitlines() if line.startswith("VmHWM")]
        assert int(peak) * 1024 < MAX_BYTES
