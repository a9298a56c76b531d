"""Single keys, read without waiting and without Enter, on every system."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Keys:
    """While open, `pressed` gives the key that was pressed last, or None. If stdin is no terminal, it always gives None."""

    def __init__(self) -> None:
        self._is_live = sys.stdin.isatty()
        self._before: list[Any] | None = None

    if sys.platform == "win32":

        def __enter__(self) -> Keys:
            return self

        def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
            pass

        def pressed(self) -> str | None:
            import msvcrt

            return msvcrt.getwch().lower() if self._is_live and msvcrt.kbhit() else None
    else:

        def __enter__(self) -> Keys:
            if self._is_live:
                import termios
                import tty

                self._before = termios.tcgetattr(0)
                tty.setcbreak(0)
            return self

        def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
            if self._before is not None:
                import termios

                termios.tcsetattr(0, termios.TCSADRAIN, self._before)

        def pressed(self) -> str | None:
            import os
            import select

            if not self._is_live or not select.select([0], [], [], 0)[0]:
                return None
            return os.read(0, 1).decode("ascii", "ignore").lower() or None
