"""The protocol takes bytes, times and seeds as arguments: no module of it can reach a socket, a clock or chance.

`tests/test_architecture.py` asks which names are imported; here the check itself is put to the test on planted faults, and a fresh
interpreter shows what importing the protocol really loads.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "protocol"
SOURCES = sorted(PROTOCOL.rglob("*.py"))

FORBIDDEN = {"asyncio", "socket", "ssl", "time", "random", "os", "threading"}
INDIRECT = {"importlib", "builtins", "ctypes", "secrets", "subprocess", "multiprocessing", "concurrent", "peer", "scenarios", "sklearn"}
"""Ways round, and what stands above the protocol."""

CLOCKS = {"now", "utcnow", "today", "monotonic", "perf_counter"}
CALLS = {"open", "eval", "exec", "__import__", "import_module", "input"}


def faults(source: str) -> list[str]:
    """What a module of the protocol may not do, and does, by line."""
    found = []
    tree = ast.parse(source)
    imported = {
        (a.asname or a.name).partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from . import x` and `from .x import time` name modules of the protocol, but may not smuggle one in by its name
            names = [alias.name for alias in node.names] if node.level else [node.module or ""]
        found += [f"{node.lineno}: imports {name}" for name in names if name.partition(".")[0] in FORBIDDEN | INDIRECT]
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            if called in CLOCKS or (called in CALLS and isinstance(node.func, ast.Name)):
                found.append(f"{node.lineno}: calls {called}")
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN and isinstance(node.value, ast.Name) and node.value.id in imported:
            found.append(f"{node.lineno}: reaches {node.value.id}.{node.attr}")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("np.random.default_rng", "np.random.seed"):
            found.append(f"{node.lineno}: draws from the system")
    # A generator of a given seed is no chance: the one way in which `random` may be written here.
    return [f for f in found if not f.endswith("reaches np.random")]


def test_no_module_of_the_protocol_reaches_sockets_clocks_or_chance() -> None:
    assert len(SOURCES) >= 16
    assert {path.name: found for path in SOURCES if (found := faults(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "planted",
    [
        "import socket",
        "import os.path",
        "import time as t",
        "from time import monotonic",
        "from asyncio import sleep",
        "def f():\n    import random",
        "from . import ssl",
        "from .keys import os",
        "from peer import node",
        "import importlib",
        "from datetime import datetime\nx = datetime.now()",
        "from datetime import datetime, UTC\nx = datetime.now(UTC)",
        "import datetime\nx = datetime.datetime.utcnow()",
        "from datetime import date\nx = date.today()",
        "x = __import__('socket')",
        "from . import tensors\nx = tensors.os",
        "import numpy as np\nx = np.random.default_rng()",
        "open('x')",
    ],
)
def test_a_planted_fault_is_found(planted: str) -> None:
    assert faults(planted)


def test_a_generator_of_a_given_seed_is_no_fault() -> None:
    assert faults("import numpy as np\nx = np.random.Generator(np.random.PCG64(7)).random(3)") == []


def test_importing_all_of_the_protocol_loads_no_scikit_learn_and_nothing_of_the_peer() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]
    script = f"import json, sys\nfor name in {names!r}:\n    __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in json.loads(ran.stdout)}
    assert loaded & {"sklearn", "scipy", "pandas", "peer", "scenarios", "zeroconf", "starlette"} == set()
    assert set(names) <= set(json.loads(ran.stdout))
