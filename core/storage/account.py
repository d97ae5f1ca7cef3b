"""The web_account database: bank cards and their authorisations (gaps.md B-32, B-06, B-25, B-40). Not sharded."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Index, MetaData, Table, UniqueConstraint
from sqlmodel import SQLModel

from core.domain import EddaStatus, MandateStatus, Market
from core.money import Currency
from core.storage.columns import (
    code,
    flag,
    given_key,
    key,
    long_document,
    moment,
    nullable,
    number,
    one_of,
    tables,
    text,
    text_key,
)

CARD_STATUSES: Final = (1, 2, 3, 4)
"""1 BINDING, 2 VERIFIED, 3 UNBOUND, 4 FROZEN."""

CERTIFICATE_STATES: Final = ("NEW", "ACCEPTED", "REJECTED")

EDDA_REPORT_STATES: Final = ("TAKEN", "REFUSED")


class AccountTable(SQLModel, registry=tables()):
    """Base of this database's tables."""


class BankCard(AccountTable, table=True):
    """A customer's bank card; binding again makes a new row (B-40).

    ``token`` finds a number without reading it, ``slot`` counts a customer's cards: both are empty once the card is
    unbound, so that a number has one holder and a customer no more cards than slots. ``payouts`` counts how often a
    withdrawal to it was confirmed: an unbinding goes by the number that it saw."""

    __tablename__ = "bank_card"
    __table_args__ = (
        one_of("status", CARD_STATUSES),
        UniqueConstraint("bank_code", "token"),
        UniqueConstraint("uid", "slot"),
        Index(None, "bank_code", "last4"),
    )
    id: int | None = key()
    uid: int = number()
    card_no_enc: str = text(255)
    token: str | None = nullable(text(64))
    last4: str = text(4)
    bank_code: str = text(16)
    card_type: str = text(16, "")
    ccy_list: str = text(32, "")
    holder_name: str = text(140, "")
    status: int = code(1)
    slot: int | None = nullable(code())
    bound_at: int | None = nullable(moment())
    payouts: int = number(0)
    verified_by: str = text(16, "")
    unbind_reason: str = text(32, "")
    created_at: int = moment()
    updated_at: int = moment()


class BankInfo(AccountTable, table=True):
    """A bank as the cards name it."""

    __tablename__ = "bank_info"
    __table_args__ = (flag("fps_capable"), {"sqlite_with_rowid": False})
    bank_code: str = text_key(16)
    name: str = text(140)
    clearing_code: str = text(16, "")
    swift: str = text(11, "")
    fps_capable: int = code(0)
    created_at: int = moment()
    updated_at: int = moment()


class BankCardCertificate(AccountTable, table=True):
    """A document that proves a card, and what the person made of it who looked at it."""

    __tablename__ = "bank_card_certificate"
    __table_args__ = (one_of("state", CERTIFICATE_STATES), Index(None, "card_id"), Index(None, "state"))
    id: int | None = key()
    card_id: int = number()
    file_id: str = text(64)
    kind: str = text(32)
    state: str = text(8, "NEW")
    operator: str = text(32, "")
    remark: str = text(255, "")
    created_at: int = moment()
    updated_at: int = moment()


class BankCardAsbBst(AccountTable, table=True):
    """An Airstar mandate (B-06); ``market_mask`` is the sum of the markets bound: HK 1, US 2, HKCC 4."""

    __tablename__ = "bank_card_asb_bst"
    __table_args__ = (
        one_of("status", MandateStatus),
        CheckConstraint("market_mask BETWEEN 0 AND 7", name="market_mask"),
        Index(None, "uid"),
        Index(None, "card_id"),
        Index(None, "mandate_id"),
        Index(None, "status", "updated_at"),
    )
    id: int | None = key()
    uid: int = number()
    card_id: int = number()
    mandate_id: str | None = nullable(text(64))
    status: int = code(0)
    market_mask: int = code(0)
    request_id: str = text(64, "")
    opened_at: int | None = nullable(moment())
    closed_at: int | None = nullable(moment())
    fail_code: str = text(16, "")
    created_at: int = moment()
    updated_at: int = moment()


class BankCardBst(AccountTable, table=True):
    """A customer's bank-securities agreement at CMB or CMBC for one market: signed or not (A-43)."""

    __tablename__ = "bank_card_bst"
    __table_args__ = (
        one_of("bank", ("cmb", "cmbc")),
        one_of("market", Market),
        flag("signed"),
        UniqueConstraint("bank", "card_no", "market"),
        Index(None, "uid"),
        Index(None, "card_id", "market"),
    )
    id: int | None = key()
    uid: int = number()
    card_id: int = number()
    bank: str = text(16)
    card_no: str = text(64)
    market: int = code()
    signed: int = code()
    push_seq: int = number(0)
    signed_at: int | None = nullable(moment())
    unsigned_at: int | None = nullable(moment())
    created_at: int = moment()
    updated_at: int = moment()


class BankCardEdda(AccountTable, table=True):
    """A direct-debit authorisation (B-25); ``limit`` per debit in minor units, ``expiry`` as yyyymmdd.

    ``debtor_…``: the account that is debited, as the bank is told; ``told_at``: when the bank last said what it is;
    ``overdue``: the bank has taken longer to decide than we go on asking every few minutes."""

    __tablename__ = "bank_card_edda"
    __table_args__ = (
        one_of("bank", ("hsbc", "hase")),
        one_of("status", EddaStatus),
        UniqueConstraint("bank", "mandate_ref"),
        Index(None, "uid"),
        Index(None, "card_id"),
        Index(None, "bank", "status"),
        flag("overdue"),
        one_of("ccy", Currency),
    )
    id: int | None = key()
    uid: int = number()
    card_id: int = number()
    bank: str = text(16)
    mandate_ref: str | None = nullable(text(64))
    status: int = code(0)
    ccy: str = text(3)
    limit: int = number(0)
    expiry: int | None = nullable(number())
    debtor_bank: str = text(16)
    debtor_account: str = text(64)
    debtor_name: str = text(140)
    reason: str = text(64, "")
    overdue: int = code(0)
    told_at: int | None = nullable(moment())
    created_at: int = moment()
    updated_at: int = moment()


class EddaReportFile(AccountTable, table=True):
    """A report of HSBC on authorisations, as it was fetched (B-25); ``version``: when the bank wrote it, epoch s."""

    __tablename__ = "edda_report"
    __table_args__ = (one_of("state", EDDA_REPORT_STATES), {"sqlite_with_rowid": False})
    name: str = text_key(128)
    version: int = given_key()
    state: str = text(8)
    changes: int = number(0)
    refused: int = number(0)
    reason: str = text(500, "")
    raw: str = long_document()
    created_at: int = moment()


class Sequences(AccountTable, table=True):
    """Numbers given out so far."""

    __tablename__ = "sequences"
    __table_args__ = ({"sqlite_with_rowid": False},)
    name: str = text_key(64)
    value: int = number(0)


METADATA: MetaData = AccountTable.metadata
IMMUTABLE: Final[tuple[str, ...]] = ()

bank_card: Table = METADATA.tables["bank_card"]
bank_info: Table = METADATA.tables["bank_info"]
bank_card_certificate: Table = METADATA.tables["bank_card_certificate"]
bank_card_asb_bst: Table = METADATA.tables["bank_card_asb_bst"]
bank_card_bst: Table = METADATA.tables["bank_card_bst"]
bank_card_edda: Table = METADATA.tables["bank_card_edda"]
edda_report: Table = METADATA.tables["edda_report"]
sequences: Table = METADATA.tables["sequences"]
