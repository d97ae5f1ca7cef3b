"""From a file of HSBC's to statement entries: opened, read, in our words. Amounts become minor units here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, time
from typing import Final, NamedTuple

from core.clock import HKT
from core.errors import InvalidAmount
from core.money import parse_wire
from core.statement import Entry
from core.wire.mt910 import FinError, Mt910, encode, read
from core.wire.openpgp import Envelope

BANK: Final = "hsbc"
_OURS: Final = {"CNY": "CNH"}
"""Currency on the wire -> ours: SWIFT knows no CNH."""


class Opened(NamedTuple):
    """What a genuine file says. ``refused``: what is wrong with its other messages, each with its line."""

    entries: tuple[Entry, ...]
    refused: tuple[str, ...]
    booked: Mapping[str, int]
    """Reference -> when the bank says that it booked it, in epoch ms; only where it says so."""


def read_file(
    sealed: bytes, envelope: Envelope, accounts: Mapping[str, str], wrong: Callable[[Entry], str] = lambda _entry: "",
) -> Opened:
    """Open and read a file; `core.wire.openpgp.Unopened` for one that is not the bank's, or not for us.

    ``accounts``: number of each receiving account -> its currency. ``wrong``: why an entry is not to be taken, ""
    if it is."""
    entries: list[Entry] = []
    refused: list[str] = []
    booked: dict[str, int] = {}
    for message in read(envelope.open(sealed)):
        told = str(message) if isinstance(message, FinError) else entry_of(message, accounts, wrong)
        if isinstance(told, str):
            refused.append(told)
            continue
        entries.append(told)
        if isinstance(message, Mt910) and message.booked is not None:
            booked[told.bank_ref] = told.credit_time
    return Opened(tuple(entries), tuple(refused), booked)


def entry_of(
    message: Mt910, accounts: Mapping[str, str], wrong: Callable[[Entry], str] = lambda _entry: "",
) -> Entry | str:
    """A confirmation of credit as an entry, or why it cannot be one."""
    ccy = _OURS.get(message.ccy, message.ccy)
    if message.account not in accounts:
        return f"line {message.line}, :25: {message.account} is no account of ours"
    if accounts[message.account] != ccy:
        return f"line {message.line}, :32A: {message.ccy} on an account in {accounts[message.account]}"
    try:
        amount = _minor(message.amount)
    except InvalidAmount as error:
        return f"line {message.line}, :32A: {error}"
    if amount == 0:
        return f"line {message.line}, :32A: nothing was credited"
    payer = message.customer
    entry = Entry(BANK, message.account, message.reference, ccy, amount, "C", _credited(message),
                  en_name=payer.name if payer else "", payer_acct=payer.account if payer else "",
                  remark=_remark(message), raw=encode(message).decode("ascii"))
    why = wrong(entry)
    return f"line {message.line}, :{'13D' if message.booked else '32A'}: {why}" if why else entry


def _minor(amount: str) -> int:
    """``1234,5`` is 1234.50: the wire may leave out decimals, never the comma."""
    whole, _, decimals = amount.partition(",")
    return parse_wire(f"{whole}.{decimals:0<2}")


def _credited(message: Mt910) -> int:
    """When it was booked; without field 13D the beginning of its value date in Hong Kong."""
    at = message.booked or datetime.combine(message.value_date, time(), HKT)
    return round(at.timestamp() * 1_000)


def _remark(message: Mt910) -> str:
    """Field 72 as one line (slashes and the code for the beneficiary are the format's); before it who ordered, where
    that is no name: a customer's BIC, or the institution that stands for a customer who is not named."""
    told = [line.removeprefix("//").removeprefix("/BNF/") for line in message.narrative]
    orders = message.customer or message.institution
    if orders is not None and (orders is message.institution or not orders.name):
        told.insert(0, orders.text)
    return " ".join(told)
