"""An emulated direct-debit interface: debtors at any bank, authorisations, debits, its own book (gaps.md B-25).

Both banks on one class; they differ in the rule of their door:

* HSBC: more than 4 requests in one whole second of the bank's clock: HTTP 429.
* Hang Seng: a second request while one is in work, and a debit whose sequence does not rise: HTTP 409.

Rules for both:

* `EddaBank.handle` takes a message and gives (reply or None, extra µs). None is silence. It never suspends.
* A reference names one instruction for ever: sent again, it is answered with the original and the reason DUPL; with
  other content it is refused (DUPL).
* The checks of a debit have one order: door, form, reference, session, sequence, mandate, account, limit. What only a
  mandate, an account or a balance decides is checked again when the result is due, and the money moves then.
* Three numbers are drawn for every debit, so that a fault on one does not change the others.
* What the back office decides by hand stands: a decision or a result that was due later does not come any more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from core.clock import MS_PER_DAY, MS_PER_S, US_PER_MS, US_PER_S, Clock, hkt_date, hkt_midnight_ms, hkt_texts, yyyymmdd
from core.errors import InvalidAmount, InvariantBroken
from core.money import format_wire, parse_wire
from core.trace import Trace
from core.wire.edda import AuthorisationStatus, DebitStatus, Reply, ReportRow, Request, refusal, write_report
from emulators.book import OUTSIDE, Account, Book
from emulators.dice import at
from emulators.edda.faults import EddaFaults, Strikes
from emulators.edda.records import Authorisation, Debit, Debtor
from emulators.edda.values import PAID, BankValues
from emulators.faults import Fault
from emulators.loop import timer_of
from emulators.office import Truth
from emulators.sftp import MemoryFiles

BROKER: Final = "broker"
PENDING, ACTIVE, REJECTED = AuthorisationStatus.PENDING, AuthorisationStatus.ACTIVE, AuthorisationStatus.REJECTED
SUSPENDED, CANCELLED = AuthorisationStatus.SUSPENDED, AuthorisationStatus.CANCELLED
PROCESSING, SUCCESS = DebitStatus.PROCESSING, DebitStatus.SUCCESS
FAILED, RETURNED = DebitStatus.FAILED, DebitStatus.RETURNED

IN_ORDER: Final[dict[str, bool]] = {"hsbc": False, "hase": True}
"""Whether a bank has one request in work at a time, and debits in the order of their sequence."""


class Handled(NamedTuple):
    """``reply`` None: silence. ``delay_us`` until it leaves. ``forged``: signed by nobody whom the broker knows."""

    reply: Reply | None
    delay_us: int = 0
    forged: bool = False


class Plan(NamedTuple):
    """What becomes of a debit after ``delay_us``: collected (`PAID`) or a reason. ``shown_us``: when it shows, from
    acceptance; None never. ``return_us``: from the success to the return, None for no return."""

    delay_us: int
    reason: str
    shown: bool = True
    shown_us: int | None = None
    return_us: int | None = None


def always(ms: int) -> bool:  # noqa: ARG001 - the shape of a window
    """A session that never closes."""
    return True


def never(ms: int) -> bool:  # noqa: ARG001 - the shape of a window
    """A maintenance that never comes."""
    return False


def every_day(ms: int) -> int:
    """The next business day of a calendar without holidays: its midnight, epoch ms."""
    return hkt_midnight_ms(hkt_date(ms + MS_PER_DAY))


class EddaBank:
    """``bank``: hsbc or hase. ``next_business_day(ms)``: midnight of the business day after the day of a moment.
    ``door_us``: the clock by which the door counts requests, where that is not the bank's: that of its clients."""

    def __init__(
        self, bank: str, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Callable[[str], random.Random],
        trace: Trace, settings: Mapping[str, Any], *, is_open: Callable[[int], bool] = always,
        in_maintenance: Callable[[int], bool] = never, next_business_day: Callable[[int], int] = every_day,
        door_us: Callable[[], int] | None = None,
    ) -> None:
        self.bank, self.channel = bank, f"{bank}_eddi"
        self.values = BankValues.of(settings, bank)
        self.book = Book()
        self.files = MemoryFiles(clock, self.values.report_folder)
        self._clock, self._emit, self._after_us = clock, trace.emit, timer_of(loop)
        self._door_us = door_us or clock.now_us
        self._is_open, self._in_maintenance, self._next_day = is_open, in_maintenance, next_business_day
        self._draw = streams(f"{self.channel}.results").random
        self._draw_decision = streams(f"{self.channel}.decisions").random
        self._draw_work = streams(f"{self.channel}.work").random
        self._faults = EddaFaults(self.channel, self._after_us, trace, streams(f"{self.channel}.faults").random)
        self._debtors: dict[str, Debtor] = {}
        self._by_account: dict[tuple[str, str], Debtor] = {}
        self._authorisations: dict[str, Authorisation] = {}
        self._debits: dict[str, Debit] = {}
        self._by_reference: dict[str, Authorisation | Debit] = {}
        self._changes: list[ReportRow] = []
        self._number = 0
        self._sequence = 0
        self._busy_until_us = 0
        self._second, self._in_second = -1, 0
        self.most_in_a_second = 0
        self.refused_at_the_door = 0
        self.order: list[str] = []  # references of the debits in the order in which they were accepted
        self._broker: dict[str, Account] = {}
        for ccy in self.values.limit:
            self.book.open(OUTSIDE, ccy, floor=None)
            self._broker[ccy] = self.book.open(BROKER, ccy, floor=None)
        self._serve: dict[str, Callable[[Request], Reply]] = {
            "create_authorisation": self._create_authorisation, "query_authorisation": self._query_authorisation,
            "create_debit": self._create_debit, "query_debit": self._query_debit}

    # Messages

    def handle(self, request: Request) -> Handled:
        """Act on one message."""
        names, customer = self._about(request)
        early = self._at_arrival(request.message, names, customer)
        if early is not None:
            return early
        work_us = at(self.values.work, self._draw_work())
        if (code := self._door(work_us)) is not None:
            self.refused_at_the_door += 1
            return Handled(refusal(code))
        return self._on_the_way_back(request.message, names, customer, self._serve[request.message](request), work_us)

    def _door(self, work_us: int) -> str | None:
        """The rule of the door: why a request is not let in, or None."""
        now_us = self._door_us()
        if self._in_maintenance(self._clock.now_ms()):
            return "MAINTENANCE"
        if IN_ORDER[self.bank]:
            if now_us < self._busy_until_us:
                return "EDDI_BUSY"
            self._busy_until_us = now_us + work_us
            return None
        second = now_us // US_PER_S
        self._second, self._in_second = second, self._in_second + 1 if second == self._second else 1
        self.most_in_a_second = max(self.most_in_a_second, self._in_second)
        return "EDDI_RATE" if self._in_second > self.values.rate else None

    def _at_arrival(self, message: str, names: list[str], customer: str) -> Handled | None:
        for fault in self._faults.strike(Strikes.ARRIVAL, message, names, customer) if self._faults else ():
            if fault.name in ("rate", "busy"):
                return Handled(refusal("EDDI_RATE" if fault.name == "rate" else "EDDI_BUSY"))
            if fault.name == "outage" and fault.params["answer"] == "maintenance":
                return Handled(refusal("MAINTENANCE"))
            return Handled(None)
        return None

    def _on_the_way_back(
        self, message: str, names: list[str], customer: str, reply: Reply, work_us: int
    ) -> Handled:
        handled = Handled(reply, work_us)
        for fault in self._faults.strike(Strikes.REPLY, message, names, customer) if self._faults else ():
            if fault.name == "slow":
                handled = handled._replace(delay_us=handled.delay_us + round(fault.params["delay_s"] * US_PER_S))
                self._busy_until_us = max(self._busy_until_us, self._door_us() + handled.delay_us)
            elif fault.name == "bad_signature":
                handled = handled._replace(forged=True)
            elif fault.name == "timeout":
                handled = handled._replace(reply=None)
            else:
                handled = handled._replace(reply=refusal("ERROR"))
        return handled

    @property
    def silent(self) -> bool:
        """Whether the bank is away and answers nothing at all."""
        return self._faults.silence

    def now_s(self) -> int:
        """The bank's clock, epoch seconds."""
        return self._clock.now_ms() // MS_PER_S

    def _about(self, request: Request) -> tuple[list[str], str]:
        """(every name by which a message's subject is known, customer id or "")."""
        body = request.body or {}
        given = [request.ident, body.get("reference"), body.get("authorisation")]
        names = [name for name in given if isinstance(name, str) and name]
        customer = ""
        for name in tuple(names):
            known = self._debits.get(name) or self._authorisations.get(name) or self._by_reference.get(name)
            if known is not None:
                names += [known.id, known.reference]
                of = known.authorisation if isinstance(known, Debit) else known
                customer = of.debtor.id if of.debtor is not None else customer
        if not customer and isinstance(body.get("debtor_account"), str):
            debtor = self._by_account.get((str(body.get("debtor_bank")), body["debtor_account"]))
            customer = debtor.id if debtor is not None else ""
        return names, customer

    # Debtors

    def open_debtor(self, customer_id: str, bank: str, account_no: str, name: str, balances: Mapping[str, int]) -> None:
        """A customer's account at some bank, with minor units by currency."""
        if customer_id in self._debtors or (bank, account_no) in self._by_account:
            raise InvariantBroken(f"debtor {customer_id} or account {bank} {account_no} exists")
        accounts: dict[str, Account] = {}
        for ccy in self._broker:
            account = accounts[ccy] = self.book.open(customer_id, ccy)
            if balances.get(ccy, 0):
                self.book.move(self.book.account(OUTSIDE, ccy), account, balances[ccy])
        debtor = Debtor(customer_id, bank, account_no, name, accounts)
        self._debtors[customer_id] = self._by_account[bank, account_no] = debtor

    def close_account(self, customer_id: str) -> None:
        """The customer closes the account: nothing is debited any more."""
        self._debtors[customer_id].closed = True

    def top_up(self, customer_id: str, ccy: str, amount: int) -> None:
        """Money from elsewhere arrives on a debtor's account."""
        self.book.move(self.book.account(OUTSIDE, ccy), self._debtors[customer_id].accounts[ccy], amount)

    def balance(self, owner: str, ccy: str) -> int:
        """Minor units of a debtor, or of `BROKER`; 0 in a currency that is not debited."""
        return self.book.account(owner, ccy).balance if ccy in self._broker else 0

    # Authorisations

    def _create_authorisation(self, request: Request) -> Reply:
        body = request.body or {}
        try:
            reference, ccy, limit = body["reference"], body["ccy"], parse_wire(body["limit"])
            bank, account_no, name = body["debtor_bank"], body["debtor_account"], body["debtor_name"]
            expiry = body["expiry"]
        except (KeyError, InvalidAmount):
            return refusal("INVALID")
        texts = all(isinstance(text, str) and 0 < len(text) <= 140 for text in (reference, ccy, bank, account_no, name))
        if not texts or not (expiry is None or type(expiry) is int) or ccy not in self.values.limit:
            return refusal("INVALID")
        known = self._by_reference.get(reference)
        if known is not None:
            return self._again(known, isinstance(known, Authorisation) and known.limit == limit)
        if limit > self.values.limit[ccy]:
            return refusal("AM14")
        debtor = self._by_account.get((bank, account_no))
        one = self._add_authorisation(reference, debtor if debtor is not None and debtor.name == name else None, ccy,
                                      limit, expiry)
        self._after_us(at(self.values.decision.at(self._draw_decision()), self._draw_decision()), self._decide, one,
                       self._draw_decision())
        return Reply(201, _shown(one))

    def _again(self, known: Authorisation | Debit, same: bool) -> Reply:
        """A reference that was used before."""
        return Reply(200, _shown(known) | {"reason": "DUPL"}) if same else refusal("DUPL")

    def _add_authorisation(
        self, reference: str, debtor: Debtor | None, ccy: str, limit: int, expiry: int | None
    ) -> Authorisation:
        one = Authorisation(self._next_id("MD"), reference, debtor, ccy, limit, expiry)
        self._authorisations[one.id] = self._by_reference[reference] = one
        return one

    def _decide(self, one: Authorisation, u: float) -> None:
        if one.status is not PENDING:
            return  # decided by hand meanwhile
        names, customer = [one.id, one.reference], one.debtor.id if one.debtor is not None else ""
        struck = self._faults.strike(Strikes.DECISION, "create_authorisation", names, customer) if self._faults else []
        if struck:
            self._move(one, REJECTED, struck[-1].params["reason"])
        elif one.debtor is None or u < self.values.reject_share:
            self._move(one, REJECTED, "AC01")
        elif one.debtor.closed:
            self._move(one, REJECTED, "AC04")
        else:
            self._move(one, ACTIVE)

    def _move(self, one: Authorisation, to: AuthorisationStatus, reason: str = "") -> None:
        one.move(to, reason)
        self._changes.append(ReportRow(one.id, to, yyyymmdd(hkt_date(self._clock.now_ms())), reason))

    def _query_authorisation(self, request: Request) -> Reply:
        one = self._authorisations.get(request.ident)
        return refusal("NOT_FOUND") if one is None else Reply(200, _shown(one))

    def grant(self, customer_id: str, ccy: str = "HKD", limit: int | None = None) -> str:
        """An ACTIVE authorisation given at some earlier time; its id."""
        one = self._add_authorisation(f"earlier-{customer_id}-{len(self._authorisations)}", self._debtors[customer_id],
                                      ccy, self.values.limit[ccy] if limit is None else limit, None)
        one.status = ACTIVE
        return one.id

    def set_status(self, mandate_ref: str, to: AuthorisationStatus, reason: str = "") -> bool:
        """The debtor bank or the customer suspends, resumes, cancels, or decides; False if that is no move (B-25)."""
        one = self._authorisations[mandate_ref]
        if not one.may(to):
            return False
        self._move(one, to, reason)
        return True

    def status(self, mandate_ref: str) -> AuthorisationStatus:
        """The bank's own knowledge of an authorisation."""
        return self._authorisations[mandate_ref].status

    # Debits

    def _create_debit(self, request: Request) -> Reply:
        body = request.body or {}
        try:
            reference, mandate, sequence = body["reference"], body["authorisation"], body["sequence"]
            ccy, amount = body["ccy"], parse_wire(body["amount"])
        except (KeyError, InvalidAmount):
            return refusal("INVALID")
        if not all(isinstance(text, str) and 0 < len(text) <= 64 for text in (reference, mandate, ccy)) or (
                type(sequence) is not int) or amount <= 0:
            return refusal("INVALID")
        known = self._by_reference.get(reference)
        if known is not None:
            return self._again(known, isinstance(known, Debit) and (known.ccy, known.amount) == (ccy, amount))
        if not self._is_open(self._clock.now_ms()):
            return refusal("EDDI_CLOSED")
        if IN_ORDER[self.bank] and sequence <= self._sequence:
            return refusal("EDDI_BUSY")
        one = self._authorisations.get(mandate)
        code = "MD01" if one is None else self._objection(one, ccy, amount)
        if one is None or code:
            return refusal(code)
        self._sequence = sequence
        return Reply(201, _shown(self._accept(reference, one, ccy, amount)))

    def _objection(self, one: Authorisation, ccy: str, amount: int) -> str:
        """The reason for which a debit is refused; "" if there is none."""
        today = yyyymmdd(hkt_date(self._clock.now_ms()))
        if one.status is not ACTIVE or one.debtor is None or (one.expiry is not None and one.expiry < today):
            return "MD01"
        if one.debtor.closed:
            return "AC04"
        return "AM14" if ccy != one.ccy or amount > min(one.limit, self.values.limit[ccy]) else ""

    def _accept(self, reference: str, one: Authorisation, ccy: str, amount: int) -> Debit:
        debit = Debit(self._next_id("DD"), reference, one, ccy, amount, self._clock.now_ms())
        self._debits[debit.id] = self._by_reference[reference] = debit
        self.order.append(reference)
        plan = self._plan()
        names, customer = [debit.id, reference, one.id], one.debtor.id if one.debtor is not None else ""
        for fault in self._faults.strike(Strikes.DEBIT, "create_debit", names, customer) if self._faults else ():
            plan = self._twisted(plan, debit, fault)
        debit.shown = plan.shown
        self._after_us(plan.delay_us, self._settle, debit, plan)
        return debit

    def _plan(self) -> Plan:
        same_day, when, what = self._draw(), self._draw(), self._draw()
        reason = self.values.outcome.at(what)
        if same_day < self.values.same_day_share:
            return Plan(at(self.values.same_day, when), reason)
        return Plan(self._next_day_us(when), reason)

    def _next_day_us(self, u: float) -> int:
        """µs from now to a moment of T+1."""
        first, last = self.values.next_day
        now_us = self._clock.now_us()
        at_ms = self._next_day(now_us // US_PER_MS) + first + int((last - first) * u)
        return at_ms * US_PER_MS - now_us

    def _twisted(self, plan: Plan, debit: Debit, fault: Fault) -> Plan:
        params = fault.params
        if fault.name == "result_next_day":
            return plan._replace(delay_us=self._next_day_us(0.5))
        if fault.name == "result_missing":
            until_s = params["until_s"]
            return plan._replace(shown=False, shown_us=None if until_s is None else round(until_s * US_PER_S))
        if fault.name == "fail_with":
            return plan._replace(reason=params["reason"])
        if fault.name == "returned":
            return plan._replace(reason=PAID, return_us=round(params["return_s"] * US_PER_S))
        self._after_us(plan.delay_us // 2, self.set_status, debit.authorisation.id, CANCELLED, "MD01")
        return plan._replace(reason=PAID)  # mandate_cancelled_midflight: that is why it fails

    def _settle(self, debit: Debit, plan: Plan) -> None:
        """The result is there: the money moves, or a reason why it does not."""
        if debit.truth is not PROCESSING:
            return  # decided by hand meanwhile
        reason = plan.reason or self._collect(debit)
        debit.truth, debit.reason = (FAILED, reason) if reason else (SUCCESS, "")
        debit.settled_ms = self._clock.now_ms()
        if debit.shown:
            debit.status = debit.truth
        elif plan.shown_us is not None:
            self._after_us(max(0, plan.shown_us - plan.delay_us), self.publish, debit.id)
        if not reason and plan.return_us is not None:
            self._after_us(plan.return_us, self.give_back, debit.id)

    def _collect(self, debit: Debit) -> str:
        if reason := self._objection(debit.authorisation, debit.ccy, debit.amount):
            return reason
        assert debit.authorisation.debtor is not None
        account = debit.authorisation.debtor.accounts[debit.ccy]
        if not self.book.move(account, self._broker[debit.ccy], debit.amount):
            return "AM04"
        self._tell("collect", debit)
        return ""

    def decide(self, ident: str, reason: str = "") -> str:
        """The back office ends a debit now: collects it, or lets it fail with a reason; it shows at once. Gives the
        reason for which it has failed, "" if it is collected; `InvariantBroken` if its result was there before."""
        debit = self._debits[ident]
        if debit.truth is not PROCESSING:
            raise InvariantBroken(f"{ident} is {debit.truth} already")
        debit.shown = True
        self._settle(debit, Plan(0, reason))
        return debit.reason

    def give_back(self, ident: str) -> bool:
        """A collected debit is returned to the customer; False if it was not collected, or was returned before."""
        debit = self._debits[ident]
        if debit.truth is not SUCCESS or debit.authorisation.debtor is None:
            return False
        self.book.move(self._broker[debit.ccy], debit.authorisation.debtor.accounts[debit.ccy], debit.amount)
        debit.truth = RETURNED
        debit.settled_ms = self._clock.now_ms()
        if debit.shown:
            debit.status = RETURNED
        self._tell("refund_collect", debit)
        return True

    def _tell(self, op: str, debit: Debit) -> None:
        debtor = debit.authorisation.debtor
        self._emit("bank.book", debit.reference, {
            "bank": self.channel, "op": op, "ref": debit.reference, "request_id": debit.id, "ccy": debit.ccy,
            "amount": debit.amount, "customer": debtor.id if debtor is not None else ""})

    def _query_debit(self, request: Request) -> Reply:
        debit = self._debits.get(request.ident)
        return refusal("NOT_FOUND") if debit is None else Reply(200, _shown(debit))

    # The back office

    def inquire(self, reference: str) -> Truth:
        """A phone call by operations: the truth about a reference or an id of a debit."""
        found = self._debits.get(reference) or self._by_reference.get(reference)
        if not isinstance(found, Debit):
            return Truth("NOT_RECEIVED", "", reference)
        status = {PROCESSING: "PENDING", SUCCESS: "PAID", FAILED: "NOT_PAID", RETURNED: "REFUNDED"}[found.truth]
        return Truth(status, found.id, found.reference, found.settled_ms)

    def debtors(self) -> list[Debtor]:
        """All debtors, in the order in which they came."""
        return list(self._debtors.values())

    def authorisations(self) -> list[Authorisation]:
        """All authorisations, oldest first."""
        return list(self._authorisations.values())

    def debits(self) -> list[Debit]:
        """All debits, oldest first."""
        return list(self._debits.values())

    def faults_shown(self) -> list[dict[str, Any]]:
        """Faults in force or announced, for people."""
        return self._faults.shown()

    def publish(self, ident: str) -> bool:
        """Show what became of a debit; False if that is not known yet."""
        debit = self._debits[ident]
        if debit.truth is PROCESSING:
            return False
        debit.shown, debit.status = True, debit.truth
        return True

    def totals(self) -> dict[str, int]:
        """State -> number of debits, as the back office knows them."""
        counts = dict.fromkeys((status.value for status in DebitStatus), 0)
        for debit in self._debits.values():
            counts[debit.truth.value] += 1
        return counts

    # HSBC's report

    def begin_reports(self) -> None:
        """Write a report at each of its times from now on."""
        self._after_us(self._next_report_us(), self._report_due)

    def _next_report_us(self) -> int:
        now_ms = self._clock.now_ms()
        today = hkt_midnight_ms(hkt_date(now_ms))
        later = [today + of_day for of_day in self.values.report_at if today + of_day > now_ms]
        due_ms = min(later) if later else today + MS_PER_DAY + min(self.values.report_at)
        return due_ms * US_PER_MS - self._clock.now_us()

    def _report_due(self) -> None:
        now_ms = self._clock.now_ms()
        self.begin_reports()
        if self._next_day(now_ms - MS_PER_DAY) != hkt_midnight_ms(hkt_date(now_ms)):
            return  # no business day
        name = "HSBC_EDDA_{}_{}.csv".format(*hkt_texts(now_ms))
        rows, garbled, delay_s = list(self._changes), "", 0.0
        for fault in self._faults.strike(Strikes.REPORT, "report", [name], "") if self._faults else ():
            if fault.name == "report_missing":
                return
            garbled = fault.params["how"] if fault.name == "report_garbled" else garbled
            delay_s = fault.params["delay_s"] if fault.name == "report_late" else delay_s
        self._changes.clear()
        self._after_us(round(delay_s * US_PER_S), self._write, name, rows, garbled)

    def _write(self, name: str, rows: list[ReportRow], garbled: str) -> None:
        content = write_report(rows)
        if garbled == "row":
            content += b"???,ACTIVE\r\n"
        elif garbled == "file":
            content = content.partition(b"\r\n")[2]
        folder = self.values.report_folder
        self.files.remove_older(folder, self._clock.now_ms() - self.values.keep_days * MS_PER_DAY)
        self.files.put(f"{folder}/{name}", content)

    def is_up(self) -> bool:
        """Whether the server with the reports lets anybody in."""
        return not self.silent and not self._in_maintenance(self._clock.now_ms())

    # Faults

    def fault(self, name: str, **params: Any) -> str:
        """Put a fault of `FAULTS` in force, at once or ``after_s``; gives its id."""
        return self._faults.put(name, params)

    def clear(self, fault_id: str) -> None:
        """End a fault; what it has struck stays struck. Harmless if it has ended."""
        self._faults.clear(fault_id)

    def _next_id(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}{self.bank.upper()}{self._number:010d}"


def _shown(one: Authorisation | Debit) -> dict[str, Any]:
    """What the interface says of an authorisation or a debit."""
    data: dict[str, Any] = {"id": one.id, "reference": one.reference, "status": one.status.value, "ccy": one.ccy}
    if isinstance(one, Debit):
        data |= {"authorisation": one.authorisation.id, "amount": format_wire(one.amount),
                 "reason": one.reason if one.status is FAILED else ""}
    else:
        data |= {"limit": format_wire(one.limit), "expiry": one.expiry, "reason": one.reason}
    return data


__all__ = ["BROKER", "EddaBank", "Handled"]
