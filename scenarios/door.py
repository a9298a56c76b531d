"""The door of a daemon on another host: `python -m scenarios.door HOME`, started in that host's network namespace, knocks at its REST API.

One request a line on stdin, [method, path, body, seconds]; one answer a line on stdout, {"answer": …} or {"error", "next", "exit"}. It ends
when its stdin closes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from peer.cli import child
from peer.control import CALL_TIMEOUT_S, Control, ControlError, Exit

from .village import Place


class Door:
    """What asks the daemon of `home` that runs at this place, and outlives its restarts."""

    def __init__(self, place: Place, home: Path) -> None:
        words = child.command_line("scenarios.door", str(home))
        self._process = place.popen(words, env=child.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def get(self, path: str, timeout_s: float = CALL_TIMEOUT_S) -> dict[str, Any]:
        """The answer to GET. Raises ControlError."""
        return self._ask("GET", path, None, timeout_s)

    def post(self, path: str, body: dict[str, Any] | None = None, timeout_s: float = CALL_TIMEOUT_S) -> dict[str, Any]:
        """The answer to POST. Raises ControlError."""
        return self._ask("POST", path, body, timeout_s)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, *request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise ControlError("What knocks at the daemon has died.", None, Exit.FAILED)
        found = json.loads(line)
        if "error" in found:
            raise ControlError(found["error"], found["next"], found["exit"])
        answer: dict[str, Any] = found["answer"]
        return answer


def _knock(home: Path) -> None:
    for line in sys.stdin:
        method, path, body, timeout_s = json.loads(line)
        found: dict[str, Any]
        try:
            control = Control.of(home)
            found = {"answer": control.get(path, timeout_s) if method == "GET" else control.post(path, body, timeout_s)}
        except ControlError as error:
            found = {"error": error.sentence, "next": error.next, "exit": error.exit}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _knock(Path(sys.argv[1]))
