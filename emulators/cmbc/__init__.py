"""The emulated CMBC: the engine of `emulators.bst` in CMBC's flavour.

XML in UTF-8; HKD and USD (``socket.cmbc.currencies``); a withdrawal names its payee in English (B-22).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from core.wire.socket import CMBC
from emulators.bst.bank import SocketBank

BANK: Final = "cmbc"

cmbc_bank = partial(SocketBank, BANK, CMBC, english_payee=True)
"""Build it with loop, clock, streams, trace, settings; ``is_open`` and ``keys`` as `SocketBank` says."""
