"""The emulated CMB: the engine of `emulators.bst` in CMB's flavour.

Fixed fields in GB18030; HKD, USD and CNH (``socket.cmb.currencies``).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from core.wire.socket import CMB
from emulators.bst.bank import SocketBank

BANK: Final = "cmb"

cmb_bank = partial(SocketBank, BANK, CMB)
"""Build it with loop, clock, streams, trace, settings; ``is_open`` and ``keys`` as `SocketBank` says."""
