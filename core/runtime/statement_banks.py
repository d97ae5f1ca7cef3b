"""The registry of statement banks: a new bank is its adapter, its collector, its line here and its match rules
(ADR-006). A bank without lines is not connected, and its statements are not collected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from core.deposits.collect_bochk import BochkCollector
from core.deposits.collect_hsbc import HsbcCollector
from core.deposits.collect_icbc import IcbcCollector
from core.deposits.collect_numbered import NUMBERED
from core.deposits.collection import Collect, Collector, StatementRoom
from core.deposits.ewb import EwbCollector
from core.errors import Misconfigured

COLLECTORS: Final[dict[str, Collect]] = {
    "hsbc": HsbcCollector,
    "icbc": IcbcCollector,
    "bochk": BochkCollector,
    **NUMBERED,
    "ewb": EwbCollector,
}
"""Bank -> what makes its collector of its lines."""


def collectors(lines: Mapping[str, Any], room: StatementRoom) -> dict[str, Collector]:
    """A collector for each bank that has lines; `Misconfigured` for a bank that is not registered."""
    for bank in lines:
        if bank not in COLLECTORS:
            raise Misconfigured(f"no collector is registered for {bank}", where="statement banks",
                                remedy=f"one of {', '.join(COLLECTORS) or 'none'}, or register it")
    return {bank: COLLECTORS[bank](of, room) for bank, of in lines.items()}


def scheduled(of: Mapping[str, Collector]) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Job of the timetable -> what is done for it. A job of several banks (``OtherBankPull``) asks all of them at once;
    one that fails leaves the others working, and the run has failed afterwards."""
    found: dict[str, list[Callable[[], Awaitable[Any]]]] = {}
    for collector in of.values():
        for job, function in collector.scheduled.items():
            found.setdefault(job, []).append(function)
    return {job: functions[0] if len(functions) == 1 else partial(each, functions)
            for job, functions in found.items()}


async def each(functions: Sequence[Callable[[], Awaitable[Any]]]) -> int:
    """What all of them did, added up; the first failure once all have ended."""
    results = await asyncio.gather(*(function() for function in functions), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return sum(result for result in results if isinstance(result, int))
