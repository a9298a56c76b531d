"""Who may begin a handshake: places and purses, without a socket and with a clock of our own."""

from __future__ import annotations

from peer.admission import ALL_BURST, HOST_BURST, HOST_HANDSHAKES_PER_S, MAX_HOSTS, MAX_PER_HOST, MAX_UNAUTHENTICATED, Admission, Place


def hosts(count: int) -> list[str]:
    return [f"10.0.{i // 250}.{i % 250 + 1}" for i in range(count)]


def test_a_host_has_a_few_places_and_gets_one_back_when_it_leaves_or_succeeds() -> None:
    doors = Admission()
    places = [doors.enter("10.0.0.1", 0.0) for _ in range(MAX_PER_HOST)]
    assert all(places)
    assert doors.enter("10.0.0.1", 0.0) is None
    assert doors.enter("10.0.0.2", 0.0) is not None
    assert places[0] is not None
    assert places[1] is not None
    doors.leave(places[0])
    doors.succeeded(places[1], 0.0)
    assert doors.enter("10.0.0.1", 0.0) is not None
    assert doors.enter("10.0.0.1", 0.0) is not None
    assert doors.enter("10.0.0.1", 0.0) is None


def test_when_all_places_are_taken_the_one_held_longest_is_given_up() -> None:
    doors, given_up = Admission(), []
    for host in hosts(MAX_UNAUTHENTICATED):
        place = doors.enter(host, 0.0)
        assert place is not None
        place.give_up = lambda host=host: given_up.append(host)  # type: ignore[misc]
    assert given_up == []
    assert doors.enter("10.9.9.9", 0.0) is not None
    assert given_up == hosts(1)
    assert len(doors) == MAX_UNAUTHENTICATED


def fail(doors: Admission, host: str, now: float) -> bool:
    place = doors.enter(host, now)
    if place is not None:
        doors.leave(place)
    return place is not None


def test_a_host_whose_handshakes_fail_is_turned_away_until_its_purse_fills_up() -> None:
    doors = Admission()
    assert sum(fail(doors, "10.0.0.1", 0.0) for _ in range(100)) == HOST_BURST
    assert fail(doors, "10.0.0.2", 0.0)
    assert sum(fail(doors, "10.0.0.1", 2.0) for _ in range(100)) == 2 * HOST_HANDSHAKES_PER_S


def test_a_host_whose_handshakes_succeed_is_never_turned_away() -> None:
    doors = Admission()
    for _ in range(1000):
        place = doors.enter("10.0.0.1", 0.0)
        assert place is not None
        doors.succeeded(place, 0.0)
    assert len(doors) == 0


def test_many_hosts_together_have_one_purse_too() -> None:
    doors = Admission()
    assert sum(fail(doors, host, 0.0) for host in hosts(3 * MAX_HOSTS)) == ALL_BURST
    assert fail(doors, "10.0.0.1", 1.0)


def test_the_peers_of_one_computer_do_not_crowd_each_other_out() -> None:
    doors = Admission()
    for host in ("127.0.0.1", "::1"):
        assert all(doors.enter(host, 0.0) for _ in range(MAX_PER_HOST + 2))


def test_a_link_local_neighbour_is_a_host_like_others() -> None:
    doors = Admission()
    assert all(doors.enter("fe80::1%eth0", 0.0) for _ in range(MAX_PER_HOST))
    assert doors.enter("fe80::1%eth0", 0.0) is None
    assert doors.enter("fe80::1%eth1", 0.0) is not None


def test_a_place_that_is_left_twice_or_late_does_no_harm() -> None:
    doors = Admission()
    place = doors.enter("10.0.0.1", 0.0)
    assert isinstance(place, Place)
    doors.leave(place)
    doors.leave(place)
    doors.succeeded(place, 0.0)
    assert len(doors) == 0


def test_a_clock_that_goes_back_fills_no_purse() -> None:
    doors = Admission()
    assert sum(fail(doors, "10.0.0.1", 100.0) for _ in range(100)) == HOST_BURST
    assert not fail(doors, "10.0.0.1", 50.0)
