"""An emulated bank of the socket protocol: customers, agreements, transfers and its own double-entry book.

Rules:

* A reference names one transfer for ever; sent again it is answered with -4 and where the first one stands, with
  another content with -2.
* An instruction is checked in one order: form (-2), window (-9), reference (-4), card and name (-6), agreement (-7),
  limits (-8), account and balance (-6). What only the customer or a balance decides is checked again at the result.
* Taken on, an instruction has one timer: the bank's dice decide when its result is due and what it is. Four numbers are
  drawn for each, so that a fault on one does not change the others.
* Deposits that customers begin at the bank move money at once; outside the window they wait for the opening. A
  withdrawal begun at the bank is a wish: paid by an instruction with its reference, refused by a reversal of it, and
  void when the bank's session closes.
* A business day of the bank is that of its session: Friday's runs to Saturday 04:00 (A-51).
* The bank needs a loop only for its timers and listeners: virtual or ordinary.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final

from core.calendars.windows import read_window
from core.clock import MS_PER_DAY, US_PER_MS, US_PER_S, Clock, hkt_date, hkt_midnight_ms
from core.domain import Market
from core.errors import InvalidAmount, InvariantBroken
from core.money import parse_wire
from core.trace import Trace
from core.wire.socket import Flavour, Signing, TransferState
from core.wire.socket import messages as m
from emulators.book import OUTSIDE, Account, Book
from emulators.bst.desk import Desk
from emulators.bst.faults import BACKUP, PRIMARY, SocketFaults, Strikes
from emulators.bst.records import (
    DEPOSIT,
    REVERSAL,
    WITHDRAWAL,
    Booked,
    Customer,
    Plan,
    Ruling,
    Started,
    Transfer,
    Wish,
)
from emulators.bst.server import ExitServer, Keys, LineTime
from emulators.bst.values import BankValues
from emulators.dice import at
from emulators.faults import Fault
from emulators.loop import timer_of
from emulators.office import Entry, Truth

BROKER: Final = "broker"

OK, MALFORMED, DUPLICATE, UNKNOWN, REJECTED, NOT_SIGNED, LIMIT, CLOSED = 0, -2, -4, -5, -6, -7, -8, -9
_MARKETS: Final = {market.name: int(market) for market in Market}
ALL_MARKETS: Final = sum(_MARKETS.values())
_NOTHING: Final = ("", 0)


def always(ms: int) -> bool:  # noqa: ARG001 - the shape of a window
    """A window that never closes."""
    return True


class SocketBank:
    """One bank, ``bank`` being its name in settings and traces: cmb or cmbc.

    ``streams`` gives a seeded `random.Random` by name; ``is_open(ms)`` is the service window; without ``keys`` its
    exit servers carry messages only. ``line_time``: of the lines, where it is not the bank's. Money is in minor units.
    """

    def __init__(
        self,
        bank: str,
        flavour: Flavour,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        streams: Callable[[str], random.Random],
        trace: Trace,
        settings: Mapping[str, Any],
        *,
        is_open: Callable[[int], bool] = always,
        keys: Keys | None = None,
        line_time: LineTime | None = None,
        english_payee: bool = False,
    ) -> None:
        self.bank = bank
        self.book = Book()
        self._clock = clock
        self._emit = trace.emit
        self._is_open = is_open
        self._english_payee = english_payee
        self._after_us = timer_of(loop)
        results = streams(f"{bank}.results")
        self.values = BankValues.of(bank, settings, results)
        self._draw = results.random
        self._draw_push = streams(f"{bank}.pushes").random
        self._customers: dict[str, Customer] = {}
        self._cards: dict[str, Customer] = {}
        self._transfers: dict[str, Transfer] = {}
        self._wishes: dict[str, Wish] = {}
        self._queue: list[Wish] = []
        self._booked: list[Booked] = []
        self._number = 0
        self._broker: dict[str, Account] = {}
        for ccy, amount in self.values.broker_opening.items():
            self.book.open(OUTSIDE, ccy, floor=None)
            self._broker[ccy] = self._fund(BROKER, ccy, amount, floor=None)
        draw_fault = streams(f"{bank}.faults").random
        self._faults = SocketFaults(bank, self._after_us, trace, draw_fault, self._on_fault)
        lines = line_time or LineTime(clock.now_us, self._after_us)
        self.desk = Desk(self, flavour, self.values, clock, self._faults, self._after_us, lines.after_us)
        self.servers = {
            name: ExitServer(name, self.desk, loop, lines, keys) for name in (PRIMARY, BACKUP)
        }
        self._window = read_window(settings, f"windows.{bank}")
        now_ms = clock.now_ms()
        self._was_open = is_open(now_ms)
        self._session = self._session_at(now_ms)
        self._await_edge()

    # -- the bank's day ------------------------------------------------------------------------------------------

    def session(self) -> str:
        """The business day under way, or the last one while the bank is closed: YYYYMMDD."""
        self.turn()
        return self._session

    def turn(self) -> None:
        """Notice that the bank has opened or closed since somebody last asked."""
        now_ms = self._clock.now_ms()
        is_open = self._is_open(now_ms)
        if is_open:
            self._session = self._session_at(now_ms)
        if is_open is self._was_open:
            return
        self._was_open = is_open
        self._emit("bank.gate", self.bank, {"bank": self.bank, "open": is_open, "session": self._session})
        if is_open:
            self._begin_queued()
        else:
            self._end_session()

    def _session_at(self, ms: int) -> str:
        after_midnight = max(0, self._window.closes - MS_PER_DAY)
        return hkt_date(ms - after_midnight).strftime("%Y%m%d")

    def _await_edge(self) -> None:
        """Look at the window again when it may change: at its times of opening and closing on any day."""
        now_ms = self._clock.now_ms()
        midnight = hkt_midnight_ms(hkt_date(now_ms))
        edges = [midnight + edge % MS_PER_DAY for edge in (self._window.opens, self._window.closes)]
        wait_ms = min((edge - now_ms if edge > now_ms else edge + MS_PER_DAY - now_ms) for edge in edges)
        past_us = self._clock.now_us() - now_ms * US_PER_MS
        self._after_us(wait_ms * US_PER_MS - past_us, self._at_edge)

    def _at_edge(self) -> None:
        self.turn()
        self._await_edge()

    def _begin_queued(self) -> None:
        queued, self._queue = self._queue, []
        for wish in queued:
            self._carry_out(wish)

    def _end_session(self) -> None:
        for wish in self._wishes.values():
            if wish.status == "NOTED":
                wish.status = "LAPSED"
        self._after_us(self.values.reconciliation_us, self.desk.tell_reconciliation, self._session)

    # -- customers -----------------------------------------------------------------------------------------------

    def open_customer(
        self, customer_id: str, name: str, id_no_hash: str, balances: Mapping[str, int], card_no: str = ""
    ) -> str:
        """A customer with one account per currency of ``balances``; gives the card number."""
        card_no = card_no or f"622{len(self.bank)}{len(self._customers) + 1:012d}"
        if card_no in self._cards or customer_id in self._customers:
            raise InvariantBroken(f"customer {customer_id} or card {card_no} exists")
        accounts = {ccy: self._fund(customer_id, ccy, amount) for ccy, amount in balances.items()
                    if ccy in self._broker}  # fmt: skip
        customer = Customer(customer_id, name, id_no_hash, card_no, accounts)
        self._customers[customer_id] = self._cards[card_no] = customer
        return card_no

    def top_up(self, customer_id: str, ccy: str, amount: int) -> None:
        """Money from outside the bank (a salary) arrives on a customer's account."""
        self.book.move(self.book.account(OUTSIDE, ccy), self._customers[customer_id].accounts[ccy], amount)

    def freeze_account(self, customer_id: str, frozen: bool = True) -> None:
        """Block or unblock what is paid to a customer."""
        self._customers[customer_id].frozen = frozen

    def close_account(self, customer_id: str) -> None:
        """The customer leaves: nothing more is collected from or paid to this customer."""
        self._customers[customer_id].closed = True

    def balance(self, owner: str, ccy: str) -> int:
        """Of a customer, or of `BROKER`."""
        return self.book.account(owner, ccy).balance

    def customers(self) -> list[Customer]:
        """All customers, in the order in which they came."""
        return list(self._customers.values())

    def owner_of(self, card_no: str, *refs: str) -> Customer | None:
        """The customer of a card, or of the first of these references that the bank knows."""
        if card_no in self._cards:
            return self._cards[card_no]
        known = (self._transfers.get(ref) or self._wishes.get(ref) for ref in refs)
        return next((one.customer for one in known if one is not None), None)

    @property
    def currencies(self) -> tuple[str, ...]:
        """Currencies in which the bank keeps accounts."""
        return tuple(self._broker)

    def _fund(self, owner: str, ccy: str, amount: int, floor: int | None = 0) -> Account:
        account = self.book.open(owner, ccy, floor)
        if amount:
            self.book.move(self.book.account(OUTSIDE, ccy), account, amount)
        return account

    # -- agreements ----------------------------------------------------------------------------------------------

    def grant(self, customer_id: str, markets: int = ALL_MARKETS) -> None:
        """Agreements signed at some earlier time, of which the broker knows: no notice."""
        self._customers[customer_id].markets |= markets

    def sign(self, customer_id: str, market: int | str) -> None:
        """The customer signs for a market; the broker is told."""
        self._sign(customer_id, market, Signing.SIGN)

    def unsign(self, customer_id: str, market: int | str) -> None:
        """The customer ends the agreement for a market; the broker is told."""
        self._sign(customer_id, market, Signing.UNSIGN)

    def is_signed(self, customer_id: str, market: int | str) -> bool:
        """The bank's own knowledge."""
        return bool(self._customers[customer_id].markets & Market[_market(market)])

    def _sign(self, customer_id: str, market: int | str, action: Signing) -> None:
        customer, name = self._customers[customer_id], _market(market)
        if action is Signing.SIGN:
            customer.markets |= _MARKETS[name]
        else:
            customer.markets &= ~_MARKETS[name]
        self.desk.tell_signing(customer, name, action)

    # -- instructions of the broker ------------------------------------------------------------------------------

    def instruct(self, name: str, body: m.Body, server: str = "") -> Ruling:
        """The bank's word on a deposit, withdrawal or reversal, by the name of its message."""
        fault = self._misshapen(body)
        if fault:
            return Ruling(MALFORMED, fault)
        if not self._is_open(self._clock.now_ms()):
            return Ruling(CLOSED, "outside the service window")
        known = self._transfers.get(getattr(body, "transfer_ref", ""))
        if known is not None:
            if not _is_of(known, name, body):
                return Ruling(MALFORMED, "reference used with another content")
            return Ruling(DUPLICATE, known.state.value, known)
        if isinstance(body, m.ReversalRequest):
            return self._reverse(body, server)
        if isinstance(body, m.DepositRequest | m.WithdrawalRequest):
            return self._order(name, body, server)
        raise InvariantBroken(f"{name} is no instruction")

    def _misshapen(self, body: m.Body) -> str:
        """What is wrong with the fields of an instruction, beyond their kinds; empty if nothing is."""
        assert isinstance(body, m.DepositRequest | m.WithdrawalRequest | m.ReversalRequest)
        try:
            amount = parse_wire(body.amount)
        except InvalidAmount:
            amount = 0
        if amount <= 0:
            return f"amount {body.amount}"
        if not isinstance(body, m.ReversalRequest) and body.market not in _MARKETS:
            return f"market {body.market}"
        if self._english_payee and isinstance(body, m.WithdrawalRequest) and not _is_english(body.payee_name):
            return "payee_name must be English"
        return ""

    def _order(self, name: str, body: m.DepositRequest | m.WithdrawalRequest, server: str) -> Ruling:
        wish, amount = self._wishes.get(body.transfer_ref), parse_wire(body.amount)
        if wish is not None:
            if (name, body.card_no, body.ccy, amount, body.market) != (
                wish.kind, wish.customer.card_no, wish.ccy, wish.amount, wish.market
            ):  # fmt: skip
                return Ruling(MALFORMED, "not what the customer asked for")
            if wish.status != "NOTED":
                return Ruling(REJECTED, f"the customer's request is {wish.status}")
        customer = self._cards.get(body.card_no)
        if customer is None or customer.closed:
            return Ruling(REJECTED, "no such account")
        if customer.name != body.name:
            return Ruling(REJECTED, "the name is not the account's")
        code, text = self._objection(name == DEPOSIT, customer, body.market, body.ccy, amount)
        if code:
            return Ruling(code, text)
        transfer = self._transfer(body.transfer_ref, name, customer, body.market, body.ccy, amount)
        ruling = self._take_on(transfer, server)
        if ruling.transfer is not None and wish is not None:
            wish.status = "TAKEN"
        return ruling

    def _objection(self, deposit: bool, customer: Customer, market: str, ccy: str, amount: int) -> tuple[int, str]:
        """(code, text) with which the bank refuses a transfer; (0, "") if it does not."""
        if not customer.markets & _MARKETS[market]:
            return NOT_SIGNED, f"not signed for {market}"
        account = customer.accounts.get(ccy)
        if account is None:
            return REJECTED, f"no account in {ccy}"
        day, used = customer.used.get((deposit, ccy), _NOTHING)
        if amount > self.values.single_limit[ccy]:
            return LIMIT, "single limit"
        if (used if day == self._session else 0) + amount > self.values.daily_limit[ccy]:
            return LIMIT, "daily limit"
        return _obstacle(customer, deposit, account if deposit else self._broker[ccy], amount)

    def _reverse(self, body: m.ReversalRequest, server: str) -> Ruling:
        original, amount = self._transfers.get(body.original_ref), parse_wire(body.amount)
        wish = self._wishes.get(body.original_ref) if original is None else None
        known = original or wish
        if known is None or known.kind == REVERSAL:
            return Ruling(REJECTED, "no such transfer")
        if (known.ccy, known.amount) != (body.ccy, amount):
            return Ruling(MALFORMED, "not the amount of the transfer")
        if wish is not None and wish.status != "NOTED":
            return Ruling(REJECTED, f"the customer's request is {wish.status}")
        reversal = self._transfer(body.transfer_ref, REVERSAL, known.customer, known.market, body.ccy, amount)
        reversal.original = original
        ruling = self._take_on(reversal, server)
        if wish is not None and ruling.transfer is not None:
            wish.status = "REFUSED"
        return ruling

    def _transfer(self, ref: str, kind: str, customer: Customer, market: str, ccy: str, amount: int) -> Transfer:
        return Transfer(ref, kind, customer, market, ccy, amount, self._clock.now_ms(), self._session, "")

    def _take_on(self, transfer: Transfer, server: str) -> Ruling:
        """Let the dice decide about an instruction to which the bank does not object."""
        plan = self._plan()
        if self._faults:
            plan = self._twist(transfer, plan, server)
        if not plan.processed:
            return Ruling(plan.answer, "no result in time")
        self._keep(transfer)
        self._use(transfer, +1)
        if plan.interim:
            self._after_us(min(plan.delay_us, plan.late_us), self.desk.tell_result, transfer, UNKNOWN)
        waits_us = plan.late_us if plan.interim or plan.answer != OK else plan.delay_us
        self._after_us(waits_us, self._settle, transfer, plan.result)
        return Ruling(plan.answer, "" if plan.answer == OK else "no result in time", transfer)

    def _keep(self, transfer: Transfer) -> None:
        self._number += 1
        transfer.serial = f"{self.values.name}T{self._number:012d}"
        self._transfers[transfer.ref] = transfer

    def _plan(self) -> Plan:
        """Four numbers: when, what, whether the answer is -5 (and nothing done), and how late then."""
        draw, values = self._draw, self.values
        delay_us, result = values.result_delay.at(draw()), values.outcome.at(draw())
        u, late_us = draw(), at(values.late, draw())
        unknown = u < values.unknown_share
        processed = not unknown or u < values.unknown_share * values.unknown_processed_share
        return Plan(UNKNOWN if unknown else OK, processed, delay_us, result, late_us)

    def _twist(self, transfer: Transfer, plan: Plan, server: str) -> Plan:
        """The dice's plan, changed by the faults that strike this instruction."""
        struck = self._faults.strike_at(
            server, Strikes.INSTRUCTION, transfer.kind, [transfer.ref], transfer.customer.id
        )
        for fault in struck:
            if fault.name == "reject":
                plan = plan._replace(result=REJECTED)
                continue
            late_s = fault.params["late_s"]
            late_us = plan.late_us if late_s is None else round(late_s * US_PER_S)
            at_answer = fault.params["at"] == "answer"
            plan = plan._replace(processed=True, late_us=late_us, answer=UNKNOWN if at_answer else OK,
                                 interim=not at_answer)  # fmt: skip
        return plan

    def _use(self, transfer: Transfer, sign: int) -> None:
        """Count a transfer towards the daily limit of its business day, or (-1) give it back."""
        if transfer.kind == REVERSAL:
            return
        used, key = transfer.customer.used, (transfer.kind == DEPOSIT, transfer.ccy)
        day, sum_ = used.get(key, _NOTHING)
        if sign > 0:
            used[key] = (transfer.session, (sum_ if day == transfer.session else 0) + transfer.amount)
        elif day == transfer.session:
            used[key] = (day, sum_ - transfer.amount)

    # -- results -------------------------------------------------------------------------------------------------

    def _settle(self, transfer: Transfer, result: int) -> None:
        """The result of an instruction is due: move the money if it still can be moved, and tell."""
        code = self._execute(transfer) if result == OK or self._is_refusal(transfer) else result
        transfer.result = code
        transfer.state = TransferState.FAILED if code else TransferState.DONE
        transfer.settled_ms = self._clock.now_ms()
        if code:
            self._use(transfer, -1)
        self.desk.tell_result(transfer, code)

    @staticmethod
    def _is_refusal(transfer: Transfer) -> bool:
        """Whether it refuses a customer's wish: that moves no money and cannot fail."""
        return transfer.kind == REVERSAL and transfer.original is None

    def _execute(self, transfer: Transfer) -> int:
        if transfer.kind == REVERSAL:
            return OK if transfer.original is None else self._take_back(transfer, transfer.original)
        customer = transfer.customer
        if not customer.markets & _MARKETS[transfer.market]:
            return NOT_SIGNED
        account, broker = customer.accounts[transfer.ccy], self._broker[transfer.ccy]
        deposit = transfer.kind == DEPOSIT
        code, _ = _obstacle(customer, deposit, account if deposit else broker, transfer.amount)
        if code:
            return code
        self._move(transfer, "collect" if deposit else "pay", transfer)
        return OK

    def _take_back(self, reversal: Transfer, original: Transfer) -> int:
        """A reversal moves the money the other way, if it stands moved and the account can still bear it."""
        if not original.moved:
            return REJECTED
        if original.kind == WITHDRAWAL:
            account = original.customer.accounts[original.ccy]
            code, _ = _obstacle(original.customer, True, account, original.amount)
            if code:
                return code
        self._move(reversal, "refund_collect" if original.kind == DEPOSIT else "return_pay", original)
        original.moved = False
        return OK

    def _move(self, transfer: Transfer, op: str, about: Transfer) -> None:
        """Book a movement; ``about`` is the transfer whose money it is."""
        account, broker = transfer.customer.accounts[transfer.ccy], self._broker[transfer.ccy]
        source, target = (account, broker) if transfer.to_broker else (broker, account)
        if not self.book.move(source, target, transfer.amount):
            raise InvariantBroken(f"{transfer.ref}: {source.owner} cannot bear {transfer.amount} {transfer.ccy}")
        transfer.moved = True
        transfer.settled_ms = self._clock.now_ms()
        self._booked.append(Booked(self._session, transfer.settled_ms, op, transfer, transfer.to_broker))
        self._emit("bank.book", about.ref, {
            "bank": self.bank, "op": op, "ref": about.ref, "request_id": transfer.serial, "ccy": transfer.ccy,
            "amount": transfer.amount, "customer": transfer.customer.id})  # fmt: skip

    # -- what customers begin at the bank ------------------------------------------------------------------------

    def customer_deposits(self, card_no: str, market: int | str, ccy: str, amount: int) -> Started:
        """A customer sends money to the broker at the bank (source 2): booked at once, then pushed."""
        return self._begin(DEPOSIT, card_no, _market(market), ccy, amount)

    def customer_withdraws(self, card_no: str, market: int | str, ccy: str, amount: int) -> Started:
        """A customer calls money in from the broker: noted and pushed; the broker pays or refuses it."""
        return self._begin(WITHDRAWAL, card_no, _market(market), ccy, amount)

    def customer_cancels(self, ref: str) -> bool:
        """The customer takes back what still waits for the opening; False if nothing does."""
        waiting = [wish for wish in self._queue if wish.ref == ref]
        for wish in waiting:
            wish.status = "CANCELLED"
            self._queue.remove(wish)
        return bool(waiting)

    def _begin(self, kind: str, card_no: str, market: str, ccy: str, amount: int) -> Started:
        self.turn()
        customer = self._cards.get(card_no)
        if customer is None or customer.closed or amount <= 0:
            return Started("", REJECTED, "no such account, or no amount")
        code, text = self._objection(kind == DEPOSIT, customer, market, ccy, amount)
        if code:
            return Started("", code, text)
        now_ms = self._clock.now_ms()
        wish = Wish(self._own_ref(now_ms), kind, customer, market, ccy, amount, now_ms)
        self._wishes[wish.ref] = wish
        if self._is_open(now_ms):
            self._carry_out(wish)
        else:
            self._queue.append(wish)
        return Started(wish.ref)

    def _own_ref(self, now_ms: int) -> str:
        self._number += 1
        return f"{self.values.name}B{hkt_date(now_ms):%Y%m%d}{self._number:08d}"

    def _carry_out(self, wish: Wish) -> None:
        """A customer's request, now that the bank is open: a deposit is booked, a withdrawal noted; both are told."""
        told_us = self.values.result_delay.at(self._draw_push())
        if wish.kind == WITHDRAWAL:
            wish.status = "NOTED"
            self._after_us(told_us, self.desk.tell_wish, wish)
            return
        code, _ = self._objection(True, wish.customer, wish.market, wish.ccy, wish.amount)
        if code or wish.customer.closed:
            wish.status = "FAILED"
            return
        wish.status = "TAKEN"
        transfer = self._transfer(wish.ref, DEPOSIT, wish.customer, wish.market, wish.ccy, wish.amount)
        self._keep(transfer)
        self._use(transfer, +1)
        self._move(transfer, "collect", transfer)
        transfer.state, transfer.result = TransferState.DONE, OK
        self._after_us(told_us, self.desk.tell_deposit, transfer)

    # -- the back office -----------------------------------------------------------------------------------------

    def find(self, ref: str) -> Transfer | None:
        """The transfer under a reference, if the bank has taken it on."""
        return self._transfers.get(ref)

    def inquire(self, reference: str) -> Truth:
        """A phone call by operations: the truth about a reference, whoever drew it. A customer's wish that is noted
        waits for the broker: no instruction has come."""
        found = self._transfers.get(reference)
        if found is None:
            wish = self._wishes.get(reference)
            if wish is None or wish.status == "NOTED":
                return Truth("NOT_RECEIVED", "", reference)
            return Truth("PENDING" if wish.status == "QUEUED" else "NOT_PAID", "", reference)
        if found.state is TransferState.PENDING:
            return Truth("PENDING", found.serial, reference)
        if found.moved:
            return Truth("PAID", found.serial, reference, found.settled_ms)
        status = "REFUNDED" if found.state is TransferState.DONE and not self._is_refusal(found) else "NOT_PAID"
        return Truth(status, found.serial, reference, found.settled_ms)

    def booked(self, session: str) -> list[Booked]:
        """Movements of a business day (YYYYMMDD), oldest first."""
        return [entry for entry in self._booked if entry.session == session]

    def statement(self, from_ms: int, to_ms: int) -> list[Entry]:
        """Movements on the broker's settlement accounts booked in [from, to), oldest first."""
        moment = attrgetter("booked_ms")
        first, last = (bisect_left(self._booked, edge, key=moment) for edge in (from_ms, to_ms))
        return [Entry(one.booked_ms, one.op, one.transfer.ref, one.transfer.serial, one.transfer.ccy,
                      one.transfer.amount, one.transfer.customer.id) for one in self._booked[first:last]]  # fmt: skip

    def totals(self) -> dict[str, dict[str, int]]:
        """Currency -> {broker, customers, outside}; each currency sums to zero."""
        sums: dict[str, dict[str, int]] = {}
        for (owner, ccy), balance in self.book.balances().items():
            of_ccy = sums.setdefault(ccy, {BROKER: 0, "customers": 0, OUTSIDE: 0})
            of_ccy[owner if owner in (BROKER, OUTSIDE) else "customers"] += balance
        return sums

    def journal(self) -> list[dict[str, Any]]:
        """The messages received last, oldest first."""
        return list(self.desk.journal)

    def state(self) -> dict[str, Any]:
        """For a control interface."""
        counts = dict.fromkeys((state.value for state in TransferState), 0)
        for transfer in self._transfers.values():
            counts[transfer.state.value] += 1
        signed_on = self.desk.signed_on
        return {
            "bank": self.bank,
            "name": self.values.name,
            "open": self._is_open(self._clock.now_ms()),
            "session": self._session,
            "servers": {name: server.state() for name, server in self.servers.items()},
            "signed_on": signed_on.server.name if signed_on is not None else None,
            "customers": len(self._customers),
            "transfers": counts,
            "wishes": sum(wish.status in ("QUEUED", "NOTED") for wish in self._wishes.values()),
            "pushes": {"last_seq": self.desk.pushes.last_seq, "undelivered": self.desk.pushes.undelivered()},
            "faults": self._faults.shown(),
            "totals": self.totals(),
        }

    # -- faults --------------------------------------------------------------------------------------------------

    def fault(self, name: str, **params: Any) -> str:
        """Put a fault of `FAULTS` in force, at once or ``after_s``; gives its id."""
        return self._faults.put(name, params)

    def clear(self, fault_id: str) -> None:
        """End a fault; what it has struck stays struck. Harmless if it has ended."""
        self._faults.clear(fault_id)

    def _on_fault(self, fault: Fault, begins: bool) -> None:
        for server in self.servers.values():
            if fault.params["server"] not in (None, "both", server.name):
                continue
            if fault.name == "drop":
                if begins:
                    server.fall()
                else:
                    server.rise()
            elif fault.name == "half_open" and begins:
                server.vanish()


def _market(market: int | str) -> str:
    """HK, US or HKCC, from its name or its flag."""
    return Market[market].name if isinstance(market, str) else Market(market).name


def _is_of(known: Transfer, name: str, body: m.Body) -> bool:
    """Whether an instruction asks for the very transfer that the bank has under its reference."""
    assert isinstance(body, m.DepositRequest | m.WithdrawalRequest | m.ReversalRequest)
    if (known.kind, known.ccy, known.amount) != (name, body.ccy, parse_wire(body.amount)):
        return False
    if isinstance(body, m.ReversalRequest):
        return known.original is None or known.original.ref == body.original_ref
    return (known.customer.card_no, known.market) == (body.card_no, body.market)


def _obstacle(customer: Customer, deposit: bool, source: Account, amount: int) -> tuple[int, str]:
    """(code, text) for which a customer's account can neither give (deposit) nor take; (0, "") if it can."""
    if customer.closed:
        return REJECTED, "the account is closed"
    if customer.frozen and not deposit:
        return REJECTED, "the account is frozen"
    return (OK, "") if source.balance >= amount else (REJECTED, "balance too low")


def _is_english(text: str) -> bool:
    return bool(text) and text.isascii()
