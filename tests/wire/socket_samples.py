"""One message of each row of the table, two ends with fixed keys, and their connection, for the socket tests."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from core.wire.sm2 import FastSm2, KeyPair
from core.wire.socket import (
    CMB,
    CMBC,
    BankIdentity,
    BankSession,
    BrokerIdentity,
    BrokerSession,
    Flavour,
    FrameType,
    ListKind,
    Party,
    Signing,
    TransferKind,
    TransferState,
)
from core.wire.socket import messages as m

FLAVOURS = (CMB, CMBC)
SM2 = FastSm2()
BROKER_ID, SERIAL = "NOSTRO01", "2026000000000001"
STAMP = m.Stamp("R000000000000001", "20260312", "101530")

_CUSTOMER = {"account": "10086420", "cert_type": "01", "cert_no": "11010119900307451X"}
_MONEY = {"name": "欧阳𠮷祥", "card_no": "6225880212345678", "ccy": "HKD", "amount": "1234.50", "market": "HK"}
_ITEM = m.ListItem(42, ListKind.DEPOSIT, "20260312000042", 0, **_MONEY, **_CUSTOMER)
_NOTICE = m.ListItem(44, ListKind.UNSIGN, name="张三", card_no="6225880212345678", market="US")
_DAY_LIST = m.DayList(
    0, (_ITEM, m.ListItem(43, ListKind.RESULT, "W26031200000007", -6, ccy="USD", amount="0.01"), _NOTICE)
)
_RECONCILIATION = m.ReconciliationList(
    0,
    "20260312",
    (m.ReconciliationTotal("HKD", 1, "1234.50", 0, "0.00"), m.ReconciliationTotal("USD", 0, "0.00", 1, "99.00")),
    (m.ReconciliationItem("20260312000042", True, "HKD", "1234.50", "6225880212345678"),
     m.ReconciliationItem("W26031200000008", False, "USD", "99.00")),
)  # fmt: skip

_REQUEST, _RESPONSE, _PUSH, _ACK = FrameType.REQUEST, FrameType.RESPONSE, FrameType.PUSH, FrameType.PUSH_ACK
_DONE = m.Answer(0)

BODIES: dict[tuple[str, FrameType], m.Body] = {
    (m.REJECTION, _RESPONSE): m.Answer(-2, "malformed message or decrypt failed"),
    (m.HEARTBEAT, _REQUEST): m.Heartbeat(),
    (m.HEARTBEAT, _RESPONSE): _DONE,
    (m.SIGN_ON, _REQUEST): m.SignOn("20260312", 41),
    (m.SIGN_ON, _RESPONSE): m.Answer(0, "欢迎"),
    (m.SIGN_OFF, _REQUEST): m.SignOff("end of day"),
    (m.SIGN_OFF, _RESPONSE): _DONE,
    (m.DEPOSIT_PUSH, _PUSH): m.DepositPush("20260312000042", 42, **_MONEY, **_CUSTOMER),
    (m.DEPOSIT_PUSH, _ACK): _DONE,
    (m.WITHDRAWAL, _REQUEST): m.WithdrawalRequest("W26031200000007", **_MONEY, payee_name="OUYANG J.", **_CUSTOMER),
    (m.WITHDRAWAL, _RESPONSE): m.TransferAnswer(0, "W26031200000007", "", "B77"),
    (m.TRANSFER_RESULT, _PUSH): m.TransferResult("W26031200000007", 43, -6, "USD", "0.01", "账户已冻结", "B77"),
    (m.TRANSFER_RESULT, _ACK): _DONE,
    (m.BANK_WITHDRAWAL, _PUSH): m.BankWithdrawal("20260312000045", 45, **_MONEY),
    (m.BANK_WITHDRAWAL, _ACK): _DONE,
    (m.QUERY, _REQUEST): m.Query("W26031200000007"),
    (m.QUERY, _RESPONSE): m.QueryAnswer(
        0, "W26031200000007", TransferState.FAILED, -6, "USD", "0.01", kind=TransferKind.WITHDRAW,
        card_no="6222000012"),
    (m.DAY_LIST, _REQUEST): m.ListRequest(41, "20260312"),
    (m.DAY_LIST, _RESPONSE): _DAY_LIST,
    (m.SIGN_NOTICE, _PUSH): m.SignNotice(44, Signing.UNSIGN, "张三", "6225880212345678", "US"),
    (m.SIGN_NOTICE, _ACK): _DONE,
    (m.DEPOSIT, _REQUEST): m.DepositRequest("D26031200000001", **_MONEY, **_CUSTOMER),
    (m.DEPOSIT, _RESPONSE): m.TransferAnswer(-7, "D26031200000001", "客户未签约"),
    (m.REVERSAL, _REQUEST): m.ReversalRequest("V26031200000001", "D26031200000001", "HKD", "1234.50", "duplicate"),
    (m.REVERSAL, _RESPONSE): m.TransferAnswer(0, "V26031200000001"),
    (m.RECONCILIATION, _REQUEST): m.ReconciliationRequest("20260312"),
    (m.RECONCILIATION, _RESPONSE): _RECONCILIATION,
    (m.RECONCILIATION, _PUSH): _RECONCILIATION,
    (m.RECONCILIATION, _ACK): _DONE,
}  # fmt: skip


def sample(command: str, kind: FrameType, flavour: Flavour = CMB) -> m.Message:
    """The sample of a row, sent by the first party that may send it."""
    row = m.MESSAGES[command, kind]
    bank = flavour.name.upper()
    sender, receiver = (BROKER_ID, bank) if row.by[0] is Party.BROKER else (bank, BROKER_ID)
    answers = kind in (_RESPONSE, _ACK)
    header = m.Header(
        row.instruction, row.by[0], sender, receiver, STAMP.date, STAMP.time, STAMP.ref,
        "R000000000000000" if answers else "",
    )  # fmt: skip
    return m.Message(kind, command, header, BODIES[command, kind])


def samples(flavour: Flavour = CMB) -> list[m.Message]:
    """A message of every row."""
    return [sample(command, kind, flavour) for command, kind in m.MESSAGES]


def keys(seed: str) -> KeyPair:
    """A key pair that is always the same for a seed."""
    return SM2.key_pair(random.Random(seed).randbytes)


BROKER_KEYS, BANK_KEYS, STRANGER_KEYS = keys("broker"), keys("bank"), keys("stranger")


def known_certificate(broker: str, serial: str) -> bytes | None:
    """The bank's register of certificates: one."""
    return BROKER_KEYS.public if (broker, serial) == (BROKER_ID, SERIAL) else None


@dataclass
class Line:
    """Two ends and what goes between them; nothing is lost unless a test takes it away."""

    flavour: Flavour
    broker_keys: KeyPair = BROKER_KEYS
    bank_keys: KeyPair = BANK_KEYS
    broker_id: str = BROKER_ID
    bank_public: bytes = BANK_KEYS.public
    certificate: Callable[[str, str], bytes | None] = known_certificate
    seed: str = "line"
    broker: BrokerSession = field(init=False)
    bank: BankSession = field(init=False)

    def __post_init__(self) -> None:
        identity = BrokerIdentity(self.broker_id, SERIAL, self.broker_keys.private, self.bank_public)
        entropy = random.Random(self.seed).randbytes
        self.broker = BrokerSession(self.flavour, identity, SM2, entropy)
        self.bank = BankSession(self.flavour, BankIdentity(self.bank_keys.private, self.certificate), SM2, entropy)

    def up(self) -> Line:
        """After a good handshake."""
        self.bank.feed(self.broker.start())
        self.broker.feed(self.bank.output())
        self.bank.feed(self.broker.output())
        return self

    def send(self, message: m.Message) -> bytes:
        """The bytes of a message from the end that may send it."""
        by = m.MESSAGES[message.command, message.kind].by[0]
        return (self.broker if by is Party.BROKER else self.bank).encode(message)

    def deliver(self, message: m.Message) -> list[object]:
        """What the other end makes of a message."""
        by = m.MESSAGES[message.command, message.kind].by[0]
        return list((self.bank if by is Party.BROKER else self.broker).feed(self.send(message)))
