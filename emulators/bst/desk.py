"""The desk of the bank: what comes in over its connections, what is answered, and whom pushes go to.

* Requests are served on every connection with keys; pushes go to the one that signed on last.
* A header that is not between this broker and this bank is refused with 100000, as what cannot be read is.
* Answers leave at once; only faults delay them. What became of an instruction is a push.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from core.clock import US_PER_S, Clock, hkt_texts
from core.errors import InvariantBroken
from core.money import format_wire
from core.wire.socket import (
    BadSignature,
    Flavour,
    FrameType,
    MalformedMessage,
    Party,
    ProtocolError,
    RefusedMessage,
    Signing,
    TransferKind,
    TransferState,
)
from core.wire.socket import messages as m
from emulators.bst import lists
from emulators.bst.faults import CODES, NAME_OF, SocketFaults, Strikes
from emulators.bst.pushes import Pushes, Repetition
from emulators.bst.records import (
    DEPOSIT,
    REVERSAL,
    WITHDRAWAL,
    Booked,
    Customer,
    Push,
    Ruling,
    Transfer,
    Wish,
)
from emulators.bst.server import Connection, Flaw
from emulators.bst.values import BankValues
from emulators.loop import Cancellable

_REQUEST, _RESPONSE, _PUSH, _ACK = FrameType.REQUEST, FrameType.RESPONSE, FrameType.PUSH, FrameType.PUSH_ACK
_TRANSFERS: Final = (m.DEPOSIT, m.WITHDRAWAL, m.REVERSAL)
_KINDS: Final = {
    DEPOSIT: TransferKind.DEPOSIT, WITHDRAWAL: TransferKind.WITHDRAW, REVERSAL: TransferKind.REVERSAL,
}  # fmt: skip


class BackOffice(Protocol):
    """What the desk asks of the bank itself."""

    def turn(self) -> None: ...
    def instruct(self, name: str, body: m.Body, server: str) -> Ruling: ...
    def find(self, ref: str) -> Transfer | None: ...
    def owner_of(self, card_no: str, *refs: str) -> Customer | None: ...
    def session(self) -> str: ...
    def booked(self, session: str) -> list[Booked]: ...
    @property
    def currencies(self) -> tuple[str, ...]: ...


class Desk:
    """Implements `emulators.bst.server.Desk`."""

    def __init__(
        self,
        office: BackOffice,
        flavour: Flavour,
        values: BankValues,
        clock: Clock,
        faults: SocketFaults,
        after_us: Callable[..., Cancellable],
        line_after_us: Callable[..., Cancellable],
    ) -> None:
        self.flavour = flavour
        self.values = values
        self.faults = faults
        self.now_us = clock.now_us
        self.signed_on: Connection | None = None
        self.last_sign_on: m.SignOn | None = None
        self.journal: deque[dict[str, Any]] = deque(maxlen=values.journal_limit)
        self._office = office
        self._clock = clock
        self._after_us = after_us
        self.pushes = Pushes(self._post, line_after_us, Repetition(values.push_repeat_us, values.push_repeats))
        self._number = 0
        self._serve: dict[str, Callable[[Connection, m.Message], list[m.Body]]] = {
            m.HEARTBEAT: self._heartbeat,
            m.SIGN_ON: self._sign_on,
            m.SIGN_OFF: self._sign_off,
            m.DEPOSIT: self._transfer,
            m.WITHDRAWAL: self._transfer,
            m.REVERSAL: self._transfer,
            m.QUERY: self._query,
            m.DAY_LIST: self._day_list,
            m.RECONCILIATION: self._reconcile,
        }

    # --- what comes in ------------------------------------------------------------------------------------------

    def heard(self, connection: Connection, message: m.Message) -> None:
        """A message that arrived intact."""
        if message.command != m.HEARTBEAT:
            self._office.turn()
            fields = {name: getattr(message.body, name, None) for name in ("transfer_ref", "code")}
            fields |= {"message": _name_of(message), "body": message.body}
            self._enter(connection, message.command, message.kind.name, message.header, fields)
        header = message.header
        if header.receiver != self.values.name or header.sender != connection.broker:
            if message.kind in (_REQUEST, _ACK):
                wrong = MalformedMessage(f"not from {connection.broker} to {self.values.name}", header)
                self.refused(connection, wrong)
        elif message.kind is _REQUEST:
            self._answer(connection, message)
        elif message.kind is _ACK:
            self._acknowledged(connection, message)

    def refused(self, connection: Connection, error: RefusedMessage) -> None:
        """A message that cannot be accepted is answered with 100000."""
        if error.sequence >= 0:  # else it has been entered as a message already
            self._enter(connection, "", "REFUSED", error.header, {"code": error.code})
        initiator = error.header.initiator if error.header is not None else Party.BROKER
        answer = m.rejection(error, self._stamp(), self.values.name, connection.broker, initiator)
        connection.send(answer)

    def unsent(self, connection: Connection, message: m.Message, error: ProtocolError) -> None:
        """A message of the bank that the protocol has no room for: nobody hears it; the journal says why."""
        self._enter(connection, message.command, "UNSENT", message.header, {"error": str(error)})

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        if self.signed_on is connection:
            self.signed_on = None

    def heartbeat(self) -> m.Message:
        """The bank's own sign of life."""
        return self._compose(m.HEARTBEAT, _REQUEST, m.Heartbeat(), Party.BANK)

    def _enter(
        self, connection: Connection, command: str, kind: str, header: m.Header | None, fields: dict[str, Any]
    ) -> None:
        self.journal.append({
            "at_ms": self._clock.now_ms(), "server": connection.server.name, "command": command, "type": kind,
            "ref": header.ref if header is not None else "",
            "related_ref": header.related_ref if header is not None else "", **fields})  # fmt: skip

    def _acknowledged(self, connection: Connection, message: m.Message) -> None:
        related = message.header.related_ref
        push = self.pushes.pushed(related)
        if push is None or not isinstance(message.body, m.Answer) or message.body.code != 0:
            return
        name = NAME_OF[push.command, _PUSH]
        if self.faults and self.faults.strike_at(
            connection.server.name, Strikes.ACKNOWLEDGEMENT, name, [push.ref], push.customer
        ):
            return
        self.pushes.acknowledge(related)

    # --- answering ----------------------------------------------------------------------------------------------

    def _answer(self, connection: Connection, message: m.Message) -> None:
        if message.command == m.HEARTBEAT:
            if connection.server.fault("silent_heartbeats") is None:
                connection.send(m.answer(message, m.Answer(0), self._stamp()))
        elif self.faults:
            self._answer_faulty(connection, message)
        else:
            self._reply(connection, message, self._serve[message.command](connection, message))

    def _answer_faulty(self, connection: Connection, message: m.Message) -> None:
        name, server = NAME_OF[message.command, _REQUEST], connection.server.name
        names, customer = self._about(message)
        for fault in self.faults.strike_at(server, Strikes.ARRIVAL, name, names, customer):
            if fault.name == "malformed":
                self.refused(connection, MalformedMessage("cannot be read", message.header))
            elif fault.name == "forged":
                self.refused(connection, BadSignature("not the broker's signature", message.header))
            elif fault.name != "timeout":
                self._reply(connection, message, [_coded(message, CODES[fault.name])])
            return
        bodies = self._serve[message.command](connection, message)
        delay_us = 0
        for fault in self.faults.strike_at(server, Strikes.REPLY, name, names, customer):
            if fault.name == "timeout":
                return
            if fault.name == "slow":
                delay_us += round(fault.params["delay_s"] * US_PER_S)
            else:
                bodies = [_coded(message, CODES[fault.name])]
        if delay_us:
            self._after_us(delay_us, self._reply, connection, message, bodies)
        else:
            self._reply(connection, message, bodies)

    def _reply(self, connection: Connection, message: m.Message, bodies: list[m.Body]) -> None:
        names, customer = self._about(message) if self.faults else ([], "")
        for number, body in enumerate(bodies, 1):
            answer = m.answer(message, body, self._stamp(), last_fragment=number == len(bodies))
            self._send(connection, NAME_OF[message.command, _REQUEST], answer, names, customer)

    def _about(self, message: m.Message) -> tuple[list[str], str]:
        """(the references that a message names, the customer it is about or "")."""
        body = message.body
        names = [ref for field in ("transfer_ref", "original_ref") if (ref := getattr(body, field, ""))]
        customer = self._office.owner_of(getattr(body, "card_no", ""), *names)
        return names, customer.id if customer is not None else ""

    def _send(
        self, connection: Connection, name: str, message: m.Message, names: list[str], customer: str
    ) -> None:
        flaw = Flaw.NONE
        if self.faults:
            signed = m.row_of(message.command, message.kind).signed
            for fault in self.faults.strike_at(connection.server.name, Strikes.SENDING, name, names, customer):
                if fault.name == "sequence_gap":
                    flaw = Flaw.SEQUENCE
                elif signed and flaw is Flaw.NONE:
                    flaw = Flaw.SIGNATURE
        connection.send(message, flaw)

    # --- services -----------------------------------------------------------------------------------------------

    def _heartbeat(self, connection: Connection, message: m.Message) -> list[m.Body]:  # noqa: ARG002 - a service
        return [m.Answer(0)]

    def _sign_on(self, connection: Connection, message: m.Message) -> list[m.Body]:
        assert isinstance(message.body, m.SignOn)
        self.last_sign_on = message.body
        self.signed_on = connection
        return [m.Answer(0)]

    def _sign_off(self, connection: Connection, message: m.Message) -> list[m.Body]:  # noqa: ARG002 - a service
        self.gone(connection)
        return [m.Answer(0)]

    def _transfer(self, connection: Connection, message: m.Message) -> list[m.Body]:
        ruling = self._office.instruct(NAME_OF[message.command, _REQUEST], message.body, connection.server.name)
        transfer = ruling.transfer
        ref = transfer.ref if transfer is not None else getattr(message.body, "transfer_ref", "")
        return [m.TransferAnswer(ruling.code, ref, ruling.text, transfer.serial if transfer is not None else "")]

    def _query(self, connection: Connection, message: m.Message) -> list[m.Body]:  # noqa: ARG002 - a service
        assert isinstance(message.body, m.Query)
        ref = message.body.transfer_ref
        found = self._office.find(ref)
        if found is None:
            return [m.QueryAnswer(0, ref, TransferState.NOT_FOUND)]
        return [m.QueryAnswer(0, ref, found.state, found.result, found.ccy, format_wire(found.amount),
                              bank_serial=found.serial, kind=_KINDS[found.kind],
                              card_no=found.customer.card_no)]  # fmt: skip

    def _day_list(self, connection: Connection, message: m.Message) -> list[m.Body]:
        assert isinstance(message.body, m.ListRequest)
        return self.day_list(message.body.since_seq, message.body.business_date, connection.server.name)

    def day_list(self, since_seq: int, business_date: str, server: str = "") -> list[m.Body]:
        """The fragments of the day list: what the bank had to tell after a number, of one business day or of all."""
        how = self._disagreement("list", server)
        return lists.day_list(self.pushes.since(since_seq, business_date), how, self.pushes.spare_seq)

    def list_outage(self) -> str:
        """How the HTTP face is out of service for the request that has come: unavailable, silence, or not at all."""
        struck = self.faults.strike_at("", Strikes.FACE, "list", (), "") if self.faults else []
        return str(struck[0].params["answer"]) if struck else ""

    def list_fragment(self, since_seq: int, business_date: str, broker: str) -> m.Message:
        """The first fragment of the day list, as the content of an HTTP answer."""
        bodies = self.day_list(since_seq, business_date)
        row, stamp = m.row_of(m.DAY_LIST, _RESPONSE), self._stamp()
        header = m.Header(row.instruction, Party.BROKER, self.values.name, broker, stamp.date, stamp.time, stamp.ref,
                          last_fragment=len(bodies) == 1)  # fmt: skip
        return m.Message(_RESPONSE, m.DAY_LIST, header, bodies[0])

    def _reconcile(self, connection: Connection, message: m.Message) -> list[m.Body]:
        assert isinstance(message.body, m.ReconciliationRequest)
        session = message.body.business_date
        how = self._disagreement("reconcile", connection.server.name)
        return lists.reconciliation(session, self._office.booked(session), self._office.currencies, how)

    def _disagreement(self, name: str, server: str) -> list[str]:
        if not self.faults:
            return []
        return [fault.params["how"] for fault in self.faults.strike_at(server, Strikes.LIST, name, (), "")]

    # --- pushes -------------------------------------------------------------------------------------------------

    def tell_deposit(self, transfer: Transfer) -> None:
        """A deposit begun at the bank is booked."""
        customer = transfer.customer
        self._push(m.DEPOSIT_PUSH, lambda seq: m.DepositPush(
            transfer.ref, seq, customer.name, customer.card_no, transfer.ccy, format_wire(transfer.amount),
            transfer.market), customer.id)  # fmt: skip

    def tell_wish(self, wish: Wish) -> None:
        """A customer wants money from the broker."""
        customer = wish.customer
        self._push(m.BANK_WITHDRAWAL, lambda seq: m.BankWithdrawal(
            wish.ref, seq, customer.name, customer.card_no, wish.ccy, format_wire(wish.amount), wish.market),
            customer.id)  # fmt: skip

    def tell_result(self, transfer: Transfer, code: int) -> None:
        """What became of an instruction."""
        self._push(m.TRANSFER_RESULT, lambda seq: m.TransferResult(
            transfer.ref, seq, code, transfer.ccy, format_wire(transfer.amount), bank_serial=transfer.serial),
            transfer.customer.id)  # fmt: skip

    def tell_signing(self, customer: Customer, market: str, action: Signing) -> None:
        """A customer signed or ended the agreement for a market."""
        self._push(m.SIGN_NOTICE, lambda seq: m.SignNotice(
            seq, action, customer.name, customer.card_no, market), customer.id)  # fmt: skip

    def tell_reconciliation(self, session: str) -> None:
        """The list of a day, unasked: fragment after fragment, each when the one before is acknowledged."""
        how = self._disagreement("reconciliation", "")
        bodies = lists.reconciliation(session, self._office.booked(session), self._office.currencies, how)
        self._push_fragment(session, bodies, 0)

    def _push_fragment(self, session: str, bodies: list[m.Body], number: int) -> None:
        push = Push(0, m.RECONCILIATION, bodies[number], session, "")
        message = self._compose(m.RECONCILIATION, _PUSH, push.body, Party.BANK)
        last = number + 1 == len(bodies)
        push.message = dataclasses.replace(message, header=dataclasses.replace(message.header, last_fragment=last))
        self.pushes.deliver(push, None if last else lambda: self._push_fragment(session, bodies, number + 1))

    def _push(self, command: str, body_of: Callable[[int], m.Body], customer: str) -> None:
        push = self._numbered(command, body_of, customer)
        struck = []
        if self.faults:
            names = [push.ref] if push.ref else []
            struck = self.faults.strike_at("", Strikes.PUSH, NAME_OF[command, _PUSH], names, customer)
        if any(fault.name == "lost_push" for fault in struck):
            push.status = "LOST"
            return
        self.pushes.deliver(push)
        for fault in struck:
            if fault.params["fresh"]:
                self.pushes.deliver(self._numbered(command, body_of, customer))
            else:
                self._post(push)

    def _numbered(self, command: str, body_of: Callable[[int], m.Body], customer: str) -> Push:
        push = self.pushes.number(command, body_of, self._office.session(), customer)
        begun_by = Party.BROKER if command == m.TRANSFER_RESULT else Party.BANK
        push.message = self._compose(command, _PUSH, push.body, begun_by)
        return push

    def _post(self, push: Push) -> bool:
        """Write a push to the connection that is signed on."""
        connection = self.signed_on
        if connection is None:
            return False
        if push.message is None:
            raise InvariantBroken(f"push {push.seq} has no message")
        names = [push.ref] if push.ref else []
        self._send(connection, NAME_OF[push.command, _PUSH], push.message, names, push.customer)
        return True

    # --- headers ------------------------------------------------------------------------------------------------

    def _compose(self, command: str, kind: FrameType, body: m.Body, initiator: Party) -> m.Message:
        return m.compose(command, kind, body, self._stamp(), self.values.name, self.values.broker, initiator)

    def _stamp(self) -> m.Stamp:
        self._number += 1
        return m.Stamp(f"{self.values.name}M{self._number:012d}", *hkt_texts(self._clock.now_ms()))


def _name_of(message: m.Message) -> str | None:
    """A message's name; an acknowledgement goes by its push's, as an answer by its request's."""
    kind = {_ACK: _PUSH, _RESPONSE: _REQUEST}.get(message.kind, message.kind)
    return NAME_OF.get((message.command, kind))


def _coded(message: m.Message, code: int) -> m.Body:
    """The answer that says nothing but a code."""
    ref, text = getattr(message.body, "transfer_ref", ""), m.CALLBACKS[code].meaning
    if message.command in _TRANSFERS:
        return m.TransferAnswer(code, ref, text)
    if message.command == m.QUERY:
        return m.QueryAnswer(code, ref, text=text)
    if message.command == m.DAY_LIST:
        return m.DayList(code, text=text)
    if message.command == m.RECONCILIATION:
        return m.ReconciliationList(code, text=text)
    return m.Answer(code, text)
