"""Lists of numbered items, asked for by the number after which they begin: what four codecs have in common.

A bank numbers what it tells without gaps, from 1. Asked for what comes after a number it answers with a page: items,
the number of the last one, and whether there are more. FPS credits (`core.wire.fps`) and notifications
(`core.wire.notices`) are such items.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

MAX_ITEMS: Final = 200
"""Items in one answer."""
MAX_NUMBER: Final = 10**15 - 1
TIMES_MS: Final = range(946_684_800_000, 4_102_444_800_000)
"""The years 2000 to 2099: a bank that names another does not mean it."""
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_IDENT = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class Query(NamedTuple):
    """What comes after number ``since``, at most ``limit`` items; ``request_id`` is never used twice."""

    since: int
    limit: int
    request_id: str


class Unread(NamedTuple):
    """An item that cannot be read: its number (0 if not even that), why, and what the bank said."""

    number: int
    reason: str
    said: str


class Page(NamedTuple):
    """``items``: each read, or an `Unread` with its number. ``last``: the number of the last item, or that of the query
    if there is none. ``spoilt``: items of which not even the number can be read."""

    items: tuple[Any, ...]
    last: int
    more: bool
    spoilt: tuple[Unread, ...] = ()


class WireError(Exception):
    """What came in cannot be used; ``code`` is what a bank answers with."""

    code = "MALFORMED"


class Malformed(WireError):
    """Not the form of this protocol, too long, or a value that is none of its kind."""


class BadSignature(WireError):
    """Signed by somebody else, changed on the way, or no answer to this request."""

    code = "SIGNATURE"


class Skewed(WireError):
    """Sent at a time that the receiver's clock does not allow."""

    code = "CLOCK"


class Refused(WireError):
    """The bank refused; ``code`` is its own."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def checked(query: Query, most: int) -> Query:
    """The query, if its numbers and its id are of their kind."""
    if not (0 <= query.since <= MAX_NUMBER and 1 <= query.limit <= most):
        raise Malformed(f"after {query.since}, at most {query.limit} items")
    if _IDENT.fullmatch(query.request_id) is None:
        raise Malformed(f"request id {query.request_id[:64]!r}")
    return query


def parted(found: Iterable[Any]) -> tuple[tuple[Any, ...], tuple[Unread, ...]]:
    """(items of a page, those without a number) of what was read one by one."""
    told = list(found)
    spoilt = tuple(item for item in told if isinstance(item, Unread) and item.number == 0)
    return tuple(item for item in told if not (isinstance(item, Unread) and item.number == 0)), spoilt


def number(text: str) -> int:
    """A number in digits."""
    if _NUMBER.fullmatch(text) is None:
        raise Malformed(f"{text[:40]!r} is no number")
    return int(text)


def skew_checked(sent_ms: int, now_ms: int, max_skew_ms: int) -> None:
    """`Skewed` for a message from another time."""
    if abs(now_ms - sent_ms) > max_skew_ms:
        raise Skewed(f"sent {abs(now_ms - sent_ms) // 1000} s from now")
