"""Hang Seng, CCB Asia, DBS, ZA and SPD: the mailbox of transfer notifications (A-48, gaps.md B-44; STMT-11).

The same mailbox at each bank, and a line of its own to each: `NoticeReader` makes entries, `MailboxExchange` asks over
HTTP. Amounts become minor units here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.banks.airstar import Endpoint
from core.errors import OutcomeUnknown
from core.money import parse_wire
from core.statement import Entry
from core.wire.notices import PATH, BadLine, Notice, encode, read
from core.wire.numbered import Malformed, Page, Query, Refused, Unread, parted

MAILBOX_BANKS: Final = ("hase", "ccba", "dbs", "za", "spd")
MAX_BODY_BYTES: Final = 1_048_576


class NoticeReader:
    """Reads the notifications of one bank."""

    def __init__(self, bank: str, settings: Mapping[str, Any]) -> None:
        self._bank = bank
        self._accounts: dict[str, str] = settings[f"receiving.{bank}.accounts"]

    def __call__(self, notice: Notice) -> Entry | str:
        """The entry, or why there is none. The bank names no account: there is one for each currency."""
        if notice.bank != self._bank:
            return f"{notice.reference}: of {notice.bank}, not of {self._bank}"
        if notice.ccy not in self._accounts:
            return f"{notice.reference}: we have no account in {notice.ccy} at {self._bank}"
        return Entry(self._bank, self._accounts[notice.ccy], notice.reference, notice.ccy, parse_wire(notice.amount),
                     "C", notice.time_ms, str(notice.number) if notice.number else "", None, notice.name,
                     notice.account or notice.last4, "", encode(notice).decode().rstrip())


class MailboxExchange:
    """An `Exchange` over HTTP: ``GET /notifications?after=N&limit=M`` with a bearer token."""

    def __init__(self, endpoint: Endpoint, token: str, *, timeout_s: float) -> None:
        self._endpoint, self._token, self._timeout_s = endpoint, token, timeout_s

    async def __call__(self, query: Query) -> Page:
        status, body = await self._endpoint.send(
            "GET", f"{PATH}?after={query.since}&limit={query.limit}", {"authorization": f"Bearer {self._token}"}, b"",
            self._timeout_s)
        if status >= 500:
            raise OutcomeUnknown(f"HTTP status {status}")
        if status != 200:
            raise Refused(body[:16].decode("latin-1") or str(status))
        return page_of(body, query)


def page_of(body: bytes, query: Query) -> Page:
    """What a mailbox says. It is full when there are as many lines as were asked for; then there may be more."""
    if len(body) > MAX_BODY_BYTES:
        raise Malformed(f"more than {MAX_BODY_BYTES} bytes")
    items, spoilt = parted(map(_item, read(body)))
    full = len(items) + len(spoilt) >= query.limit
    if full and not items:
        raise Malformed(f"{len(spoilt)} lines, and none has a number: {spoilt[0].reason}")
    last = max((item.number for item in items), default=query.since)
    return Page(items, last, full and last > query.since, spoilt)


def _item(line: Notice | BadLine) -> Notice | Unread:
    if isinstance(line, BadLine):
        return Unread(line.number, line.reason if line.number else str(line), line.said)
    if line.number == 0:
        return Unread(0, f"{line.reference}: a notification without a number", encode(line).decode().strip())
    return line
