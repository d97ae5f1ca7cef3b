"""Direct debit of HSBC or Hang Seng standing alone: the REST interface, and at HSBC an SFTP server with the report.

The door counts requests, and answers take their time, by the clients' clock: four in one real second at HSBC, one
after another at Hang Seng, however fast the bank's day passes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from core.calendars import Calendars
from core.clock import US_PER_MS, hkt_date, hkt_midnight_ms
from core.errors import InvariantBroken
from core.trace import Event
from core.wire.edda import BASES, AuthorisationStatus, BadSignature, DebitStatus, decode_part, find_route
from emulators.airstar.keys import load_or_create
from emulators.book import OUTSIDE
from emulators.edda.app import edda_app
from emulators.edda.bank import BROKER, EddaBank
from emulators.edda.faults import AIM, FAULTS, HSBC_ONLY
from emulators.edda.records import Authorisation, Debit, Debtor
from emulators.office import Entry, Truth
from emulators.standalone.customers import NewCustomer
from emulators.standalone.http import HttpFace
from emulators.standalone.journal import HttpJournal, decoded
from emulators.standalone.loop import real_us
from emulators.standalone.ssh import SftpFace
from emulators.standalone.standing import Agreement, Movement, Refused, Site, Unknown, aimed, named
from emulators.standalone.words import decimal, show_moment

ACTIVE, SUSPENDED, CANCELLED = (
    AuthorisationStatus.ACTIVE, AuthorisationStatus.SUSPENDED, AuthorisationStatus.CANCELLED)
_MOVES: Final = {"unsign": CANCELLED, "suspend": SUSPENDED, "resume": ACTIVE}
NAMED_AT_MOST: Final = 10
T = TypeVar("T", Authorisation, Debit)


class StandingDebits:
    """Implements `emulators.standalone.standing.Standing` and `emulators.standalone.debit_control.Debiting`."""

    actions = ("sign", *_MOVES)
    mandates = True
    aim = AIM

    def __init__(self, of: str, site: Site) -> None:
        """``of``: hsbc or hase."""
        self._of, self._site, self.bank = of, site, f"{of}_eddi"
        self._folder, settings = site.folder.resolve(), site.settings
        self.faults = {name: kind for name, kind in FAULTS.items() if of == "hsbc" or name not in HSBC_ONLY}
        calendars = Calendars(settings)
        self._bank = EddaBank(
            of, site.loop, site.clock, site.streams, site.trace, settings, is_open=site.is_open,
            in_maintenance=site.in_maintenance, door_us=real_us,
            next_business_day=lambda ms: hkt_midnight_ms(calendars.next_business_day(hkt_date(ms))))
        self._booked: list[Entry] = []
        site.trace.subscribe(self._book)
        self._key_id = str(settings["standalone.edda.key_id"])
        broker, own = (load_or_create(self._folder, f"{self.bank}.{owner}") for owner in ("broker", "bank"))
        app = edda_app(self._bank, of, own, {self._key_id: broker.public_key()}, self._wait)
        entered = HttpJournal(app, site.journal, site.clock.now_ms, self._message_of, _answer_of)
        self._face = HttpFace(entered, site.loop, settings["standalone.http.idle_s"])
        self._reports: SftpFace | None = None
        if of == "hsbc":
            self._reports = SftpFace(f"{self.bank}.sftp", site, self._bank.files, settings["sim.edda.report.user"],
                                     self._bank.values.report_folder, self._bank.is_up)
        self._address = ""

    def _book(self, event: Event) -> None:
        _, t_us, kind, _, data = event
        if kind == "bank.book":
            self._booked.append(Entry(t_us // US_PER_MS, data["op"], data["ref"], data["request_id"], data["ccy"],
                                      data["amount"], data["customer"]))

    def _wait(self, us: int) -> asyncio.Future[None]:
        """Until so much real time has passed."""
        passed: asyncio.Future[None] = self._site.loop.create_future()
        self._site.loop.call_after_real_us(us, _pass, passed)
        return passed

    def _message_of(self, method: str, path: str) -> str:
        route = find_route(self._of, method, path)
        return route[0] if route is not None else ""

    # Listening

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        found = {"api": await self._face.listen(host, ports[0])}
        self._address = f"http://{host}:{found['api']}{BASES[self._of]}"
        if self._reports is not None:
            found["sftp"] = await self._reports.listen(host, ports[1])
            self._bank.begin_reports()
        return found

    async def close(self) -> None:
        await self._face.close()
        if self._reports is not None:
            await self._reports.close()

    def addresses(self) -> dict[str, str]:
        return {"api": self._address} | ({} if self._reports is None else {"sftp": self._reports.address})

    def credentials(self) -> dict[str, str]:
        files = {f"{owner}_{half}_key": str(self._folder / f"{self.bank}.{owner}.{kind}.pem")
                 for owner, half, kind in (("broker", "private", "key"), ("broker", "public", "pub"),
                                           ("bank", "public", "pub"))}
        return {"broker_key_id": self._key_id, "bank_key_id": self._of, **files,
                **({} if self._reports is None else self._reports.credentials())}

    # Customers

    @property
    def currencies(self) -> tuple[str, ...]:
        return tuple(self._bank.values.limit)

    def add(self, customer: NewCustomer) -> None:
        banks: Sequence[str] = self._site.settings[f"edda.debtor_banks.{self._of}"]
        bank = customer.debtor_bank or self._of
        if bank not in banks:
            raise Refused(f"{customer.id}: debtor_bank: {bank!r} is none of {', '.join(banks)}")
        balances = {str(ccy): held for ccy, held in customer.balances.items()}
        try:
            self._bank.open_debtor(customer.id, bank, customer.card_no or f"{bank}-{customer.id}", customer.name,
                                   balances)
        except InvariantBroken as error:
            raise Refused(f"{error}: choose another id or card_no") from None
        if customer.mask:
            self._bank.grant(customer.id)

    def customer(self, ident: str, card_no: str) -> str:
        if ident:
            return named(self._bank.debtors(), ident).id
        for one in self._bank.debtors():
            if one.account_no == card_no:
                return one.id
        raise Unknown(f"no account {card_no!r}: see GET /state")

    def customers(self) -> list[dict[str, Any]]:
        return [self._shown(one) for one in self._bank.debtors()]

    def _shown(self, one: Debtor) -> dict[str, Any]:
        return {"id": one.id, "name": one.name, "debtor_bank": one.bank, "card_no": one.account_no,
                "balances": {ccy: decimal(account.balance) for ccy, account in one.accounts.items()},
                "mandates": [_mandate(mandate) for mandate in self._mandates_of(one.id)]}

    def _mandates_of(self, customer: str) -> list[Authorisation]:
        return [one for one in self._bank.authorisations() if one.debtor is not None and one.debtor.id == customer]

    # What customers do at the bank

    def deposit(self, movement: Movement) -> str:  # noqa: ARG002 - the shape of every bank
        raise Refused(f"a direct debit begins with the broker: POST {self._address}/direct-debits, signed")

    def withdraw(self, movement: Movement) -> str:  # noqa: ARG002 - the shape of every bank
        raise Refused("direct debit only brings money to the broker: nothing is paid out here")

    def agree(self, agreement: Agreement) -> None:
        if agreement.action == "sign":
            self._bank.grant(agreement.customer)
            return
        to = _MOVES[agreement.action]
        mandates = self._mandates_of(agreement.customer)
        if agreement.mandate:
            mandates = [one for one in mandates if one.id == agreement.mandate]
            if not mandates:
                raise Unknown(f"{agreement.customer} has no {agreement.mandate!r}: see GET /authorisations")
        moved = [one for one in mandates if one.status in (ACTIVE, SUSPENDED) and self._bank.set_status(one.id, to)]
        if not moved:
            states = ", ".join(f"{one.id} is {one.status}" for one in mandates) or "there is no authorisation"
            raise Refused(f"{agreement.action} is not possible: {states}")

    # What the back office decides

    def authorisations(self) -> list[dict[str, Any]]:
        return [_mandate(one) for one in self._bank.authorisations()]

    def debits(self) -> list[dict[str, Any]]:
        return [_debit(one) for one in self._bank.debits()]

    def move(self, name: str, status: str, reason: str) -> dict[str, Any]:
        one = _found("authorisation", name, self._bank.authorisations())
        if not self._bank.set_status(one.id, AuthorisationStatus(status), reason):
            raise Refused(f"{one.id} is {one.status}: it cannot become {status}")
        return _mandate(one)

    def end(self, name: str, result: str, reason: str) -> dict[str, Any]:
        one = _found("debit", name, self._bank.debits())
        if one.truth is DebitStatus.PROCESSING and result != DebitStatus.RETURNED:
            self._bank.decide(one.id, reason)
        elif one.truth == result and not one.shown:
            self._bank.publish(one.id)
        elif result != DebitStatus.RETURNED or not self._bank.give_back(one.id):
            raise Refused(f"{one.id} is {one.truth}: it cannot become {result}")
        return _debit(one)

    # Faults, the telephone, the book

    def put_fault(self, name: str, params: Mapping[str, Any]) -> str:
        aimed(params, self._bank.debtors())
        return self._bank.fault(name, **params)

    def clear_fault(self, fault_id: str) -> None:
        self._bank.clear(fault_id)

    def faults_in_force(self) -> list[dict[str, Any]]:
        return self._bank.faults_shown()

    def inquire(self, reference: str) -> Truth:
        return self._bank.inquire(reference)

    def movements(self) -> list[Entry]:
        return list(self._booked)

    def state(self) -> dict[str, Any]:
        bank = self._bank
        connections: Any = {"api": self._face.connections}
        shown = {"faults": bank.faults_shown(), "totals": self._totals(), "debits": bank.totals(),
                 "most_in_a_second": bank.most_in_a_second, "refused_at_the_door": bank.refused_at_the_door}
        if self._reports is not None:
            connections["sftp"] = self._reports.connections
            shown["reports"] = [path.rpartition("/")[2] for path, _ in bank.files.under(bank.values.report_folder)]
        return {**shown, "connections": connections}

    def _totals(self) -> dict[str, dict[str, int]]:
        book = self._bank.book
        return {ccy: {BROKER: self._bank.balance(BROKER, ccy), OUTSIDE: book.account(OUTSIDE, ccy).balance,
                      "customers": sum(one.accounts[ccy].balance for one in self._bank.debtors())}
                for ccy in self.currencies}


def _pass(passed: asyncio.Future[None]) -> None:
    if not passed.done():
        passed.set_result(None)


def _found(what: str, name: str, there: Sequence[T]) -> T:
    for one in there:
        if name in (one.id, one.reference):
            return one
    known = ", ".join(one.id for one in there[-NAMED_AT_MOST:]) or "none"
    raise Unknown(f"no {what} {name!r}; the latest are: {known}")


def _mandate(one: Authorisation) -> dict[str, Any]:
    return {"id": one.id, "reference": one.reference, "customer": one.debtor.id if one.debtor is not None else None,
            "status": one.status.value, "ccy": one.ccy, "limit": decimal(one.limit), "expiry": one.expiry,
            "reason": one.reason}


def _debit(one: Debit) -> dict[str, Any]:
    debtor = one.authorisation.debtor
    return {"id": one.id, "reference": one.reference, "authorisation": one.authorisation.id,
            "customer": debtor.id if debtor is not None else None, "ccy": one.ccy, "amount": decimal(one.amount),
            "status": one.status.value, "truth": one.truth.value, "reason": one.reason,
            "accepted_at": show_moment(one.accepted_ms),
            "settled_at": show_moment(one.settled_ms) if one.settled_ms else None}


def _answer_of(answer: bytearray) -> Any:
    """What the bank has signed, out of the compact JWS."""
    parts = answer.decode("latin-1").split(".")
    if len(parts) == 3:
        try:
            return json.loads(decode_part(parts[1]))
        except (BadSignature, ValueError):
            pass
    return decoded(answer)
