"""Adapter of the direct-debit interfaces of HSBC and Hang Seng: what the core wants said, as messages; what the bank
says, as one of a few outcomes.

Rules:

* Silence, HTTP 5xx, an answer that is not signed for this request or cannot be read: `Outcome.UNKNOWN`. Ask again under
  the same reference, never guess; the bank answers with the original.
* A refusal is treated as its row in `core.wire.edda.ERRORS` says. Of a *repeated* sending (``attempt`` > 1) what is
  said at the bank's door tells nothing of the earlier one: `UNKNOWN`.
* An answer about something else than what was asked, or about another amount, is not an answer: `UNKNOWN`.
* Every message leaves at the bank's pace (`core.banks.edda_pace`): questions wait for a turn here, a debit is sent by
  whoever has taken one for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.banks.airstar import Endpoint
from core.banks.edda_pace import Turnstile
from core.banks.hsbc import Mailbox
from core.clock import MS_PER_S, US_PER_MS, Clock
from core.domain import EddaStatus
from core.errors import InvalidAmount, OutcomeUnknown
from core.hops import tell_exchange
from core.money import format_wire, parse_wire
from core.trace import Trace
from core.wire.edda import (
    ERRORS,
    AuthorisationStatus,
    DebitStatus,
    Reply,
    Request,
    Treatment,
    WireError,
    parse_reply,
    sign_request,
    treatment,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

BANKS: Final = ("hsbc", "hase")
CHANNELS: Final[dict[str, str]] = {bank: f"{bank}_eddi" for bank in BANKS}
"""Bank -> the name of its direct-debit interface: of its window, in traces, and as ``bank_type`` of an Apply."""


class Outcome(StrEnum):
    """What an answer means."""

    ACCEPTED = "ACCEPTED"  # the bank has it (also: has had it under this reference before)
    PENDING = "PENDING"  # no result yet
    SUCCESS = "SUCCESS"  # collected; of an authorisation: the status is known
    FAILED = "FAILED"  # not collected; ``reason`` says why
    RETURNED = "RETURNED"  # given back to the customer
    REJECTED = "REJECTED"  # refused for good, nothing happened
    RETRYABLE = "RETRYABLE"  # refused for now, nothing happened; at the opening if the code is EDDI_CLOSED
    UNKNOWN = "UNKNOWN"  # ask by the same reference, never guess
    NOT_FOUND = "NOT_FOUND"  # the bank knows no such thing


class Answer(NamedTuple):
    """One outcome, with the bank's id, the code of a refusal or the reason of a failure, and what belongs to it."""

    outcome: Outcome
    ident: str = ""
    code: str = ""
    message: str = ""
    amount: int | None = None
    status: EddaStatus | None = None


class Debtor(NamedTuple):
    """The account to be debited: bank code as in gaps.md B-55, number, and the holder's name as that bank knows it."""

    bank: str
    account: str
    name: str


SENT: Final[dict[Treatment, Outcome]] = {
    Treatment.FINAL: Outcome.REJECTED,
    Treatment.RETRYABLE: Outcome.RETRYABLE,
    Treatment.RETRY_AT_OPENING: Outcome.RETRYABLE,
    Treatment.NOT_FOUND: Outcome.NOT_FOUND,
    Treatment.QUERY_ONLY: Outcome.UNKNOWN,
}
"""Outcome of an instruction that the bank refused with a code of this treatment."""

DEBIT: Final[dict[str, Outcome]] = {
    DebitStatus.PROCESSING: Outcome.PENDING,
    DebitStatus.SUCCESS: Outcome.SUCCESS,
    DebitStatus.FAILED: Outcome.FAILED,
    DebitStatus.RETURNED: Outcome.RETURNED,
}

STATUS: Final[dict[str, EddaStatus]] = {status.value: EddaStatus[status.value] for status in AuthorisationStatus}
"""The bank's word for an authorisation -> ours."""

Exchange = Callable[[Request], Awaitable[Reply]]
"""Carries a request to the bank and its reply back; raises `OutcomeUnknown` on silence, `WireError` on noise."""


class EddaLines(NamedTuple):
    """What connects a core with one of the two interfaces. ``reports`` opens the folder with HSBC's reports."""

    exchange: Exchange
    reports: Callable[[], AbstractAsyncContextManager[Mailbox]] | None = None


class EddaGateway:
    """The messages of one interface as methods. ``attempt`` counts sendings from 1."""

    def __init__(self, bank: str, exchange: Exchange, turnstile: Turnstile, clock: Clock, trace: Trace) -> None:
        self.bank, self.channel, self.turnstile = bank, CHANNELS[bank], turnstile
        self._exchange, self._clock, self._trace = exchange, clock, trace

    async def authorise(
        self, reference: str, debtor: Debtor, ccy: str, limit: int, expiry: int | None, attempt: int = 1
    ) -> Answer:
        """Ask for an authorisation; ``ident`` is the bank's mandate reference. ``limit``: minor units of one debit."""
        body = {"reference": reference, "debtor_bank": debtor.bank, "debtor_account": debtor.account,
                "debtor_name": debtor.name, "ccy": ccy, "limit": format_wire(limit), "expiry": expiry}
        async with self.turnstile.asking():
            return await self._ask(Request("create_authorisation", body=body), reference, attempt, _sent(body, attempt))

    async def query_authorisation(self, mandate_ref: str) -> Answer:
        """SUCCESS with the ``status``, and the ``code`` for which the bank rejected it."""
        async with self.turnstile.asking():
            return await self._ask(Request("query_authorisation", mandate_ref), mandate_ref, 1, _authorisation)

    async def debit(
        self, reference: str, sequence: int, mandate_ref: str, ccy: str, amount: int, attempt: int = 1
    ) -> Answer:
        """Debit the customer by ``amount`` minor units. The caller has a turn. ``sequence`` rises from debit to
        debit."""
        body = {"reference": reference, "sequence": sequence, "authorisation": mandate_ref, "ccy": ccy,
                "amount": format_wire(amount)}
        return await self._ask(Request("create_debit", body=body), reference, attempt, _sent(body, attempt))

    async def query_debit(self, ident: str, reference: str) -> Answer:
        """What became of the debit that the bank calls ``ident``; ``reference`` is ours of it."""
        async with self.turnstile.asking():
            return await self._ask(Request("query_debit", ident), reference, 1, _debit(reference))

    async def _ask(
        self, request: Request, ref: str, attempt: int, reading: Callable[[Request, Reply], Answer]
    ) -> Answer:
        """One exchange, traced at both ends; the one place where the bank's silence and noise become an answer."""
        told = {"bank": self.channel, "message": request.message, "ref": ref, "request_id": request.ident,
                "attempt": attempt}
        self._trace.emit("bank.request", ref, told | {"outcome": "", "code": "", "ms": 0})
        began_us = self._clock.now_us()
        try:
            reply = await self._exchange(request)
            answer = reading(request, reply)
        except (OutcomeUnknown, WireError, InvalidAmount) as fault:
            answer = Answer(Outcome.UNKNOWN, message=str(fault))
        self._trace.emit("bank.reply", ref, told | {
            "request_id": answer.ident or request.ident, "outcome": answer.outcome.value, "code": answer.code,
            "ms": (self._clock.now_us() - began_us) // US_PER_MS})
        tell_exchange(self._trace, self.channel, request.message, began_us, answer.outcome)
        return answer


def _unknown(why: str) -> Answer:
    return Answer(Outcome.UNKNOWN, message=why)


def _sent(body: Mapping[str, Any], attempt: int) -> Callable[[Request, Reply], Answer]:
    """How to read the reply to an instruction with this body."""

    def read(_request: Request, reply: Reply) -> Answer:
        if reply.status >= 400:
            return _refused(reply, attempt)
        data = reply.data
        ident = data.get("id")
        if not isinstance(ident, str) or not ident:
            return _unknown("accepted without an id")
        for field in ("reference", "amount", "ccy", "limit"):
            if field in body and data.get(field) != body[field]:
                return _unknown(f"accepted something else: {field} {data.get(field)!r}")
        return Answer(Outcome.ACCEPTED, ident, _text(data.get("reason")))

    return read


def _refused(reply: Reply, attempt: int) -> Answer:
    code = reply.code
    outcome = SENT[treatment(code)]
    if reply.status >= 500 and code != "MAINTENANCE":
        outcome = Outcome.UNKNOWN
    if attempt > 1 and (code not in ERRORS or ERRORS[code].at_the_door):
        outcome = Outcome.UNKNOWN
    return Answer(outcome, "", code, _text(reply.data.get("message")))


def _not_told(request: Request, reply: Reply) -> Answer | None:
    """The answer to a question that was refused, or that is about something else."""
    if reply.status >= 400:
        outcome = Outcome.NOT_FOUND if reply.code == "NOT_FOUND" else Outcome.UNKNOWN
        return Answer(outcome, "", reply.code, _text(reply.data.get("message")))
    if reply.data.get("id") != request.ident:
        return _unknown(f"an answer about {reply.data.get('id')!r}")
    return None


def _authorisation(request: Request, reply: Reply) -> Answer:
    if (refused := _not_told(request, reply)) is not None:
        return refused
    status = STATUS.get(_text(reply.data.get("status")))
    if status is None or status is EddaStatus.INIT:
        return _unknown(f"status {reply.data.get('status')!r}")
    return Answer(Outcome.SUCCESS, request.ident, _text(reply.data.get("reason")), status=status)


def _debit(reference: str) -> Callable[[Request, Reply], Answer]:
    def read(request: Request, reply: Reply) -> Answer:
        if (refused := _not_told(request, reply)) is not None:
            return refused
        data = reply.data
        outcome = DEBIT.get(_text(data.get("status")))
        if outcome is None or data.get("reference") != reference:
            return _unknown(f"status {data.get('status')!r} of {data.get('reference')!r}")
        return Answer(outcome, request.ident, _text(data.get("reason")), amount=parse_wire(data.get("amount", "")))

    return read


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class SignedExchange:
    """An `Exchange` in the bank's own bytes. ``jti_source`` gives 16 fresh bytes at each call; ``bank_key``: the bank's
    key by its name, None for one that is not the bank's."""

    def __init__(
        self, bank: str, endpoint: Endpoint, key_id: str, key: RSAPrivateKey,
        bank_key: Callable[[str], RSAPublicKey | None], clock: Clock, jti_source: Callable[[], bytes], *,
        timeout_s: float,
    ) -> None:
        self._bank, self._endpoint, self._key_id, self._key = bank, endpoint, key_id, key
        self._bank_key, self._clock, self._jti_source, self._timeout_s = bank_key, clock, jti_source, timeout_s

    async def __call__(self, request: Request) -> Reply:
        jti = self._jti_source().hex()
        issued_s = self._clock.now_ms() // MS_PER_S
        method, path, headers, body = sign_request(self._bank, request, self._key_id, self._key, issued_s, jti)
        status, answer = await self._endpoint.send(method, path, headers, body, self._timeout_s)
        return parse_reply(status, answer, jti, self._bank_key)
