"""The banks of a world: one interface, one class per kind of bank."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

from emulators.bochk.faults import FAULTS as BOCHK_FAULTS
from emulators.faults import FaultKind
from emulators.hsbc.faults import FAULTS as HSBC_FAULTS
from emulators.icbc.faults import FAULTS as ICBC_FAULTS
from scenarios.banks.airstar import AIRSTAR, AirstarInWorld
from scenarios.banks.airstar import KILLS as AIRSTAR_KILLS
from scenarios.banks.bank import BankInWorld, DeathTraps, Life, Site, Tell
from scenarios.banks.bochk import BochkInWorld
from scenarios.banks.credits import CREDIT_BANKS, CREDIT_FAULTS, CREDIT_WHOLE_LINES, CreditBankInWorld
from scenarios.banks.edda import BANK_OF, EddaInWorld, faults_of
from scenarios.banks.edda import KILLS as EDDA_KILLS
from scenarios.banks.ewb import EWB_FAULTS, EWB_WHOLE_LINES, EwbInWorld
from scenarios.banks.hsbc import WHOLE_LINES as HSBC_WHOLE
from scenarios.banks.hsbc import HsbcInWorld
from scenarios.banks.icbc import ICBC_WHOLE_LINES, IcbcInWorld
from scenarios.banks.mailboxes import MAILBOX_BANKS, MAILBOX_FAULTS, MAILBOX_WHOLE_LINES, MailboxInWorld
from scenarios.banks.places import InMemory, OnLoopback, Places
from scenarios.banks.sockets import KILLS as SOCKET_KILLS
from scenarios.banks.sockets import SOCKET_BANKS, WHOLE_LINES, SocketBankInWorld
from scenarios.banks.statement import KILLED_AT, StatementBank, kills


class StatementKind(NamedTuple):
    """A bank whose statements are collected: what makes it in a world, its faults, and those that strike everybody."""

    make: Callable[[Site], StatementBank]
    faults: Mapping[str, FaultKind]
    unaimed: tuple[str, ...]


STATEMENT_BANKS: Final[dict[str, StatementKind]] = {
    "bochk": StatementKind(BochkInWorld, BOCHK_FAULTS, ("seq_reset", "ftp_down")),
    "hsbc": StatementKind(HsbcInWorld, HSBC_FAULTS, HSBC_WHOLE),
    "icbc": StatementKind(IcbcInWorld, ICBC_FAULTS, ICBC_WHOLE_LINES),
    **{bank: StatementKind(partial(CreditBankInWorld, bank), CREDIT_FAULTS[bank], CREDIT_WHOLE_LINES[bank])
       for bank in CREDIT_BANKS},
    **{bank: StatementKind(partial(MailboxInWorld, bank), MAILBOX_FAULTS, MAILBOX_WHOLE_LINES)
       for bank in MAILBOX_BANKS},
    "ewb": StatementKind(EwbInWorld, EWB_FAULTS, EWB_WHOLE_LINES),
}
"""Their order is that of the customers' card ids: new ones come last."""

KILL_POINTS: Final = AIRSTAR_KILLS | SOCKET_KILLS | EDDA_KILLS | kills(STATEMENT_BANKS)
"""Where a core may be killed, by scenario name -> the message on its line, or what it has just committed."""

DIRECT_DEBIT: Final = BANK_OF
"""Name of a direct-debit interface -> its bank."""

__all__ = [
    "AIRSTAR",
    "DIRECT_DEBIT",
    "KILLED_AT",
    "KILL_POINTS",
    "SOCKET_BANKS",
    "STATEMENT_BANKS",
    "WHOLE_LINES",
    "AirstarInWorld",
    "BankInWorld",
    "DeathTraps",
    "EddaInWorld",
    "InMemory",
    "Life",
    "OnLoopback",
    "Places",
    "Site",
    "SocketBankInWorld",
    "StatementBank",
    "StatementKind",
    "Tell",
    "faults_of",
]
