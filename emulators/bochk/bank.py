"""The emulated BOCHK: our accounts with their lines, sessions and listings of B2E, and the S16 files made of the lines.

What the bank tells over B2E is the line as it stands now, some seconds after it was booked and mostly without the
customer's name; the S16 report of the period tells the same line again with name and account (tasks-and-monitoring.md
§5). seq_no and Transaction Reference Number are one count: ``BE26C`` and twelve digits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from random import Random
from typing import Any, Final, NamedTuple

from core.banks.bochk import BANK, Credentials
from core.clock import MS_PER_S, US_PER_S, Clock, hkt, hkt_date
from core.money import format_wire
from core.settings import Settings
from core.trace import Trace
from core.wire.bochk_b2e import (
    ACTIVITY,
    BAD_TOKEN,
    DUPLICATE_PACKAGE,
    NO_DATA,
    OK,
    REFUSED,
    RET_CODES,
    SIGN_ON,
    STATEMENT,
    SYSTEM,
    TODAY,
    Reply,
    Request,
)
from core.wire.text import refused_in
from emulators.bochk.faults import TABLE, Strikes
from emulators.faults import Fault, FaultsInForce
from emulators.loop import timer_of
from emulators.receiving import Line, ReceivingBank
from emulators.streams import happens, lognormal

_REFERENCE_DIGITS: Final = 12
_SEQ_DIGITS: Final = 10
_OTHER_PACKAGE: Final = "0" * 17
_BANK_CODE: Final = "012"


class Answered(NamedTuple):
    """What goes back: a reply or silence, how much later, and how its bytes are to be spoilt ("" not at all)."""

    reply: Reply | None
    delay_us: int = 0
    spoilt: str = ""


class BochkBank(ReceivingBank):
    """``in_maintenance``: whether the bank is away at a moment."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Callable[[str], Random], trace: Trace,
        settings: Settings, credentials: Credentials, *, in_maintenance: Callable[[int], bool] = lambda _ms: False,
    ) -> None:
        self.prefix: str = settings["sim.bochk.prefix"]
        super().__init__(BANK, clock, trace, settings["receiving.bochk.accounts"], self._next_reference)
        self._settings, self._credentials, self._in_maintenance = settings, credentials, in_maintenance
        self._after_us = timer_of(loop)
        self._draws = streams("bochk.lines")
        self._secrets = streams("bochk.tokens")
        self.faults = FaultsInForce(BANK, TABLE, self._after_us, trace, streams("bochk.faults").random, self._changed)
        self._counted = 0
        self._visible_ms: dict[int, int] = {}
        self._named: dict[int, bool] = {}
        self._sessions: dict[str, int] = {}
        self._packages: dict[str, None] = {}
        self.listen(self._booked)

    # Faults

    def _changed(self, fault: Fault, begins: bool) -> None:
        if begins and fault.name == "seq_reset":
            self._counted = 0

    # Lines

    def _next_reference(self, _number: int) -> str:
        self._counted += 1
        return f"{self.prefix}{self._counted:0{_REFERENCE_DIGITS}d}"

    def _booked(self, line: Line) -> None:
        settings = self._settings
        named = line.credit and happens(self._draws, settings["sim.bochk.named_share"])
        delay_s = lognormal(self._draws, settings["sim.bochk.visible.median"], settings["sim.bochk.visible.p99"])
        for fault in self.faults.strike(Strikes.LINE, TODAY, (line.reference,), line.customer):
            if fault.name == "missing_names":
                named = False
            else:
                delay_s = max(delay_s, fault.params["hidden_s"])
        self._named[line.seq] = named
        self._visible_ms[line.seq] = line.booked_ms + round(delay_s * MS_PER_S)

    def _shown(self, account: str, first: date, last: date) -> Iterator[Line]:
        """Lines of one account and these days that the interface shows now, in the bank's order."""
        now = self._clock.now_ms()
        return (line for line in self.lines(account)
                if self._visible_ms[line.seq] <= now and first <= hkt_date(line.booked_ms) <= last)

    def _record(self, line: Line, message: str) -> dict[str, str]:
        seq = line.reference[len(self.prefix):].lstrip("0")
        record = {
            "seq_no": seq if message == TODAY else seq.zfill(_SEQ_DIGITS),
            "txnTime": f"{hkt(line.booked_ms):%Y%m%d%H%M%S}", "ccy": line.ccy, "drCr": "C" if line.credit else "D",
            "amount": format_wire(line.amount), "balance": format_wire(line.balance),
            "remark": printable(line.remark), "en_name": printable(line.payer_name) if self._named[line.seq] else ""}
        if message == ACTIVITY and line.credit:
            record["bankCode"] = _BANK_CODE
        return {tag: text for tag, text in record.items() if text}

    # Messages

    def handle(self, request: Request) -> Answered:
        """One request: the reply, or silence."""
        names = (request.package_id, request.asked.get("acctNo", ""))
        delay_us, spoilt, reply = 0, "", None
        for fault in self.faults.strike(Strikes.ARRIVAL, request.name, names, ""):
            if fault.name == "timeout":
                return Answered(None)
            if fault.name == "expired_session":
                self._sessions.pop(request.head.get("Token", ""), None)
            else:
                reply = refusal(request, DUPLICATE_PACKAGE if fault.name == "duplicate_package" else SYSTEM)
        reply = reply or self._answer(request)
        for fault in self.faults.strike(Strikes.REPLY, request.name, names, ""):
            if fault.name == "timeout":
                return Answered(None)
            if fault.name == "slow":
                delay_us += round(fault.params["delay_s"] * US_PER_S)
            elif fault.name == "foreign_reply":
                reply = reply._replace(package_id=_OTHER_PACKAGE)
            elif fault.name == "duplicate_rows":
                reply = reply._replace(records=tuple(record for record in reply.records for _ in range(2)))
            else:
                spoilt = fault.params["how"]
        return Answered(reply, delay_us, spoilt)

    def _answer(self, request: Request) -> Reply:
        if self._in_maintenance(self._clock.now_ms()):
            return refusal(request, SYSTEM)
        if request.package_id in self._packages:
            return refusal(request, DUPLICATE_PACKAGE)
        self._packages[request.package_id] = None
        if len(self._packages) > self._settings["sim.bochk.packages"]:
            del self._packages[next(iter(self._packages))]
        if request.name == SIGN_ON:
            return self._sign_on(request)
        if self._sessions.get(request.head.get("Token", ""), 0) <= self._clock.now_ms():
            return refusal(request, BAD_TOKEN)
        return self._list(request)

    def _sign_on(self, request: Request) -> Reply:
        who, head = self._credentials, request.head
        told = (request.asked["custId"], head["UserId"], head.get("Password"), head["ECertName"], head.get("ECertPwd"))
        if told != (who.cust_id, who.user_id, who.password, who.cert_name, who.cert_password):
            return refusal(request, REFUSED)
        now = self._clock.now_ms()
        self._sessions = {token: until for token, until in self._sessions.items() if until > now}
        token = self._secrets.randbytes(16).hex()
        self._sessions[token] = now + round(self._settings["sim.bochk.session"] * MS_PER_S)
        return Reply(SIGN_ON, request.package_id, OK, RET_CODES[OK], {}, ({"token": token},))

    def _list(self, request: Request) -> Reply:
        asked = request.asked
        account, page_size = asked["acctNo"], self._settings["sim.bochk.page"]
        if self.our_accounts.get(asked["ccy"]) != account:
            return refusal(request, REFUSED)
        days = _days(request, hkt_date(self._clock.now_ms()))
        if days is None:
            return refusal(request, REFUSED)
        after = asked.get("PageKey", "0")
        from_seq = int(asked.get("fromSeq", "0"))
        lines = [line for line in self._shown(account, *days) if line.seq > int(after if after.isdigit() else 0)
                 and int(line.reference[len(self.prefix):]) > from_seq]
        page = lines[:page_size]
        facts = {"PageKey": str(page[-1].seq)} if len(lines) > page_size else {}
        if request.name == STATEMENT:
            facts |= self._balances(account, *days)
        code = OK if page else NO_DATA
        return Reply(request.name, request.package_id, code, RET_CODES[code], facts,
                     tuple(self._record(line, request.name) for line in page))

    def _balances(self, account: str, first: date, last: date) -> dict[str, str]:
        """Balances before and after the days, of the lines shown."""
        shown = list(self._shown(account, date.min, last))
        def before(line: Line) -> int:
            return line.balance - line.amount if line.credit else line.balance + line.amount
        within = [line for line in shown if hkt_date(line.booked_ms) >= first]
        closing = shown[-1].balance if shown else 0
        return {"opening": format_wire(before(within[0]) if within else closing), "closing": format_wire(closing)}

    def state(self) -> dict[str, Any]:
        """The bank's own view of itself."""
        return {"lines": sum(1 for _ in self.lines()), "sessions": len(self._sessions), "faults": self.faults.shown(),
                "totals": {ccy: self.balance("broker", ccy) for ccy in self.our_accounts}}


def refusal(request: Request, code: str) -> Reply:
    """A reply that only carries a code."""
    return Reply(request.name, request.package_id, code, RET_CODES[code])


def printable(text: str) -> str:
    """A text as it can stand in a field: no control characters, no separator of the S16 report."""
    return "".join(" " if refused_in(character) or character == "|" else character for character in text)[:140]


def _days(request: Request, today: date) -> tuple[date, date] | None:
    """First and last day that a listing is about; None if they are no days."""
    if request.name == TODAY:
        return today, today
    asked: Mapping[str, str] = request.asked
    first, last = (asked["date"],) * 2 if request.name == ACTIVITY else (asked["dateFrom"], asked["dateTo"])
    try:
        return date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        return None


__all__ = ["Answered", "BochkBank", "printable", "refusal"]
