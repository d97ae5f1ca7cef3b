"""How people write times and money to the control interface, and how it writes them: text in, text out.

Money is a decimal string with two decimals, or whole; times are Hong Kong times, durations like ``90s``, ``10m`` or
``1h30m``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import MAXYEAR, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from core.clock import HKT, MS_PER_DAY, US_PER_MS, epoch_ms, show_time
from core.money import MINOR_PER_MAJOR, parse_wire

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": MS_PER_DAY}
_SPAN = re.compile(r"(?:[0-9]+(?:ms|s|m|h|d))+", re.ASCII)
_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)", re.ASCII)


def span_us(text: Any) -> int:
    """``"10m"``, ``"1h30m"``, ``"250ms"`` in µs; a ValueError for anything else."""
    if not isinstance(text, str) or len(text) > 40 or _SPAN.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no duration: write whole numbers with ms, s, m, h or d, such as '1h30m'")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text)) * US_PER_MS


def moment_ms(text: Any) -> int:
    """``"2026-03-12 16:00"`` (Hong Kong time, seconds may follow) in epoch ms; a ValueError for anything else."""
    try:
        if not isinstance(text, str) or re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{3})?)?", text) is None:
            raise ValueError
        moment = datetime.fromisoformat(text).replace(tzinfo=HKT)
    except ValueError:
        raise ValueError(f"{text!r} is no moment: write it in Hong Kong time, such as '2026-03-12 16:00'") from None
    ms = epoch_ms(moment)
    if ms < 0:
        raise ValueError(f"{text!r} is too long ago: the clocks begin at {show_time(0)}")
    if moment.year == MAXYEAR:  # the calendars look at the days that follow
        raise ValueError(f"{text!r} is too far ahead: give a year before {MAXYEAR}")
    return ms


def amount(given: Any) -> int:
    """A wire amount, or a whole number of the currency's units (``5``, ``"5"``), in minor units; a ValueError for
    anything else."""
    text = str(given) if type(given) is int else given
    whole = isinstance(text, str) and re.fullmatch("[0-9]{1,15}", text, re.ASCII) is not None
    return parse_wire(f"{text}.00" if whole else text)


def positive_amount(given: Any) -> int:
    """An `amount` above zero; a ValueError for anything else."""
    found = amount(given)
    if found == 0:
        raise ValueError("the amount is zero: give at least '0.01'")
    return found


def decimal(minor: int) -> str:
    """Minor units as the decimal string of the interface; negative ones too."""
    whole, cents = divmod(abs(minor), MINOR_PER_MAJOR)
    return f"{'-' if minor < 0 else ''}{whole}.{cents:02d}"


def show_moment(ms: int) -> str:
    """Hong Kong time with milliseconds."""
    return show_time(ms)


_AMOUNT = {"type": "string", "pattern": r"^\d{1,15}(\.\d{2})?$", "examples": ["1234.50"]}

Amount = Annotated[int, BeforeValidator(positive_amount), WithJsonSchema(_AMOUNT)]
"""An amount above zero: a decimal string outside, minor units inside."""
Holding = Annotated[int, BeforeValidator(amount), WithJsonSchema(_AMOUNT)]
"""A balance from zero up."""
Span = Annotated[int, BeforeValidator(span_us), WithJsonSchema({"type": "string", "examples": ["1h30m"]})]
"""A duration: a text outside, µs inside."""
_MOMENT = {"type": "string", "examples": ["2026-03-12 16:00"]}
Moment = Annotated[int, BeforeValidator(moment_ms), WithJsonSchema(_MOMENT)]
"""A moment: Hong Kong time outside, epoch ms inside."""


UNKNOWN_FIELD = "unknown_field"
"""Type of the error of a field that an `Order` does not have; its context names the ``field``."""


class Order(BaseModel):
    """An object that people write: a field that it does not have is refused with the nearest that it has."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for name in given:
                if name not in known and name not in cls.model_fields:
                    raise PydanticCustomError(UNKNOWN_FIELD, "is not known here: {remedy}", {
                        "field": str(name), "remedy": _nearest(str(name), known)})
        return given


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else f"there are {', '.join(known)}"
