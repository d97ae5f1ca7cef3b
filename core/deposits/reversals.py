"""What goes with the reversal of a deposit: the customer hears of it before and after (gaps.md B-35), and the card it
came from is unbound (ADR-007, gaps.md A-30): by policy, which is a setting.

The card is taken off before the reversal is written back, so that no moment knows the one without the other; the owner
of the cards does it as often as it is asked, with the same result.

The first notice is written before SBA is asked, and once for each deposit: a reversal that the balance does not bear is
repeated later, without another one. Nothing is announced without the role, the state, the version and the confirmations
that a reversal needs. The second notice goes with the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from sqlalchemy import insert

from core.accounts import Accounts
from core.clock import Clock
from core.deposits.applications import Applications, Apply, Write
from core.errors import Misconfigured
from core.orchestration.deposit_table import END_OK
from core.orchestration.operations import OPERATIONS, REVERSE_CONFIRMATIONS, allowed_role
from core.orchestration.records import Actor, Procedure
from core.settings import Settings
from core.storage import Database, Statement, Transaction, UniqueViolation
from core.storage.primary import reversal_notice

ALWAYS, NEVER, BY_REASON = POLICIES = ("always", "never", "by_reason")
REVERSAL: Final = "REVERSAL"
OPERATION: Final = "CashDepositReverse"
DEPOSITED: Final = END_OK.label
IN_ADVANCE: Final = "IN_ADVANCE"
"""Detail of the first of the two notices; that of the second says why."""
TOLD = Statement(insert(reversal_notice))


class ReversalNotices:
    """Tells customers before their deposits are reversed, in one core."""

    def __init__(self, db: Database, clock: Clock, applications: Applications,
                 procedure: Callable[[int], Awaitable[dict[str, Any] | None]]) -> None:
        """``procedure``: a Procedure as SBA shows it."""
        self._db, self._clock, self._applications, self._procedure = db, clock, applications, procedure

    async def before(self, procedure_id: int, version: int, by: Actor, confirmations: Sequence[str]) -> None:
        """A reversal was asked for: the customer is told, if nothing forbids it and he was not told before."""
        shown = await self._procedure(procedure_id)
        if shown is None or shown["state"] != DEPOSITED or shown["version"] != version or allowed_role(
                OPERATIONS[OPERATION], by) or not set(REVERSE_CONFIRMATIONS) <= set(confirmations):
            return
        apply = await self._applications.find(shown["apply_ref"]) if shown["apply_ref"] is not None else None
        if apply is None:
            return
        try:
            async with self._db.transaction() as tx:
                await tx.execute(TOLD, {"procedure_id": procedure_id, "apply_id": apply.id,
                                        "told_at": self._clock.now_ms()})
                self._applications.tell(tx, apply.uid, "DEPOSIT_REVERSED", IN_ADVANCE)
        except UniqueViolation:
            return  # he knows


class Unbinding:
    """Follows the reversals of one core. Construct it once. ``reason_of``: the remark of a Procedure's reversal."""

    def __init__(
        self, applications: Applications, accounts: Accounts, reason_of: Callable[[int], Awaitable[str]],
        settings: Settings,
    ) -> None:
        self._applications, self._accounts, self._reason_of = applications, accounts, reason_of
        self.policy: str = settings["reverse.unbind_policy"]
        if self.policy not in POLICIES:
            raise Misconfigured(f"{self.policy!r} is no policy", where="reverse.unbind_policy",
                                remedy=f"one of {', '.join(POLICIES)}")
        self._reasons: tuple[str, ...] = tuple(settings["reverse.unbind_reasons"])
        applications.closings.append(self._closing)

    def notice(self) -> str:
        """What the dialog says before a person confirms a reversal."""
        return {ALWAYS: "The customer's card will be unbound; it must be bound again before it can be used.",
                NEVER: "The customer's card stays bound.",
                BY_REASON: f"The customer's card will be unbound if the remark begins with {', '.join(self._reasons)}.",
                }[self.policy]

    async def _closing(self, p: Procedure, apply: Apply) -> Write | None:
        if p.status != "end_reverse" or not apply.card_no or not await self._wanted(p.id):
            return None
        await self._accounts.unbind_card(apply.uid, apply.bank_type, apply.card_no, REVERSAL)

        async def write(tx: Transaction) -> None:
            self._applications.tell(tx, apply.uid, "CARD_UNBOUND", f"{apply.bank_type} {apply.card_no[-4:]}")

        return write

    async def _wanted(self, procedure_id: int) -> bool:
        if self.policy != BY_REASON:
            return self.policy == ALWAYS
        return (await self._reason_of(procedure_id)).startswith(self._reasons)
