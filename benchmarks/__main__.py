"""`python -m benchmarks [NAME …]`: run these measurements (all of them without names) and print one table."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable

from . import cold_start, exchanges, footprint, simulator, transport
from .table import Row, show

ALL: dict[str, Callable[[], list[Row]]] = {
    "footprint": footprint.measure,
    "transport": transport.measure,
    "exchanges": exchanges.measure,
    "cold_start": cold_start.measure,
    "simulator": simulator.measure,
}


def main(names: list[str]) -> int:
    if unknown := [n for n in names if n not in ALL]:
        print(f"no measurement is called {unknown[0]}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    rows = []
    for name in names or list(ALL):
        print(f"measuring {name} …", file=sys.stderr)
        rows += ALL[name]()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
