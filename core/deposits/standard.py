"""Standard deposits: the customer says in the App what he will transfer, and gets the account to transfer it to.

An application moves no money (DEP-01): it waits in WAIT_MATCH until the bank's statement shows the transfer, until the
customer cancels it, or until its time is over. What the App shows of it is `view` (DEP-02).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from core.accounts import Accounts
from core.clock import Clock
from core.deposits.applications import Applications, Apply
from core.deposits.matching.rules import STATEMENT_TRANS_TYPE
from core.domain import ApplyStatus, Initiator
from core.errors import Code, Refusal
from core.hops import CARDS, Hop
from core.orchestration.requests import check_wish
from core.settings import Settings
from core.storage import Database
from core.trace import Trace

WAITING: Final = "Deposit processing"
TEXTS: Final[dict[ApplyStatus, str]] = {
    ApplyStatus.INIT: WAITING,
    ApplyStatus.WAIT_MATCH: WAITING,
    ApplyStatus.MATCHED: WAITING,
    ApplyStatus.CREDITING: WAITING,
    ApplyStatus.DONE: "Deposit successful",
    ApplyStatus.REJECTED: "Deposit rejected",
    ApplyStatus.CANCELLED: "Deposit cancelled",
    ApplyStatus.REVERSED: "Deposit reversed",
    ApplyStatus.REFUNDED: "Deposit refunded",
}
"""What the App says."""


class Receiving(NamedTuple):
    """Where the customer is to transfer to (gaps.md B-53). ``fps_id`` is empty at a bank without one."""

    bank: str
    ccy: str
    account: str
    fps_id: str
    payee_name: str
    verified_on: str


class Submitted(NamedTuple):
    """An application, and where its money is to go."""

    apply: Apply
    receiving: Receiving


class StandardDeposits:
    """Where customers announce transfers, in one core. ``banks``: those whose statements are collected here."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, applications: Applications, accounts: Accounts,
        settings: Settings, banks: Mapping[str, Any] | tuple[str, ...],
    ) -> None:
        self._db, self._clock, self._trace = db, clock, trace
        self._applications, self._accounts = applications, accounts
        self._receiving = {bank: _receiving(settings, bank) for bank in banks}

    def receiving(self, bank: str, ccy: str) -> Receiving | Refusal:
        """Our account at a bank in a currency, from the configuration (DEP-19)."""
        found = self._receiving.get(bank, {}).get(ccy)
        if found is None:
            known = ", ".join(self._receiving.get(bank, {})) or "none"
            return Refusal(Code.INVALID_PARAM, f"{bank} has no receiving account in {ccy}: {known}")
        return found

    async def submit(
        self, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, bank: str, ccy: str, amount: int
    ) -> Submitted | Refusal:
        """The customer will transfer ``amount`` minor units from a card of his at ``bank``."""
        if refusal := check_wish(market, ccy, amount):
            return refusal
        receiving = self.receiving(bank, ccy)
        if isinstance(receiving, Refusal):
            return receiving
        with Hop(self._trace, "deposit.submit", "deposit", of=""):
            with Hop(self._trace, "bankcard.check", CARDS):
                if not await self._accounts.has_bound(uid, bank, card_no):
                    return Refusal(Code.BLOCKED, f"card {card_no[-4:]} at {bank} is not bound: bind it first")
            async with self._db.transaction() as tx:
                apply = await self._applications.new(
                    tx, uid=uid, trade_acc_id=trade_acc_id, market=market, card_id=card_id, card_no=card_no,
                    bank_type=bank, ccy=ccy, amount=amount, source=int(Initiator.MOOMOO),
                    trans_type=STATEMENT_TRANS_TYPE[bank], status=int(ApplyStatus.WAIT_MATCH))
        return Submitted(apply, receiving)

    async def cancel(self, uid: int, apply_id: int) -> Apply | Refusal:
        """The customer takes back an application that has found no money yet."""
        apply = await self._applications.find(apply_id)
        if apply is None or apply.uid != uid:
            return Refusal(Code.NOT_FOUND, f"customer {uid} has no application {apply_id}")
        if apply.status != ApplyStatus.WAIT_MATCH:
            return Refusal(Code.ILLEGAL_STATE, f"{ApplyStatus(apply.status).name}: only an application that waits for "
                           "its money can be cancelled")
        async with self._db.transaction() as tx:
            changed = await self._applications.change(tx, apply, ApplyStatus.CANCELLED, reject_reason="USER_CANCEL")
        return changed or Refusal(Code.ILLEGAL_STATE, "it has found its money meanwhile")

    async def view(self, uid: int, apply_id: int) -> dict[str, Any] | Refusal:
        """What the App shows of an application; amounts in minor units."""
        apply = await self._applications.find(apply_id)
        if apply is None or apply.uid != uid:
            return Refusal(Code.NOT_FOUND, f"customer {uid} has no application {apply_id}")
        receiving = self.receiving(apply.bank_type, apply.ccy)
        return {"apply": apply.id, "text": TEXTS[ApplyStatus(apply.status)], "ccy": apply.ccy, "amount": apply.amount,
                "credited": apply.credited_amount, "reason": apply.reject_reason,
                "receiving": None if isinstance(receiving, Refusal) else receiving._asdict()}

    def at(self, bank: str) -> StandardDepositsAt:
        """The door of one bank, of the same shape as that of a bank-securities transfer."""
        return StandardDepositsAt(self, bank)


class StandardDepositsAt(NamedTuple):
    """Standard deposits from one bank."""

    room: StandardDeposits
    bank: str

    async def submit(self, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, ccy: str,
                     amount: int) -> Apply | Refusal:
        """As `StandardDeposits.submit`; the receiving account is the configuration's."""
        found = await self.room.submit(uid, trade_acc_id, market, card_id, card_no, self.bank, ccy, amount)
        return found if isinstance(found, Refusal) else found.apply

    async def query_bank(self, apply_id: int, operator: str) -> Code:  # noqa: ARG002 - the shape of the door
        """A statement bank is not asked about an application: it does not know it."""
        return Code.ILLEGAL_STATE


def _receiving(settings: Settings, bank: str) -> dict[str, Receiving]:
    key = f"receiving.{bank}"
    return {ccy: Receiving(bank, ccy, account, settings[f"{key}.fps_id"], settings["receiving.payee_name"],
                           settings["receiving.verified_on"])
            for ccy, account in settings[f"{key}.accounts"].items()}
