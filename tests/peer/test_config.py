"""The owner's settings and the peer's keys: read strictly, told in words, replaced whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer import config as configuration
from peer.config import (
    Config,
    ConfigError,
    ControlTable,
    Home,
    NoPeerHere,
    PeerTable,
    RowsTable,
    TaskTable,
    load_config,
    load_identity,
    save_config,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def written(home: Home, text: str) -> Home:
    home.path.mkdir(exist_ok=True)
    home.config.write_text(text, encoding="utf-8")
    return home


# the folder -----------------------------------------------------------------------------------------------------------------------------


def test_the_folder_is_the_one_asked_for_else_the_environments_else_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHINWAG_HOME", str(tmp_path / "environment"))
    assert Home.find(tmp_path / "asked").path == tmp_path / "asked"
    assert Home.find().path == tmp_path / "environment"
    monkeypatch.delenv("CHINWAG_HOME")
    assert Home.find().path.name == "chinwag"


def test_finding_the_folder_and_reading_settings_loads_neither_numpy_nor_cryptography(home: Home) -> None:
    """`chinwag status` may take 250 ms in all."""
    written(home, '[peer]\nname = "pi"\n')
    code = "import sys; from pathlib import Path; from peer.config import *; load_config(Home(Path(sys.argv[1]))); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(home.path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"numpy", "cryptography", "sklearn"} & set(done.stdout.split()) == set()


# settings that are read -----------------------------------------------------------------------------------------------------------------


def test_a_name_is_all_that_has_to_be_said(home: Home) -> None:
    found = load_config(written(home, '[peer]\nname = "pi"\n'))
    assert found == Config(peer=PeerTable(name="pi"))
    assert (found.peer.port, found.peer.discovery, found.peer.interfaces, found.tasks) == (8786, ("mdns", "static"), "auto", {})


def test_everything_that_can_be_said_is_read(home: Home) -> None:
    text = """
    [peer]
    name = "küche"
    port = 0
    discovery = ["static"]
    static = ["192.168.1.7:8786", "[fe80::1]:9000"]
    interfaces = ["eth0"]
    lost_after_s = 5
    period_s = 0.25
    [rows]
    source = 'C:\\rows.csv'
    target = "is_faulty"
    [task."vibration 2"]
    map = { "temp" = "Temp_C" }
    test = "test.csv"
    holdout = 0.5
    [control]
    port = 4000
    """
    assert load_config(written(home, text)) == Config(
        peer=PeerTable(
            name="küche",
            port=0,
            discovery=("static",),
            static=("192.168.1.7:8786", "[fe80::1]:9000"),
            interfaces=("eth0",),
            lost_after_s=5.0,
            period_s=0.25,
        ),
        rows=RowsTable(source="C:\\rows.csv", target="is_faulty"),
        tasks={"vibration 2": TaskTable(map={"temp": "Temp_C"}, test="test.csv", holdout=0.5)},
        control=ControlTable(port=4000),
    )


PI = '[peer]\nname = "pi"\n'
MISTAKES = {
    "unknown setting": (PI + "prot = 1", "line 3: [peer] has no setting 'prot'. Did you mean 'port'?"),
    "unknown setting of a task": (
        PI + '[task."a b"]\nholdot = 1',
        "line 4: [task.\"a b\"] has no setting 'holdot'. Did you mean 'holdout'?",
    ),
    "nothing like it": (PI + "colour = 1", "has no setting 'colour'. Known are: name, port, discovery,"),
    "unknown table": (PI + "\n[rosw]\nx = 1", "line 4: there is no [rosw]. Did you mean 'rows'?"),
    "key outside a table": ('name = "pi"', "line 1: there is no [name]. Known are: peer, rows, task, control."),
    "no name": ("[peer]\nport = 1", "line 1: [peer] needs a setting 'name' (what the others call this device)."),
    "no table at all": ("", "[peer] needs a setting 'name'"),
    "text for a number": (
        PI + 'port = "8786"',
        "line 3: [peer] port: a whole number is needed, not text in quotes (TCP port that peers dial;",
    ),
    "fraction for a whole number": (PI + "port = 1.5", "line 3: [peer] port: a whole number is needed, not a number ("),
    "true for a number": (PI + "\nport = true", "line 4: [peer] port: a whole number is needed, not true or false ("),
    "too large": (PI + "port = 99999", "line 3: [peer] port: a whole number <= 65535 is needed, not 99999 ("),
    "too small": (PI + "period_s = 0", "line 3: [peer] period_s: a number >= 0.01 is needed, not 0 ("),
    "not a number": (PI + "period_s = nan", "line 3: [peer] period_s: a number >= 0.01 is needed, not nan ("),
    "infinite": (PI + "lost_after_s = inf", "line 3: [peer] lost_after_s: a number <= 86400"),
    "text for a list": (PI + 'static = "a:1"', "line 3: [peer] static: a list is needed, not text in quotes ("),
    "number in a list": (PI + 'static = ["a:1", 7]', "line 3: [peer] static: item 2: text in quotes is needed, not a whole number ("),
    "unknown word": (PI + 'discovery = ["mdsn"]', "line 3: [peer] discovery: item 1: 'mdsn' is not known; 'mdns' is ("),
    "bare word": (
        PI + 'interfaces = "eth0"',
        "line 3: [peer] interfaces: 'eth0' is not known; 'auto' is (\"auto\", or a list of network interfaces).",
    ),
    "number for either": (PI + "interfaces = 1", "line 3: [peer] interfaces: text in quotes or a list is needed, not a whole number ("),
    "value for a table": ("peer = 3", "line 1: peer: put [peer] on a line of its own, and its settings below."),
    "task without a name": (PI + "[task]\nsource = 'x'", 'line 4: source: put [task."source"] on a line of its own'),
    "tasks in a list": (PI + "[[task]]\nsource = 'x'", 'task: every task has a table of its own: [task."name"].'),
    "long name": (f'[peer]\nname = "{"ä" * 33}"', "line 1: [peer] name: 66 bytes of text, not 1..64."),
    "name with a line break": ('[peer]\nname = "a\\nb"', "[peer] name: control characters are not allowed in text."),
    "all rows kept back": (PI + "[task.a]\nholdout = 1.0", 'line 4: [task."a"] holdout: a number < 1.0 is needed, not 1.0 (share of'),
    "no TOML": ("[peer\n", "is not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 6)."),
    "path with backslashes": (
        PI + '[rows]\nsource = "C:\\Users"',
        "is not valid TOML: Invalid hex value (at line 4,",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_sentence_with_its_line(home: Home, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(home, text))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(home.config))
    assert "\n" not in str(caught.value)
    assert caught.value.exit == 2


def test_a_file_that_is_not_text_or_cannot_be_read_is_told_so(home: Home) -> None:
    home.path.mkdir()
    home.config.write_bytes(b"[peer]\nname = '\xff'")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        load_config(home)
    home.config.unlink()
    home.config.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(home)


def test_where_there_is_no_peer_the_next_step_is_init(home: Home) -> None:
    for load in (load_config, load_identity):
        with pytest.raises(NoPeerHere, match="There is no peer in") as caught:
            load(home)
        assert caught.value.next == "chinwag init"


# settings that are written --------------------------------------------------------------------------------------------------------------


def test_a_new_file_shows_every_setting_with_its_default_and_meaning(home: Home) -> None:
    save_config(home, Config(peer=PeerTable(name="pi", port=0), tasks={"a b": TaskTable(source="x.csv")}))
    text = home.config.read_text(encoding="utf-8")
    assert text.startswith('[peer]\nname = "pi"\nport = 0\n# discovery = ["mdns", "static"]  (how neighbours are found)\n')
    assert '\n\n[task."a b"]\nsource = "x.csv"\n# map (columns that' in text
    assert f"\n# period_s = {PeerTable(name='pi').period_s}  (seconds from one exchange to the next)\n" in text


COMMENTED = """# My kitchen.
[peer]  # me
name = "pi"    # as on the label
period_s = 1   # the default

# Which rows.
[rows]
source = "rows.csv"

# The first one.
[task.first]
source = "1.csv"
[task.first.map]
a = "b"  # theirs, ours

# The second one.
[task.second]
source = "2.csv"
"""


def test_what_does_not_change_keeps_the_owners_words(home: Home) -> None:
    found = load_config(written(home, COMMENTED))
    save_config(home, found)
    assert home.config.read_text() == COMMENTED
    third = TaskTable(source="3.csv", map={"x": "y"})
    save_config(home, Config(peer=found.peer, rows=found.rows, tasks={"first": found.tasks["first"], 'new "3"': third}))
    assert home.config.read_text() == (
        COMMENTED[: COMMENTED.index("\n# The second one.")] + '\n[task."new \\"3\\""]\nsource = "3.csv"\nmap = { "x" = "y" }\n'
    )


def test_a_changed_table_is_written_anew_and_its_neighbours_are_not(home: Home) -> None:
    found = load_config(written(home, COMMENTED))
    first = TaskTable(source="1.csv", map={"a": "c"})
    save_config(home, Config(peer=found.peer, rows=found.rows, tasks=found.tasks | {"first": first}))
    before, after = COMMENTED.split("# The first one.\n")
    assert home.config.read_text() == (
        before + '[task."first"]\nsource = "1.csv"\nmap = { "a" = "c" }\n\n' + after[after.index("# The second one.") :]
    )
    assert load_config(home).tasks["first"] == first


@pytest.mark.parametrize(
    "text",
    [
        'peer.name = "pi"\ntask.x.source = "a"\n',
        '[peer]\nname = "pi"\n[rows]\nsource = """\n[control]\nport = 7\n"""\n',
        "this is no TOML [",
        '[peer]\nname = "pi"\n[wrong]\n',
        '[peer]\nname = "pi"\nport = "wrong"\n',
    ],
)
def test_a_file_that_cannot_be_edited_is_written_anew(home: Home, text: str) -> None:
    config = Config(peer=PeerTable(name="pi"), rows=RowsTable(source="rows.csv"), tasks={"x": TaskTable(source="b")})
    save_config(written(home, text), config)
    assert load_config(home) == config


WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
OPTIONAL = st.none() | WORDS
TASKS = st.builds(TaskTable, source=OPTIONAL, map=st.dictionaries(WORDS, WORDS, max_size=2), test=OPTIONAL, holdout=st.floats(0, 0.99))
PEERS = st.builds(
    PeerTable,
    name=st.text("abc äß\"'\\", min_size=1, max_size=9),
    port=st.integers(0, 65535),
    discovery=st.lists(st.sampled_from(["mdns", "static"])).map(tuple),
    static=st.lists(WORDS).map(tuple),
    interfaces=st.just("auto") | st.lists(WORDS).map(tuple),
    period_s=st.floats(0.01, 3600),
)
CONFIGS = st.builds(Config, peer=PEERS, rows=st.builds(RowsTable, source=OPTIONAL), tasks=st.dictionaries(WORDS, TASKS, max_size=3))


@settings(max_examples=60, deadline=None)
@given(CONFIGS, CONFIGS)
def test_whatever_is_saved_over_whatever_is_what_is_loaded(tmp_path_factory: pytest.TempPathFactory, first: Config, second: Config) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    save_config(home, first)
    assert load_config(home) == first
    save_config(home, second)
    assert load_config(home) == second


def test_every_table_is_known_by_its_name() -> None:
    assert {"tasks" if name == "task" else name for name in configuration.TABLES} == set(Config.__struct_fields__)
