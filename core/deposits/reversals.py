"""A reversed deposit unbinds the card it came from (ADR-007, gaps.md A-30): by policy, which is a setting.

The card is taken off before the reversal is written back, so that no moment knows the one without the other; the owner
of the cards does it as often as it is asked, with the same result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from core.accounts import Accounts
from core.deposits.applications import Applications, Apply, Write
from core.errors import Misconfigured
from core.orchestration.records import Procedure
from core.settings import Settings
from core.storage import Transaction

ALWAYS, NEVER, BY_REASON = POLICIES = ("always", "never", "by_reason")
REVERSAL: Final = "REVERSAL"


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
