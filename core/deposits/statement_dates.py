"""Whether a statement can be of its date: the door of every collector.

Banks tell of today and of some days before. An entry far from that is a year misread (79 as 2079), a value date that
has not come, a file of last year: it would find no application, and spoil every search by date. It is refused by name.
"""

from __future__ import annotations

from core.clock import MS_PER_DAY, show_time
from core.deposits.statements import month_at
from core.settings import Settings


class StatementDates:
    """The two limits, from the settings."""

    def __init__(self, settings: Settings) -> None:
        self._ahead_days: int = settings["statements.ahead_days"]
        self._back_months: int = settings["match.look_back_months"]

    def wrong(self, credit_time: int, now_ms: int) -> str:
        """Why an entry of this moment (epoch ms) is not taken, with the remedy; "" if it is."""
        if credit_time > now_ms + self._ahead_days * MS_PER_DAY:
            return (f"{show_time(credit_time)[:10]} is more than {self._ahead_days} days ahead: ask the bank for the "
                    "date (the limit is statements.ahead_days)")
        if _months(month_at(credit_time)) < _months(month_at(now_ms)) - self._back_months:
            return (f"{show_time(credit_time)[:10]} is more than {self._back_months} months back: ask the bank for the "
                    "date, or enter it by hand (the limit is match.look_back_months)")
        return ""


def _months(yyyymm: int) -> int:
    return yyyymm // 100 * 12 + yyyymm % 100
