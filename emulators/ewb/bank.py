"""The emulated East West Bank: the CSV and the BAI2 file of a day, as its portal gives them (gaps.md B-26).

The CSV has no names; the BAI2 file has the originator of each incoming wire. Somebody fetches both and uploads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import date
from enum import Enum
from random import Random
from typing import Any, Final

from core.clock import Clock, hkt_date
from core.settings import Settings
from core.trace import Trace
from core.wire import bai2, ewb_csv
from core.wire.bai2 import INCOMING_WIRE, Account, Detail, File, Group
from core.wire.ewb_csv import Row
from emulators.faults import AIM as COMMON_AIM
from emulators.faults import AIM_ALLOWED, Allowed, FaultKind, FaultsInForce, FaultTable, Parameter
from emulators.loop import timer_of
from emulators.receiving import BROKER, Line, ReceivingBank

BANK: Final = "ewb"
CSV, BAI2 = "csv", "bai2"
OUTGOING_WIRE: Final = "495"
CLOSING_BALANCE: Final = "015"


class Strikes(Enum):
    """Where a fault takes hold."""

    FILE = "when a file is made"


AIM: Final[dict[str, Parameter]] = COMMON_AIM


def _of(message: str, what: str) -> FaultKind:
    return FaultKind(what, frozenset({Strikes.FILE}), (message,), {})


FAULTS: Final[dict[str, FaultKind]] = {
    "wrong_total": _of(BAI2, "the account's control total is a cent too high"),
    "truncated": _of(BAI2, "the file breaks off before its last record"),
    "no_names": _of(BAI2, "the wires name no originator"),
    "bad_row": _of(CSV, "the first row has no reference"),
    "bad_header": _of(CSV, "the columns have other names"),
    "repeated": _of(CSV, "every row stands in the file twice"),
}
"""name -> what it does: literal, all of them strike a file."""

_ALLOWED: Final[Allowed] = {**AIM_ALLOWED}


def _place(kind: FaultKind, params: Mapping[str, Any]) -> Enum:  # noqa: ARG001 - there is one place
    return next(iter(kind.strikes))


TABLE: Final = FaultTable(BANK, FAULTS, AIM, _ALLOWED, _place)


class EwbBank(ReceivingBank):
    """The bank."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Callable[[str], Random], trace: Trace,
        settings: Settings,
    ) -> None:
        super().__init__(BANK, clock, trace, settings["receiving.ewb.accounts"])
        self.faults = FaultsInForce(BANK, TABLE, timer_of(loop), trace, streams("ewb.faults").random)
        self._now_ms = clock.now_ms

    def today(self) -> date:
        """The day of which the portal tells."""
        return hkt_date(self._now_ms())

    def days(self) -> list[date]:
        """The days of which there is something to tell, and today, oldest first."""
        return sorted({self.today(), *(hkt_date(line.booked_ms) for line in self.lines())})

    def csv(self, day: date) -> bytes:
        """The movements of a day."""
        rows = [Row(line.our_account, day, line.reference, line.remark or "WIRE", "C" if line.credit else "D",
                    line.amount, line.balance) for line in self._of(day)]
        for fault in self.faults.strike(Strikes.FILE, CSV, (), ""):
            if fault.name == "repeated":
                rows = [row for row in rows for _ in range(2)]
            elif fault.name == "bad_row":
                rows = [row._replace(reference="") for row in rows[:1]] + rows[1:]
            else:
                return ewb_csv.encode(rows).replace(b"Post Date", b"Date", 1)
        return ewb_csv.encode(rows)

    def bai2(self, day: date) -> bytes:
        """The report of a day."""
        struck = {fault.name for fault in self.faults.strike(Strikes.FILE, BAI2, (), "")}
        accounts = tuple(self._account(ccy, number, day, named="no_names" not in struck)
                         for ccy, number in self.our_accounts.items())
        content = bai2.encode(File("EWB", "NOSTRO", day, "1", (Group(day, accounts),)))
        lines = content.splitlines(keepends=True)
        if "wrong_total" in struck:
            lines = [_a_cent_more(line) if line.startswith(b"49,") else line for line in lines]
        return b"".join(lines[:-1] if "truncated" in struck else lines)

    def _account(self, ccy: str, number: str, day: date, *, named: bool) -> Account:
        details = tuple(
            Detail(INCOMING_WIRE if line.credit else OUTGOING_WIRE, line.amount, line.reference, "",
                   _plain(line.payer_name) if named and line.credit else "", _plain(line.remark))
            for line in self._of(day) if line.our_account == number)
        return Account(number, ccy, details, ((CLOSING_BALANCE, self._closing(ccy, number, day)),))

    def _closing(self, ccy: str, number: str, day: date) -> int:
        """What is on an account at the end of a day: now, without what came later."""
        later = (line for line in self.ever() if line.our_account == number and hkt_date(line.booked_ms) > day)
        return self.balance(BROKER, ccy) - sum(line.amount if line.credit else -line.amount for line in later)

    def _of(self, day: date) -> list[Line]:
        return [line for line in self.lines() if hkt_date(line.booked_ms) == day]


def _plain(text: str) -> str:
    """As the report can carry it."""
    return " ".join(text.encode("ascii", "replace").decode().replace("/", " ").split())


def _a_cent_more(trailer: bytes) -> bytes:
    code, total, *rest = trailer.split(b",")
    return b",".join((code, str(int(total) + 1).encode(), *rest))
