"""Linux's packet filter: what becomes of a peer's first packet under rules that nftables or iptables print.

The rules are walked as the kernel walks them, chain by chain, with a packet of which we know the protocol, the port, that it is new, and
the interface. What a rule asks beyond that (an address, a rate) cannot be told; such a rule is neither followed nor forgotten.

Text in, answer out; nothing is run here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

MAX_JUMPS = 32
"""Chains within chains: the kernel allows 16."""

Answer = Literal["open", "shut", "unknown"]


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a peer, as a firewall sees it."""

    protocol: Literal["tcp", "udp"]
    port: int
    interfaces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """matches: whether the packet is meant; None if that cannot be told (an address, a rate, a country). verdict: accept, drop, return, or
    the chain to go on in."""

    matches: bool | None
    verdict: str | None
    chain: str | None = None
    is_goto: bool = False


def walk(chains: Mapping[str, Sequence[Rule]], start: str, policy: str) -> Answer:
    """What becomes of a packet that enters `chains` at `start`: the fate of the chains' rules, else the policy.

    A drop that may or may not be meant is passed over (they are there for named offenders); an accept that may be meant turns a drop at the
    end into "unknown".
    """
    may_pass = False

    def go(name: str, depth: int) -> str | None:
        nonlocal may_pass
        for rule in chains.get(name, ()) if depth < MAX_JUMPS else ():
            if rule.matches is False:
                continue
            fate = rule.verdict if rule.chain is None else go(rule.chain, depth + 1)
            if rule.matches is None:
                may_pass = may_pass or fate == "accept"
            elif fate in ("accept", "drop"):
                return fate
            elif fate == "return" or rule.is_goto:
                return None
        return None

    fate = go(start, 0) or policy
    return "open" if fate == "accept" else "unknown" if may_pass else "shut"


def walk_nft(ruleset: str, packet: Packet, is_iptables_read: bool = False) -> dict[str, Answer]:
    """The base chains of the input hook that do not simply let the packet pass; it has to pass all of them.

    ruleset: what `nft --json list ruleset` prints. Tables that iptables keeps in nftables are left to it, as their rules can be read there
    only.
    """
    try:
        objects = json.loads(ruleset)["nftables"]
    except (ValueError, KeyError, TypeError):
        return {"the ruleset": "unknown"}
    tables: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for rule in (o["rule"] for o in objects if "rule" in o):
        tables.setdefault((rule["family"], rule["table"]), {}).setdefault(rule["chain"], []).append(rule["expr"])
    sets = {(o["set"]["family"], o["set"]["table"], "@" + o["set"]["name"]): o["set"].get("elem", []) for o in objects if "set" in o}
    fates: dict[str, Answer] = {}
    for base in (o["chain"] for o in objects if o.get("chain", {}).get("hook") == "input" and o["chain"].get("type") == "filter"):
        rules = tables.get((base["family"], base["table"]), {})
        is_iptables = any("xt" in expression for chain in rules.values() for rule in chain for expression in rule)
        if base["family"] not in ("ip", "inet") or (is_iptables and is_iptables_read):
            continue
        named = {name: elements for (family, table, name), elements in sets.items() if (family, table) == (base["family"], base["table"])}
        chains = {name: [_nft_rule(rule, packet, named) for rule in chain] for name, chain in rules.items()}
        fate = walk(chains, base["name"], base.get("policy", "accept"))
        if fate != "open":
            fates[f"{base['family']} {base['table']} {base['name']}"] = fate
    return fates


def _nft_rule(expressions: Sequence[Mapping[str, Any]], packet: Packet, sets: Mapping[str, list[Any]]) -> Rule:
    matches: bool | None = True
    for expression in expressions:
        [(kind, body)] = expression.items()
        if kind in ("counter", "log", "comment", "mangle"):
            continue
        if (rule := _nft_verdict(matches, kind, body)) is not None:
            return rule
        if kind == "vmap" and isinstance(body["data"], dict):
            for element, verdict in body["data"].get("set", []):
                fits = _nft_match({"left": body["key"], "right": element}, packet, sets)
                [(then, target)] = verdict.items()
                if fits is not False and (rule := _nft_verdict(_both(matches, fits), then, target)) is not None:
                    return rule
            continue
        matches = _both(matches, _nft_match(body, packet, sets) if kind == "match" else None)
    return Rule(matches, None)


def _nft_verdict(matches: bool | None, kind: str, body: Any) -> Rule | None:
    if kind in ("accept", "drop", "return"):
        return Rule(matches, kind)
    if kind == "reject":
        return Rule(matches, "drop")
    return Rule(matches, None, body["target"], kind == "goto") if kind in ("jump", "goto") else None


def _nft_match(body: Mapping[str, Any], packet: Packet, sets: Mapping[str, list[Any]]) -> bool | None:
    left, right, operator = body["left"], body["right"], body.get("op", "==")
    payload, meta, ct = (left.get(kind, {}) if isinstance(left, dict) else {} for kind in ("payload", "meta", "ct"))
    found: bool | None = None
    if payload.get("field") == "dport":
        of = payload.get("protocol")
        found = of in (packet.protocol, "th") and _is_element(right, packet.port, sets)
        if of not in (packet.protocol, "th"):
            return False  # the rule is about the other protocol, whatever its operator
    elif payload.get("protocol") in ("tcp", "udp", "icmp", "icmpv6") and payload["protocol"] != packet.protocol:
        return False
    elif meta.get("key") == "l4proto" or payload.get("field") in ("protocol", "nexthdr"):
        found = _is_element(right, packet.protocol, sets)
    elif ct.get("key") == "state":
        found = _is_element(right, "new", sets)
    elif meta.get("key") in ("iifname", "iif"):
        found = any(_is_element(right, name, sets) for name in packet.interfaces) if packet.interfaces else None
        if right == "lo":
            found = False
    elif meta.get("key") in ("nfproto", "protocol"):
        found = _is_element(right, "ipv4", sets) or _is_element(right, "ip", sets)
    return found if operator in ("==", "in") or found is None else not found if operator == "!=" else None


def _is_element(right: Any, value: int | str, sets: Mapping[str, list[Any]]) -> bool:
    if isinstance(right, str) and right.startswith("@"):
        return any(_is_element(element, value, sets) for element in sets.get(right, []))
    if isinstance(right, list):
        return any(_is_element(element, value, sets) for element in right)
    if isinstance(right, dict):
        if "set" in right:
            return _is_element(right["set"], value, sets)
        if "range" in right and isinstance(value, int):
            low, high = right["range"]
            return bool(low <= value <= high)
        return "elem" in right and _is_element(right["elem"].get("val"), value, sets)
    return bool(right == value)


def walk_iptables(tables: str, packet: Packet) -> Answer:
    """tables: what `iptables -S` prints: `-P INPUT DROP`, `-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT`."""
    chains: dict[str, list[Rule]] = {}
    policy = "accept"
    for line in tables.splitlines():
        words = shlex.split(line)
        if words[:2] == ["-P", "INPUT"]:
            policy = "accept" if words[2] == "ACCEPT" else "drop"
        elif words[:1] == ["-A"]:
            chains.setdefault(words[1], []).append(_iptables_rule(words[2:], packet))
    return walk(chains, "INPUT", policy)


KNOWN_MODULES = ("tcp", "udp", "multiport", "conntrack", "state", "comment")
"""Of iptables: those whose options are read below. Another module's match cannot be told."""


def _iptables_rule(words: Sequence[str], packet: Packet) -> Rule:
    matches: bool | None = True
    options: list[tuple[bool, str, list[str]]] = []
    is_negated = False
    for word in words:
        if word == "!":
            is_negated = True
        elif word.startswith("-"):
            options.append((is_negated, word, []))
            is_negated = False
        elif options:
            options[-1][2].append(word)
    for is_not, option, values in options:
        value = values[0] if values else ""
        if option in ("-j", "-g"):
            verdict = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}.get(value)
            return Rule(matches, verdict, None if verdict or value == "LOG" else value, option == "-g")
        found: bool | None = None
        if option == "-p":
            found = value in (packet.protocol, "all")
        elif option in ("--dport", "--dports"):
            found = is_in(value, packet.port)
        elif option in ("--ctstate", "--state"):
            found = "NEW" in value.split(",")
        elif option == "-i":
            found = value in packet.interfaces if packet.interfaces or value == "lo" else None
        elif option == "-m":
            found = True if value in KNOWN_MODULES else None
        elif option == "--comment":
            found = True
        matches = _both(matches, found if not is_not or found is None else not found)
    return Rule(matches, None)


def _both(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def is_in(ports: str, port: int) -> bool:
    """Whether "22,80,8000:9000" has this port."""
    ends = [part.partition(":") for part in ports.split(",") if part]
    return any(int(low) <= port <= int(high or low) for low, _, high in ends if low.isdigit() and (high or low).isdigit())
