"""How money that comes in is learned of, bank by bank: one literal table (architecture.md §7; STMT-12).

``automation`` is the documents' level: whether people take part in an ordinary deposit. Hang Seng's debits (eDDI) are
fully automatic; its ordinary transfers come by notification as those of the other banks do (A-48). CGB, SCB and Citi
are not in the documents' table: they are among its "other banks".
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Automation(StrEnum):
    """Whether people take part."""

    FULL = "fully auto"
    SEMI = "semi-auto"
    MANUAL = "manual"


class BankRow(NamedTuple):
    """One bank: how its statements come, by which jobs, when money is credited, how far it is automatic."""

    title: str
    way: str
    jobs: tuple[str, ...]
    credited: str
    automation: Automation


_NOTIFIED: Final = ("notification mailbox", ("OtherBankPull",), "minutes to hours", Automation.SEMI)

BANKS: Final[dict[str, BankRow]] = {
    "bochk": BankRow("BOCHK", "B2E pull in three cycles, S16 report by FTP",
                     ("BochkPull", "BochkConvert", "BochkS16Pull", "S16Monitor"), "T+0", Automation.SEMI),
    "hsbc": BankRow("HSBC", "MT910 push, SFTP pull as fallback", ("HsbcSftpPull",), "minutes", Automation.FULL),
    "icbc": BankRow("ICBC", "bank-enterprise pull over two lines",
                    ("IcbcPullProd", "IcbcPullCanary", "IcbcPullYesterday"), "T+0", Automation.SEMI),
    "cmb": BankRow("CMB", "socket, pushed by the bank", (), "seconds", Automation.FULL),
    "cmbc": BankRow("CMBC", "socket, pushed by the bank", (), "seconds", Automation.FULL),
    "airstar": BankRow("Airstar", "REST, polled after creation", (), "seconds to minutes", Automation.FULL),
    "hase": BankRow("Hang Seng", "eDDI debit and polling; ordinary transfers by notification mailbox",
                    ("OtherBankPull",), "T+0 to T+1", Automation.FULL),
    "cgb": BankRow("CGB", "FPS API", ("CgbCreditPull",), "seconds", Automation.SEMI),
    "scb": BankRow("Standard Chartered", "FPS RPC and webhook", ("ScbCreditPull",), "seconds", Automation.SEMI),
    "citi": BankRow("Citi", "FPS API", ("CitiCreditPull",), "seconds", Automation.SEMI),
    "ccba": BankRow("CCB Asia", *_NOTIFIED),
    "dbs": BankRow("DBS", *_NOTIFIED),
    "za": BankRow("ZA Bank", *_NOTIFIED),
    "spd": BankRow("SPD", *_NOTIFIED),
    "ewb": BankRow("EWB", "CSV and BAI2, uploaded", (), "manual processing", Automation.MANUAL),
}
"""Code -> row, in the order of the documents; the mailboxes last but EWB."""
