"""The account service as the core asks it, over the customers of a scenario."""

from __future__ import annotations

from collections.abc import Sequence

from core.accounts import CardHolder, CustomerNames
from core.assets import RiskControl
from scenarios.population import Customer
from scenarios.schema import Names

ORDINARY_RISK = 1
CARD_STEP = 100  # card ids: customer index * CARD_STEP + place of the bank


def card_id(customer: Customer, bank: str, names: Names) -> int:
    """Our id of a customer's card at a bank."""
    return customer.index * CARD_STEP + names.banks.index(bank)


def holder_of(customer: Customer, bank: str, names: Names) -> CardHolder:
    """The customer as holder of his card at a bank."""
    return CardHolder(customer.uid, card_id(customer, bank, names), customer.name, customer.name)


class CustomerAccounts:
    """Implements `core.accounts.Accounts`, and `core.accounts.Customers` under the platform's own card room."""

    def __init__(self, customers: Sequence[Customer], names: Names, risk_control: RiskControl) -> None:
        self._by_uid = {customer.uid: customer for customer in customers}
        self._by_card = {(bank, card.number): customer for customer in customers
                         for bank, card in customer.cards.items()}
        self._customers, self._names, self._risk = customers, names, risk_control
        self.risk_levels: dict[int, int] = {}
        self._unbound: dict[tuple[str, str], None] = {}

    async def trade_account(self, uid: int, market: int) -> int:  # noqa: ARG002 - one account serves all markets here
        return self._by_uid[uid].trade_acc_ids[0]

    async def owns_card(self, uid: int, bank: str, card_no: str) -> bool:
        customer = self._by_uid.get(uid)
        return (customer is not None and bank in customer.cards and customer.cards[bank].number == card_no
                and (bank, card_no) not in self._unbound)

    async def has_bound(self, uid: int, bank: str, card_no: str) -> bool:
        return await self.owns_card(uid, bank, card_no)

    async def verify_card(self, uid: int, bank: str, card_no: str) -> bool:  # noqa: ARG002 - verified from the start
        return False

    async def names(self, uid: int) -> CustomerNames | None:
        customer = self._by_uid.get(uid)
        return CustomerNames(customer.name) if customer is not None else None

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        return (await self._risk.balances(trade_acc_id, ccy)).available

    async def card_holder(self, bank: str, card_no: str) -> CardHolder | None:
        customer = self._by_card.get((bank, card_no))
        return holder_of(customer, bank, self._names) if customer is not None else None

    async def card_no(self, card_id: int) -> str:
        customer = self._customers[card_id // CARD_STEP]
        return customer.cards[self._names.banks[card_id % CARD_STEP]].number

    async def risk_level(self, uid: int) -> int:
        return self.risk_levels.get(uid, ORDINARY_RISK)

    async def unbind_card(self, uid: int, bank: str, card_no: str, reason: str) -> bool:  # noqa: ARG002
        bound = await self.owns_card(uid, bank, card_no)
        self._unbound[bank, card_no] = None
        return bound
