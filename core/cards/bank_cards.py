"""Bank cards: binding, verification, unbinding (gaps.md B-40, ADR-007).

    BINDING -> VERIFIED             by a certificate that operations accepted, an authorization that the bank opened
                                    (bank-securities transfer, direct debit), or the first matched deposit under the
                                    holder's name
    BINDING, VERIFIED <-> FROZEN    by a supervisor or compliance
    any of these -> UNBOUND         by the customer, or by force when a deposit is reversed

Rules, before any code:

* A card is the customer's own: the holder's name resembles the account's from ``card.name_similarity`` on.
* A card number has one holder at a time, and a customer has at most ``card.limit`` cards: both are unique keys of the
  database, so that two workers cannot bind past them.
* An unbound card never comes back: binding it again makes a new row with a new id, and whatever was authorized for the
  old one is not authorized for the new one.
* The customer cannot unbind while a withdrawal to the card is open. A reversal unbinds whatever is open.
  Withdrawals are in another database: one that is confirmed counts on the card's row (`pays_to`), and the unbinding is
  written only if the count is the one from before it looked for open ones. Whichever of the two writes comes first
  decides.
* Verified once is verified: an authorization that ends later changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import bindparam, insert, select, update

from core.accounts import CardHolder, CustomerNames, Customers
from core.cards.numbers import CardNumbers, normal
from core.clock import Clock
from core.domain import Role
from core.errors import Code, Refusal
from core.money import Currency
from core.screening import fold_name, similarity
from core.settings import Settings
from core.storage import Database, Questions, Statement, Transaction, UniqueViolation, upsert
from core.storage.account import bank_card, bank_card_certificate, bank_info
from core.trace import Trace

BINDING, VERIFIED, UNBOUND, FROZEN = 1, 2, 3, 4
STATUS_NAMES: Final = {BINDING: "BINDING", VERIFIED: "VERIFIED", UNBOUND: "UNBOUND", FROZEN: "FROZEN"}
CERTIFICATE, EDDA, BST, DEPOSIT, ADOPTED = "CERTIFICATE", "EDDA", "BST", "DEPOSIT", "ADOPTED"
"""What verified a card; the last: it was verified before this platform."""
USER: Final = "USER"
"""Reason of an unbinding that the customer asked for; that of a reversal is `core.deposits.reversals.REVERSAL`."""
NEW, ACCEPTED, REJECTED = "NEW", "ACCEPTED", "REJECTED"
MAY_CHECK: Final = (Role.FRONTLINE, Role.SUPERVISOR)
MAY_FREEZE: Final = (Role.SUPERVISOR, Role.COMPLIANCE)
NUMBER_MIN, NUMBER_MAX, NAME_MAX, TYPE_MAX = 4, 34, 140, 16
_TRIES: Final = 3


class Person(Protocol):
    """Who asks, with id and role."""

    @property
    def id(self) -> str: ...
    @property
    def role(self) -> Role: ...


OpenTask = Callable[[int, int], Awaitable[int | None]]
"""Given a customer and his card: the id of a withdrawal to it that is not over, or None."""


class Card(NamedTuple):
    """One row of ``bank_card``, without its number."""

    id: int
    uid: int
    bank_code: str
    last4: str
    card_type: str
    ccy_list: str
    holder_name: str
    status: int
    bound_at: int | None
    verified_by: str
    unbind_reason: str
    created_at: int


class Certificate(NamedTuple):
    """A document that waits for somebody of operations, or was looked at."""

    id: int
    card_id: int
    file_id: str
    kind: str
    state: str
    operator: str
    remark: str


class Adoption(NamedTuple):
    """A card that was bound and verified before this platform, with the id it has had."""

    card_id: int
    uid: int
    bank: str
    number: str
    holder_name: str


_C, _F, _B = bank_card.c, bank_card_certificate.c, bank_info.c
_CARD = tuple(_C[name] for name in Card._fields)
_TOKEN = (_C.bank_code == bindparam("bank"), _C.token == bindparam("token"))
NEW_CARD = Statement(insert(bank_card))
BY_ID = Statement(select(*_CARD).where(_C.id == bindparam("b_id")))
BY_TOKEN = Statement(select(*_CARD).where(*_TOKEN))
SEALED = Statement(select(_C.bank_code, _C.card_no_enc).where(_C.id == bindparam("b_id")))
SLOTS = Statement(select(_C.slot).where(_C.uid == bindparam("uid"), _C.slot.is_not(None)))
OF_CUSTOMER = Statement(
    select(*_CARD, _B.name.label("bank_name")).select_from(bank_card.outerjoin(bank_info, _C.bank_code == _B.bank_code))
    .where(_C.uid == bindparam("uid")).order_by(_C.id))
MOVE = Statement(update(bank_card).where(_C.id == bindparam("b_id"), _C.status == bindparam("b_status")).values(
    status=bindparam("status"), verified_by=bindparam("verified_by"), updated_at=bindparam("updated_at")))
_RELEASED: Final[dict[str, Any]] = {
    "status": UNBOUND, "slot": None, "token": None, "unbind_reason": bindparam("reason"),
    "updated_at": bindparam("updated_at")}
RELEASE = Statement(update(bank_card).where(_C.id == bindparam("b_id"), _C.status != UNBOUND).values(_RELEASED))
RELEASE_IDLE = Statement(update(bank_card).where(
    _C.id == bindparam("b_id"), _C.status != UNBOUND, _C.payouts == bindparam("b_payouts")).values(_RELEASED))
PAYOUTS = Statement(select(_C.payouts).where(_C.id == bindparam("b_id")))
PAYS = Statement(update(bank_card).where(
    _C.id == bindparam("b_id"), _C.uid == bindparam("b_uid"), _C.bank_code == bindparam("b_bank"),
    _C.token == bindparam("b_token"), _C.status == VERIFIED).values(payouts=_C.payouts + 1))
NEW_CERTIFICATE = Statement(insert(bank_card_certificate))
CERTIFICATES = Statement(select(*(_F[name] for name in Certificate._fields)).where(
    _F.state == bindparam("state")).order_by(_F.id))
ONE_CERTIFICATE = Statement(select(*(_F[name] for name in Certificate._fields)).where(_F.id == bindparam("b_id")))
DECIDE = Statement(update(bank_card_certificate).where(_F.id == bindparam("b_id"), _F.state == NEW).values(
    state=bindparam("state"), operator=bindparam("operator"), remark=bindparam("remark"),
    updated_at=bindparam("updated_at")))
PUT_BANK = Statement(upsert(bank_info, key=("bank_code",), update=(
    "name", "clearing_code", "swift", "fps_capable", "updated_at")))


class BankCards:
    """The cards of one core, in the account database. Its composition gives it `open_task`."""

    def __init__(self, db: Database, clock: Clock, trace: Trace, numbers: CardNumbers, customers: Customers,
                 settings: Settings) -> None:
        self._db, self._clock, self._trace = db, clock, trace
        self._numbers, self._customers = numbers, customers
        self._limit: int = settings["card.limit"]
        self._alike: float = settings["card.name_similarity"]
        self._banks: dict[str, dict[str, Any]] = settings["card.banks"]
        self.open_task: OpenTask = _no_task

    async def begin(self) -> None:
        """Once at a core's start: the banks as the settings name them."""
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            for code, bank in self._banks.items():
                await tx.execute(PUT_BANK, {
                    "bank_code": code, "name": bank["name"], "clearing_code": bank.get("clearing_code", ""),
                    "swift": bank.get("swift", ""), "fps_capable": int(bank.get("fps", False)),
                    "created_at": now, "updated_at": now})

    # Binding

    async def bind(self, uid: int, bank: str, number: str, holder_name: str, card_type: str = "",
                   currencies: Sequence[str] = ()) -> Card | Refusal:
        """The customer binds a card of his: it is BINDING until something verifies it."""
        refusal = self._flaw(bank, number, holder_name, card_type, currencies) or await self._not_his(uid, holder_name)
        if refusal:
            return refusal
        for _ in range(_TRIES):
            try:
                return await self._bind(uid, bank, number, holder_name, card_type, currencies)
            except UniqueViolation:  # another worker bound this number, or took this slot, at the same moment
                continue
        return Refusal(Code.LOCK_BUSY, "other cards are being bound at this moment: try again")

    async def _bind(self, uid: int, bank: str, number: str, holder_name: str, card_type: str,
                    currencies: Sequence[str]) -> Card | Refusal:
        async with self._db.transaction() as tx:
            known = await self._bound(tx, bank, number)
            if known is not None:
                return _taken(known, uid)
            slot = await self._free_slot(tx, uid)
            if slot is None:
                return Refusal(Code.BLOCKED, f"at most {self._limit} cards: unbind one first")
            row = self._row(uid, bank, number, holder_name, BINDING, slot, "") | {
                "card_type": card_type, "ccy_list": ",".join(currencies)}
            card = _card(await tx.insert(NEW_CARD, row), row)
            self._publish(tx, card, "bound")
            return card

    async def adopt(self, cards: Iterable[Adoption]) -> None:
        """Take over cards that were bound and verified before this platform; their limit was another."""
        slots: dict[int, int] = {}
        async with self._db.transaction() as tx:
            for one in cards:
                slots[one.uid] = slot = slots.get(one.uid, 0) + 1
                await tx.execute(NEW_CARD, self._row(
                    one.uid, one.bank, one.number, one.holder_name, VERIFIED, slot, ADOPTED) | {"id": one.card_id})

    def _flaw(self, bank: str, number: str, holder_name: str, card_type: str,
              currencies: Sequence[str]) -> Refusal | None:
        if bank not in self._banks:
            return _bad(f"bank {bank!r}: one of {', '.join(self._banks)}")
        if not NUMBER_MIN <= len(normal(number)) <= NUMBER_MAX or not normal(number).isascii():
            return _bad(f"card number: {NUMBER_MIN} to {NUMBER_MAX} digits or letters")
        if not fold_name(holder_name) or len(holder_name) > NAME_MAX:
            return _bad(f"holder's name: 1 to {NAME_MAX} characters")
        if len(card_type) > TYPE_MAX:
            return _bad(f"card type: at most {TYPE_MAX} characters")
        if len(set(currencies)) < len(currencies) or not set(currencies) <= set(Currency):
            return _bad(f"currencies: of {', '.join(Currency)}, each once")
        return None

    async def _not_his(self, uid: int, holder_name: str) -> Refusal | None:
        names = await self._customers.names(uid)
        if names is None:
            return Refusal(Code.NOT_FOUND, f"no customer {uid}")
        if self._likeness(holder_name, names) < self._alike:
            return Refusal(Code.BLOCKED, "the card's holder is not the holder of the account: bind a card of your own")
        return None

    @staticmethod
    def _likeness(holder_name: str, names: CustomerNames) -> float:
        folded = fold_name(holder_name)
        return max((similarity(folded, fold_name(name)) for name in names if name), default=0.0)

    async def _free_slot(self, tx: Questions, uid: int) -> int | None:
        used = {slot for (slot,) in await tx.all(SLOTS, {"uid": uid})}
        return next((slot for slot in range(1, self._limit + 1) if slot not in used), None)

    def _row(self, uid: int, bank: str, number: str, holder_name: str, status: int, slot: int,
             verified_by: str) -> dict[str, Any]:
        now = self._clock.now_ms()
        return {"uid": uid, "card_no_enc": self._numbers.seal(bank, number), "token": self._numbers.token(bank, number),
                "last4": normal(number)[-4:], "bank_code": bank, "card_type": "", "ccy_list": "",
                "holder_name": holder_name, "status": status, "slot": slot, "bound_at": now,
                "payouts": 0, "verified_by": verified_by, "unbind_reason": "", "created_at": now, "updated_at": now}

    # Verification

    async def add_certificate(self, uid: int, card_id: int, file_id: str, kind: str) -> int | Refusal:
        """The customer hands in a document that proves the card: its number, for operations."""
        card = await self._his(uid, card_id)
        if isinstance(card, Refusal):
            return card
        if card.status != BINDING:
            return Refusal(Code.ILLEGAL_STATE, f"the card is {STATUS_NAMES[card.status]}: nothing to prove")
        if not 0 < len(file_id) <= 64 or not 0 < len(kind) <= 32:
            return _bad("file_id: 1 to 64 characters, kind: 1 to 32")
        now = self._clock.now_ms()
        return await self._db.insert(NEW_CERTIFICATE, {
            "card_id": card_id, "file_id": file_id, "kind": kind, "state": NEW, "operator": "", "remark": "",
            "created_at": now, "updated_at": now})

    async def certificates(self, state: str = NEW) -> list[Certificate]:
        """What operations have to look at, oldest first."""
        return [Certificate(*row) for row in await self._db.all(CERTIFICATES, {"state": state})]

    async def check_certificate(self, certificate_id: int, by: Person, *, accept: bool,
                                remark: str) -> Certificate | Refusal:
        """Somebody of operations has looked at a certificate: accepted, it verifies the card."""
        if by.role not in MAY_CHECK:
            return _forbidden(by, MAY_CHECK)
        if not 0 < len(remark.strip()) <= 255:
            return _bad("remark: 1 to 255 characters")
        async with self._db.transaction() as tx:
            row = await tx.first(ONE_CERTIFICATE, {"b_id": certificate_id})
            if row is None:
                return Refusal(Code.NOT_FOUND, f"no certificate {certificate_id}")
            found = Certificate(*row)._replace(state=ACCEPTED if accept else REJECTED, operator=by.id, remark=remark)
            if not await tx.execute(DECIDE, {"b_id": found.id, "state": found.state, "operator": by.id,
                                             "remark": remark, "updated_at": self._clock.now_ms()}):
                return Refusal(Code.ILLEGAL_STATE, f"certificate {certificate_id} has been looked at")
            if accept:
                await self.verified(tx, found.card_id, CERTIFICATE)
            self._staff(tx, by, "check_certificate", found.card_id, found.state)
            return found

    async def verified(self, tx: Transaction, card_id: int, how: str) -> bool:
        """Within a transaction on the account database: something has verified a card; False if it was not BINDING."""
        row = await tx.first(BY_ID, {"b_id": card_id})
        card = Card(*row) if row else None
        return card is not None and card.status == BINDING and await self._move(tx, card, VERIFIED, how) is not None

    async def verify_number(self, uid: int, bank: str, number: str, how: str) -> bool:
        """As `verified`, for the customer's card with this number."""
        card = await self.with_number(bank, number)
        if card is None or card.uid != uid or card.status != BINDING:
            return False
        async with self._db.transaction() as tx:
            return await self._move(tx, card, VERIFIED, how) is not None

    async def _move(self, tx: Transaction, card: Card, to: int, how: str = "") -> Card | None:
        """To another status; None if the card is not where this may begin, or has moved."""
        if card.status not in _FROM[to]:
            return None
        moved = card._replace(status=to, verified_by=how or card.verified_by)
        if not await tx.execute(MOVE, {"b_id": card.id, "b_status": card.status, "status": to,
                                       "verified_by": moved.verified_by, "updated_at": self._clock.now_ms()}):
            return None
        self._publish(tx, moved, how or STATUS_NAMES[to].lower())
        return moved

    # Freezing

    async def freeze(self, card_id: int, by: Person, remark: str) -> Card | Refusal:
        """No deposit and no withdrawal with this card until it is thawed."""
        return await self._by_staff(card_id, by, "freeze_card", remark, lambda _card: FROZEN)

    async def thaw(self, card_id: int, by: Person, remark: str) -> Card | Refusal:
        """The card is again what it was."""
        return await self._by_staff(card_id, by, "thaw_card", remark,
                                    lambda card: VERIFIED if card.verified_by else BINDING)

    async def _by_staff(self, card_id: int, by: Person, action: str, remark: str,
                        to: Callable[[Card], int]) -> Card | Refusal:
        if by.role not in MAY_FREEZE:
            return _forbidden(by, MAY_FREEZE)
        if not remark.strip():
            return _bad("a remark is needed")
        async with self._db.transaction() as tx:
            row = await tx.first(BY_ID, {"b_id": card_id})
            if row is None:
                return Refusal(Code.NOT_FOUND, f"no card {card_id}")
            card = Card(*row)
            frozen = card.status == FROZEN
            if frozen != (action == "thaw_card") or (moved := await self._move(tx, card, to(card))) is None:
                return Refusal(Code.ILLEGAL_STATE, f"card {card_id} is {STATUS_NAMES[card.status]}")
            self._staff(tx, by, action, card_id, remark)
            return moved

    # Unbinding

    async def unbind(self, uid: int, card_id: int) -> Card | Refusal:
        """The customer takes a card off, unless a withdrawal to it is open."""
        for _ in range(_TRIES):
            row = await self._db.first(PAYOUTS, {"b_id": card_id})
            card = await self._his(uid, card_id)
            if isinstance(card, Refusal):
                return card
            assert row is not None, card
            task = await self.open_task(uid, card_id)
            if task is not None:
                return Refusal(Code.ILLEGAL_STATE, f"withdrawal {task} to this card is not over: unbind it then")
            async with self._db.transaction() as tx:
                if await self._release(tx, card, USER, row[0]):
                    return card._replace(status=UNBOUND, unbind_reason=USER)
        return Refusal(Code.LOCK_BUSY, "withdrawals to this card are being confirmed at this moment: try again")

    async def pays_to(self, uid: int, card_id: int, bank: str, number: str) -> bool:
        """A withdrawal to the card is confirmed: whether the card is bound, verified and the customer's."""
        return await self._db.execute(PAYS, {"b_id": card_id, "b_uid": uid, "b_bank": bank,
                                             "b_token": self._numbers.token(bank, number)}) == 1

    async def force_unbind(self, uid: int, bank: str, number: str, reason: str) -> bool:
        """Take a card off its customer whatever is open; False if he has not bound it (any more)."""
        async with self._db.transaction() as tx:
            card = await self._bound(tx, bank, number)
            return card is not None and card.uid == uid and await self._release(tx, card, reason)

    async def _release(self, tx: Transaction, card: Card, reason: str, payouts: int | None = None) -> bool:
        """``payouts``: how many withdrawals were confirmed when none was open; None: whatever is open."""
        written = {"b_id": card.id, "reason": reason, "updated_at": self._clock.now_ms()}
        if not await (tx.execute(RELEASE, written) if payouts is None
                      else tx.execute(RELEASE_IDLE, written | {"b_payouts": payouts})):
            return False
        self._publish(tx, card._replace(status=UNBOUND, unbind_reason=reason), reason)
        return True

    # Reading

    async def card(self, card_id: int) -> Card | None:
        """A card, bound or not."""
        row = await self._db.first(BY_ID, {"b_id": card_id})
        return Card(*row) if row else None

    async def of_customer(self, uid: int) -> list[tuple[Card, str]]:
        """All cards a customer has or had, in the order of binding, each with its bank's name."""
        return [(Card(*row[:-1]), row[-1] or row[2]) for row in await self._db.all(OF_CUSTOMER, {"uid": uid})]

    async def with_number(self, bank: str, number: str) -> Card | None:
        """The card with this number that is bound now."""
        return await self._bound(self._db, bank, number)

    async def number(self, card_id: int) -> str:
        """The number of a card, bound or not; "" without such a card."""
        row = await self._db.first(SEALED, {"b_id": card_id})
        return self._numbers.unseal(*row) if row else ""

    async def _bound(self, db: Questions, bank: str, number: str) -> Card | None:
        row = await db.first(BY_TOKEN, {"bank": bank, "token": self._numbers.token(bank, number)})
        return Card(*row) if row else None

    async def _his(self, uid: int, card_id: int) -> Card | Refusal:
        card = await self.card(card_id)
        if card is None or card.uid != uid:
            return Refusal(Code.NOT_FOUND, f"customer {uid} has no card {card_id}")
        return card if card.status != UNBOUND else Refusal(Code.ILLEGAL_STATE, "the card is unbound")

    def _publish(self, tx: Transaction, card: Card, how: str) -> None:
        self._trace.publish(tx, "card", f"C{card.id}", {
            "card": card.id, "uid": card.uid, "bank": card.bank_code, "last4": card.last4,
            "status": STATUS_NAMES[card.status], "how": how})

    def _staff(self, tx: Transaction, by: Person, action: str, card_id: int, result: str) -> None:
        self._trace.publish(tx, "staff", by.id, {
            "operator": by.id, "role": by.role, "action": action, "subject": f"C{card_id}", "result": result})


class CardAccounts:
    """Implements `core.accounts.Accounts`: customers and accounts of the account service, cards of our own room."""

    def __init__(self, customers: Customers, cards: BankCards) -> None:
        self._customers, self._cards = customers, cards

    async def trade_account(self, uid: int, market: int) -> int:
        return await self._customers.trade_account(uid, market)

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        return await self._customers.settled_cash(trade_acc_id, ccy)

    async def risk_level(self, uid: int) -> int:
        return await self._customers.risk_level(uid)

    async def owns_card(self, uid: int, bank: str, card_no: str) -> bool:
        return await self._is(uid, bank, card_no, (VERIFIED,))

    async def pays_to(self, uid: int, card_id: int, bank: str, card_no: str) -> bool:
        return await self._cards.pays_to(uid, card_id, bank, card_no)

    async def has_bound(self, uid: int, bank: str, card_no: str) -> bool:
        return await self._is(uid, bank, card_no, (BINDING, VERIFIED))

    async def _is(self, uid: int, bank: str, card_no: str, statuses: tuple[int, ...]) -> bool:
        card = await self._cards.with_number(bank, card_no)
        return card is not None and card.uid == uid and card.status in statuses

    async def card_no(self, card_id: int) -> str:
        return await self._cards.number(card_id)

    async def card_holder(self, bank: str, card_no: str) -> CardHolder | None:
        card = await self._cards.with_number(bank, card_no)
        if card is None or card.status == FROZEN:
            return None
        names = await self._customers.names(card.uid)
        return CardHolder(card.uid, card.id, card.holder_name, names.en_name if names is not None else "",
                          card.status == VERIFIED)

    async def verify_card(self, uid: int, bank: str, card_no: str) -> bool:
        return await self._cards.verify_number(uid, bank, card_no, DEPOSIT)

    async def unbind_card(self, uid: int, bank: str, card_no: str, reason: str) -> bool:
        return await self._cards.force_unbind(uid, bank, card_no, reason)


_FROM: Final = {VERIFIED: (BINDING, FROZEN), FROZEN: (BINDING, VERIFIED), BINDING: (FROZEN,)}
"""Status -> from where; UNBOUND has a way of its own (`RELEASE`), from everywhere."""


async def _no_task(_uid: int, _card_id: int) -> int | None:
    return None


def _card(card_id: int, row: dict[str, Any]) -> Card:
    return Card(**{**{name: row[name] for name in Card._fields if name != "id"}, "id": card_id})


def _taken(card: Card, uid: int) -> Refusal:
    whose = f"as card {card.id}" if card.uid == uid else "by another customer"
    return Refusal(Code.DUPLICATE, f"the card is bound {whose}")


def _bad(detail: str) -> Refusal:
    return Refusal(Code.INVALID_PARAM, detail)


def _forbidden(by: Person, roles: tuple[Role, ...]) -> Refusal:
    return Refusal(Code.FORBIDDEN, f"{by.role} may not: {', '.join(roles)}")
