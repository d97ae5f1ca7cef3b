"""BOCHK adapter: sessions, pages and movements of the B2E interface, and the files of the S16 report.

Rules (gaps.md B-18, protocols.md):

* Every message but SignOn carries the session's token. When the bank does not know it (any more), we sign on again,
  once, and ask the same again: nothing is lost, since what was asked for is the same page (BOCHK-04).
* A PackageId that the bank takes for used is replaced by a fresh one; a reply that carries another than the request's
  is not its reply.
* A record that cannot be an entry is told with why and what the bank said; the others are good.
* Everything here is reading: silence (`OutcomeUnknown`) and an unusable answer (`BankFault`) end the pull, and the
  next one asks again.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from core.clock import HKT, US_PER_MS, Clock, epoch_ms, hkt
from core.errors import BankFault, InvalidAmount, OutcomeUnknown
from core.money import Currency, parse_wire
from core.settings import Settings
from core.statement import Entry
from core.trace import Trace
from core.wire.bochk_b2e import (
    ACTIVITY,
    BAD_TOKEN,
    DUPLICATE_PACKAGE,
    NO_DATA,
    OK,
    SIGN_ON,
    STATEMENT,
    TODAY,
    B2eError,
    Reply,
    Request,
    decode_reply,
    encode_request,
    stripped_seq,
)
from core.wire.text import digest, shown

BANK: Final = "bochk"
PATH: Final = "/b2e"
_PACKAGES_PER_S: Final = 1_000
_SEQ_DIGITS: Final = 12

Exchange = Callable[[Request], Awaitable[Reply]]
"""Carries a request to the bank and its reply back; `OutcomeUnknown` on silence, `BankFault` on noise."""


class Credentials(NamedTuple):
    """Who we are at the bank. ``account``: the one that the envelope names (CBSAcctNo)."""

    cust_id: str
    user_id: str
    password: str
    cert_name: str
    cert_password: str
    account: str


class Refused(NamedTuple):
    """A record that is no entry: what it is known by, why, and what the bank said."""

    key: str
    reason: str
    said: str


class Found(NamedTuple):
    """What a listing gave: entries in the bank's order, its highest seq_no (0 if none), and what is no entry."""

    entries: tuple[Entry, ...]
    last_seq: int
    refused: tuple[Refused, ...] = ()


class Endpoint(Protocol):
    """One HTTP request to the bank; raises `OutcomeUnknown` if no answer comes within ``timeout_s``."""

    async def send(
        self, method: str, path_with_query: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]: ...


class XmlExchange:
    """An `Exchange` in the bank's own bytes."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float) -> None:
        self._endpoint, self._timeout_s = endpoint, timeout_s

    async def __call__(self, request: Request) -> Reply:
        headers = {"Content-Type": "application/xml; charset=utf-8"}
        status, body = await self._endpoint.send("POST", PATH, headers, encode_request(request), self._timeout_s)
        if status != 200:
            raise BankFault(f"HTTP {status}")
        try:
            return decode_reply(body)
        except B2eError as error:
            raise BankFault(f"a reply that cannot be read: {error}") from error


class S16File(NamedTuple):
    """A file on the bank's FTP server; ``stamp`` changes when it is written again."""

    name: str
    stamp: str


class S16Files(Protocol):
    """The bank's folder of S16 reports; `OutcomeUnknown` if it cannot be reached."""

    async def fetch(self, wanted: Callable[[Sequence[S16File]], Sequence[S16File]]) -> list[tuple[S16File, bytes]]:
        """One session: list the folder, then download those that ``wanted`` picks."""


class BochkLines(NamedTuple):
    """What a core is given to reach the bank."""

    exchange: Exchange
    files: S16Files
    credentials: Credentials


class B2e:
    """The B2E interface as methods. One session for all; ``our_accounts``: currency -> number."""

    def __init__(
        self, exchange: Exchange, credentials: Credentials, clock: Clock, trace: Trace, settings: Settings
    ) -> None:
        self._exchange, self._who, self._clock, self._trace = exchange, credentials, clock, trace
        self._max_pages = settings["bochk.b2e.max_pages"]
        self._tries = settings["bochk.b2e.package_tries"]
        self._token = ""
        self._packages = 0

    async def today(self, account: str, ccy: str, from_seq: int) -> Found:
        """Movements of today after a seq_no."""
        return await self._listed(TODAY, account, ccy, {"fromSeq": str(from_seq)})

    async def statement(self, account: str, ccy: str, first: str, last: str) -> Found:
        """The booked statement of a range of days (YYYYMMDD), both included."""
        return await self._listed(STATEMENT, account, ccy, {"dateFrom": first, "dateTo": last})

    async def activity(self, account: str, ccy: str, day: str) -> Found:
        """The details of one day."""
        return await self._listed(ACTIVITY, account, ccy, {"date": day, "seq": "0"})

    async def _listed(self, name: str, account: str, ccy: str, asked: Mapping[str, str]) -> Found:
        """All pages of a listing, or none of them."""
        told: list[Entry | Refused] = []
        page_key, seen = "", set[str]()
        last_seq = 0
        for _ in range(self._max_pages):
            page = {"acctNo": account, "ccy": ccy, **asked, **({"PageKey": page_key} if page_key else {})}
            reply = await self._ask(name, page)
            told += (_told(name, account, ccy, record) for record in reply.records)
            told += (_refused(account, one.record, one.reason, one.said) for one in reply.spoilt)
            last_seq = max(last_seq, *map(_seq_of, reply.records), *(_seq_of(one.record) for one in reply.spoilt), 0)
            page_key = reply.facts.get("PageKey", "")
            if not page_key:
                return Found(tuple(one for one in told if isinstance(one, Entry)), last_seq,
                             tuple(one for one in told if isinstance(one, Refused)))
            if page_key in seen:
                raise BankFault(f"{name}: page {page_key} leads back to itself")
            seen.add(page_key)
        raise BankFault(f"{name}: more than {self._max_pages} pages")

    async def _ask(self, name: str, asked: Mapping[str, str]) -> Reply:
        """One question within the session, signing on where there is none; once more if the token is not known."""
        for attempt in (1, 2):
            token = self._token or await self._sign_on()
            reply = await self._told(name, {"Token": token}, asked, attempt)
            if reply.code in (OK, NO_DATA):
                return reply
            if reply.code != BAD_TOKEN:
                break
            self._token = ""
        raise BankFault(f"{name} was refused: {reply.code} {reply.text}")

    async def _sign_on(self) -> str:
        asked = {"custId": self._who.cust_id, "ts": f"{hkt(self._clock.now_ms()):%Y%m%d%H%M%S}"}
        secrets = {"Password": self._who.password, "ECertPwd": self._who.cert_password}
        reply = await self._told(SIGN_ON, secrets, asked, 1)
        if reply.code != OK or len(reply.records) != 1:
            raise BankFault(f"{SIGN_ON} was refused: {reply.code} {reply.text}")
        self._token = reply.records[0]["token"]
        return self._token

    async def _told(self, name: str, head: Mapping[str, str], asked: Mapping[str, str], attempt: int) -> Reply:
        """One request with a PackageId that the bank has not seen, and its reply."""
        for _ in range(self._tries):
            reply = await self._exchanged(name, head, asked, attempt)
            if reply.code != DUPLICATE_PACKAGE:
                return reply
        raise BankFault(f"{name}: the bank takes {self._tries} fresh package ids in a row for used")

    async def _exchanged(self, name: str, head: Mapping[str, str], asked: Mapping[str, str], attempt: int) -> Reply:
        who = self._who
        whole = {"CBSAcctNo": who.account, "UserId": who.user_id, "ECertName": who.cert_name, **head}
        request = Request(name, self._package_id(), whole, asked)
        self._tell("bank.request", request, attempt, "", 0, 0)
        began_us, code, outcome = self._clock.now_us(), 0, "UNKNOWN"
        try:
            reply = await self._exchange(request)
            code = int(reply.code)
            outcome = "ACCEPTED" if reply.code in (OK, NO_DATA) else "REJECTED"
        except BankFault:
            outcome = "MALFORMED"
            raise
        finally:
            self._tell("bank.reply", request, attempt, outcome, code, (self._clock.now_us() - began_us) // US_PER_MS)
        if reply.name != name or reply.package_id != request.package_id:
            raise BankFault(f"{reply.name} {reply.package_id} is no reply to {name} {request.package_id}")
        return reply

    def _package_id(self) -> str:
        """14 digits of time and 3 of a counter: a core that begins anew in the same second draws again."""
        self._packages = (self._packages + 1) % _PACKAGES_PER_S
        return f"{hkt(self._clock.now_ms()):%Y%m%d%H%M%S}{self._packages:03d}"

    def _tell(self, kind: str, request: Request, attempt: int, outcome: str, code: int, ms: int) -> None:
        self._trace.emit(kind, request.package_id, {
            "bank": BANK, "message": request.name, "ref": request.package_id, "request_id": "", "attempt": attempt,
            "outcome": outcome, "code": code, "ms": ms})


# --- records to entries -----------------------------------------------------------------------------------------


def entry_of(message: str, account: str, ccy: str, record: Mapping[str, str]) -> Entry:
    """The entry of a record; `BankFault` if it cannot be one.

    The interface gives a movement no reference, and seq_no alone is none: the bank may count anew. Moment and seq_no
    together name it, however it is told (BOCHK-05).
    """
    try:
        at = datetime.strptime(record["txnTime"], "%Y%m%d%H%M%S").replace(tzinfo=HKT)
        amount, overdrawn = parse_wire(record["amount"]), record["balance"].startswith("-")
        balance = parse_wire(record["balance"][overdrawn:]) * (-1 if overdrawn else 1)
    except (ValueError, InvalidAmount) as error:
        raise BankFault(f"{message}: {error}") from error
    if record["ccy"] != ccy or ccy not in Currency.__members__ or amount <= 0 or record["drCr"] not in ("C", "D"):
        raise BankFault(f"{message}: {record['ccy']} {record['amount']} {record['drCr']} on an account in {ccy}")
    seq_no = stripped_seq(record["seq_no"])
    return Entry(
        BANK, account, f"{record['txnTime']}-{seq_no or '0'}", ccy, amount, record["drCr"], epoch_ms(at), seq_no,
        balance, record.get("en_name", ""), "", record.get("remark", ""),
        json.dumps({"message": message, "acctNo": account, **record}, ensure_ascii=False, sort_keys=True))


def _told(message: str, account: str, ccy: str, record: Mapping[str, str]) -> Entry | Refused:
    try:
        return entry_of(message, account, ccy, record)
    except BankFault as fault:
        return _refused(account, record, str(fault), shown(dict(record)))


def _refused(account: str, record: Mapping[str, str], reason: str, said: str) -> Refused:
    """However it is told, and padded or not, it is the same."""
    at, seq_no = record.get("txnTime", ""), stripped_seq(record.get("seq_no", ""))
    return Refused(f"{account}:{at}-{seq_no}" if at and seq_no else f"{account}:{digest(said)}", reason, said)


def _seq_of(record: Mapping[str, str]) -> int:
    text = record.get("seq_no", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _SEQ_DIGITS else 0


def entry_from(raw: str) -> Entry:
    """The entry of what `entry_of` had kept as ``raw``."""
    record: dict[str, str] = json.loads(raw)
    return entry_of(record.pop("message"), record.pop("acctNo"), record["ccy"], record)


__all__ = ["B2e", "BankFault", "BochkLines", "Credentials", "Endpoint", "Exchange", "Found", "OutcomeUnknown",
           "Refused", "S16File", "S16Files", "XmlExchange", "entry_from", "entry_of"]
