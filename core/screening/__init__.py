"""Screening: black and white lists of deposits and withdrawals, and how names are compared."""

from core.screening.lists import Change, Entry, Hit, Kind, ListName, Lists, Value
from core.screening.names import fold_name, fold_number, similarity

__all__ = ["Change", "Entry", "Hit", "Kind", "ListName", "Lists", "Value", "fold_name", "fold_number", "similarity"]
