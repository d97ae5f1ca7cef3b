"""From an FPS credit to a statement entry. Amounts become minor units here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from core.banks.numbered import Exchange
from core.money import parse_wire, show
from core.statement import Entry
from core.wire.fps import Credit, Payee, to_json

CREDIT_BANKS: Final = ("cgb", "scb", "citi")

Hear = Callable[[Credit], Awaitable[bool]]
"""A credit of which the bank tells by itself; true once it is kept, false if nobody keeps it (any more)."""


class CreditLines(NamedTuple):
    """How one core reaches the bank, and is reached by it: ``listen`` lets the bank call, and gives what ends it."""

    exchange: Exchange
    listen: Callable[[Hear], Awaitable[Callable[[], Awaitable[None]]]] | None = None


class CreditReader:
    """Reads the credits of one bank: ours are those on our accounts, addressed as we can be addressed."""

    def __init__(self, bank: str, settings: Mapping[str, Any]) -> None:
        self._bank = bank
        self._accounts = {number: ccy for ccy, number in settings[f"receiving.{bank}.accounts"].items()}
        self._payees = {Payee.SVID: settings[f"receiving.{bank}.fps_id"], **{
            Payee(kind): payee for kind, payee in settings["credits.proxies"].items()}}

    def __call__(self, credit: Credit) -> Entry | str:
        """The entry, or why there is none."""
        where = f"credit {credit.number} ({credit.reference})"
        if self._accounts.get(credit.account) != credit.ccy:
            return f"{where}: {credit.account} is no account of ours in {credit.ccy}"
        known = credit.account if credit.payee_kind == Payee.BBAN else self._payees.get(Payee(credit.payee_kind))
        if not known or credit.payee != known:
            return f"{where}: {credit.payee_kind} {credit.payee} is not ours"
        amount = parse_wire(credit.amount)
        if amount == 0:
            return f"{where}: {show(0, credit.ccy)} was credited"
        return Entry(self._bank, credit.account, credit.reference, credit.ccy, amount, "C", credit.time_ms,
                     str(credit.number), None, credit.name, credit.payer_account, credit.remark,
                     to_json(credit._asdict()).decode())
