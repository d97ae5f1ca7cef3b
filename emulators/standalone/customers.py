"""Customers of a stand-alone bank: a table in the settings, a YAML file, or one by the control interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError

from core.domain import Market
from core.errors import Misconfigured
from core.money import Currency
from emulators.standalone.words import UNKNOWN_FIELD, Holding, Order

MarketName = Literal["HK", "US", "HKCC"]
MARKETS: tuple[MarketName, ...] = ("HK", "US", "HKCC")
assert tuple(market.name for market in Market) == MARKETS


class NewCustomer(Order):
    """A customer with a card, accounts, and agreements or a mandate made at some earlier time."""

    model_config = ConfigDict(str_strip_whitespace=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    id_no_hash: Annotated[str, Field(pattern=r"^[!-~]{0,64}$", description="hash-ID if absent")] = ""
    card_no: Annotated[str, Field(pattern=r"^(\d{8,19})?$", description="the bank's next if absent")] = ""
    debtor_bank: Annotated[str, Field(
        pattern=r"^([a-z0-9]{1,16})?$", description="direct debit only: where the account is; else itself")] = ""
    balances: Annotated[dict[Currency, Holding], Field(min_length=1)]
    markets: Annotated[tuple[MarketName, ...], Field(description="agreed earlier; [] for none")] = MARKETS

    @property
    def mask(self) -> int:
        """The markets as flags."""
        return mask_of(self.markets)

    def beyond(self, currencies: Sequence[str]) -> list[str]:
        """Currencies of the customer's accounts that a bank does not keep."""
        return [str(ccy) for ccy in self.balances if ccy not in currencies]

    def kept_by(self, currencies: Sequence[str]) -> NewCustomer:
        """The same customer without accounts that a bank does not keep."""
        kept = {ccy: held for ccy, held in self.balances.items() if ccy in currencies}
        return self.model_copy(update={"balances": kept})


def mask_of(markets: Sequence[str]) -> int:
    """Market names as flags."""
    return sum(int(Market[name]) for name in dict.fromkeys(markets))


def read_file(path: Path) -> list[NewCustomer]:
    """The customers under ``customers:`` of a YAML file; what is wrong with it raises `Misconfigured`."""
    content = _content(path)
    rows = content.get("customers") if isinstance(content, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise Misconfigured("no customers", where=str(path), remedy="write a list under customers:")
    return read_rows(rows, str(path))


def _content(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(str(error.strerror), where=str(path), remedy="give a file that can be read") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(path)
        raise Misconfigured(f"this is not YAML: {error.problem or error.context}", where=where,
                            remedy="check the indentation, the quotes and the brackets") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Misconfigured(f"this is not YAML: {error}", where=str(path), remedy="write it in UTF-8") from None


def read_rows(rows: Sequence[Any], where: str) -> list[NewCustomer]:
    """Customers of plain data; the first that is wrong raises `Misconfigured` naming its field."""
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(NewCustomer.model_validate(row))
        except ValidationError as error:
            fields = ", ".join(NewCustomer.model_fields)
            raise Misconfigured(f"customer {number}: {sentence(error.errors()[0])}", where=where,
                                remedy=f"a customer has {fields}; amounts in quotes") from None
    return found


def sentence(error: Any, skip: int = 0) -> str:
    """One error of pydantic as a sentence that begins with its field."""
    unknown = [error["ctx"]["field"]] if error["type"] == UNKNOWN_FIELD else []
    field = ".".join(str(part) for part in (*error["loc"][skip:], *unknown))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        message = "is missing"
    elif error["type"] in ("model_type", "model_attributes_type"):
        message = "this is no object with fields"
    return f"{field}: {message}" if field else message
