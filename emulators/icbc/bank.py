"""The emulated ICBC: its book, and what each of its two lines tells of it.

* Serials rise with the bookings, in tens, so that a statement that does not exist has a place between two that do.
* Each line tells of a booking after a lag of its own. A refund deletes the statement; what was printed stays printed.
* The bank knows nothing of the broker's groups: a line has the certificate that may use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from itertools import islice
from random import Random
from typing import Final

from core.clock import MS_PER_DAY, MS_PER_S, US_PER_S, Clock, hkt_date, hkt_midnight_ms, yyyymmdd
from core.settings import Settings
from core.trace import Trace
from core.wire.icbc import ERRORS, Answer, Query, Record, Request, Trans
from emulators.faults import Fault, FaultsInForce
from emulators.icbc.faults import CREDIT, LINE1, LINE2, LINES, TABLE, Strikes
from emulators.loop import timer_of
from emulators.receiving import BROKER, Line, ReceivingBank

BANK: Final = "icbc"
_STEP: Final = 10
_DIGITS: Final = 16


def serial_of(number: int) -> str:
    """The bank's serial of its n-th booking."""
    return f"{number * _STEP:0{_DIGITS}d}"


class IcbcBank(ReceivingBank):
    """``in_maintenance``: whether the bank refuses everything at a moment."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Callable[[str], Random], trace: Trace,
        settings: Settings, *, in_maintenance: Callable[[int], bool] = lambda _ms: False,
    ) -> None:
        super().__init__(BANK, clock, trace, settings["receiving.icbc.accounts"], serial_of)
        self._in_maintenance, self._after_us = in_maintenance, timer_of(loop)
        self._lag_ms = {line: round(settings[f"sim.icbc.lag.{line}"] * MS_PER_S) for line in LINES}
        self._page: int = settings["sim.icbc.page"]
        self.max_skew_ms = round(settings["sim.icbc.clock_skew_s"] * MS_PER_S)
        self._package_limit: int = settings["sim.icbc.packages"]
        self._packages: dict[str, int] = {}
        self.users = {LINE1: settings["icbc.user.prod"], LINE2: settings["icbc.user.canary"]}
        self.faults = FaultsInForce(BANK, TABLE, self._after_us, trace, streams("icbc.faults").random)
        self._ghosts: dict[int, tuple[Line, int]] = {}  # seq of the line before it -> ghost, withdrawn at
        self._late: dict[int, int] = {}  # seq -> told from this moment on
        self._behind: dict[int, int] = {}  # seq -> that of the line which line 1 tells first
        self._twin_of: dict[tuple[str, int], tuple[Line, int]] = {}  # (currency, amount) -> awaits its twin, until when
        self._last_before: dict[date, int] = {}  # day -> number of the last booking of the days before
        self._told: dict[str, dict[int, None]] = {line: {} for line in LINES}
        self.listen(self._booked)

    def now_ms(self) -> int:
        """By the bank's own clock."""
        skew = sum(fault.params["skew_s"] for fault in self.faults.active("clock_skew"))
        return self._clock.now_ms() + int(skew * MS_PER_S)

    # Faults

    def _booked(self, line: Line) -> None:
        self._last_before.setdefault(hkt_date(line.booked_ms), line.seq - 1)
        if not line.credit:
            return
        twin, until_ms = self._twin_of.pop((line.ccy, line.amount), (line, 0))
        if line.booked_ms < until_ms:
            self.replace(replace(line, booked_ms=twin.booked_ms, remark=twin.remark))
            self._behind[line.seq] = twin.seq
        for fault in self.faults.strike(Strikes.BOOKING, CREDIT, (line.reference,), line.customer):
            self._strike_credit(fault, line)

    def _strike_credit(self, fault: Fault, line: Line) -> None:
        if fault.name == "refund":
            self._after_us(round(fault.params["refund_s"] * US_PER_S), self._give_back, line.reference)
        elif fault.name == "identical":
            self._twin_of[line.ccy, line.amount] = (line, line.booked_ms + round(fault.params["await_s"] * MS_PER_S))
        elif fault.name == "ghost":
            ghost = replace(line, reference=str(int(line.reference) + _STEP // 2).zfill(_DIGITS), payer_name="",
                            payer_account="", remark="", booked_ms=line.booked_ms + MS_PER_S)
            self._ghosts[line.seq] = (ghost, line.booked_ms + round(fault.params["shown_s"] * MS_PER_S))
        else:
            midnight = hkt_midnight_ms(hkt_date(line.booked_ms)) + MS_PER_DAY
            self._late[line.seq] = midnight + round(fault.params["late_s"] * MS_PER_S)

    def _give_back(self, reference: str) -> None:
        if any(line.reference == reference for line in self.lines()):
            self.refund(reference)

    # What a line tells

    def told_on(self, line_name: str, our_account: str, after_seq: int = 0) -> Iterator[Line]:
        """The statement of an account as one line tells it now, in the order of serials, after a booking's number."""
        now, lag_ms = self._clock.now_ms(), self._lag_ms[line_name]
        for line in self.lines(our_account, after_seq):
            if now < max(line.booked_ms + lag_ms, self._late.get(line.seq, 0)) or self._waits(line_name, line.seq):
                continue
            yield line
            ghost, until_ms = self._ghosts.get(line.seq, (line, 0))
            if line_name == LINE1 and now < until_ms:
                yield ghost

    def _waits(self, line_name: str, seq: int) -> bool:
        if line_name == LINE1:
            return seq in self._behind and self._behind[seq] not in self._told[LINE1]
        now = self._clock.now_ms()
        return any(line.seq == seq and now < until_ms for line, until_ms in self._twin_of.values())

    # Messages

    def arrives(self, line_name: str) -> str | None:
        """What becomes of a message before anybody looks at it: ``silence``, ``refused``, an errorCode, or None."""
        if self._in_maintenance(self._clock.now_ms()):
            return "B0010"
        for fault in self.faults.strike(Strikes.ARRIVAL, line_name, (), ""):
            return str(fault.params["answer" if fault.name == "line_down" else "code"])
        return None

    def is_closed(self, line_name: str) -> bool:
        """Whether nobody listens at a line."""
        return any(fault.params["answer"] == "refused" and fault.params["message"] in (None, line_name)
                   for fault in self.faults.active("line_down"))

    def admits(self, line_name: str, request: Request) -> str | None:
        """The errorCode for a request whose signature is good, or None."""
        now, head = self.now_ms(), request.head
        if head.user != self.users[line_name]:
            return "B0007"
        if abs(now - head.sent_ms) > self.max_skew_ms:
            return "B0004"
        while self._packages and self._packages[oldest := next(iter(self._packages))] < now - 2 * self.max_skew_ms:
            del self._packages[oldest]
        if head.package in self._packages:
            return "B0005"
        if len(self._packages) >= self._package_limit:
            return "B0011"
        self._packages[head.package] = now
        return None

    def answer(self, line_name: str, request: Request) -> Answer:
        """The answer to an admitted request."""
        head, query = request
        if head.trans not in set(Trans):
            return Answer(head, "B0006", ERRORS["B0006"])
        if self.our_accounts.get(query.ccy) != query.account:
            return Answer(head, "B0009", ERRORS["B0009"])
        if head.trans == Trans.BALANCE:
            return Answer(head, account=query.account, ccy=query.ccy, balance=str(self.balance(BROKER, query.ccy)))
        if query.next_tag and not query.next_tag.isascii():
            return Answer(head, "B0008", ERRORS["B0008"])
        now = self._clock.now_ms()
        page = [*islice((line for line in self.told_on(line_name, query.account, self._before(head.trans, query, now))
                         if line.reference >= query.next_tag and _asked(head.trans, query, line, now)),
                        self._page + 1)]
        for line in page[:self._page]:
            self._told[line_name][line.seq] = None
        return Answer(head, account=query.account, ccy=query.ccy, records=tuple(map(_record, page[:self._page])),
                      next_tag=page[self._page].reference if len(page) > self._page else "")

    def _before(self, trans: str, query: Query, now_ms: int) -> int:
        """A booking up to which a page shows nothing: it is of an earlier day, or before the serials asked for."""
        if trans == Trans.TODAY:
            return max(self._last_before.get(hkt_date(now_ms), self._number), _booked_before(query.begin_seq),
                       _booked_before(query.next_tag))
        days = (last for day, last in self._last_before.items() if str(yyyymmdd(day)) >= query.begin_date)
        return max(next(days, self._number), _booked_before(query.next_tag))

    def leaves(self, line_name: str, answer: Answer) -> tuple[Answer, int, frozenset[str]]:
        """An answer on its way back, its delay in µs, and which of ``bad_signature`` and ``garbled`` strike it."""
        delay_us, spoilt = 0, set()
        for fault in self.faults.strike(Strikes.REPLY, line_name, (), ""):
            if fault.name == "slow":
                delay_us += round(fault.params["delay_s"] * US_PER_S)
            elif fault.name == "next_tag_loop":
                answer = answer._replace(next_tag="1".zfill(_DIGITS))
            elif fault.name == "duplicate_serial" and len(answer.records) > 1:
                first, second, *rest = answer.records
                answer = answer._replace(records=(first, second._replace(serial=first.serial), *rest))
            else:
                spoilt.add(fault.name)
        return answer, delay_us, frozenset(spoilt)


def _booked_before(serial: str) -> int:
    """A booking up to which nothing has this serial or a later one; what does not exist stands behind a booking."""
    return max(0, int(serial) // _STEP - 1) if serial.isascii() and serial.isdigit() else 0


def _asked(trans: str, query: Query, line: Line, now_ms: int) -> bool:
    day = str(yyyymmdd(hkt_date(line.booked_ms)))
    if trans == Trans.HISTORY:
        return (query.begin_date or day) <= day <= (query.end_date or day)
    inside = query.begin_seq <= line.reference and line.reference <= (query.end_seq or line.reference)
    return inside and hkt_date(line.booked_ms) == hkt_date(now_ms)


def _record(line: Line) -> Record:
    amount = str(line.amount)
    credit, debit = (amount, "0") if line.credit else ("0", amount)
    return Record(line.reference, line.booked_ms // MS_PER_S * MS_PER_S, line.ccy, credit, debit, str(line.balance),
                  line.remark, line.payer_name, line.payer_account)
