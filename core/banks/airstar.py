"""Airstar adapter: what the core wants said, as messages; what the bank says, as one of nine outcomes.

Rules (gaps.md B-07, AIR-06, AIR-07, A-40):

* Silence, HTTP 5xx and a reply that cannot be read are `Outcome.UNKNOWN`: ask by the same reference, never guess.
* An instruction's error code is treated as its row in `core.wire.airstar.ERRORS` says.
* A refused *query* says nothing of the instruction it asks about: `UNKNOWN`, whatever the code, unless the bank
  knows no such thing (`NOT_FOUND`).
* A *repeated* instruction (``attempt`` > 1) refused at the bank's door, before the reference is looked up, says
  nothing of the earlier sending: `UNKNOWN`.
* An answer about another instruction than the one asked for, or about another amount, is not an answer: `UNKNOWN`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from core.clock import US_PER_MS, Clock
from core.domain import MandateStatus, Market
from core.errors import InvalidAmount, OutcomeUnknown
from core.hops import tell_exchange
from core.money import format_wire, parse_wire
from core.trace import Trace
from core.wire.airstar import (
    ERRORS,
    Reply,
    Request,
    TransactionStatus,
    Treatment,
    WireError,
    build_request,
    nonce_of,
    parse_reply,
    sign_request,
    target_of,
    treatment,
)

if TYPE_CHECKING:
    import httpx
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

BANK: Final = "airstar"

# --- answers ----------------------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """What an answer means."""

    ACCEPTED = "ACCEPTED"  # the bank has it (also: has had it under this reference before)
    PENDING = "PENDING"  # no result yet
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"  # the instruction failed; ``code`` says why
    REFUNDED = "REFUNDED"  # a deposit was given back; whether it had been credited, our own books know
    REJECTED = "REJECTED"  # refused for good, nothing happened
    RETRYABLE = "RETRYABLE"  # refused for now, nothing happened; at opening if ``code`` is 140630010
    UNKNOWN = "UNKNOWN"  # ask by the same reference, never guess
    NOT_FOUND = "NOT_FOUND"  # the bank knows no such instruction (at this moment)


class Answer(NamedTuple):
    """One outcome, with the bank's id, code (0 if none), text and fields (amounts as on the wire)."""

    outcome: Outcome
    request_id: str = ""
    code: int = 0
    message: str = ""
    data: Mapping[str, Any] = {}

    @property
    def amount(self) -> int | None:
        """Minor units the bank names, if it names an amount."""
        text = self.data.get("amount")
        return None if text is None else parse_wire(text)

    @property
    def treatment(self) -> Treatment | None:
        """How the code is to be treated; None without a code. A FAILED instruction may be sent anew if retryable."""
        return treatment(self.code) if self.code else None


class BankRequest(NamedTuple):
    """What a customer began at the bank (source=2, bank_launched=1), or a credited deposit that the bank took back
    (direction REFUND, under the deposit's own request_id); amount in minor units, time in epoch ms."""

    request_id: str
    direction: str  # IN: to the broker | OUT: to the customer | REFUND: a deposit taken back
    mandate_id: str
    market: int
    ccy: str
    amount: int
    created_ms: int
    status: str


SENT: Final[dict[Treatment, Outcome]] = {
    Treatment.FINAL: Outcome.REJECTED,
    Treatment.RETRYABLE: Outcome.RETRYABLE,
    Treatment.RETRY_AT_OPENING: Outcome.RETRYABLE,
    Treatment.DUPLICATE: Outcome.ACCEPTED,
    Treatment.QUERY_ONLY: Outcome.UNKNOWN,
    Treatment.NOT_FOUND: Outcome.NOT_FOUND,
}
"""Outcome of an instruction that the bank answered with an error code."""

UNKNOWN_TO_THE_BANK: Final = frozenset({140630004, 140630018})
"""Codes of a query that mean: no such thing."""

DEPOSIT: Final[dict[Any, Outcome]] = {
    TransactionStatus.PENDING: Outcome.PENDING,
    TransactionStatus.PROCESSING: Outcome.PENDING,
    TransactionStatus.SUCCESS: Outcome.SUCCESS,
    TransactionStatus.FAILED: Outcome.FAILED,
    TransactionStatus.REFUNDED: Outcome.REFUNDED,
}
"""Outcome of a deposit's status."""

WITHDRAWAL: Final[dict[Any, Outcome]] = {
    status: outcome for status, outcome in DEPOSIT.items() if outcome is not Outcome.REFUNDED
}
"""Outcome of a withdrawal's status: REFUNDED belongs to deposits only (B-07)."""

MANDATE: Final[dict[Any, Outcome]] = {
    MandateStatus.INIT: Outcome.PENDING,
    MandateStatus.PROCESSING: Outcome.PENDING,
    MandateStatus.OPEN: Outcome.SUCCESS,
    MandateStatus.FAIL: Outcome.FAILED,
    MandateStatus.SUSPENDED: Outcome.REJECTED,
    MandateStatus.CLOSED: Outcome.REJECTED,
}
"""Outcome of a mandate's status: SUCCESS is OPEN and nothing else; the status itself is ``data["status"]``."""

Exchange = Callable[[Request], Awaitable[Reply]]
"""Carries a request to the bank and its reply back; raises `OutcomeUnknown` on silence, `WireError` on noise."""


# --- the gateway ------------------------------------------------------------------------------------------------


class AirstarGateway:
    """The messages of the Airstar API as methods. ``attempt`` counts sendings or polls from 1, for the trace."""

    def __init__(self, exchange: Exchange, clock: Clock, trace: Trace, *, max_pages: int) -> None:
        self._exchange = exchange
        self._clock = clock
        self._trace = trace
        self._max_pages = max_pages

    async def create_mandate(
        self,
        client_ref: str,
        card_no: str,
        name: str,
        id_no_hash: str,
        markets: tuple[int, ...] = tuple(Market),
        attempt: int = 1,
    ) -> Answer:
        """Ask for an authorization, by default over all three markets (AIR-01). ``request_id`` is the mandate id."""
        body = {
            "client_ref": client_ref,
            "card_no": card_no,
            "name": name,
            "id_no_hash": id_no_hash,
            "markets": [int(market) for market in markets],
        }
        request = build_request("create_mandate", body=body)
        return await self._ask("create_mandate", request, client_ref, "", attempt, _sent("mandate_id", body, attempt))

    async def query_mandate(self, mandate_id: str, attempt: int = 1) -> Answer:
        """Status of an authorization: SUCCESS means OPEN."""
        reading = _queried(MANDATE, "mandate_id", {"mandate_id": mandate_id})
        request = build_request("query_mandate", mandate_id)
        return await self._ask("query_mandate", request, mandate_id, mandate_id, attempt, reading)

    async def close_mandate(self, mandate_id: str, attempt: int = 1) -> Answer:
        """Close an authorization; closing a closed one is accepted."""
        request = build_request("close_mandate", mandate_id)
        reading = _sent("mandate_id", {}, attempt)
        return await self._ask("close_mandate", request, mandate_id, mandate_id, attempt, reading)

    async def deposit(
        self, bank_ref_id: str, mandate_id: str, market: int, ccy: str, amount: int, attempt: int = 1
    ) -> Answer:
        """Debit the customer and credit us: ``amount`` minor units under our reference."""
        body = _instruction("bank_ref_id", bank_ref_id, mandate_id, market, ccy, amount)
        request = build_request("deposit", body=body)
        return await self._ask("deposit", request, bank_ref_id, "", attempt, _sent("request_id", body, attempt))

    async def query_deposit(self, request_id: str, ref: str = "", attempt: int = 1) -> Answer:
        """Status of a deposit by the bank's id; ``ref`` only names it in the trace."""
        reading = _queried(DEPOSIT, "request_id", {"request_id": request_id})
        request = build_request("query_deposit", request_id)
        return await self._ask("query_deposit", request, ref or request_id, request_id, attempt, reading)

    async def withdraw(
        self,
        transfer_ref_id: str,
        mandate_id: str,
        market: int,
        ccy: str,
        amount: int,
        bank_request_id: str | None = None,
        attempt: int = 1,
    ) -> Answer:
        """Pay the customer ``amount`` minor units under our reference; ``bank_request_id`` if the bank began it."""
        body = _instruction("transfer_ref_id", transfer_ref_id, mandate_id, market, ccy, amount)
        if bank_request_id is not None:
            body["bank_request_id"] = bank_request_id
        request = build_request("withdraw", body=body)
        return await self._ask("withdraw", request, transfer_ref_id, "", attempt, _sent("request_id", body, attempt))

    async def query_withdrawal(self, request_id: str | None = None, ref: str = "", attempt: int = 1) -> Answer:
        """Status of a withdrawal by the bank's id or, without one, by our reference."""
        if request_id:
            request = build_request("query_withdrawal", request_id)
            reading = _queried(WITHDRAWAL, "request_id", {"request_id": request_id})
            return await self._ask("query_withdrawal", request, ref or request_id, request_id, attempt, reading)
        request = build_request("find_withdrawal", query={"ref": ref})
        reading = _queried(WITHDRAWAL, "request_id", {"transfer_ref_id": ref})
        return await self._ask("find_withdrawal", request, ref, "", attempt, reading)

    async def bank_requests(self, direction: str, from_ms: int, to_ms: int) -> Answer:
        """All pages of what began at the bank (IN, OUT, REFUND) in [from, to).

        ACCEPTED with ``data["items"]`` a list of `BankRequest`, oldest first, each once; or the answer of the first
        page that could not be read."""
        found: dict[str, BankRequest] = {}
        for page in range(1, self._max_pages + 1):
            query = {"direction": direction, "from": str(from_ms), "to": str(to_ms), "page": str(page)}
            request = build_request("bank_requests", query=query)
            answer = await self._ask("bank_requests", request, direction, "", page, _listed)
            if answer.outcome is not Outcome.ACCEPTED:
                return answer
            found.update((item.request_id, item) for item in answer.data["items"])
            if page >= answer.data["pages"]:
                return Answer(Outcome.ACCEPTED, data={"items": list(found.values())})
        return Answer(Outcome.UNKNOWN, message=f"more than {self._max_pages} pages: ask for a shorter time")

    async def acknowledge(
        self,
        request_id: str,
        accept: bool,
        reason: str = "",
        transfer_ref_id: str | None = None,
        attempt: int = 1,
    ) -> Answer:
        """Accept or refuse what a customer began; our reference for it may go along."""
        body = {"decision": "ACCEPT" if accept else "REFUSE", "reason": reason}
        if transfer_ref_id is not None:
            body["ref"] = transfer_ref_id
        request = build_request("acknowledge", request_id, body=body)
        ref = transfer_ref_id or request_id
        return await self._ask("acknowledge", request, ref, request_id, attempt, _sent("request_id", {}, attempt))

    async def ping(self) -> Answer:
        """ACCEPTED if the bank is there."""
        return await self._ask("ping", build_request("ping"), BANK, "", 1, _alive)

    async def _ask(
        self,
        message: str,
        request: Request,
        ref: str,
        request_id: str,
        attempt: int,
        reading: Callable[[Reply], Answer],
    ) -> Answer:
        """One exchange, traced at both ends; the one place where the bank's silence and noise become an answer."""
        emit = self._trace.emit
        emit("bank.request", ref, {"bank": BANK, "message": message, "ref": ref, "request_id": request_id,
                                   "attempt": attempt, "outcome": "", "code": 0, "ms": 0})  # fmt: skip
        began_us = self._clock.now_us()
        try:
            reply = await self._exchange(request)
            answer = _unknown("HTTP status", reply.code, reply.status) if reply.status >= 500 else reading(reply)
        except (OutcomeUnknown, WireError, InvalidAmount) as fault:
            answer = Answer(Outcome.UNKNOWN, message=str(fault))
        emit("bank.reply", ref, {"bank": BANK, "message": message, "ref": ref,
                                 "request_id": answer.request_id or request_id, "attempt": attempt,
                                 "outcome": answer.outcome.value, "code": answer.code,
                                 "ms": (self._clock.now_us() - began_us) // US_PER_MS})  # fmt: skip
        tell_exchange(self._trace, BANK, message, began_us, answer.outcome)
        return answer


def _instruction(
    ref_field: str, ref: str, mandate_id: str, market: int, ccy: str, amount: int
) -> dict[str, str | int]:
    return {
        ref_field: ref,
        "mandate_id": mandate_id,
        "market": int(market),
        "ccy": str(ccy),
        "amount": format_wire(amount),
    }


# --- reading replies --------------------------------------------------------------------------------------------


def _unknown(what: str, code: int, detail: object) -> Answer:
    return Answer(Outcome.UNKNOWN, code=code, message=f"{what}: {detail}")


def _sent(id_field: str, body: Mapping[str, Any], attempt: int) -> Callable[[Reply], Answer]:
    """How to read the reply to an instruction with this body."""

    def read(reply: Reply) -> Answer:
        code, data = reply.code, reply.data
        outcome = Outcome.ACCEPTED if code == 0 else SENT[treatment(code)]
        if outcome is not Outcome.ACCEPTED:
            if attempt > 1 and code in ERRORS and ERRORS[code].at_the_door:
                outcome = Outcome.UNKNOWN
            return Answer(outcome, "", code, reply.message, data)
        ident = data.get(id_field)
        if not isinstance(ident, str) or not ident:
            return _unknown("accepted without an id", code, id_field)
        for field in ("amount", "ccy"):
            if field in data and field in body and data[field] != body[field]:
                return _unknown("the reference holds another instruction", code, f"{field} {data[field]}")
        return Answer(outcome, ident, code, reply.message, data)

    return read


_STATUS_TYPES: Final = (str, int, TransactionStatus, MandateStatus)  # not bool, and nothing unhashable


def _queried(
    outcomes: Mapping[Any, Outcome], id_field: str, asked: Mapping[str, str]
) -> Callable[[Reply], Answer]:
    """How to read the reply to a query about what ``asked`` names."""

    def read(reply: Reply) -> Answer:
        code, data = reply.code, reply.data
        if code:
            outcome = Outcome.NOT_FOUND if code in UNKNOWN_TO_THE_BANK else Outcome.UNKNOWN
            return Answer(outcome, "", code, reply.message, data)
        for field, value in asked.items():
            if data.get(field) != value:
                return _unknown("an answer about something else", code, f"{field} {data.get(field)}")
        status, ident = data.get("status"), data.get(id_field)
        found = outcomes.get(status) if type(status) in _STATUS_TYPES else None
        if found is None or not isinstance(ident, str):
            return _unknown("a status that cannot be", code, status)
        fail_code = data.get("fail_code", 0)
        return Answer(found, ident, fail_code if type(fail_code) is int else 0, reply.message, data)

    return read


def _listed(reply: Reply) -> Answer:
    """One page of bank-initiated requests."""
    if reply.code:
        return Answer(Outcome.UNKNOWN, "", reply.code, reply.message, reply.data)
    items, pages = reply.data.get("items"), reply.data.get("pages")
    if not isinstance(items, list) or type(pages) is not int:
        return _unknown("not a page", 0, f"{type(items).__name__}, pages {pages!r}")
    try:
        read = [_bank_request(item) for item in items]
    except (KeyError, TypeError, ValueError) as error:
        return _unknown("not a list of requests", 0, repr(error))
    return Answer(Outcome.ACCEPTED, data={"items": read, "pages": pages})


def _bank_request(item: Mapping[str, Any]) -> BankRequest:
    return BankRequest(
        str(item["request_id"]), str(item["direction"]), str(item["mandate_id"]), int(item["market"]),
        str(item["ccy"]), parse_wire(item["amount"]), int(item["created_at"]), str(item["status"]))  # fmt: skip


def _alive(reply: Reply) -> Answer:
    return Answer(Outcome.ACCEPTED if reply.code == 0 else Outcome.UNKNOWN, "", reply.code, reply.message, reply.data)


# --- carrying ---------------------------------------------------------------------------------------------------


class Endpoint(Protocol):
    """One HTTP request to the bank; raises `OutcomeUnknown` if no answer comes within ``timeout_s``."""

    async def send(
        self, method: str, path_with_query: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]: ...


class SignedExchange:
    """An `Exchange` in the bank's own bytes: signs each request, reads each reply.

    ``nonce_source`` gives 16 fresh bytes at each call: a seeded stream in a simulation, the system's entropy live.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        app_id: str,
        key: RSAPrivateKey,
        clock: Clock,
        nonce_source: Callable[[], bytes],
        *,
        timeout_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._app_id = app_id
        self._key = key
        self._clock = clock
        self._nonce_source = nonce_source
        self._timeout_s = timeout_s

    async def __call__(self, request: Request) -> Reply:
        nonce = nonce_of(self._nonce_source())
        headers, body = sign_request(request, self._app_id, self._key, self._clock.now_ms(), nonce)
        status, answer = await self._endpoint.send(
            request.method, target_of(request), headers, body, self._timeout_s
        )
        return parse_reply(status, answer)


class HttpxEndpoint:
    """An `Endpoint` over real sockets, with kept-alive connections."""

    def __init__(self, base_url: str, client: httpx.AsyncClient | None = None) -> None:
        import httpx

        self._foreign = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError)
        self._client = client or httpx.AsyncClient(base_url=base_url, follow_redirects=False)

    async def send(
        self, method: str, path_with_query: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.request(
                    method, path_with_query, headers=dict(headers), content=body, timeout=timeout_s
                )
        except self._foreign as silence:
            raise OutcomeUnknown(f"{type(silence).__name__}: {silence}") from silence
        return answer.status_code, answer.content

    async def close(self) -> None:
        """Close the kept connections."""
        await self._client.aclose()
