"""What every bank that can stand alone fulfils, and what it stands on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from core.clock import US_PER_MS, Clock
from core.errors import InvariantBroken
from core.settings import Settings
from core.trace import Trace
from core.wire.sm2 import Entropy
from emulators.faults import FaultKind, Parameter
from emulators.office import Entry, Truth
from emulators.standalone.customers import NewCustomer
from emulators.standalone.journal import Journal
from emulators.standalone.loop import ServedLoop
from emulators.standalone.words import show_moment

NAMED_AT_MOST: Final = 20
"""Customers that an error message names."""


class Refused(Exception):
    """The bank, in its present state, does not do what the control interface asks; the text names the remedy."""


class Unknown(Exception):
    """The control interface names something that the bank does not have; the text names what there is."""


class Site(NamedTuple):
    """What a bank stands on. ``entropy`` is for keys, nonces and signatures, all else is drawn from ``streams``."""

    loop: ServedLoop
    clock: Clock
    streams: Callable[[str], random.Random]
    trace: Trace
    settings: Settings
    is_open: Callable[[int], bool]
    in_maintenance: Callable[[int], bool]
    folder: Path
    entropy: Entropy
    journal: Journal


class Agreement(NamedTuple):
    """What a customer does at the bank about the broker: ``action`` of `Standing.actions`; ``markets`` as flags."""

    customer: str
    action: str
    markets: int
    mandate: str = ""


class Movement(NamedTuple):
    """Money that a customer sends to, or calls in from, the broker at the bank; amount in minor units."""

    customer: str
    market: int
    ccy: str
    amount: int
    mandate: str = ""


class Named(Protocol):
    """A customer, of a bank or of a run."""

    @property
    def id(self) -> str: ...


class Carded(Named, Protocol):
    """A customer of either kind of bank."""

    @property
    def card_no(self) -> str: ...


def aimed(params: Mapping[str, Any], customers: Sequence[Named]) -> None:
    """`Unknown` for a fault that is aimed at a customer whom the bank does not have: it would never strike."""
    whom = params.get("customer")
    if isinstance(whom, str):
        named(customers, whom)


class Opening(Protocol):
    """Where customers are opened: either kind of bank."""

    def open_customer(
        self, customer_id: str, name: str, id_no_hash: str, balances: Mapping[str, int], card_no: str = ""
    ) -> str: ...


N = TypeVar("N", bound=Named)
C = TypeVar("C", bound=Carded)


def named(customers: Sequence[N], ident: str) -> N:
    """The customer of an id; `Unknown` if there is none."""
    for one in customers:
        if one.id == ident:
            return one
    raise Unknown(f"no customer {ident!r}; there are: {_first_of(customers)}")


def holder(customers: Sequence[C], ident: str, card_no: str) -> C:
    """The customer of an id or, without one, of a card; `Unknown` if there is none."""
    if ident:
        return named(customers, ident)
    for one in customers:
        if one.card_no == card_no:
            return one
    raise Unknown(f"no card {card_no!r}; its holder is one of {_first_of(customers)}, see GET /state")


def _first_of(customers: Sequence[Named]) -> str:
    first = [one.id for one in customers[:NAMED_AT_MOST]]
    more = len(customers) - len(first)
    return (", ".join(first) or "none") + (f" and {more} more" if more else "")


def timed(state: dict[str, Any]) -> dict[str, Any]:
    """A bank's view of itself with moments for people."""
    for server in state.get("servers", {}).values():
        for connection in server["connections"]:
            connection["since"] = show_moment(connection.pop("since_us") // US_PER_MS)
    return state


def opened(bank: Opening, new: NewCustomer) -> None:
    """Open a customer at the bank; `Refused` if the id or the card is there already."""
    balances = {str(ccy): held for ccy, held in new.balances.items()}
    try:
        bank.open_customer(new.id, new.name, new.id_no_hash or f"hash-{new.id}", balances, new.card_no)
    except InvariantBroken as error:
        raise Refused(f"{error}: choose another id or card_no") from None


class Standing(Protocol):
    """One emulated bank with its listeners. Built without sockets; `open` listens, `close` ends everything."""

    @property
    def bank(self) -> str: ...
    @property
    def actions(self) -> tuple[str, ...]:
        """What can be done about agreements."""

    @property
    def mandates(self) -> bool:
        """Whether an agreement is a mandate with an id of its own."""

    @property
    def faults(self) -> Mapping[str, FaultKind]: ...
    @property
    def aim(self) -> Mapping[str, Parameter]:
        """What every fault takes besides its own parameters."""

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        """Listen, a listener's port for each of ``ports`` (0: any free one); gives them by name."""

    async def close(self) -> None: ...

    def addresses(self) -> dict[str, str]:
        """Where clients connect, by name."""

    def credentials(self) -> dict[str, str]:
        """What a client has to know besides: names, and paths of key files."""

    @property
    def currencies(self) -> tuple[str, ...]: ...

    def add(self, customer: NewCustomer) -> None:
        """A customer with card, balances and what was agreed earlier; `Refused` if the id or the card is there."""

    def customer(self, ident: str, card_no: str) -> str:
        """The id of a customer named by id or by card; `Unknown` if there is none."""

    def customers(self) -> list[dict[str, Any]]:
        """All customers as plain data, balances as decimal strings."""

    def deposit(self, movement: Movement) -> str:
        """Begin a deposit at the bank; gives its reference. `Refused` if the bank refuses at once."""

    def withdraw(self, movement: Movement) -> str:
        """Begin a withdrawal at the bank; gives its reference. `Refused` if the bank refuses at once."""

    def agree(self, agreement: Agreement) -> None:
        """`Refused` if the state of things does not allow it."""

    def put_fault(self, name: str, params: Mapping[str, Any]) -> str: ...

    def clear_fault(self, fault_id: str) -> None: ...

    def faults_in_force(self) -> list[dict[str, Any]]: ...

    def inquire(self, reference: str) -> Truth: ...

    def movements(self) -> list[Entry]:
        """The book between customers and the broker, oldest first."""

    def state(self) -> dict[str, Any]:
        """The bank's own view of itself; money in minor units under ``totals``."""
