"""Finding neighbours on the local network: mDNS and DNS-SD (RFC 6762, 6763) by zeroconf, both ways, and the watch over our own addresses.

What is found is a hint to dial, never more: mDNS is not authenticated, so a name, a tag or a goodbye may be anybody's. A forged one costs a
dial that fails at the TLS handshake. Bounds on everything keep a flood at that.

Every start has a new random name of 32 characters. It says nothing about the device, a device that crashed and comes back is new at once
instead of stale, and a clash is as likely as two equal keys: so the service is announced without the three probes of RFC 6762 8.1 that
would look for a clash first, which take 1.2 s (cold start is most of what people see of us). TXT holds `v` (protocol versions), `n` (the
network's tag, which hides its name) and `i` (the instance again, to tell a record that was put together from two).

Questions are asked by multicast, never "reply to me only" (QU): several daemons on one computer share UDP port 5353, and a unicast reply
reaches only one of them (measured: the others wait a second for the next question). Multicast answers are heard by all, who then need not
ask.

zeroconf's own browser reports a service once and then every 75 minutes. Ours keeps asking, so that after a partition, or after a dial
failed, a neighbour is offered again when it answers again. Per network that is about one question a minute: whoever hears a round of
answers lets its own question be. Questions of the first minute list what is known already, as RFC 6762 7.1 wants, so that only the missing
answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from zeroconf import (  # type: ignore[attr-defined]  # the three are left out of its __all__, yet kept "for backwards compat"
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    Error,
    RecordUpdate,
    RecordUpdateListener,
    Zeroconf,
    current_time_millis,
)
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from .candidates import SERVICE, Candidates, instance_of, is_for_us, new_name, write_txt
from .interfaces import (
    Choice,
    Wanted,
    addresses_to_ask_on,
    addresses_to_tell,
    can_join,
    choose,
    nearest,
    networks_of,
    read_interfaces,
    unknown,
)

if TYPE_CHECKING:
    from .events import Address

log = logging.getLogger(__name__)

MAX_LOOKUPS = 16
"""Neighbours asked for their port and address at a time. Ours send these along unasked; the lookup is for responders that do not."""

LOOKUP_MS = 3000
"""How long a neighbour may take to tell its port and address: long enough for a packet to be lost and sent again."""

FIRST_QUESTION_S = (0.02, 0.12)
"""Random wait before the first question, so that computers that start together do not ask together (RFC 6762 5.2)."""

QUESTION_GAPS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Gaps between the first questions: doubling, as RFC 6762 5.2 wants."""

QUESTION_GAP_S = (45.0, 75.0)
"""Gap between later questions, at random. RFC 6762 would let it grow to an hour; ours are shared by the whole network, and a partition that
has healed should not take an hour to be noticed."""

POLL_S = 5.0
"""How often the interfaces are read (it takes 0.2 ms). zeroconf does not watch them, and no system call does so on all systems."""

SETTLE_S = 2.0
"""Addresses must have stood still for so long. A laptop that changes from cable to Wi-Fi shows three sets of them within a second."""

ANNOUNCE_GAP_S = 10.0
"""At most one new announcement in this time, however often addresses change: a flapping cable must not become a storm on the network."""

GOODBYE_S = 1.0
"""Longest time that leaving takes. Three goodbyes take 0.25 s."""

NO_INTERFACE = "No network interface is up, so no neighbour can be found; it is tried again every few seconds."

PTR, INTERNET = 12, 1


class _Sightings(RecordUpdateListener):
    """Turns records as they come in into names seen and names gone. zeroconf tells of a record before it has stored it, so a name is passed
    on when the whole packet is stored."""

    def __init__(self, seen: Callable[[str], None], gone: Callable[[str], None]) -> None:
        super().__init__()
        self._seen, self._gone = seen, gone
        self._pending: dict[str, bool] = {}

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        for update in records:
            record = update.new
            if isinstance(record, DNSPointer) and record.name.lower() == SERVICE:
                instance = instance_of(record.alias)
                if instance is not None:
                    self._pending[instance] = not record.is_expired(now)

    def async_update_records_complete(self) -> None:
        pending, self._pending = self._pending, {}
        for instance, is_there in pending.items():
            (self._seen if is_there else self._gone)(instance)


class Discovery:
    """Announces this daemon and hands on the addresses of its neighbours.

    tag: the network's tag; daemons of other networks are not seen. port: where we listen; None looks without announcing.
    deliver: called in the event loop with each address worth a dial, again whenever a neighbour is seen anew.
    interfaces: "auto", or names and IP addresses. on_change: called with our own addresses when they have changed.

    When UDP port 5353 or the network is not to be had, `why_off` says so in one sentence and it is tried again at every look at the
    interfaces; nothing is raised, since a daemon with static addresses does not need us.
    """

    def __init__(
        self,
        tag: str,
        port: int | None,
        deliver: Callable[[Address], None],
        interfaces: Wanted = "auto",
        on_change: Callable[[tuple[str, ...]], None] | None = None,
    ) -> None:
        self.instance = new_name()
        self.why_off: str | None = "Discovery has not been started."
        self._tag, self._port, self._deliver, self._wanted, self._on_change = tag, port, deliver, interfaces, on_change
        self._candidates = Candidates()
        self._choices: Sequence[Choice] = ()
        self._asked_on: list[str] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._announced = float("-inf")
        self._seen_since_question = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._questions: asyncio.Task[None] | None = None
        self._lookups: set[str] = set()

    async def start(self) -> None:
        """Announce, ask, and watch the interfaces from now on."""
        self._choices = self._look()
        for word in unknown([choice.interface for choice in self._choices], self._wanted):
            log.warning("The configuration names the interface %s, which this device does not have.", word)
        await self._switch_on()
        self._spawn(self._watch())

    async def stop(self) -> None:
        """Say goodbye and be silent. Takes a quarter of a second, at most GOODBYE_S."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.why_off = "Discovery has been stopped."
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            try:
                async with asyncio.timeout(GOODBYE_S):
                    await zeroconf.async_close()
            except TimeoutError:
                zeroconf.zeroconf.engine.close()

    def addresses(self) -> tuple[str, ...]:
        """Our own addresses that others may use: at most 8, IPv4 first."""
        return addresses_to_tell(self._choices)

    def candidates(self) -> tuple[Address, ...]:
        """The neighbours in sight, the longest not seen first."""
        return self._candidates.addresses

    # our own side

    async def _switch_on(self) -> None:
        asked_on = self._places()
        if not asked_on:
            self._say_off(NO_INTERFACE)
            return
        zeroconf = _open(asked_on)
        if isinstance(zeroconf, str):
            self._say_off(zeroconf)
            return
        # Before anything is awaited: a record that came in unheard would be known, hence not asked for, hence not heard of for a minute.
        self._zeroconf, self._asked_on, self.why_off = zeroconf, asked_on, None
        zeroconf.zeroconf.async_add_listener(_Sightings(self._seen, self._gone), None)
        try:
            await zeroconf.zeroconf.async_wait_for_start()
            if self._port is not None:
                # "Cooperating responders" is zeroconf's word for no probing; see above why that is right for random names.
                self._spawn(await zeroconf.async_register_service(self._info(), cooperating_responders=True))
            self._announced = asyncio.get_running_loop().time()
        except (Error, OSError) as error:
            await self._switch_off(zeroconf, f"mDNS could not be started, so neighbours cannot be found ({error}); static addresses work.")
            return
        self._ask_anew()

    def _say_off(self, why: str) -> None:
        if why != self.why_off:
            log.warning(why)
        self.why_off = why

    def _places(self) -> list[str]:
        """The addresses to ask on; those whose interface refuses multicast are left out, as one of them would keep zeroconf from
        starting."""
        return [place for place in addresses_to_ask_on(self._choices) if ":" in place or can_join(place) is None]

    def _info(self) -> AsyncServiceInfo:
        addresses = [str(network.ip) for network in networks_of(self._choices)]
        return AsyncServiceInfo(
            SERVICE,
            f"{self.instance}.{SERVICE}",
            port=self._port,
            properties=write_txt(self._tag, self.instance),
            server=f"{self.instance}.local.",
            parsed_addresses=addresses,
        )

    def _look(self) -> Sequence[Choice]:
        try:
            return choose(read_interfaces(), self._wanted)
        except OSError:
            return self._choices

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            choices = self._look()
            if networks_of(choices) != networks_of(self._choices):
                await self._settle(choices)
            elif self._zeroconf is None:
                await self._switch_on()
            elif len(self._zeroconf.zeroconf.engine.senders) < len(self._asked_on):
                # An address was there but could not be used yet: a new IPv6 address is checked for a clash first, which takes a second or
                # two.
                await self._zeroconf.async_update_interfaces(self._asked_on)

    async def _settle(self, choices: Sequence[Choice]) -> None:
        """Our addresses have changed: wait until they stand still, then tell everybody."""
        while True:
            await asyncio.sleep(SETTLE_S)
            again = self._look()
            if networks_of(again) == networks_of(choices):
                break
            choices = again
        before, self._choices = self.addresses(), choices
        if self.addresses() != before and self._on_change is not None:
            self._on_change(self.addresses())
        if self._zeroconf is None:
            await self._switch_on()
            return
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._announced + ANNOUNCE_GAP_S - loop.time())
        self._announced = loop.time()
        await self._move(self._zeroconf)

    async def _move(self, zeroconf: AsyncZeroconf) -> None:
        places = self._places()
        if not places:
            await self._switch_off(zeroconf, NO_INTERFACE)
            return
        is_new_place = not set(places) <= set(self._asked_on)
        self._asked_on = places
        info = self._info()
        try:
            if self._port is not None and is_new_place:
                # async_update_interfaces announces what is registered, so that must be right before.
                zeroconf.zeroconf.registry.async_update(info)
            await zeroconf.async_update_interfaces(places)
            if self._port is not None and not is_new_place:
                self._spawn(await zeroconf.async_update_service(info))
        except (Error, OSError) as error:
            await self._switch_off(zeroconf, f"The new addresses could not be announced ({error}); mDNS starts afresh in a few seconds.")
            return
        self._ask_anew()

    async def _switch_off(self, zeroconf: AsyncZeroconf, why: str) -> None:
        self._zeroconf = None
        self._say_off(why)
        await zeroconf.async_close()

    # the others

    def _ask_anew(self) -> None:
        if self._questions is not None:
            self._questions.cancel()
        self._questions = self._spawn(self._keep_asking())

    async def _keep_asking(self) -> None:
        await asyncio.sleep(random.uniform(*FIRST_QUESTION_S))
        for gap in QUESTION_GAPS_S:
            self._ask(with_known_answers=True)
            await asyncio.sleep(gap)
        while True:
            # A round of answers that somebody else asked for is as good as one of our own.
            if self._seen_since_question * 2 < len(self._candidates) or not self._candidates:
                self._ask(with_known_answers=False)
            self._seen_since_question = 0
            await asyncio.sleep(random.uniform(*QUESTION_GAP_S))

    def _ask(self, with_known_answers: bool) -> None:
        if self._zeroconf is None:
            return
        question = DNSOutgoing(0)
        question.add_question(DNSQuestion(SERVICE, PTR, INTERNET))
        if with_known_answers:
            now = current_time_millis()
            for record in self._zeroconf.zeroconf.cache.get_all_by_details(SERVICE, PTR, INTERNET):
                if not record.is_stale(now):
                    question.add_answer_at_time(record, now)
        self._zeroconf.zeroconf.async_send(question)

    def _seen(self, instance: str) -> None:
        if instance == self.instance or self._zeroconf is None:
            return
        info = AsyncServiceInfo(SERVICE, f"{instance}.{SERVICE}")
        if info.load_from_cache(self._zeroconf.zeroconf):
            self._offer(instance, info)
        elif instance not in self._lookups and len(self._lookups) < MAX_LOOKUPS:
            self._lookups.add(instance)
            self._spawn(self._look_up(instance, info, self._zeroconf.zeroconf))

    async def _look_up(self, instance: str, info: AsyncServiceInfo, zeroconf: Zeroconf) -> None:
        try:
            if await info.async_request(zeroconf, LOOKUP_MS):
                self._offer(instance, info)
        finally:
            self._lookups.discard(instance)

    def _offer(self, instance: str, info: AsyncServiceInfo) -> None:
        if not info.port or not is_for_us(info.text or b"", self._tag, instance):
            return
        host = nearest(info.parsed_scoped_addresses(), self._choices)
        if host is None:
            return
        self._seen_since_question += 1
        if self._candidates.see(instance, (host, info.port), asyncio.get_running_loop().time()):
            self._deliver((host, info.port))

    def _gone(self, instance: str) -> None:
        self._candidates.forget(instance)

    # tasks of our own

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("Discovery: %s", task.exception(), exc_info=task.exception())


def _open(places: list[str]) -> AsyncZeroconf | str:
    """Open mDNS on these addresses, or say in one sentence why that cannot be."""
    if logging.getLogger("zeroconf").level in (logging.NOTSET, logging.WARNING):
        # It warns, with a traceback, whenever a cable is pulled. What matters of that we say ourselves.
        logging.getLogger("zeroconf").setLevel(logging.ERROR)
    try:
        try:
            return AsyncZeroconf(places)
        except OSError:
            # IPv6 is there but cannot be used: seen in containers. IPv4 alone finds everybody who has it.
            four = [place for place in places if ":" not in place]
            if not four or four == places:
                raise
            return AsyncZeroconf(four)
    except OSError as error:
        return (
            f"UDP port 5353 cannot be used ({error.strerror or error}), so neighbours on this network cannot be found; "
            "static addresses and invites work, and it is tried again every few seconds."
        )
