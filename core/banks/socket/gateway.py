"""CMB's and CMBC's messages as methods; what the bank says as one of a few outcomes (gaps.md B-08, B-22).

Rules:

* Silence, a lost line, -1, -5, a code outside the table and an answer that cannot be read are `UNKNOWN`: ask by the
  same reference, never guess.
* -4 says that the bank has had this reference: `DUPLICATE`, its standing is asked for.
* -2, -3 and -9 are said at the bank's door, before the reference is looked up: they are definite about this sending
  and say nothing of an earlier one.
* An answer about another reference is not an answer: `UNKNOWN`. What the bank says that it has under a reference is
  for the caller to compare (`core.deposits.transfers.differs`).
* A query that was refused says nothing of the transfer it asks about: `UNKNOWN`.
* Pushes are dealt with one at a time, in the order in which they came, and acknowledged once `Inbound.take` returns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from core.alerts import raise_alert
from core.banks.socket.callbacks import CallbackRatios
from core.banks.socket.connection import Connection
from core.banks.socket.exit_servers import ExitServers
from core.banks.socket.hours import Hours
from core.banks.socket.line import Dial
from core.banks.socket.settings import check_socket_settings
from core.clock import US_PER_MS, Clock
from core.domain import Market
from core.errors import CallFailed, InvalidAmount, OutcomeUnknown
from core.hops import tell_exchange
from core.money import format_wire, parse_wire
from core.trace import Trace
from core.wire.socket import Flavour, FrameType, ProtocolError, RefusedMessage, TransferState
from core.wire.socket import messages as m

PUSHES_WAITING: Final = 10_000
"""Pushes heard and not dealt with yet; beyond it they are not heard, and the bank repeats them."""


class Outcome(StrEnum):
    """What an answer means."""

    TAKEN_ON = "TAKEN_ON"  # the bank has it; the result is pushed
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"  # no money moved, and none will; ``code`` says why
    PENDING = "PENDING"  # no result yet
    NOT_FOUND = "NOT_FOUND"  # the bank knows no such reference (at this moment)
    REJECTED = "REJECTED"  # refused for good, nothing happened
    CLOSED = "CLOSED"  # outside the bank's window, nothing happened
    MALFORMED = "MALFORMED"  # could not be read, nothing happened
    FORGED = "FORGED"  # our signature was not accepted, nothing happened
    DUPLICATE = "DUPLICATE"  # this reference was used before: where it stands is asked for
    UNKNOWN = "UNKNOWN"  # ask by the same reference, never guess


class Answer(NamedTuple):
    """One outcome with the bank's code, text and serial, the minor units it names (None if it names none), the exit
    server that was asked ("" if none was), and currency, card and kind as far as it names them."""

    outcome: Outcome
    code: int = 0
    text: str = ""
    bank_serial: str = ""
    amount: int | None = None
    server: str = ""
    ccy: str = ""
    card_no: str = ""
    kind: str = ""

    @property
    def said(self) -> str:
        """Code and text, as a job notes them."""
        return f"{self.code} {self.text}".strip()


class Customer(NamedTuple):
    """A customer as an instruction names one; ``payee_name`` in English letters is mandatory at CMBC (B-22)."""

    name: str
    card_no: str
    account: str = ""
    cert_type: str = ""
    cert_no: str = ""
    payee_name: str = ""


PushBody = m.DepositPush | m.BankWithdrawal | m.TransferResult | m.SignNotice | m.ReconciliationList


class Push(NamedTuple):
    """Something the bank tells by itself; ``push_seq`` 0 for reconciliation lists, which have none."""

    bank: str
    push_seq: int
    command: str
    body: PushBody
    header_ref: str = ""
    last_fragment: bool = True


class Inbound(Protocol):
    """What takes in what the bank says by itself."""

    async def take(self, push: Push) -> None:
        """Persist it; only then may this return. An exception: it is not acknowledged, and the bank repeats it."""

    async def last_push_seq(self) -> int:
        """The highest push persisted."""

    async def signed_on(self) -> None:
        """A connection has become active: fetch what was missed."""


SENT: Final[dict[int, Outcome]] = {
    0: Outcome.TAKEN_ON,
    -1: Outcome.UNKNOWN,
    -2: Outcome.MALFORMED,
    -3: Outcome.FORGED,
    -4: Outcome.DUPLICATE,
    -5: Outcome.UNKNOWN,
    -6: Outcome.REJECTED,
    -7: Outcome.REJECTED,
    -8: Outcome.REJECTED,
    -9: Outcome.CLOSED,
}
"""Outcome of the answer to an instruction, by callback code."""

_PAST_THE_DOOR: Final = (Outcome.TAKEN_ON, Outcome.DUPLICATE, Outcome.REJECTED)

RESULTS: Final[dict[int, Outcome]] = {
    0: Outcome.SUCCESS, -6: Outcome.FAILED, -7: Outcome.FAILED, -8: Outcome.FAILED,
}
"""Outcome of a result; every other code leaves it unknown."""

STANDING: Final[dict[TransferState, Outcome]] = {
    TransferState.PENDING: Outcome.PENDING,
    TransferState.DONE: Outcome.SUCCESS,
    TransferState.FAILED: Outcome.FAILED,
    TransferState.NOT_FOUND: Outcome.NOT_FOUND,
}
"""Outcome of where a query says that a transfer stands."""

_PUSHED: Final[dict[str, str]] = {
    m.DEPOSIT_PUSH: "push.deposit", m.TRANSFER_RESULT: "push.result", m.BANK_WITHDRAWAL: "push.withdrawal",
    m.SIGN_NOTICE: "push.agreement", m.RECONCILIATION: "push.reconciliation",
}


def result_of(code: int) -> Outcome:
    """SUCCESS, FAILED, or UNKNOWN, of a result's callback code."""
    return RESULTS.get(code, Outcome.UNKNOWN)


class SocketGateway:
    """One bank's line as the core uses it; ``inbound`` takes what the bank pushes."""

    def __init__(
        self, bank: str, flavour: Flavour, dial: Dial, clock: Clock, trace: Trace, settings: Mapping[str, Any],
        inbound: Inbound,
    ) -> None:
        check_socket_settings(settings, (bank,))
        self.bank, self.flavour = bank, flavour
        self._clock, self._trace, self._inbound = clock, trace, inbound
        self.servers = ExitServers(bank, dial, clock, trace, settings, self)
        self._ratios = CallbackRatios(bank, clock, trace, settings)
        self.hours = Hours(bank, clock, trace, settings)
        self._heard: deque[tuple[Connection, m.Message]] = deque()
        self._busy = False
        self._spawn: Callable[[Coroutine[Any, Any, Any]], object] = asyncio.ensure_future

    @property
    def available(self) -> bool:
        """Whether an exit server is connected and signed on."""
        return self.servers.available

    async def start(self, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        """Connect; without a server this returns all the same and goes on trying."""
        self._spawn = spawn
        await self.servers.start(spawn)

    async def stop(self) -> None:
        """Sign off."""
        await self.servers.stop()

    def halt(self) -> None:
        """Everything ends at once, without a word."""
        self._heard.clear()
        self.servers.halt()

    def switch(self, reason: str) -> None:
        """An answer stayed away: go on over the other exit server (SOCK-07)."""
        self.servers.switch(reason)

    async def leave(self, server: str, reason: str) -> bool:
        """What is said next is for the other exit server, if there is one; False while it is too soon to switch."""
        return await self.servers.leave(server, reason)

    # Instructions

    async def pay(
        self, ref: str, customer: Customer, market: int, ccy: str, amount: int, attempt: int = 1
    ) -> Answer:
        """Pay the customer ``amount`` minor units under this reference (200102)."""
        body = m.WithdrawalRequest(
            ref, customer.name, customer.card_no, ccy, format_wire(amount), Market(market).name, customer.payee_name,
            customer.account, customer.cert_type, customer.cert_no)
        return await self._instruct("withdraw", m.WITHDRAWAL, body, ref, attempt)

    async def collect(
        self, ref: str, customer: Customer, market: int, ccy: str, amount: int, attempt: int = 1
    ) -> Answer:
        """Debit the customer ``amount`` minor units under this reference (200108, a deposit of source 1)."""
        body = m.DepositRequest(
            ref, customer.name, customer.card_no, ccy, format_wire(amount), Market(market).name, customer.account,
            customer.cert_type, customer.cert_no)
        return await self._instruct("deposit", m.DEPOSIT, body, ref, attempt)

    async def reverse(
        self, ref: str, original_ref: str, ccy: str, amount: int, reason: str, attempt: int = 1
    ) -> Answer:
        """Take back, or refuse, the transfer ``original_ref`` (200109)."""
        body = m.ReversalRequest(ref, original_ref, ccy, format_wire(amount), reason)
        return await self._instruct("reverse", m.REVERSAL, body, ref, attempt)

    async def _instruct(self, message: str, command: str, body: m.Body, ref: str, attempt: int) -> Answer:
        def read(replies: list[m.Message]) -> Answer:
            said = replies[-1].body
            if isinstance(said, m.Answer):  # 100000: not accepted, nothing was done
                return Answer(SENT.get(said.code, Outcome.UNKNOWN), said.code, said.text)
            assert isinstance(said, m.TransferAnswer), said
            if said.transfer_ref not in ("", ref):
                return Answer(Outcome.UNKNOWN, said.code, f"an answer about {said.transfer_ref}")
            return Answer(SENT.get(said.code, Outcome.UNKNOWN), said.code, said.text, said.bank_serial)

        answer = await self._ask(message, command, body, ref, attempt, read)
        self._ratios.answered(ref, answer.code)
        if answer.outcome in _PAST_THE_DOOR:
            self.hours.served()
        if answer.outcome is Outcome.FORGED:
            raise_alert(self._trace, "SOCK-04", self.bank, f"{ref}: the bank does not accept our signature")
        return answer

    # Questions

    async def query(self, ref: str, attempt: int = 1) -> Answer:
        """Where a transfer stands (200105)."""

        def read(replies: list[m.Message]) -> Answer:
            said = replies[-1].body
            if not isinstance(said, m.QueryAnswer) or said.code != 0 or said.state is None:
                return Answer(Outcome.UNKNOWN, getattr(said, "code", 0), getattr(said, "text", ""))
            if said.transfer_ref not in ("", ref):
                return Answer(Outcome.UNKNOWN, said.code, f"an answer about {said.transfer_ref}")
            outcome = STANDING.get(TransferState(said.state), Outcome.UNKNOWN)
            return Answer(outcome, said.result or 0, said.text, said.bank_serial,
                          parse_wire(said.amount) if said.amount else None, ccy=said.ccy, card_no=said.card_no,
                          kind=said.kind or "")

        return await self._ask("query", m.QUERY, m.Query(ref), ref, attempt, read)

    async def day_list(self, since_seq: int, business_date: str = "") -> tuple[m.ListItem, ...]:
        """Every push after a number (200106), ascending; `OutcomeUnknown` if the list cannot be had whole."""
        replies = await self._fragments("day_list", m.DAY_LIST, m.ListRequest(since_seq, business_date))
        items = [item for reply in replies for item in _body(reply, m.DayList).items]
        return tuple(sorted(items, key=lambda item: item.push_seq))

    async def reconciliation(self, business_date: str) -> m.ReconciliationList:
        """What the bank booked on a business day (200110), its fragments merged; `OutcomeUnknown` as above."""
        replies = await self._fragments("reconciliation", m.RECONCILIATION, m.ReconciliationRequest(business_date))
        bodies = [_body(reply, m.ReconciliationList) for reply in replies]
        return m.ReconciliationList(
            0, business_date, tuple(total for body in bodies for total in body.totals),
            tuple(item for body in bodies for item in body.items))

    async def _fragments(self, message: str, command: str, body: m.Body) -> list[m.Message]:
        connection = self.servers.active
        if connection is None:
            raise OutcomeUnknown("no exit server is connected")
        self._tell_request(message, self.bank, 1)
        began_us, outcome = self._clock.now_us(), Outcome.UNKNOWN
        try:
            replies = await connection.ask(connection.compose(command, FrameType.REQUEST, body))
            refused = next((reply.body for reply in replies if getattr(reply.body, "code", 0) != 0), None)
            if refused is not None:
                raise OutcomeUnknown(f"{message} refused: {refused}")
            outcome = Outcome.SUCCESS
            return replies
        finally:
            self._tell_reply(message, self.bank, 1, Answer(outcome), began_us)

    async def _ask(
        self, message: str, command: str, body: m.Body, ref: str, attempt: int,
        read: Callable[[list[m.Message]], Answer],
    ) -> Answer:
        """One exchange, traced at both ends; the one place where silence and noise become an answer."""
        self._tell_request(message, ref, attempt)
        began_us = self._clock.now_us()
        connection = await self.servers.ready()
        try:
            if connection is None:
                raise OutcomeUnknown("no exit server is connected")
            answer = read(await connection.ask(connection.compose(command, FrameType.REQUEST, body)))
        except OutcomeUnknown as silence:
            answer = Answer(Outcome.UNKNOWN, m.TIMEOUT, str(silence))
        except ProtocolError as unsendable:  # our own message does not fit the protocol: it never left
            answer = Answer(Outcome.MALFORMED, -2, str(unsendable))
        except InvalidAmount as wrong:
            answer = Answer(Outcome.UNKNOWN, 0, str(wrong))
        answer = answer._replace(server=connection.server if connection is not None else "")
        self._tell_reply(message, ref, attempt, answer, began_us)
        return answer

    def _tell_request(self, message: str, ref: str, attempt: int) -> None:
        self._trace.emit("bank.request", ref, {
            "bank": self.bank, "message": message, "ref": ref, "request_id": "", "attempt": attempt, "outcome": "",
            "code": 0, "ms": 0})

    def _tell_reply(self, message: str, ref: str, attempt: int, answer: Answer, began_us: int) -> None:
        self._trace.emit("bank.reply", ref, {
            "bank": self.bank, "message": message, "ref": ref, "request_id": answer.bank_serial, "attempt": attempt,
            "outcome": answer.outcome.value, "code": answer.code,
            "ms": (self._clock.now_us() - began_us) // US_PER_MS})
        tell_exchange(self._trace, self.bank, message, began_us, answer.outcome)

    # Pushes (`core.banks.socket.exit_servers.Ear`)

    def pushed(self, connection: Connection, message: m.Message) -> None:
        """Queue it; what does not fit any more is repeated by the bank."""
        if len(self._heard) >= PUSHES_WAITING:
            return
        self._heard.append((connection, message))
        if not self._busy:
            self._busy = True
            self._spawn(self._take_all())

    def forged(self, connection: Connection, error: RefusedMessage) -> None:
        """A money message whose signature is not the bank's: nothing is done on it."""
        raise_alert(self._trace, "SOCK-04", self.bank, f"{connection.server}: {error}")

    async def last_push_seq(self) -> int:
        """For sign-on."""
        return await self._inbound.last_push_seq()

    async def signed_on(self) -> None:
        """A connection has become active."""
        await self._inbound.signed_on()

    async def _take_all(self) -> None:
        try:
            while self._heard:
                connection, message = self._heard.popleft()
                await self._take(connection, message)
        finally:
            self._busy = False

    async def _take(self, connection: Connection, message: m.Message) -> None:
        push = self._read(message)
        try:
            await self._inbound.take(push)
        except (OutcomeUnknown, CallFailed):
            return  # not persisted, so not acknowledged: the bank repeats it
        if isinstance(push.body, m.TransferResult):
            self._ratios.learn(push.body.transfer_ref, push.body.code)
        connection.acknowledge(message)

    def _read(self, message: m.Message) -> Push:
        body: Any = message.body
        push = Push(self.bank, getattr(body, "push_seq", 0), message.command, body, message.header.ref,
                    message.header.last_fragment)
        ref = getattr(body, "transfer_ref", "") or message.header.ref
        code = getattr(body, "code", 0)
        self._trace.emit("bank.push", ref, {"bank": self.bank, "message": _PUSHED[message.command], "ref": ref,
                                            "push_seq": push.push_seq, "code": code})
        return push


def _body(reply: m.Message, kind: type[Any]) -> Any:
    if not isinstance(reply.body, kind):
        raise OutcomeUnknown(f"{reply.command} was answered with a {type(reply.body).__name__}")
    return reply.body
