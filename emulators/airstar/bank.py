"""The emulated Airstar bank: customers, mandates, its own book, and the API of gaps.md B-07 behind one function.

Rules:

* `AirstarBank.handle` takes a message and gives (reply or None, extra µs). None is silence. It never suspends.
* A reference names one instruction for ever; sent again it is answered with the original's id and 140630003.
* The checks of an instruction have one order: form, reference, window, mandate, market, currency, account, limits,
  balance. What only a mandate, an account or a balance decides is checked again when the result is due.
* One timer per instruction: the bank's dice (`BankValues`) decide on acceptance when it is worked on and what
  becomes of it. Four numbers are drawn for every instruction, so that a fault on one does not change the others.
* The bank needs a loop only for its timers: virtual or ordinary.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple, TypeGuard

from core.clock import MS_PER_DAY, US_PER_S, Clock
from core.domain import MANDATE_MOVES, MandateStatus, Market
from core.errors import InvalidAmount, InvariantBroken
from core.money import format_wire, parse_wire
from core.trace import Trace
from core.wire.airstar import Reply, Request, TransactionStatus, find_route, refusal
from emulators.airstar.faults import AirstarFaults, Strikes
from emulators.airstar.records import (
    IN,
    OUT,
    REFUND,
    Customer,
    CustomerRequest,
    Entry,
    Mandate,
    Started,
    Transaction,
    Transactions,
    Truth,
)
from emulators.airstar.values import BankValues, Fate
from emulators.book import OUTSIDE, Account, Book
from emulators.dice import at
from emulators.faults import Fault
from emulators.loop import timer_of

BANK: Final = "airstar"
BROKER: Final = "broker"
ACCEPTED: Final = "accepted"

PENDING, PROCESSING = TransactionStatus.PENDING, TransactionStatus.PROCESSING
SUCCESS, FAILED, REFUNDED = TransactionStatus.SUCCESS, TransactionStatus.FAILED, TransactionStatus.REFUNDED

INVALID, SIGNATURE, DUPLICATE = 140630001, 140630002, 140630003
NO_MANDATE, MANDATE_NOT_OPEN, ACCOUNT_CLOSED, TOO_LITTLE = 140630004, 140630005, 140630006, 140630007
SINGLE_LIMIT, DAILY_LIMIT, WINDOW_CLOSED, NO_CURRENCY = 140630008, 140630009, 140630010, 140630011
NO_MARKET, NAME_MISMATCH, RISK_CONTROL, FROZEN = 140630012, 140630013, 140630014, 140630015
BUSY, DOWNSTREAM, NOT_FOUND, GIVEN_BACK, MAINTENANCE = 140630016, 140630017, 140630018, 140630019, 140630020
UNKNOWN = 140630999

_MARKETS = tuple(int(market) for market in Market)
ALL_MARKETS: Final = sum(_MARKETS)
DECISIONS: Final = {"ACCEPT": "ACCEPTED", "REFUSE": "REFUSED"}

_HKT_MS = 8 * 3_600_000
_UNUSED = (0, 0)

Handled = tuple[Reply | None, int]
"""(reply or None for silence, µs by which the answer is delayed)."""


class Plan(NamedTuple):
    """What becomes of an instruction once the bank works on it.

    ``code`` belongs to FAILED, ``refund_us`` (from SUCCESS) to a refund after credit; a result that is not ``shown``
    may come to light ``late_us`` after the work.
    """

    fate: Fate
    code: int = 0
    shown: bool = True
    refund_us: int = 0
    late_us: int | None = None


WELL = Plan(Fate.SUCCESS)
"""The plan of nearly all instructions: one object for them all."""


def always(ms: int) -> bool:  # noqa: ARG001 - the shape of a window
    """A window that never closes."""
    return True


def never(ms: int) -> bool:  # noqa: ARG001 - the shape of a window
    """A maintenance that never comes."""
    return False


class AirstarBank:
    """One bank. ``streams`` gives a seeded `random.Random` by name, ``values`` is settings or `BankValues`.

    ``is_open(ms)`` is the service window for new instructions (08:00-22:00 on HKEX trading days in the figures),
    ``in_maintenance(ms)`` a time in which everything is answered with 140630020.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        streams: Callable[[str], random.Random],
        trace: Trace,
        values: Mapping[str, Any] | BankValues,
        *,
        is_open: Callable[[int], bool] = always,
        in_maintenance: Callable[[int], bool] = never,
    ) -> None:
        self.values = values if isinstance(values, BankValues) else BankValues.of(values)
        self.book = Book()
        self._clock = clock
        self._emit = trace.emit
        self._is_open = is_open
        self._in_maintenance = in_maintenance
        self._after_us = timer_of(loop)
        self._draw = streams("airstar.results").random
        self._draw_mandate = streams("airstar.mandates").random
        self._customers: dict[str, Customer] = {}
        self._cards: dict[str, Customer] = {}
        self._mandates: dict[str, Mandate] = {}
        self._mandate_refs: dict[str, Mandate] = {}
        self._transactions = Transactions()
        self._requests: dict[str, CustomerRequest] = {}
        self._queued: list[CustomerRequest] = []
        self._listed: list[CustomerRequest] = []
        self._journal: list[tuple[int, str, Transaction]] = []
        self._settling = self._settle  # one bound method for all timers
        self._hidden_until: dict[str, int] = {}
        self._faults = AirstarFaults(BANK, self._after_us, trace, streams("airstar.faults").random)
        self._number = self._open = 0
        self._broker: dict[str, Account] = {}
        for ccy, amount in self.values.broker_opening.items():
            self.book.open(OUTSIDE, ccy, floor=None)
            self._broker[ccy] = self._fund(BROKER, ccy, amount, floor=None)
        self._serve: dict[str, Callable[[str, Request], Reply]] = {
            "create_mandate": self._create_mandate,
            "query_mandate": self._query_mandate,
            "close_mandate": self._close_mandate,
            "deposit": self._deposit,
            "query_deposit": self._query_deposit,
            "withdraw": self._withdraw,
            "query_withdrawal": self._query_withdrawal,
            "find_withdrawal": self._find_withdrawal,
            "bank_requests": self._list_requests,
            "acknowledge": self._acknowledge,
            "ping": self._ping,
        }

    # -- messages ------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Handled:
        """Act on one message: (reply or None for silence, extra µs before the answer leaves)."""
        route = find_route(request.method, request.path)
        if route is None:
            return refusal(NOT_FOUND), 0
        name, ident = route
        if self._faults:
            return self._handle_faulty(name, ident, request)
        return self._act(name, ident, request), 0

    def _act(self, name: str, ident: str, request: Request) -> Reply:
        now_ms = self._clock.now_ms()
        if self._in_maintenance(now_ms):
            return refusal(MAINTENANCE)
        if self._queued and self._is_open(now_ms):
            self._deliver_queued(now_ms)
        return self._serve[name](ident, request)

    @property
    def silent(self) -> bool:
        """Whether the bank is away and answers nothing at all, not even a bad signature."""
        return self._faults.silence

    def now_ms(self) -> int:
        """The bank's own clock, right or wrong."""
        return self._clock.now_ms() + self._faults.skew_ms

    def trusts(self, timestamp_ms: int) -> bool:
        """Whether a message signed at that time is timely by the bank's clock."""
        return abs(self.now_ms() - timestamp_ms) <= self.values.max_skew_ms

    def _ping(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        return Reply(200, 0, ACCEPTED, {"time": self.now_ms()})

    # -- customers -----------------------------------------------------------------------------------------------

    def open_customer(
        self, customer_id: str, name: str, id_no_hash: str, balances: Mapping[str, int], card_no: str = ""
    ) -> str:
        """A customer with one account per currency of ``balances`` (minor units; currencies in which the broker has an
        account); gives the card number."""
        card_no = card_no or f"389{len(self._customers) + 1:010d}"
        if card_no in self._cards or customer_id in self._customers:
            raise InvariantBroken(f"customer {customer_id} or card {card_no} exists")
        accounts = {ccy: self._fund(customer_id, ccy, amount) for ccy, amount in balances.items()}
        customer = Customer(customer_id, name, id_no_hash, card_no, accounts)
        self._customers[customer_id] = self._cards[card_no] = customer
        return card_no

    def top_up(self, customer_id: str, ccy: str, amount: int) -> None:
        """Money from outside the bank (a salary) arrives on a customer's account: ``amount`` > 0 minor units."""
        self.book.move(self.book.account(OUTSIDE, ccy), self._customers[customer_id].accounts[ccy], amount)

    def freeze_account(self, customer_id: str, frozen: bool = True) -> None:
        """Block or unblock what is paid to a customer."""
        self._customers[customer_id].frozen = frozen

    def close_account(self, customer_id: str) -> None:
        """The customer leaves: nothing more is collected from or paid to this customer."""
        self._customers[customer_id].closed = True

    def balance(self, owner: str, ccy: str) -> int:
        """Minor units of a customer, or of `BROKER`."""
        return self.book.account(owner, ccy).balance

    def customers(self) -> list[Customer]:
        """All customers, in the order in which they came."""
        return list(self._customers.values())

    @property
    def currencies(self) -> tuple[str, ...]:
        """Currencies in which the bank keeps accounts."""
        return tuple(self._broker)

    def _fund(self, owner: str, ccy: str, amount: int, floor: int | None = 0) -> Account:
        account = self.book.open(owner, ccy, floor)
        if amount:
            self.book.move(self.book.account(OUTSIDE, ccy), account, amount)
        return account

    # -- mandates ------------------------------------------------------------------------------------------------

    def _create_mandate(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        body = request.body or {}
        fields = [body.get(field) for field in ("client_ref", "card_no", "name", "id_no_hash")]
        markets = body.get("markets")
        if not all(_is_text(field) for field in fields) or not _are_markets(markets):
            return refusal(INVALID)
        client_ref, card_no, name, id_no_hash = fields
        known = self._mandate_refs.get(str(client_ref))
        if known is not None:
            return refusal(DUPLICATE, {"mandate_id": known.id, "status": int(known.status)})
        customer = self._cards.get(str(card_no))
        if customer is None or customer.closed:
            return refusal(ACCOUNT_CLOSED)
        if customer.name != name or customer.id_no_hash != id_no_hash:
            return refusal(NAME_MISMATCH)
        mandate = self._add_mandate(str(client_ref), customer, sum(markets or ()))
        self._after_us(at(self.values.mandate_start, self._draw_mandate()), self._start_mandate, mandate)
        return Reply(200, 0, ACCEPTED, {"mandate_id": mandate.id, "status": int(mandate.status)})

    def _add_mandate(self, client_ref: str, customer: Customer, markets: int) -> Mandate:
        mandate = Mandate(self._next_id("AM"), client_ref, customer, markets)
        self._mandates[mandate.id] = self._mandate_refs[client_ref] = mandate
        return mandate

    def _start_mandate(self, mandate: Mandate) -> None:
        mandate.move(MandateStatus.PROCESSING)
        takes_us = at(self.values.mandate_processing, self._draw_mandate())
        self._after_us(takes_us, self._decide_mandate, mandate, self._draw_mandate())

    def _decide_mandate(self, mandate: Mandate, u: float) -> None:
        if mandate.customer.closed:
            mandate.fail_code = ACCOUNT_CLOSED
        elif u < self.values.mandate_fail_share:
            mandate.fail_code = self.values.mandate_fail_code
        mandate.move(MandateStatus.FAIL if mandate.fail_code else MandateStatus.OPEN)

    def _query_mandate(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        mandate = self._mandates.get(ident)
        if mandate is None:
            return refusal(NO_MANDATE)
        data: dict[str, Any] = {
            "mandate_id": mandate.id,
            "client_ref": mandate.client_ref,
            "status": int(mandate.status),
            "market_mask": mandate.market_mask,
        }
        if mandate.fail_code:
            data["fail_code"] = mandate.fail_code
        return Reply(200, 0, ACCEPTED, data)

    def _close_mandate(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        mandate = self._mandates.get(ident)
        if mandate is None:
            return refusal(NO_MANDATE)
        if mandate.status is not MandateStatus.CLOSED and not self.close_mandate(ident):
            return refusal(MANDATE_NOT_OPEN)
        return Reply(200, 0, ACCEPTED, {"mandate_id": mandate.id, "status": int(mandate.status)})

    def grant_mandate(self, customer_id: str, markets: int = ALL_MARKETS) -> str:
        """An OPEN mandate given at some earlier time, over the markets of a mask; gives its id."""
        customer = self._customers[customer_id]
        mandate = self._add_mandate(f"branch-{customer_id}-{len(self._mandates)}", customer, markets)
        mandate.move(MandateStatus.PROCESSING)
        mandate.move(MandateStatus.OPEN)
        return mandate.id

    def mandates_of(self, customer_id: str) -> list[Mandate]:
        """A customer's authorizations, oldest first."""
        return [mandate for mandate in self._mandates.values() if mandate.customer.id == customer_id]

    def mandate_status(self, mandate_id: str) -> MandateStatus:
        """The bank's own knowledge of a mandate."""
        return self._mandates[mandate_id].status

    def suspend_mandate(self, mandate_id: str) -> bool:
        """The bank blocks an authorization; False if its state does not allow it (B-06)."""
        return self._move_mandate(mandate_id, MandateStatus.SUSPENDED)

    def resume_mandate(self, mandate_id: str) -> bool:
        """The bank lifts a block; False if there is none."""
        mandate = self._mandates[mandate_id]
        return mandate.status is MandateStatus.SUSPENDED and self._move_mandate(mandate_id, MandateStatus.OPEN)

    def close_mandate(self, mandate_id: str) -> bool:
        """The customer or the broker ends an authorization; False if its state does not allow it (B-06)."""
        return self._move_mandate(mandate_id, MandateStatus.CLOSED)

    def _move_mandate(self, mandate_id: str, to: MandateStatus) -> bool:
        mandate = self._mandates[mandate_id]
        if to not in MANDATE_MOVES[mandate.status]:
            return False
        mandate.move(to)
        return True

    # -- instructions --------------------------------------------------------------------------------------------

    def _deposit(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        return self._instruct("deposit", request, "bank_ref_id")

    def _withdraw(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        body = request.body or {}
        if "bank_request_id" not in body:
            return self._instruct("withdraw", request, "transfer_ref_id")
        asked = self._requests.get(body["bank_request_id"]) if _is_text(body["bank_request_id"]) else None
        if asked is None or asked.direction != OUT:
            return refusal(NOT_FOUND)
        if asked.paid_by is not None:
            return refusal(DUPLICATE, _receipt(asked.paid_by))
        if asked.status != "ACCEPTED" or not _is_same(asked, body):
            return refusal(INVALID)
        reply = self._instruct("withdraw", request, "transfer_ref_id")
        if reply.code == 0:
            asked.paid_by = self._transactions.by_id(reply.data["request_id"])
        return reply

    def _instruct(self, message: str, request: Request, ref_field: str) -> Reply:
        """A deposit or withdrawal on the broker's instruction."""
        body, deposit = request.body or {}, message == "deposit"
        try:
            ref, mandate_id, market = body[ref_field], body["mandate_id"], body["market"]
            ccy, amount = body["ccy"], parse_wire(body["amount"])
        except (KeyError, InvalidAmount):
            return refusal(INVALID)
        if not (_is_text(ref) and _is_text(mandate_id) and _is_text(ccy) and type(market) is int and amount > 0):
            return refusal(INVALID)
        known = self._transactions.by_ref(ref)
        if known is not None:
            return refusal(DUPLICATE, _receipt(known)) if known.deposit is deposit else refusal(INVALID)
        now_ms = self._clock.now_ms()
        if not self._is_open(now_ms):
            return refusal(WINDOW_CLOSED)
        if self._open >= self.values.open_limit:
            return refusal(BUSY)
        mandate = self._mandates.get(mandate_id)
        if mandate is None:
            return refusal(NO_MANDATE)
        code = self._objection(deposit, mandate, market, ccy, amount, now_ms)
        if code:
            return refusal(code)
        transaction = Transaction(ref, deposit, mandate, market, ccy, amount, now_ms)
        self._accept(transaction, message)
        return Reply(200, 0, ACCEPTED, _receipt(transaction))

    def _objection(
        self, deposit: bool, mandate: Mandate, market: int, ccy: str, amount: int, now_ms: int
    ) -> int:
        """The code with which the bank refuses an instruction; 0 if it does not."""
        customer, values = mandate.customer, self.values
        if mandate.status is not MandateStatus.OPEN:
            return MANDATE_NOT_OPEN
        if not mandate.market_mask & market or market & (market - 1):
            return NO_MARKET
        account = customer.accounts.get(ccy)
        if account is None:
            return NO_CURRENCY
        code = _obstacle(customer, deposit)
        if code:
            return code
        if amount > values.single_limit[ccy]:
            return SINGLE_LIMIT
        day, used = customer.used.get((deposit, ccy), _UNUSED)
        if (used if day == _hkt_day(now_ms) else 0) + amount > values.daily_limit[ccy]:
            return DAILY_LIMIT
        if deposit:
            return 0 if account.balance >= amount else TOO_LITTLE
        return 0 if self._broker[ccy].balance >= amount else RISK_CONTROL

    def _use(self, transaction: Transaction, sign: int) -> None:
        """Count an instruction towards the daily limit of the day it was accepted, or (-1) give it back."""
        customer, day = transaction.mandate.customer, _hkt_day(transaction.created_ms)
        key = (transaction.deposit, transaction.ccy)
        used_on, used = customer.used.get(key, _UNUSED)
        if sign > 0:
            customer.used[key] = (day, (used if used_on == day else 0) + transaction.amount)
        elif used_on == day:
            customer.used[key] = (day, used - transaction.amount)

    def _accept(self, transaction: Transaction, message: str) -> None:
        """Take an instruction in and let the dice decide about it; ``message`` is the one that brought it."""
        self._transactions.add(transaction)
        self._open += 1
        self._use(transaction, +1)
        delay_us, plan = self._plan(transaction.deposit)
        if self._faults:
            plan = self._twist(transaction, delay_us, plan, message)
        transaction.stuck = not plan.shown
        self._after_us(delay_us, self._settling, transaction, plan)

    def _plan(self, deposit: bool) -> tuple[int, Plan]:
        """(µs until the bank works on it, what then). Four numbers: when (two), what, and why or how late."""
        draw, values = self._draw, self.values
        band = values.delay.at(draw())
        delay_us = at(band, draw())
        u, detail = draw(), draw()
        if not band.shown:
            paid = u < values.never_paid_share
            return delay_us, Plan(Fate.SUCCESS, shown=False) if paid else Plan(Fate.FAILED, DOWNSTREAM, shown=False)
        way = "deposit" if deposit else "withdrawal"
        fate = values.fate[way].at(u)
        if fate is Fate.SUCCESS:
            return delay_us, WELL
        code = values.failure[way].at(detail) if fate is Fate.FAILED else 0
        return delay_us, Plan(fate, code, refund_us=at(values.refund_delay, detail))

    def _settle(self, transaction: Transaction, plan: Plan) -> None:
        """The bank works on an instruction; what comes out is its truth, and shown unless it is stuck."""
        fate, code = plan.fate, plan.code
        if fate is Fate.SUCCESS or fate is Fate.REFUNDED_AFTER_CREDIT:
            code = self._execute(transaction)
            transaction.truth = FAILED if code else SUCCESS
            if not code and fate is Fate.REFUNDED_AFTER_CREDIT:
                self._after_us(plan.refund_us, self._refund, transaction)
        else:
            transaction.truth = FAILED if fate is Fate.FAILED else REFUNDED
        transaction.fail_code = code
        self._open -= 1
        if not transaction.moved:
            transaction.settled_ms = self._clock.now_ms()
            self._use(transaction, -1)
        if plan.late_us is not None:
            self._after_us(plan.late_us, self._publish, transaction)
        if not transaction.stuck:
            self._publish(transaction)

    def _execute(self, transaction: Transaction) -> int:
        """Move the money; 0, or the code for which it cannot be moved any more."""
        mandate = transaction.mandate
        if mandate.status is not MandateStatus.OPEN:
            return MANDATE_NOT_OPEN
        customer = mandate.customer
        code = _obstacle(customer, transaction.deposit)
        if code:
            return code
        account, broker = customer.accounts[transaction.ccy], self._broker[transaction.ccy]
        if transaction.deposit:
            if not self.book.move(account, broker, transaction.amount):
                return TOO_LITTLE
        elif broker.balance < transaction.amount:
            return RISK_CONTROL
        else:
            self.book.move(broker, account, transaction.amount)
        transaction.moved = True
        transaction.settled_ms = self._clock.now_ms()
        self._enter("collect" if transaction.deposit else "pay", transaction)
        return 0

    def _refund(self, transaction: Transaction) -> None:
        """Give a collected deposit back; the broker's account may be overdrawn by it."""
        account, broker = transaction.mandate.customer.accounts[transaction.ccy], self._broker[transaction.ccy]
        self.book.move(broker, account, transaction.amount)
        transaction.moved = False
        transaction.truth = REFUNDED
        transaction.settled_ms = self._clock.now_ms()
        self._enter("refund_collect", transaction)
        if not transaction.stuck:
            transaction.status = REFUNDED
        self._list_again(transaction, REFUND, REFUNDED.value)

    def _enter(self, op: str, transaction: Transaction) -> None:
        """Journal and report a movement booked at ``settled_ms``."""
        self._journal.append((transaction.settled_ms, op, transaction))
        self._emit("bank.book", transaction.ref, {
            "bank": BANK, "op": op, "ref": transaction.ref, "request_id": transaction.id, "ccy": transaction.ccy,
            "amount": transaction.amount, "customer": transaction.mandate.customer.id})  # fmt: skip

    def _query_deposit(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        return self._show(self._transactions.by_id(ident), True)

    def _query_withdrawal(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        return self._show(self._transactions.by_id(ident), False)

    def _find_withdrawal(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        ref = request.query.get("ref")
        return refusal(INVALID) if not ref else self._show(self._transactions.by_ref(ref), False)

    def _show(self, transaction: Transaction | None, deposit: bool) -> Reply:
        if transaction is None or transaction.deposit is not deposit:
            return refusal(NOT_FOUND)
        now_ms = self._clock.now_ms()
        if self._hidden_until and self._is_hidden(transaction, now_ms):
            return refusal(NOT_FOUND)
        status = transaction.status
        if status is PENDING and not transaction.stuck and now_ms - transaction.created_ms >= self.values.pending_ms:
            status = PROCESSING
        data: dict[str, Any] = {
            "request_id": transaction.id,
            "bank_ref_id" if deposit else "transfer_ref_id": transaction.ref,
            "mandate_id": transaction.mandate.id,
            "market": transaction.market,
            "ccy": transaction.ccy,
            "amount": format_wire(transaction.amount),
            "status": status.value,
            "created_at": transaction.created_ms,
        }
        if status is FAILED:
            data["fail_code"] = transaction.fail_code
        return Reply(200, 0, ACCEPTED, data)

    def _is_hidden(self, transaction: Transaction, now_ms: int) -> bool:
        until_ms = self._hidden_until.get(transaction.id, 0)
        if until_ms and until_ms <= now_ms:
            del self._hidden_until[transaction.id]
        return until_ms > now_ms

    # -- what customers begin at the bank ------------------------------------------------------------------------

    def customer_deposits(self, mandate_id: str, market: int, ccy: str, amount: int) -> Started:
        """A customer sends money to the broker in the bank's app (source=2). The broker has to accept it first."""
        return self._begin(IN, mandate_id, market, ccy, amount)

    def customer_withdraws(self, mandate_id: str, market: int, ccy: str, amount: int) -> Started:
        """A customer calls money in from the broker (bank_launched=1): the broker accepts, then POSTs a withdrawal."""
        return self._begin(OUT, mandate_id, market, ccy, amount)

    def customer_cancels(self, request_id: str) -> bool:
        """The customer takes a request back; False once the broker has decided."""
        asked = self._requests[request_id]
        if asked.status != "NEW":
            return False
        asked.status = "WITHDRAWN"
        return True

    def _begin(self, direction: str, mandate_id: str, market: int, ccy: str, amount: int) -> Started:
        mandate, now_ms = self._mandates.get(mandate_id), self._clock.now_ms()
        if mandate is None:
            return Started("", NO_MANDATE)
        code = self._objection(direction == IN, mandate, market, ccy, amount, now_ms)
        if code:
            return Started("", code)
        ident = self._next_id("B" + direction[0])
        asked = CustomerRequest(ident, direction, mandate, int(market), str(ccy), amount, now_ms)
        self._requests[asked.id] = asked
        self._queued.append(asked)
        if self._is_open(now_ms):
            self._deliver_queued(now_ms)
        return Started(asked.id)

    def _deliver_queued(self, now_ms: int) -> None:
        """Outside the window a request waits; the broker sees it from the opening on, dated then."""
        for asked in self._queued:
            asked.created_ms = now_ms
        self._listed.extend(self._queued)
        self._queued.clear()

    def _list_requests(self, ident: str, request: Request) -> Reply:  # noqa: ARG002 - the shape of a service
        query = request.query
        try:
            from_ms, to_ms, page = int(query["from"]), int(query["to"]), int(query.get("page", "1"))
        except (KeyError, ValueError):
            return refusal(INVALID)
        if query.get("direction") not in (IN, OUT, REFUND) or page < 1:
            return refusal(INVALID)
        created = attrgetter("created_ms")
        since = self._listed[bisect_left(self._listed, from_ms, key=created):]
        found = [asked for asked in since if asked.created_ms < to_ms and asked.direction == query["direction"]]
        size = self.values.page_size
        shown = found[(page - 1) * size : page * size]
        data = {"page": page, "pages": max(1, -(-len(found) // size)), "total": len(found),
                "items": [_item(asked) for asked in shown]}  # fmt: skip
        return Reply(200, 0, ACCEPTED, data)

    def _acknowledge(self, ident: str, request: Request) -> Reply:
        body = request.body or {}
        decision, ref = DECISIONS.get(str(body.get("decision"))), body.get("ref", ident)
        if decision is None or not _is_text(ref):
            return refusal(INVALID)
        used = self._transactions.by_id(ident)
        if used is not None and ident not in self._requests:
            return refusal(DUPLICATE, _receipt(used))
        asked = self._requests.get(ident)
        if asked is None:
            return refusal(NOT_FOUND)
        if asked.status == "WITHDRAWN":
            return refusal(GIVEN_BACK)
        if asked.status != "NEW":
            same = asked.status == decision
            return refusal(DUPLICATE, {"request_id": asked.id, "status": asked.status}) if same else refusal(INVALID)
        if decision == "ACCEPTED" and asked.direction == IN:
            if self._transactions.by_ref(ref) is not None:
                return refusal(INVALID)
            taken = Transaction(ref, True, asked.mandate, asked.market, asked.ccy, asked.amount, self._clock.now_ms(),
                                asked.id)  # fmt: skip
            self._accept(taken, "acknowledge")
        asked.status = decision
        return Reply(200, 0, ACCEPTED, {"request_id": asked.id, "status": decision})

    # -- the back office -----------------------------------------------------------------------------------------

    def inquire(self, reference: str) -> Truth:
        """A phone call by operations: the truth about a bank_ref_id, transfer_ref_id or request_id."""
        found = self._transactions.by_ref(reference) or self._transactions.by_id(reference)
        if found is None:
            return Truth("NOT_RECEIVED", "", reference)
        if found.truth is PENDING:
            return Truth("PENDING", found.id, found.ref)
        if found.truth is REFUNDED:
            status = "REFUNDED"
        else:
            status = "PAID" if found.moved else "NOT_PAID"
        return Truth(status, found.id, found.ref, found.settled_ms)

    def publish(self, request_id: str) -> bool:
        """Show the truth of a stuck instruction at the API; False if the bank has not worked on it yet."""
        transaction = self._known(request_id)
        if transaction.truth is PENDING:
            return False
        self._publish(transaction)
        return True

    def _publish(self, transaction: Transaction) -> None:
        transaction.stuck = False
        transaction.status = transaction.truth
        if transaction.relist:
            transaction.relist = False
            self._list_again(transaction, IN if transaction.deposit else OUT, "NEW")

    def _known(self, request_id: str) -> Transaction:
        found = self._transactions.by_id(request_id)
        if found is None:
            raise KeyError(request_id)
        return found

    def return_payment(self, request_id: str) -> bool:
        """A paid withdrawal comes back to the broker's account (a statement shows it, the API does not);
        False if it does not stand paid or the customer's account no longer holds the amount."""
        transaction = self._known(request_id)
        if transaction.deposit or not transaction.moved:
            return False
        account, broker = transaction.mandate.customer.accounts[transaction.ccy], self._broker[transaction.ccy]
        if not self.book.move(account, broker, transaction.amount):
            return False
        transaction.moved = False
        transaction.settled_ms = self._clock.now_ms()
        self._enter("return_pay", transaction)
        return True

    def statement(self, from_ms: int, to_ms: int) -> list[Entry]:
        """Movements on the broker's settlement accounts booked in [from, to), oldest first."""
        booked = itemgetter(0)
        first = bisect_left(self._journal, from_ms, key=booked)
        last = bisect_left(self._journal, to_ms, key=booked)
        return [Entry(booked_ms, op, one.ref, one.id, one.ccy, one.amount, one.mandate.customer.id)
                for booked_ms, op, one in self._journal[first:last]]  # fmt: skip

    def totals(self) -> dict[str, dict[str, int]]:
        """Currency -> {broker, customers, outside} in minor units; each currency sums to zero."""
        sums: dict[str, dict[str, int]] = {}
        for (owner, ccy), balance in self.book.balances().items():
            of_ccy = sums.setdefault(ccy, {BROKER: 0, "customers": 0, OUTSIDE: 0})
            of_ccy[owner if owner in (BROKER, OUTSIDE) else "customers"] += balance
        return sums

    @property
    def open_transactions(self) -> int:
        """Instructions that the bank has not worked on yet."""
        return self._open

    def state(self) -> dict[str, Any]:
        """For a control interface."""
        counts = dict.fromkeys((status.value for status in TransactionStatus), 0)
        for transaction in self._transactions:
            counts[transaction.truth.value] += 1
        return {
            "bank": BANK,
            "open": self._is_open(self._clock.now_ms()),
            "customers": len(self._customers),
            "transactions": counts,
            "requests": sum(asked.status == "NEW" for asked in self._requests.values()),
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

    def _handle_faulty(self, message: str, ident: str, request: Request) -> Handled:
        names, customer = self._about(ident, request)
        for fault in self._faults.strike(Strikes.ARRIVAL, message, names, customer):
            if fault.name == "fail_with":
                return refusal(fault.params["code"]), 0
            if fault.name == "outage" and fault.params["answer"] == "maintenance":
                return refusal(MAINTENANCE), 0
            return None, 0
        reply: Reply | None = self._act(message, ident, request)
        delay_us = 0
        for fault in self._faults.strike(Strikes.REPLY, message, names, customer):
            if fault.name == "slow":
                delay_us += round(fault.params["delay_s"] * US_PER_S)
            elif fault.name == "timeout":
                reply = None
            elif fault.name == "fail_with":
                reply = refusal(fault.params["code"])
            else:
                reply = refusal(UNKNOWN)._replace(status=fault.params["status"])
        return reply, delay_us

    def _about(self, ident: str, request: Request) -> tuple[list[str], str]:
        """(every name by which a message's subject is known, customer id or "")."""
        body = request.body or {}
        fields = ("bank_ref_id", "transfer_ref_id", "client_ref", "mandate_id", "bank_request_id")
        given = [ident, request.query.get("ref", ""), *(body.get(field) for field in fields)]
        names = [name for name in given if _is_text(name)]
        customer: Customer | None = None
        for name in tuple(names):
            transaction = self._transactions.by_id(name) or self._transactions.by_ref(name)
            if transaction is not None:
                names += [transaction.id, transaction.ref, transaction.mandate.id]
            known = transaction or self._requests.get(name)
            mandate = known.mandate if known is not None else self._mandates.get(name)
            customer = mandate.customer if mandate is not None else customer
        if customer is None and _is_text(body.get("card_no")):
            customer = self._cards.get(body["card_no"])
        return names, customer.id if customer is not None else ""

    def _twist(self, transaction: Transaction, delay_us: int, plan: Plan, message: str) -> Plan:
        """The dice's plan, changed by the faults that strike this instruction."""
        mandate = transaction.mandate
        names = [transaction.id, transaction.ref, mandate.id]
        for fault in self._faults.strike(Strikes.INSTRUCTION, message, names, mandate.customer.id):
            plan = self._changed(transaction, delay_us, plan, fault)
        return plan

    def _changed(self, transaction: Transaction, delay_us: int, plan: Plan, fault: Fault) -> Plan:
        params = fault.params
        if fault.name == "not_found_then_found":
            self._hidden_until[transaction.id] = self._clock.now_ms() + round(params["hidden_s"] * 1000)
        elif fault.name == "stuck_pending":
            plan = _stuck(plan, delay_us, params["paid"], params["until_s"])
        elif fault.name == "refunded_before_credit" and transaction.deposit:
            plan = plan._replace(fate=Fate.REFUNDED_BEFORE_CREDIT, code=0)
        elif fault.name == "refunded_after_credit" and transaction.deposit:
            refund_s = params["refund_s"]
            after_us = plan.refund_us if refund_s is None else round(refund_s * US_PER_S)
            plan = plan._replace(fate=Fate.REFUNDED_AFTER_CREDIT, code=0, refund_us=after_us)
        elif fault.name == "mandate_revoked_midflight":
            self._after_us(delay_us // 2, self.close_mandate, transaction.mandate.id)
            plan = plan._replace(fate=Fate.SUCCESS, code=0)
        elif fault.name == "fail_with":
            plan = plan._replace(fate=Fate.FAILED, code=params["code"])
        elif fault.name == "duplicate_result":
            transaction.relist = True
        return plan

    def _list_again(self, transaction: Transaction, direction: str, status: str) -> None:
        """Put an instruction into the list of what began at the bank, under its own id: a deposit taken back, or
        (the `duplicate_result` fault) a finished one as if it were new."""
        now_ms = self._clock.now_ms()
        self._queued.append(CustomerRequest(transaction.id, direction, transaction.mandate, transaction.market,
                                            transaction.ccy, transaction.amount, now_ms, status))  # fmt: skip
        if self._is_open(now_ms):
            self._deliver_queued(now_ms)

    def _next_id(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}{self._number:012d}"


def _hkt_day(ms: int) -> int:
    """Number of the Hong Kong calendar day: cheaper than a date where only sameness counts."""
    return (ms + _HKT_MS) // MS_PER_DAY


def _obstacle(customer: Customer, deposit: bool) -> int:
    """The code for which a customer's account can neither give (deposit) nor take (withdrawal); 0 if it can."""
    if customer.closed:
        return ACCOUNT_CLOSED
    return FROZEN if customer.frozen and not deposit else 0


def _stuck(plan: Plan, delay_us: int, paid: bool | None, until_s: float | None) -> Plan:
    late_us = None if until_s is None else max(0, round(until_s * US_PER_S) - delay_us)
    if paid is None:
        return plan._replace(shown=False, late_us=late_us)
    fate, code = (Fate.SUCCESS, 0) if paid else (Fate.FAILED, DOWNSTREAM)
    return plan._replace(fate=fate, code=code, shown=False, late_us=late_us)


def _receipt(transaction: Transaction) -> dict[str, Any]:
    return {
        "request_id": transaction.id,
        "status": transaction.status.value,
        "ccy": transaction.ccy,
        "amount": format_wire(transaction.amount),
    }


def _item(asked: CustomerRequest) -> dict[str, Any]:
    return {
        "request_id": asked.id,
        "direction": asked.direction,
        "mandate_id": asked.mandate.id,
        "market": asked.market,
        "ccy": asked.ccy,
        "amount": format_wire(asked.amount),
        "created_at": asked.created_ms,
        "status": asked.status,
    }


def _is_same(asked: CustomerRequest, body: Mapping[str, Any]) -> bool:
    """Whether a withdrawal carries out exactly what the customer asked for."""
    item = _item(asked)
    return all(body.get(field) == item[field] for field in ("mandate_id", "market", "ccy", "amount"))


def _is_text(value: object) -> TypeGuard[str]:
    return type(value) is str and 0 < len(value) <= 64


def _are_markets(value: object) -> bool:
    """A list of different markets, at least one."""
    if not isinstance(value, list) or not value or not all(type(market) is int for market in value):
        return False
    return len(set(value)) == len(value) and all(market in _MARKETS for market in value)
