"""The registry of statement banks: a new bank is its adapter, its collector, its line here and its match rules
(ADR-006). A bank without lines is not connected, and its statements are not collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.deposits.collect_bochk import BochkCollector
from core.deposits.collect_hsbc import HsbcCollector
from core.deposits.collect_icbc import IcbcCollector
from core.deposits.collection import Collect, Collector, StatementRoom
from core.errors import Misconfigured

COLLECTORS: Final[dict[str, Collect]] = {
    "hsbc": HsbcCollector,
    "icbc": IcbcCollector,
    "bochk": BochkCollector,
}
"""Bank -> what makes its collector of its lines."""


def collectors(lines: Mapping[str, Any], room: StatementRoom) -> dict[str, Collector]:
    """A collector for each bank that has lines; `Misconfigured` for a bank that is not registered."""
    for bank in lines:
        if bank not in COLLECTORS:
            raise Misconfigured(f"no collector is registered for {bank}", where="statement banks",
                                remedy=f"one of {', '.join(COLLECTORS) or 'none'}, or register it")
    return {bank: COLLECTORS[bank](of, room) for bank, of in lines.items()}
