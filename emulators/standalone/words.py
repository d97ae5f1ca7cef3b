"""How people write times and money to the control interface, and how it writes them: text in, text out.

Money is a decimal string with two decimals, times are Hong Kong times, durations like ``90s``, ``10m`` or ``1h30m``.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

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
        return epoch_ms(datetime.fromisoformat(text).replace(tzinfo=HKT))
    except ValueError:
        raise ValueError(f"{text!r} is no moment: write it in Hong Kong time, such as '2026-03-12 16:00'") from None


def positive_amount(text: Any) -> int:
    """A wire amount above zero in minor units; a ValueError for anything else."""
    amount = parse_wire(text)
    if amount == 0:
        raise ValueError("the amount is zero: give at least '0.01'")
    return amount


def decimal(minor: int) -> str:
    """Minor units as the decimal string of the interface; negative ones too."""
    whole, cents = divmod(abs(minor), MINOR_PER_MAJOR)
    return f"{'-' if minor < 0 else ''}{whole}.{cents:02d}"


def show_moment(ms: int) -> str:
    """Hong Kong time with milliseconds."""
    return show_time(ms)


_AMOUNT = {"type": "string", "pattern": r"^\d{1,15}\.\d{2}$", "examples": ["1234.50"]}

Amount = Annotated[int, BeforeValidator(positive_amount), WithJsonSchema(_AMOUNT)]
"""An amount above zero: a decimal string outside, minor units inside."""
Holding = Annotated[int, BeforeValidator(parse_wire), WithJsonSchema(_AMOUNT)]
"""A balance from zero up."""
Span = Annotated[int, BeforeValidator(span_us), WithJsonSchema({"type": "string", "examples": ["1h30m"]})]
"""A duration: a text outside, µs inside."""
_MOMENT = {"type": "string", "examples": ["2026-03-12 16:00"]}
Moment = Annotated[int, BeforeValidator(moment_ms), WithJsonSchema(_MOMENT)]
"""A moment: Hong Kong time outside, epoch ms inside."""
