"""Trading days, cutoffs, windows: pure functions over baked tables plus dated overrides "as known then".

Intervals are ``[open, close)`` everywhere: 16:15:00 exactly is after the cutoff (A-51). ``*_ms`` is epoch milliseconds,
``day`` a `datetime.date`, ``date`` the int form yyyymmdd of ``transaction_date``. Times of day are Hong Kong time.
A day outside the loaded years raises `OutsideCalendar`; nothing is ever guessed.
"""

from __future__ import annotations

from core.calendars.calendars import Calendars
from core.calendars.diagnosis import Cause, Diagnosis, PassedDay
from core.calendars.dispatch import Decision, Dispatch
from core.calendars.gates import Gate, Maintenance
from core.calendars.known import Override
from core.calendars.tables import Exchange, OutsideCalendar, YearTable, load_tables
from core.calendars.windows import BST_BANKS, GATES, MAINTAINED_BANKS, MATCHING_CURRENCIES

__all__ = [
    "BST_BANKS",
    "GATES",
    "MAINTAINED_BANKS",
    "MATCHING_CURRENCIES",
    "Calendars",
    "Cause",
    "Decision",
    "Diagnosis",
    "Dispatch",
    "Exchange",
    "Gate",
    "Maintenance",
    "OutsideCalendar",
    "Override",
    "PassedDay",
    "YearTable",
    "load_tables",
]
