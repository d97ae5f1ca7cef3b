"""What the search begins with: the golden payloads, the worked handshake, and the words of the protocol; and how a try
is changed without losing its structure."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

from core.wire.sm2 import FastSm2
from core.wire.socket import CMB, CMBC, Flavour, FrameType, cmb, cmbc
from core.wire.socket import messages as m
from core.wire.socket.day_list import encode_list, sign_query, target_of
from core.wire.socket.fields import ListKind, Signing, TransferState
from tests.fuzz.properties import (
    GREETINGS,
    KEY_EXCHANGE_CHOICE,
    QUERY,
    RENEWAL_CHOICE,
    ROWS,
    SCRIPTED,
    TARGETS,
    Step,
    script_bytes,
    script_of,
)
from tests.wire.socket_reference import Conversation
from tests.wire.socket_samples import BANK_KEYS, BROKER_KEYS, FLAVOURS, sample

GOLDEN: Final = Path(__file__).parents[1] / "golden"
_HEAD: Final = re.compile(r"(\d{6}) ([A-Z_]+) [A-Za-z]+, \d+ bytes")


def golden_payloads(flavour: Flavour) -> dict[tuple[str, FrameType], bytes]:
    """The payloads of the golden file: hexadecimal lines at CMB, a document at CMBC."""
    found = {}
    for block in (GOLDEN / f"socket_{flavour.name}.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        head, *lines = block.split("\n")
        command, kind = _HEAD.fullmatch(head).groups()  # type: ignore[union-attr]
        payload = bytes.fromhex("".join(lines[:-1])) if flavour is CMB else lines[0].encode()
        found[command, FrameType[kind]] = payload
    return found


def seeds(target: str) -> list[bytes]:
    """Tries that are good; for a script, one with each message and one with all that both ends may send."""
    return _SEEDS[target]()


def _payload_seeds(flavour: Flavour) -> list[bytes]:
    return [bytes([ROWS.index(row)]) + payload for row, payload in golden_payloads(flavour).items()]


def _frame_seeds() -> list[bytes]:
    said = Conversation()
    parts = [said.hello, said.ack, said.confirm, said.push, said.push_ack]
    return [bytes([size]) + b"".join(parts) for size in (1, 7, 255)] + [b"\xff" + part for part in parts]


def _script_seeds() -> list[bytes]:
    renewal, garbage = Step(RENEWAL_CHOICE, True, b""), Step(KEY_EXCHANGE_CHOICE, False, b"\1")
    found = []
    for flavour in FLAVOURS:
        steps = [Step(ROWS.index(row), True, payload) for row, payload in golden_payloads(flavour).items()]
        found += [script_bytes(flavour, [step]) for step in steps]
        found += [script_bytes(flavour, [steps[0], renewal, step]) for step in steps]
        found += [script_bytes(flavour, [steps[1], step._replace(signed=False), steps[2]]) for step in steps]
        found.append(script_bytes(flavour, [renewal, renewal, garbage]))
    return found


def _handshake_seeds() -> list[bytes]:
    found = []
    for number, it in enumerate(GREETINGS):
        bodies = (it.hello, it.hello[:61], it.ack, it.ack[:130], it.confirm)
        found += [bytes([number + 2 * way]) + body for way, body in enumerate(bodies)]
    said = Conversation()
    return [*found, bytes([10]) + said.hello, bytes([12]) + said.ack]


def _day_list_seeds() -> list[bytes]:
    sm2, entropy, found = FastSm2(), Random(0).randbytes, []
    for number, flavour in enumerate(FLAVOURS):
        signature = sign_query(flavour, QUERY, BROKER_KEYS.private, sm2, entropy)
        answer = encode_list(flavour, sample(m.DAY_LIST, FrameType.RESPONSE, flavour), BANK_KEYS.private, sm2, entropy)
        targets = [target_of(query).encode() for query in (QUERY, QUERY._replace(business_date="", since_seq=0))]
        found += [bytes([number]) + target for target in targets]
        found += [bytes([number + 2 * way]) + body
                  for way, body in ((1, signature.encode()), (2, answer[:-64]), (3, answer))]  # fmt: skip
    return found


_SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "frames": _frame_seeds,
    "session_broker": _script_seeds,
    "session_bank": _script_seeds,
    "payload_cmb": lambda: _payload_seeds(CMB),
    "payload_cmbc": lambda: _payload_seeds(CMBC),
    "handshake": _handshake_seeds,
    "day_list": _day_list_seeds,
}
assert _SEEDS.keys() == TARGETS.keys()


@cache
def words() -> list[bytes]:
    """What the protocol is made of: elements, enumerated values, numbers at their edges, other forms of them."""
    tags = {field.tag for fields in cmbc.FIELDS.values() for field in fields} | {"Item", "Total", "MsgHdr", "MsgBody"}
    widths = {field.width for fields in cmb.FIELDS.values() for field in fields if isinstance(field, cmb.Fixed)}
    said = [
        *(f"<{tag}>{end}" for tag in sorted(tags) for end in ("", f"</{tag}>")),
        *(f"</{tag}>" for tag in sorted(tags)),
        *ListKind, *Signing, *TransferState, *(row.instruction for row in m.MESSAGES.values()),
        "0", "00", "-0", "-005", "0-05", "+1", "999", "-999", "051", "050", "010", "011", "0.00", ".00", "0.01",
        "-1.00", "1e3.00", "999999999999999.99", "0000000000000000", "9999999999999999", "20260230", "20000229",
        "19000229", "00010101", "99991231", "240000", "235960", "Y", "N", "S", "B", "欧阳", "𠮷", "\u3000", "\u00a0",
        "\u2028", "\ufeff", "<!DOCTYPE MsgText>", "<![CDATA[", "]]>", "<!-- -->", "<?php ?>", "&amp;", "&#13;", "&#0;",
        "&#x20;", "&x;", '<?xml version="1.0" encoding="UTF-8"?>', '<?xml version="1.0" encoding="UTF-16"?>',
        ' xmlns="urn:x"', "&since=", "&date=", "&at=", "/day-list?broker=", "%41", "+",
    ]  # fmt: skip
    raw = [b" " * width for width in sorted(widths)] + [b"\x80", b"\xff", b"\x81\x30\x81\x30", b"\xfe\xff", b"\0"]
    return [*dict.fromkeys([word.encode() for word in said] + [word.encode("gb18030") for word in said[-40:]] + raw)]


# --- changing a try ---------------------------------------------------------------------------------------------

Change = Callable[[bytes, Random], bytes]


def edited(data: bytes, random: Random) -> bytes:
    """A few small changes; most keep the length, as fixed fields want it."""
    changed, known = bytearray(data), words()
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(changed) + 1)
        word = random.choice(known)
        act = random.randrange(6)
        if act == 0 and at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
        elif act == 1:
            changed[at : at + len(word)] = word
        elif act == 2:
            changed[at:at] = word
        elif act == 3:
            del changed[at : at + random.randrange(1, 33)]
        elif act == 4:
            changed[at:at] = changed[at : at + random.randrange(1, 65)]
        else:
            other = random.randrange(len(changed) + 1)
            piece = changed[other : other + random.randrange(1, 33)]
            changed[at : at + len(piece)] = piece
    return bytes(changed)


def refilled(record: type, payload: bytes, random: Random, change: Change) -> bytes:
    """A CMB payload with one field changed, filled up to its width again in some way."""
    spans = _spans(m.Header, payload, 0)
    spans += _spans(record, payload, spans[-1][1])
    start, end = random.choice(spans)
    old, width = payload[start:end].strip(b" "), end - start
    text = random.choice((random.choice(words()), change(old, random), old.lstrip(b"0"), b""))
    filled = random.choice((text.ljust(width), text.rjust(width, b"0"), text.zfill(width), text.rjust(width)))
    return payload[:start] + filled[:width] + payload[end:]


def _spans(record: type, payload: bytes, at: int) -> list[tuple[int, int]]:
    """Where the fields of a record stand that begins there, with those of its groups."""
    spans: list[tuple[int, int]] = []
    for field in cmb.FIELDS[record]:
        width = field.width if isinstance(field, cmb.Fixed) else 3
        spans.append((at, at + width))
        if isinstance(field, cmb.Group):
            count = payload[at : at + width]
            for _ in range(min(int(count), 3) if count.isdigit() else 0):
                spans += _spans(field.record, payload, spans[-1][1])
        at = spans[-1][1]
    return spans


def changed_payload(flavour: Flavour, choice: int, payload: bytes, random: Random, change: Change = edited) -> bytes:
    """Fixed fields are changed one at a time, mostly; a document anywhere."""
    if flavour is CMB and choice < len(ROWS) and random.randrange(4):
        return refilled(m.MESSAGES[ROWS[choice]].body, payload, random, change)
    return change(payload, random)


def changed_script(data: bytes, random: Random, change: Change = edited) -> bytes:
    """A script with one step changed, doubled, dropped or moved; its lengths stay true."""
    flavour, steps = script_of(data)
    if not steps:
        return script_bytes(flavour, [Step(random.randrange(len(ROWS)), True, b"")])
    at, act = random.randrange(len(steps)), random.randrange(10)
    step = steps[at]
    if act == 0:
        steps.insert(random.randrange(len(steps) + 1), step)
    elif act == 1 and len(steps) > 1:
        del steps[at]
    elif act == 2:
        steps[at] = step._replace(choice=random.randrange(RENEWAL_CHOICE + 1))
    elif act == 3:
        steps[at] = step._replace(signed=not step.signed)
    else:
        steps[at] = step._replace(body=changed_payload(flavour, step.choice, step.body, random, change))
    return script_bytes(flavour, steps)


def changed(target: str, data: bytes, random: Random, change: Change = edited) -> bytes:
    """Another try of a target, near this one."""
    if target in SCRIPTED:
        return changed_script(data, random, change)
    if target == "payload_cmb" and data:
        return data[:1] + changed_payload(CMB, data[0] % len(ROWS), data[1:], random, change)
    return change(data, random)
