"""Which interfaces are used and why not the others, on networks made up here; one look at the real ones."""

from __future__ import annotations

import ipaddress

import pytest

from peer.interfaces import (
    MAX_ADDRESSES,
    Choice,
    Interface,
    addresses_to_ask_on,
    addresses_to_tell,
    can_join,
    choose,
    nearest,
    networks_of,
    read_interfaces,
    unknown,
)


def interface(name: str, index: int, *networks: str, title: str = "") -> Interface:
    return Interface(name, title or name, index, tuple(ipaddress.ip_interface(network) for network in networks))


LO = interface("lo", 1, "127.0.0.1/8", "::1/128")
ETH = interface("eth0", 2, "192.168.1.20/24", "fe80::20/64", "2001:db8::20/64")
WLAN = interface("wlan0", 3, "10.0.5.7/16", "fe80::7/64")
DOCKER = interface("docker0", 4, "172.17.0.1/16")
VPN = interface("wg0", 5, "10.8.0.2/32")
SIX = interface("eth1", 6, "fe80::66/64")


def used(choices: list[Choice]) -> list[str]:
    return [choice.interface.name for choice in choices if choice.is_used]


def test_auto_uses_networks_and_leaves_loopback_bridges_and_tunnels_with_a_reason_each() -> None:
    choices = choose([LO, ETH, WLAN, DOCKER, VPN, SIX], "auto")
    assert used(choices) == ["eth0", "wlan0", "eth1"]
    assert [choice.why for choice in choices if not choice.is_used] == [
        "loopback reaches this computer only",
        "a bridge for containers or virtual machines: its addresses repeat on every computer",
        "a tunnel: multicast does not pass; give the others this device's address instead",
    ]


@pytest.mark.parametrize("title", ["vEthernet (WSL)", "Hyper-V Virtual Ethernet Adapter", "VMware Network Adapter VMnet8"])
def test_windows_names_bridges_in_the_title(title: str) -> None:
    assert used(choose([ETH, interface("{4D36E972}", 9, "172.20.0.1/20", title=title)], "auto")) == ["eth0"]


def test_auto_falls_back_to_loopback_when_there_is_nothing_else() -> None:
    choices = choose([LO, DOCKER], "auto")
    assert used(choices) == ["lo"]
    assert addresses_to_tell(choices) == ("127.0.0.1",)
    assert "only this computer" in choices[0].why


def test_a_computer_without_any_interface_has_none_to_use() -> None:
    assert choose([], "auto") == []


@pytest.mark.parametrize(
    ("wanted", "addresses"),
    [
        (["lo"], ["127.0.0.1"]),
        (["127.0.0.1"], ["127.0.0.1"]),
        (["WLAN0"], ["10.0.5.7", "fe80::7"]),
        (["docker0", "192.168.1.20"], ["192.168.1.20", "172.17.0.1"]),
        (["wg0"], ["10.8.0.2"]),
        (["eth9"], []),
    ],
)
def test_what_the_owner_names_is_used_and_nothing_else(wanted: list[str], addresses: list[str]) -> None:
    assert addresses_to_ask_on(choose([LO, ETH, WLAN, DOCKER, VPN], wanted)) == addresses


def test_names_that_this_device_does_not_have_are_told() -> None:
    assert unknown([LO, ETH], ["eth0", "192.168.1.20", "eth9", "10.0.0.1"]) == ["eth9", "10.0.0.1"]
    assert unknown([LO, ETH], "auto") == []


def test_others_are_told_ipv4_first_no_link_local_and_at_most_eight() -> None:
    assert addresses_to_tell(choose([ETH, WLAN], "auto")) == ("192.168.1.20", "10.0.5.7", "2001:db8::20")
    many = interface("eth2", 7, *(f"2001:db8::{n}/64" for n in range(1, 30)), "10.1.1.1/24")
    told = addresses_to_tell(choose([many], "auto"))
    assert len(told) == MAX_ADDRESSES
    assert told[0] == "10.1.1.1"


def test_multicast_goes_out_from_one_address_of_each_family_of_an_interface() -> None:
    two = interface("eth0", 2, "192.168.1.20/24", "192.168.1.21/24", "2001:db8::20/64", "fe80::20/64")
    assert addresses_to_ask_on(choose([two, SIX], "auto")) == ["192.168.1.20", "fe80::20", "fe80::66"]


CHOICES = choose([LO, ETH, WLAN, DOCKER, SIX], "auto")


@pytest.mark.parametrize(
    ("addresses", "chosen"),
    [
        (["192.168.1.5"], "192.168.1.5"),
        (["2001:db8::5", "192.168.1.5"], "192.168.1.5"),
        (["172.17.0.1", "10.0.200.1"], "10.0.200.1"),
        (["192.168.1.20"], "192.168.1.20"),
        (["192.168.1.20", "fe80::5%2"], "fe80::5%2"),
        (["fe80::5%eth1"], "fe80::5%eth1"),
        (["2001:db8::5"], "2001:db8::5"),
        (["192.168.1.6", "192.168.1.5"], "192.168.1.6"),
    ],
)
def test_the_address_to_dial_is_in_one_of_our_networks(addresses: list[str], chosen: str) -> None:
    assert nearest(addresses, CHOICES) == chosen


@pytest.mark.parametrize(
    "address",
    [
        "192.168.2.5", "8.8.8.8", "172.17.0.1", "127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.251", "255.255.255.255", "192.168.1.0",
        "192.168.1.255", "10.0.255.255", "fe80::5", "fe80::5%1", "fe80::5%99", "2001:db9::5", "ff02::fb", "", "host", "1.2.3",
        "::ffff:192.168.1.5",
    ],
)  # fmt: skip
def test_off_link_loopback_broadcast_and_malformed_addresses_are_not_dialled(address: str) -> None:
    assert nearest([address], CHOICES) is None


def test_loopback_is_next_door_when_it_was_asked_for() -> None:
    assert nearest(["192.168.1.5", "127.0.0.1"], choose([LO, ETH], ["lo"])) == "127.0.0.1"


def test_both_ends_of_a_point_to_point_network_can_be_dialled() -> None:
    assert nearest(["10.9.0.0"], choose([interface("eth0", 2, "10.9.0.1/31")], "auto")) == "10.9.0.0"


def test_this_computer_has_a_loopback_interface_that_takes_multicast() -> None:
    interfaces = read_interfaces()
    loopback = choose(interfaces, ["127.0.0.1"])
    assert [str(network.ip) for network in networks_of(loopback)] == ["127.0.0.1"]
    assert can_join("127.0.0.1") is None


def test_an_address_that_is_not_ours_cannot_join() -> None:
    assert can_join("192.0.2.200")
