"""What each firewall's own words mean for peers. tests/lan/test_doctor.py compares the walk of nftables with the kernel's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from peer.firewall import MAC_TOOL, judge, judge_firewalld, judge_linux, judge_mac, judge_ufw, judge_windows
from peer.netfilter import Packet, walk_iptables, walk_nft

TCP = Packet("tcp", 8786, frozenset({"eth0"}))
UDP = Packet("udp", 5353, frozenset({"eth0"}))


def machine(**answers: str) -> Callable[[Sequence[str]], str | None]:
    """A `run` on which these tools are installed, each with one answer to everything."""
    return lambda argv: answers.get(argv[0])


# ufw and firewalld ------------------------------------------------------------------------------------------------------------------------

UFW = """\
Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
8000:9000/tcp              ALLOW       192.168.0.0/16
5353/udp                   DENY        Anywhere
"""


def test_ufw_opens_what_a_rule_allows_and_shuts_the_rest_with_the_exact_command() -> None:
    verdict = judge_ufw(UFW, 8786)
    assert verdict.answer == "shut"
    assert verdict.says == "ufw shuts UDP 5353."
    assert verdict.next == "sudo ufw allow 8786/tcp && sudo ufw allow 5353/udp"
    assert judge_ufw(UFW, 9786).says == "ufw shuts TCP 9786 and UDP 5353."


@pytest.mark.parametrize(
    "rules", ["8786/tcp ALLOW Anywhere\n5353/udp ALLOW Anywhere\n", "8786 ALLOW IN Anywhere\n80,5353/udp on eth0 LIMIT Anywhere\n"]
)
def test_ufw_that_allows_both_is_open(rules: str) -> None:
    assert judge_ufw("Status: active\n" + rules, 8786).next is None


def test_an_inactive_ufw_does_not_count() -> None:
    run = machine(ufw="Status: inactive\n", nft=json.dumps({"nftables": []}))
    assert judge_linux(8786, frozenset({"eth0"}), run).answer == "open"


FIREWALLD = """\
public (active)
  target: default
  interfaces: eth0
  services: dhcpv6-client {services}
  ports: {ports}
  rich rules:
"""


@pytest.mark.parametrize(
    ("services", "ports", "says"),
    [
        ("ssh", "", "firewalld shuts TCP 8786 and UDP 5353."),
        ("ssh mdns", "", "firewalld shuts TCP 8786."),
        ("ssh", "8786/tcp", "firewalld shuts UDP 5353."),
        ("mdns", "8000-9000/tcp", "firewalld lets peers in."),
        ("mdns chinwag", "", "firewalld lets peers in."),
        ("", "8786/udp 5353/udp", "firewalld shuts TCP 8786."),
    ],
)
def test_firewalld_by_ports_and_services(services: str, ports: str, says: str) -> None:
    answers = {"--state": "running\n", "--list-all": FIREWALLD.format(services=services, ports=ports)}
    verdict = judge_linux(8786, frozenset({"eth0"}), lambda argv: answers[argv[1]] if argv[0] == "firewall-cmd" else None)
    assert verdict.says == says
    assert (verdict.next is None) == ("lets" in says)


def test_firewalld_that_accepts_everything_is_open() -> None:
    assert judge_firewalld("trusted\n  target: ACCEPT\n  ports:\n", 8786).answer == "open"


# the kernel -------------------------------------------------------------------------------------------------------------------------------

DEFAULTS = """\
-P INPUT DROP
-P FORWARD DROP
-P OUTPUT ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m tcp --dport 22 -m comment --comment "ssh -j ACCEPT" -j ACCEPT
"""


@pytest.mark.parametrize(
    ("rules", "tcp", "udp"),
    [
        ("", "shut", "shut"),
        ("-A INPUT -p tcp -m tcp --dport 8786 -j ACCEPT", "open", "shut"),
        ("-A INPUT -p udp -m multiport --dports 67,5350:5360 -j ACCEPT", "shut", "open"),
        ("-A INPUT -i eth0 -j ACCEPT", "open", "open"),
        ("-A INPUT -i wlan0 -j ACCEPT", "shut", "shut"),
        ("-A INPUT ! -i wlan0 -p tcp -j ACCEPT", "open", "shut"),
        ("-A INPUT -s 192.168.0.0/16 -j ACCEPT", "unknown", "unknown"),
        ("-A INPUT -m recent --rcheck -j ACCEPT", "unknown", "unknown"),
        ("-A INPUT -j mine\n-A mine -p tcp -j ACCEPT", "open", "shut"),
        ("-A INPUT -p tcp -j mine\n-A mine -j RETURN\n-A mine -j ACCEPT", "shut", "shut"),
        ("-A INPUT -g mine\n-A INPUT -j ACCEPT\n-A mine -p tcp -j LOG", "shut", "shut"),
        ("-A INPUT -j loop\n-A loop -j loop", "shut", "shut"),
        ("-A INPUT -p tcp --dport 8786 -j REJECT\n-A INPUT -j ACCEPT", "shut", "open"),
        ("-A INPUT -s 10.0.0.5/32 -j DROP\n-A INPUT -j ACCEPT", "open", "open"),
    ],
)
def test_iptables_is_walked_like_the_kernel_does(rules: str, tcp: str, udp: str) -> None:
    assert walk_iptables(DEFAULTS + rules, TCP) == tcp
    assert walk_iptables(DEFAULTS + rules, UDP) == udp


def test_iptables_without_rules_is_open() -> None:
    assert walk_iptables("-P INPUT ACCEPT\n-P FORWARD DROP\n", TCP) == "open"


def test_rules_that_nobody_may_read_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peer.firewall.shutil.which", lambda tool: f"/usr/sbin/{tool}")
    verdict = judge_linux(8786, frozenset(), machine())
    assert (verdict.answer, verdict.next) == ("unknown", "sudo chinwag doctor")
    monkeypatch.setattr("peer.firewall.shutil.which", lambda tool: None)
    assert judge_linux(8786, frozenset(), machine()).answer == "open"


def test_an_enabled_ufw_that_only_root_may_read_is_told_from_its_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = tmp_path_factory.mktemp("ufw") / "ufw.conf"
    settings.write_text("# comment\nENABLED=yes\nLOGLEVEL=low\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("peer.firewall.UFW_SETTINGS", str(settings))
        verdict = judge_linux(1234, frozenset(), machine())
    assert (verdict.answer, verdict.next) == ("unknown", "sudo ufw allow 1234/tcp && sudo ufw allow 5353/udp")


def test_iptables_tells_its_own_command() -> None:
    verdict = judge_linux(8786, frozenset({"eth0"}), machine(iptables=DEFAULTS))
    assert verdict.says == "The kernel's firewall drops TCP 8786 and UDP 5353."
    assert verdict.next == "sudo iptables -I INPUT -p tcp --dport 8786 -j ACCEPT && sudo iptables -I INPUT -p udp --dport 5353 -j ACCEPT"


def test_tables_that_iptables_keeps_in_nftables_are_read_there() -> None:
    chain = {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "type": "filter", "policy": "drop"}
    rule = {"family": "ip", "table": "filter", "chain": "INPUT", "expr": [{"xt": {"type": "match", "name": "tcp"}}, {"accept": None}]}
    ruleset = json.dumps({"nftables": [{"chain": chain}, {"rule": rule}]})
    assert walk_nft(ruleset, TCP) == {"ip filter INPUT": "unknown"}
    opened = DEFAULTS + "-A INPUT -i eth0 -j ACCEPT\n"
    assert judge_linux(8786, frozenset({"eth0"}), machine(nft=ruleset, iptables=opened)).says == "The kernel's firewall lets peers in."


@pytest.mark.parametrize("ruleset", ["", "{}", "[]", "null", '{"other": []}'])
def test_a_ruleset_of_another_shape_is_unknown(ruleset: str) -> None:
    assert walk_nft(ruleset, TCP) == {"the ruleset": "unknown"}


# Windows and macOS ------------------------------------------------------------------------------------------------------------------------


def test_windows_is_asked_for_our_rule_by_exit_code_and_told_how_to_make_it() -> None:
    assert judge(8786, [], machine(netsh="Rule Name: Chinwag"), "win32").answer == "open"
    verdict = judge_windows(8786, machine())
    assert verdict.answer == "unknown"
    assert verdict.next == (
        "netsh advfirewall firewall add rule name=Chinwag dir=in action=allow protocol=TCP localport=8786 && "
        "netsh advfirewall firewall add rule name=Chinwag dir=in action=allow protocol=UDP localport=5353"
    )


@pytest.mark.parametrize(
    ("state", "blocked", "answer"),
    [
        ("Firewall is disabled. (State = 0)", "", "open"),
        ("Firewall is enabled. (State = 1)", "Incoming connection to python is permitted.", "open"),
        ("Firewall is enabled. (State = 1)", "The application is not part of the firewall", "shut"),
        ("Firewall is enabled. (State = 2)", "", "shut"),
    ],
)
def test_macos_is_asked_whether_it_knows_this_program(state: str, blocked: str, answer: str) -> None:
    answers = {"--getglobalstate": state, "--getappblocked": blocked}
    verdict = judge_mac("/opt/python", lambda argv: answers[argv[1]] if argv[0] == MAC_TOOL else None)
    assert verdict.answer == answer
    assert (verdict.next is None) == (answer == "open")
    assert judge(8786, [], machine(), "darwin").answer == "unknown"
