from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PayeeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYEE_KIND_UNSPECIFIED: _ClassVar[PayeeKind]
    BBAN: _ClassVar[PayeeKind]
    SVID: _ClassVar[PayeeKind]
    MOBN: _ClassVar[PayeeKind]
    EMAL: _ClassVar[PayeeKind]
PAYEE_KIND_UNSPECIFIED: PayeeKind
BBAN: PayeeKind
SVID: PayeeKind
MOBN: PayeeKind
EMAL: PayeeKind

class CreditsRequest(_message.Message):
    __slots__ = ("since", "limit")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    since: int
    limit: int
    def __init__(self, since: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class CreditsReply(_message.Message):
    __slots__ = ("credits", "last", "more")
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    credits: _containers.RepeatedCompositeFieldContainer[Credit]
    last: int
    more: bool
    def __init__(self, credits: _Optional[_Iterable[_Union[Credit, _Mapping]]] = ..., last: _Optional[int] = ..., more: _Optional[bool] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("number", "reference", "account", "payee_kind", "payee", "currency", "amount", "credited_at", "payer_name", "payer_account", "remark")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PAYEE_KIND_FIELD_NUMBER: _ClassVar[int]
    PAYEE_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    CREDITED_AT_FIELD_NUMBER: _ClassVar[int]
    PAYER_NAME_FIELD_NUMBER: _ClassVar[int]
    PAYER_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    REMARK_FIELD_NUMBER: _ClassVar[int]
    number: int
    reference: str
    account: str
    payee_kind: PayeeKind
    payee: str
    currency: str
    amount: str
    credited_at: int
    payer_name: str
    payer_account: str
    remark: str
    def __init__(self, number: _Optional[int] = ..., reference: _Optional[str] = ..., account: _Optional[str] = ..., payee_kind: _Optional[_Union[PayeeKind, str]] = ..., payee: _Optional[str] = ..., currency: _Optional[str] = ..., amount: _Optional[str] = ..., credited_at: _Optional[int] = ..., payer_name: _Optional[str] = ..., payer_account: _Optional[str] = ..., remark: _Optional[str] = ...) -> None: ...

class CreditNotice(_message.Message):
    __slots__ = ("credit",)
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    credit: Credit
    def __init__(self, credit: _Optional[_Union[Credit, _Mapping]] = ...) -> None: ...
