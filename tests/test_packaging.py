"""What is shipped: the metadata in its one place, and a wheel with everything in it that a peer needs."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path

import pytest

import chinwag

ROOT = Path(__file__).parents[1]
SHIPPED = ("protocol", "peer", "scenarios")

METADATA = ConfigParser()
METADATA.read(ROOT / "setup.cfg")

IMPORTED_AS = {"scikit-learn": "sklearn"}
"""Distributions whose package has another name."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the tree stays as it is, and by the setuptools at hand, so that nothing is fetched."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "chinwag.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tree / "dist", tree]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [built] = (tree / "dist").iterdir()
    return built


def test_the_wheel_holds_every_module_the_specification_and_the_scenarios(wheel: Path) -> None:
    expected = {path.relative_to(ROOT).as_posix() for name in SHIPPED for path in (ROOT / name).rglob("*.py")}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "scenarios").glob("*.toml")}
    expected |= {"chinwag.py", "protocol/SPEC.md"}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_the_wheel_says_how_it_is_called_run_and_licensed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata], [entry_points] = ([n for n in archive.namelist() if n.endswith(end)] for end in ("/METADATA", "/entry_points.txt"))
        said = archive.read(metadata).decode()
        assert f"\nName: chinwag\nVersion: {chinwag.__version__}\n" in said
        assert "\nLicense-Expression: Apache-2.0\n" in said
        assert "\nRequires-Python: >=3.11\n" in said
        assert archive.read(entry_points).decode().split() == ["[console_scripts]", "chinwag", "=", "chinwag:main"]


def test_pyproject_says_only_what_builds_it() -> None:
    assert set(tomllib.loads((ROOT / "pyproject.toml").read_text())) == {"build-system"}


def test_the_version_stands_in_one_place() -> None:
    literal = re.compile(rf"""(?<![\d.]){re.escape(chinwag.__version__)}(?![\d.])""")
    kept = {"chinwag.py", "CHANGELOG.md"}
    said = (*ROOT.glob("*.*"), *(path for name in SHIPPED for path in (ROOT / name).rglob("*.py")))
    assert [str(path) for path in said if path.is_file() and path.name not in kept and literal.search(path.read_text())] == []
    assert METADATA["metadata"]["version"] == "attr: chinwag.__version__"
    assert version("chinwag") == chinwag.__version__


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    imported = set()
    for path in (path for name in SHIPPED for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    lines = METADATA["options"]["install_requires"].split() + METADATA["options.extras_require"]["sweep"].split()
    declared = [re.split(r"[<>=~!\[;]", line)[0] for line in lines]
    assert {IMPORTED_AS.get(name, name) for name in declared} == imported - set(sys.stdlib_module_names) - {*SHIPPED, "chinwag"}


def test_every_requirement_has_a_lower_bound_and_no_upper_one() -> None:
    lines = METADATA["options"]["install_requires"].split() + METADATA["options.extras_require"]["test"].split()
    assert [line for line in lines if not re.fullmatch(r"[a-z-]+>=[\d.]+", line)] == []


@pytest.mark.parametrize("command", [["-m", "chinwag"], ["-c", "import sys, chinwag; sys.exit(chinwag.main(['--version']))"]])
def test_the_face_is_the_command(command: list[str]) -> None:
    arguments = [*command, "--version"] if command[0] == "-m" else command
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    assert chinwag.__version__ in done.stdout


def test_the_face_loads_nothing_before_it_is_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import chinwag, sys; print(*sys.modules)"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"peer", "numpy", "click"} & set(done.stdout.split()) == set()
