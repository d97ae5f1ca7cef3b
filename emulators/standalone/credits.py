"""CGB, SCB, Citi and the mailboxes standing alone: one port each. SCB's webhook calls nobody here: clients pull."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import ASGIApp

from core.errors import Misconfigured
from core.wire import cgb, citi, notices
from core.wire.sm2 import Entropy, LibcryptoSm2
from emulators.fps.app import CgbFace, CitiFace, ScbFace, fps_app
from emulators.fps.bank import FAULTS as FPS_FAULTS
from emulators.fps.bank import FpsBank
from emulators.fps.keys import SECRET_BYTES, SEED_BYTES, SM4_BYTES, CgbKeys, ScbKeys
from emulators.mailbox.app import mailbox_app
from emulators.mailbox.bank import BANKS as MAILBOXES
from emulators.mailbox.bank import MailboxBank
from emulators.numbered import NumberedBank
from emulators.numbered_faults import AIM, FAULTS
from emulators.standalone.http import HttpFace
from emulators.standalone.journal import HttpJournal
from emulators.standalone.keys import load_or_create, write_secret
from emulators.standalone.receiving import StandingReceiving
from emulators.standalone.standing import Site

SCB_PATH: Final = "/scb.fps.v1.ScbFps/ScbFpsCredits"
_PATHS: Final = {"cgb": cgb.PATH, "scb": SCB_PATH, "citi": citi.PATH, **dict.fromkeys(MAILBOXES, notices.PATH)}


class StandingCredits(StandingReceiving):
    """Implements `emulators.standalone.standing.Standing`."""

    aim = AIM

    def __init__(self, name: str, site: Site) -> None:
        make = MailboxBank if name in MAILBOXES else FpsBank
        self._bank: NumberedBank = make(name, site.loop, site.clock, site.streams, site.trace, site.settings,
                                        in_maintenance=site.in_maintenance)
        super().__init__(self._bank)
        self.faults = FAULTS if name in MAILBOXES else FPS_FAULTS[name]
        self._site, self._folder, self._shown = site, site.folder.resolve(), dict[str, str]()
        entered = HttpJournal(self._app(), site.journal, site.clock.now_ms, lambda _method, path: path.strip("/"))
        self._face = HttpFace(entered, site.loop, site.settings["standalone.http.idle_s"])
        self._address = ""

    # The bank's door, with the keys of the folder

    def _app(self) -> ASGIApp:
        bank, settings = self._bank, self._site.settings
        if isinstance(bank, MailboxBank):
            return mailbox_app(bank, self._secret("token", SM4_BYTES))
        assert isinstance(bank, FpsBank)
        if self.bank == "cgb":
            return fps_app(bank, self._cgb(bank, settings["credits.cgb.app"]))
        if self.bank == "scb":
            client = self._shown["client"] = settings["credits.scb.client"]
            return fps_app(bank, ScbFace(bank, client, ScbKeys(*(
                self._ed25519(owner) for owner in ("broker", "bank", "stranger")))))
        client = self._shown["client"] = settings["credits.citi.client"]
        return fps_app(bank, CitiFace(bank, client, self._secret("secret", SECRET_BYTES).encode()))

    def _cgb(self, bank: FpsBank, app: str) -> CgbFace:
        sm2, entropy = LibcryptoSm2(), self._site.entropy
        self._folder.mkdir(parents=True, exist_ok=True)
        files = {owner: load_or_create(self._folder, f"cgb.{owner}", sm2, entropy) for owner in ("broker", "bank")}
        self._shown |= {"app": app, "broker_private_key": str(files["broker"].private),
                        "bank_public_key": str(files["bank"].public)}
        keys = CgbKeys(files["broker"].pair, files["bank"].pair, sm2.key_pair(entropy),
                       bytes.fromhex(self._secret("sm4", SM4_BYTES)))
        return CgbFace(bank, app, keys, sm2, entropy)

    def _secret(self, name: str, size: int) -> str:
        """The text that both sides have agreed upon, kept in the folder."""
        path = self._folder / f"{self.bank}.{name}"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_secret(path, self._site.entropy(size).hex())
        self._shown[f"{name}_file"] = str(path)
        return path.read_text(encoding="ascii").strip()

    def _ed25519(self, owner: str) -> Ed25519PrivateKey:
        private, public = (self._folder / f"scb.{owner}.{half}.pem" for half in ("key", "pub"))
        key = _load(private) if private.exists() else _made(private, self._site.entropy)
        public.write_bytes(key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
        if owner != "stranger":
            self._shown[f"{owner}_{'private' if owner == 'broker' else 'public'}_key"] = str(
                private if owner == "broker" else public)
        return key

    # Listening

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        port = await self._face.listen(host, ports[0])
        self._address = f"http://{host}:{port}{_PATHS[self.bank]}"
        return {"http": port}

    async def close(self) -> None:
        await self._face.close()

    def addresses(self) -> dict[str, str]:
        return {"http": self._address}

    def credentials(self) -> dict[str, str]:
        return {**self._shown, **self.accounts()}

    # The bank's view

    def state(self) -> dict[str, Any]:
        return {"faults": self._bank.faults.shown(), "totals": self.totals(), "connections": self._face.connections,
                "numbered": self._bank.told}


def _made(path: Path, entropy: Entropy) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.from_private_bytes(entropy(SEED_BYTES))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_secret(path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption()).decode())
    return key


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured("not an Ed25519 key", where=str(path), remedy="give one in PEM, or remove the file")
    return key
