"""Where HSBC standing alone drops its files: ordered at the control interface, kept in the bank's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from fastapi import APIRouter
from pydantic import AfterValidator, Field, ValidationError

from core.errors import Misconfigured
from emulators.standalone.customers import sentence
from emulators.standalone.words import Order

KINDS: Final = ("ssh-", "ecdsa-")


def host_key_of(text: str) -> str:
    """The key of a host as ``ssh-ed25519 AAAA…``, from a line of ``known_hosts``, of ``ssh-keyscan`` or of a ``.pub``;
    a ValueError for anything else."""
    words = text.split()
    at = next((place for place, word in enumerate(words) if word.startswith(KINDS)), len(words))
    key = " ".join(words[at : at + 2])
    try:
        load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("this is no host key: give a line of ssh-keyscan, such as 'ssh-ed25519 AAAA…'") from None
    return key


class PushOrder(Order):
    """An SFTP server of the client's, and its webhook."""

    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65_535)]
    host_key: Annotated[str, AfterValidator(host_key_of), Field(
        description="the server's public key: a line of ssh-keyscan -p PORT HOST")]
    user: Annotated[str | None, Field(min_length=1, description="as whom; hsbc.inbound.user if absent")] = None
    folder: Annotated[str | None, Field(
        pattern="^/", description="where files are dropped; hsbc.inbound.folder if absent")] = None
    webhook: Annotated[str | None, Field(
        pattern="^https?://",
        description="POSTed {\"file\": NAME} after each file, answered with 202; nobody is rung if absent")] = None


class Pushing(Protocol):
    """A bank that drops files."""

    def push_to(self, order: PushOrder | None) -> None:
        """From now on there; None: nowhere."""

    def pushing(self) -> dict[str, Any]:
        """Where, and how it went."""


def push_routes(current: Callable[[], Pushing]) -> APIRouter:
    """GET, POST, DELETE /push."""
    router = APIRouter()

    @router.get("/push")
    async def pushing() -> dict[str, Any]:
        """Where the bank drops its files, how many it has dropped, and why not."""
        return current().pushing()

    @router.post("/push")
    async def push(order: PushOrder) -> dict[str, Any]:
        """Drop files at a server from now on, also after a reset and a new start; its key has to be known."""
        current().push_to(order)
        return current().pushing()

    @router.delete("/push")
    async def stop() -> dict[str, Any]:
        """Drop files nowhere: whoever wants them has to fetch them."""
        current().push_to(None)
        return current().pushing()

    return router


def kept(path: Path) -> PushOrder | None:
    """What was ordered before; `Misconfigured` for a file that holds none."""
    if not path.exists():
        return None
    try:
        return PushOrder.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Misconfigured(sentence(error.errors()[0]), where=str(path), remedy="remove the file") from None


def keep(path: Path, order: PushOrder | None) -> None:
    """For the next start."""
    if order is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(order.model_dump_json(exclude_none=True) + "\n", encoding="utf-8")
