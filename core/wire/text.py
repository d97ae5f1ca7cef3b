"""Which characters a bank's free texts may hold: one rule for every codec.

Refused are characters that no name or remark has and that would change how others are shown or stored: control
characters (Unicode Cc), line and paragraph separators, marks that turn the direction of writing (embeddings, overrides,
isolates), and halves of surrogate pairs. All else stands, ideographic, no-break and other wide spaces among it: names
in Hong Kong and on the mainland are written with them. A codec refuses the one record, never those beside it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

REFUSED: Final = "\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
"""The refused characters, as the inside of a character class."""
MAX_SHOWN: Final = 2_000
_REFUSED = re.compile(f"[{REFUSED}]")


def refused_in(text: str) -> str:
    """The first refused character as ``U+0007``; "" if there is none."""
    found = _REFUSED.search(text)
    return f"U+{ord(found[0]):04X}" if found else ""


def shown(said: Any) -> str:
    """What a bank said, in full and safe to show: bytes or text as they are, anything else as JSON; refused characters
    as escapes, cut after `MAX_SHOWN`."""
    if isinstance(said, bytes):
        text = said.decode("utf-8", "backslashreplace")
    else:
        text = said if isinstance(said, str) else _as_json(said)
    safe = _REFUSED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return safe if len(safe) <= MAX_SHOWN else f"{safe[:MAX_SHOWN]}…"


def digest(said: str) -> str:
    """What a record is known by that has no name of its own."""
    return hashlib.sha256(said.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _as_json(said: Any) -> str:
    try:
        return json.dumps(said, ensure_ascii=False, default=_escaped)
    except RecursionError:
        return "(nested too deep to be shown)"


def _escaped(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else repr(value)
