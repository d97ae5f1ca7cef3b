"""What the settings of the socket lines may be, beyond the types and least values that `core.settings` sees to.

Whoever makes an end of a line asks here first: a value that the lines cannot work with is refused by its key before
anything connects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from core.errors import Misconfigured
from core.money import Currency
from core.wire.socket import MAX_FRAME

SOCKET_BANKS: Final = ("cmb", "cmbc")
LONGEST_S: Final = 1_000_000_000
LEAST_FRAME: Final = 1_024
NAME_BYTES, SERIAL_BYTES = 12, 32
"""Widths of a party's name and of a certificate's serial in the header and in HELLO (PROTOCOL.md)."""

_VISIBLE: Final = re.compile("[!-~]+", re.ASCII)
_ADDRESS: Final = re.compile(r"([!-9;-~]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", re.ASCII)
_LISTS: Final = ("socket.reconnect_s", "socket.result.query_s")
_SHARES: Final = ("alerts.socket.timeout_share", "alerts.socket.rejection_share")


def check_socket_settings(settings: Mapping[str, Any], banks: Iterable[str] = SOCKET_BANKS) -> None:
    """`Misconfigured` naming the key of the first value that the lines of these banks cannot work with."""
    _check_present(settings)
    for key in _LISTS:
        _check_waits(key, settings[key])
    for key in _SHARES:
        if not 0 <= settings[key] <= 1:
            raise _wrong(key, settings[key], "is no share", "give 0 to 1")
    _check_times(settings)
    limit = settings["socket.frame.limit"]
    if not LEAST_FRAME <= limit <= MAX_FRAME:
        raise _wrong("socket.frame.limit", limit, "is no length of a frame", f"give {LEAST_FRAME} to {MAX_FRAME}")
    _check_name("socket.broker", settings["socket.broker"], NAME_BYTES)
    _check_name("socket.certificate_serial", settings["socket.certificate_serial"], SERIAL_BYTES)
    for bank in banks:
        _check_bank(settings, f"socket.{bank}.")


def _check_present(settings: Mapping[str, Any]) -> None:
    for key in settings:
        if key.startswith(("socket.", "alerts.socket.")) and settings[key] is None:
            raise Misconfigured("nothing is given", where=key, remedy="give a value, or leave the key out")


def _check_waits(key: str, waits: Any) -> None:
    """A list of seconds, of which the last one repeats."""
    if not isinstance(waits, list) or not waits:
        raise _wrong(key, waits, "is no list of seconds", "give one or more numbers above 0, such as [1, 2, 4]")
    for wait in waits:
        if type(wait) not in (int, float) or not math.isfinite(wait) or not 0 < wait <= LONGEST_S:
            raise _wrong(key, wait, "is no number of seconds", f"give numbers above 0, at most {LONGEST_S}")


def _check_times(settings: Mapping[str, Any]) -> None:
    period, loss = settings["socket.heartbeat.period_s"], settings["socket.heartbeat.loss_s"]
    if loss <= period:
        raise _wrong("socket.heartbeat.loss_s", loss, f"is not longer than socket.heartbeat.period_s, {period!r}",
                     "a connection must live from one heartbeat to the next")
    for key in settings:
        if key.startswith("socket.") and key.endswith("_s") and key not in _LISTS and settings[key] > LONGEST_S:
            raise _wrong(key, settings[key], "is too long", f"give at most {LONGEST_S}")


def _check_name(key: str, name: str, width: int) -> None:
    if _VISIBLE.fullmatch(name) is None or len(name) > width:
        raise _wrong(key, name, "does not fit into a message", f"give 1 to {width} visible ASCII characters, no spaces")


def _check_bank(settings: Mapping[str, Any], prefix: str) -> None:
    _check_name(prefix + "name", settings[prefix + "name"], NAME_BYTES)
    for server in ("primary", "backup"):
        key = prefix + server
        found = _ADDRESS.fullmatch(settings[key])
        if found is None or not 0 < int(found[2]) < 65_536:
            raise _wrong(key, settings[key], "is no address", "write host:port, such as 127.0.0.1:7101")
    if settings[prefix + "primary"] == settings[prefix + "backup"]:
        raise _wrong(prefix + "backup", settings[prefix + "backup"], "is the primary's address",
                     "give the second exit server an address of its own")
    currencies = settings[prefix + "currencies"]
    known = [str(ccy) for ccy in Currency]
    if not currencies or any(ccy not in known or currencies.count(ccy) > 1 for ccy in currencies):
        raise _wrong(prefix + "currencies", currencies, "are no currencies", f"choose of {', '.join(known)}, each once")


def _wrong(key: str, value: Any, what: str, remedy: str) -> Misconfigured:
    return Misconfigured(f"{value!r} {what}", where=key, remedy=remedy)
