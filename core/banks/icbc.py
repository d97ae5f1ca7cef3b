"""ICBC adapter: one dedicated line of one deployment group, and what it tells as records in minor units.

Rules (gaps.md B-21, A-64; tasks-and-monitoring.md §4.1):

* A group has one line and one certificate. A line that fails is not replaced by the other group's.
* Silence is `OutcomeUnknown`. An answer that cannot be used (signature, identifiers, amounts, a refusal) is a
  `BankFault`. Either way nothing of the answer is taken: a list counts only if all its pages came.
* A record that cannot be a statement of the account is told with why and what the bank said; the others are good.
* A page is asked for once: a NextTag that comes again, or more pages than allowed, is a fault of the bank's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from core.banks.airstar import Endpoint
from core.clock import US_PER_MS, Clock, hkt, hkt_date, yyyymmdd
from core.errors import BankFault, OutcomeUnknown
from core.money import MINOR_PER_MAJOR
from core.trace import Trace
from core.wire.icbc import (
    OK,
    Answer,
    Head,
    Query,
    Record,
    Request,
    Trans,
    WireError,
    encode_request,
    parse_answer,
)
from core.wire.text import digest, shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

BANK: Final = "icbc"
PROD, CANARY = "prod", "canary"
GROUPS: Final = (PROD, CANARY)
"""Deployment groups: production has line 1, canary line 2."""

assert MINOR_PER_MAJOR == 100  # the bank's whole cents are our minor units

Exchange = Callable[[Request], Awaitable[Answer]]
"""Carries a request over one line and its answer back; `OutcomeUnknown` on silence, `WireError` on noise."""


class Told(NamedTuple):
    """One record as a line told it; amounts in minor units, one of ``credit`` and ``debit`` is zero."""

    serial: str
    time_ms: int
    ccy: str
    credit: int
    debit: int
    balance: int
    remark: str
    name: str
    account: str


class Refused(NamedTuple):
    """A record that is no statement of the account: what it is known by, its serial ("" if that cannot be read), why,
    and what the bank said. ``shape``: time in epoch ms, credit and debit in cents, as far as they can be read."""

    key: str
    serial: str
    reason: str
    said: str
    shape: tuple[int, int, int] | None = None


class Listed(NamedTuple):
    """A whole list, in the bank's order, and what of it is no statement."""

    records: list[Told]
    refused: list[Refused]


class Lines(NamedTuple):
    """How one core reaches the bank: an exchange for each group. They cannot be exchanged."""

    prod: Exchange
    canary: Exchange


class Identity(NamedTuple):
    """As whom a group asks."""

    cis: str
    bank_code: str
    user: str


class IcbcLine:
    """One group's line."""

    def __init__(self, group: str, exchange: Exchange, identity: Identity, clock: Clock, trace: Trace, *,
                 max_pages: int) -> None:
        self.group = group
        self._exchange, self._identity, self._clock, self._trace = exchange, identity, clock, trace
        self._max_pages = max_pages
        self._number = 0

    async def today(self, account: str, ccy: str, after_serial: str) -> Listed:
        """Records of the day after a serial ("" for all), in the bank's order."""
        begin = str(int(after_serial) + 1).zfill(len(after_serial)) if after_serial else ""
        return await self._list(Trans.TODAY, Query(account, ccy, begin_seq=begin))

    async def history(self, account: str, ccy: str, since_ms: int, until_ms: int) -> Listed:
        """All records of the Hong Kong days from that of ``since_ms`` to that of ``until_ms``."""
        first, last = (str(yyyymmdd(hkt_date(ms))) for ms in (since_ms, until_ms))
        return await self._list(Trans.HISTORY, Query(account, ccy, begin_date=first, end_date=last))

    async def balance(self, account: str, ccy: str) -> int:
        """Our balance, in the bank's book."""
        answer = await self._ask(Trans.BALANCE, Query(account, ccy))
        if not answer.balance:
            raise BankFault(f"{self.group}: no balance of {account}")
        return int(answer.balance)

    async def _list(self, trans: Trans, query: Query) -> Listed:
        found = Listed([], [])
        tags: dict[str, None] = {}
        for _ in range(self._max_pages):
            answer = await self._ask(trans, query)
            told = [_told(record, query) for record in answer.records]
            found.records.extend(one for one in told if isinstance(one, Told))
            found.refused.extend(one for one in told if isinstance(one, Refused))
            found.refused.extend(_refused(query.account, one.serial, one.reason, one.said)._replace(shape=one.shape)
                                 for one in answer.spoilt)
            if not answer.next_tag:
                return found
            if answer.next_tag in tags:
                raise BankFault(f"{self.group}: NextTag {answer.next_tag!r} comes again: the list has no end")
            tags[answer.next_tag] = None
            query = query._replace(next_tag=answer.next_tag)
        raise BankFault(f"{self.group}: more than {self._max_pages} pages")

    async def _ask(self, trans: Trans, query: Query) -> Answer:
        """One exchange; the one place where the bank's silence and noise become errors of ours."""
        request = Request(self._head(trans), query)
        began_us = self._clock.now_us()
        try:
            answer = await self._exchange(request)
            if answer.code != OK or (answer.account, answer.ccy) != (query.account, query.ccy):
                raise BankFault(f"{self.group}: {answer.code} {answer.text} about {answer.account} {answer.ccy}")
        except WireError as noise:
            self._tell(request, began_us, "UNUSABLE", str(noise))
            raise BankFault(f"{self.group}: {type(noise).__name__}: {noise}") from noise
        except BankFault as refused:
            self._tell(request, began_us, "REFUSED", str(refused))
            raise
        except OutcomeUnknown as silence:
            self._tell(request, began_us, "UNKNOWN", str(silence))
            raise
        if answer.records or self._trace.polls:
            self._tell(request, began_us, "ACCEPTED", "")
        return answer

    def _head(self, trans: Trans) -> Head:
        now_ms = self._clock.now_ms()
        self._number = (self._number + 1) % 1_000
        stamp = hkt(now_ms).strftime("%Y%m%d%H%M%S") + f"{now_ms % 1000:03d}"
        package = f"{self._identity.user}{stamp}{self._number:03d}"  # never again, not even after a restart
        return Head(trans, self._identity.cis, self._identity.bank_code, self._identity.user, package, now_ms)

    def _tell(self, request: Request, began_us: int, outcome: str, detail: str) -> None:
        self._trace.emit("bank.reply", request.head.package, {
            "bank": BANK, "message": f"{self.group}.{request.head.trans}", "ref": request.head.package,
            "request_id": "", "attempt": 1, "outcome": outcome, "code": 0, "detail": detail,
            "ms": (self._clock.now_us() - began_us) // US_PER_MS})


def _told(record: Record, query: Query) -> Told | Refused:
    if record.ccy != query.ccy:
        return _refused(query.account, record.serial, f"a record in {record.ccy} on the account in {query.ccy}",
                        shown(record._asdict()))
    return Told(record.serial, record.time_ms, record.ccy, int(record.credit), int(record.debit), int(record.balance),
                record.remark, record.name, record.account)


def _refused(account: str, serial: str, reason: str, said: str) -> Refused:
    return Refused(f"{account}:{serial or digest(said)}", serial, f"{serial or 'a record'}: {reason}", said)


class SignedExchange:
    """An `Exchange` in the bank's own bytes over one line: signs each request, verifies each answer."""

    def __init__(self, endpoint: Endpoint, key: RSAPrivateKey, bank_key: RSAPublicKey, *, timeout_s: float) -> None:
        self._endpoint, self._key, self._bank_key, self._timeout_s = endpoint, key, bank_key, timeout_s

    async def __call__(self, request: Request) -> Answer:
        target, headers, body = encode_request(request, self._key)
        status, answer = await self._endpoint.send("POST", target, headers, body, self._timeout_s)
        if status >= 500:
            raise OutcomeUnknown(f"HTTP status {status}")
        return parse_answer(answer, self._bank_key, request)
