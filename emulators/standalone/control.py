"""The HTTP control interface of a stand-alone bank: what tests and people do to it that its clients cannot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, FastAPI, Query
from pydantic import Field, model_validator

from core.domain import Market
from core.money import Currency
from emulators.book import OUTSIDE
from emulators.standalone.customers import MARKETS, MarketName, NewCustomer, mask_of
from emulators.standalone.fault_control import FaultControl, fault_routes
from emulators.standalone.journal import Journal
from emulators.standalone.pace import Pace, Wrong, clock_routes
from emulators.standalone.standing import Agreement, Movement, Standing
from emulators.standalone.web import control_app
from emulators.standalone.words import Amount, Moment, Order, decimal, show_moment


class _WhoseOrder(Order):
    """Something about one customer, named by id or by card."""

    customer: Annotated[str, Field(description="the customer's id; or card_no")] = ""
    card_no: Annotated[str, Field(description="the customer's card; or customer")] = ""

    @model_validator(mode="after")
    def _whose(self) -> _WhoseOrder:
        if bool(self.customer) is bool(self.card_no):
            raise ValueError("give either customer or card_no")
        return self


class MovementOrder(_WhoseOrder):
    """Money that a customer moves at the bank."""

    ccy: Currency
    amount: Amount
    market: MarketName = "HK"
    mandate: Annotated[str, Field(description="Airstar only: which mandate; else an open one for the market")] = ""


class AgreementOrder(_WhoseOrder):
    """What a customer or the bank does about the authorization of the broker."""

    action: Literal["sign", "unsign", "suspend", "resume"]
    markets: Annotated[tuple[MarketName, ...], Field(min_length=1)] = MARKETS
    mandate: Annotated[str, Field(description="Airstar, direct debit: which one; else all of the customer")] = ""


class ResetOrder(Order):
    """How the fresh bank begins; what is absent stays as it was."""

    seed: Annotated[int | None, Field(ge=0)] = None
    start: Moment | None = None


class StandAlone(Protocol):
    """The server that is controlled: its bank is another one after a reset."""

    pace: Pace
    faults: FaultControl
    journal: Journal
    seed: int
    page: int

    @property
    def standing(self) -> Standing: ...
    def own_routes(self) -> APIRouter | None: ...
    def customer_added(self, customer: NewCustomer) -> None: ...
    @property
    def reset(self) -> Callable[[int | None, int | None], Awaitable[None]]: ...


def bank_control(alone: StandAlone) -> FastAPI:
    """The application."""
    app = control_app(f"Nostro: control of the emulated bank {alone.standing.bank}")
    app.include_router(clock_routes(alone.pace))
    app.include_router(fault_routes(alone.faults))
    app.include_router(_doing(alone))
    app.include_router(_looking(alone))
    own = alone.own_routes()
    if own is not None:
        app.include_router(own)
    return app


def _doing(alone: StandAlone) -> APIRouter:
    router = APIRouter()

    @router.post("/customers", status_code=201)
    async def add_customer(customer: NewCustomer) -> dict[str, Any]:
        """A new customer with card, balances and what was agreed earlier."""
        unkept = customer.beyond(alone.standing.currencies)
        if unkept:
            raise Wrong(f"balances: this bank keeps no {unkept[0]}: choose of {', '.join(alone.standing.currencies)}")
        alone.customer_added(customer)
        return _customer(alone.standing, customer.id)

    @router.post("/deposits", status_code=201)
    async def deposit(order: MovementOrder) -> dict[str, Any]:
        """A customer sends money to the broker in the bank's own app."""
        return _begun(alone, alone.standing.deposit(_movement(alone.standing, order)))

    @router.post("/withdrawals", status_code=201)
    async def withdraw(order: MovementOrder) -> dict[str, Any]:
        """A customer calls money in from the broker in the bank's own app."""
        return _begun(alone, alone.standing.withdraw(_movement(alone.standing, order)))

    @router.post("/agreements")
    async def agree(order: AgreementOrder) -> dict[str, Any]:
        """Sign or end the authorization of the broker; at Airstar and direct debit also suspend and resume it."""
        if order.action not in alone.standing.actions:
            raise Wrong(f"action: {alone.standing.bank} has no {order.action}: {', '.join(alone.standing.actions)}")
        _refuse_mandate(alone.standing, order.mandate)
        whose = alone.standing.customer(order.customer, order.card_no)
        alone.standing.agree(Agreement(whose, order.action, mask_of(order.markets), order.mandate))
        return _customer(alone.standing, whose)

    @router.post("/reset")
    async def reset(order: ResetOrder | None = None) -> dict[str, Any]:
        """A fresh bank on the same addresses with the same keys and its first customers; clients are disconnected."""
        order = order or ResetOrder()
        await alone.reset(order.seed, order.start)
        return shown_state(alone)

    return router


def _looking(alone: StandAlone) -> APIRouter:
    router = APIRouter()

    @router.get("/state")
    async def state() -> dict[str, Any]:
        """Clock, customers, book, connections, faults in force."""
        return shown_state(alone)

    @router.get("/journal")
    async def journal(
        after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int | None, Query(ge=1)] = None
    ) -> dict[str, Any]:
        """Messages that the bank has received, oldest first, decoded; ``last`` is the newest number there is."""
        return {"last": alone.journal.last, "entries": alone.journal.after(after, _page(alone, limit))}

    @router.get("/book")
    async def book(
        after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int | None, Query(ge=1)] = None
    ) -> dict[str, Any]:
        """Movements between customers and the broker, oldest first, numbered from 1."""
        movements = alone.standing.movements()
        shown = [{"n": number, "booked_at": show_moment(one.booked_ms), "op": one.op, "reference": one.ref,
                  "request_id": one.request_id, "customer": one.customer, "ccy": one.ccy,
                  "amount": decimal(one.amount)}
                 for number, one in enumerate(movements[after:after + _page(alone, limit)], after + 1)]
        return {"last": len(movements), "entries": shown}

    @router.get("/truth/{reference}")
    async def truth(reference: str) -> dict[str, Any]:
        """What the bank's back office says on the telephone about a reference of either side."""
        found = alone.standing.inquire(reference)
        return {"reference": found.reference, "status": found.status, "request_id": found.request_id,
                "booked_at": show_moment(found.booked_ms) if found.booked_ms else None}

    return router


def _page(alone: StandAlone, limit: int | None) -> int:
    return alone.page if limit is None else min(limit, alone.page)


def _movement(standing: Standing, order: MovementOrder) -> Movement:
    if order.ccy not in standing.currencies:
        raise Wrong(f"ccy: this bank keeps no {order.ccy}: choose of {', '.join(standing.currencies)}")
    _refuse_mandate(standing, order.mandate)
    whose = standing.customer(order.customer, order.card_no)
    return Movement(whose, Market[order.market], str(order.ccy), order.amount, order.mandate)


def _refuse_mandate(standing: Standing, mandate: str) -> None:
    if mandate and not standing.mandates:
        raise Wrong(f"mandate: {standing.bank} has none, its customers sign for markets: leave it out")


def _begun(alone: StandAlone, reference: str) -> dict[str, Any]:
    return {"reference": reference, "begun_at": show_moment(alone.pace.clock.now_ms())}


def _customer(standing: Standing, ident: str) -> dict[str, Any]:
    return next(shown for shown in standing.customers() if shown["id"] == ident)


def shown_state(alone: StandAlone) -> dict[str, Any]:
    """Everything of GET /state."""
    standing = alone.standing
    state = standing.state()
    totals: Mapping[str, Mapping[str, int]] = state.pop("totals")
    book = {ccy: {owner: decimal(amount) for owner, amount in sums.items() if owner != OUTSIDE}
            for ccy, sums in totals.items()}
    return {
        "clock": alone.pace.shown(), "seed": alone.seed, **state, "customers": standing.customers(), "book": book,
        "movements": len(standing.movements()), "journal": alone.journal.last, "addresses": standing.addresses(),
    }
