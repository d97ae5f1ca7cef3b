"""Files that are no plain text: what they are, told by their first bytes, and what to do with them."""

from __future__ import annotations

from typing import Final

_UNPACK: Final = "unpack it first"
_MAGIC: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"\x1f\x8b", "packed with gzip", _UNPACK),
    (b"BZh", "packed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "packed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"PK\x03\x04", "a zip archive, or a workbook (xlsx)", "unpack it first, or save the sheet as CSV in UTF-8"),
    (b"PK\x05\x06", "an empty zip archive", "look for the statement elsewhere"),
    (b"\xd0\xcf\x11\xe0", "a workbook or document of an old office (xls)", "save the sheet as CSV in UTF-8"),
    (b"%PDF", "a PDF", "ask the bank for the statement as data"),
    (b"-----BEGIN PGP", "encrypted", "decrypt it first"),
    (b"\xff\xfe\x00\x00", "text in UTF-32", "save it as UTF-8"),
    (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
)
_LOOKED_AT: Final = 1_000


def packed(content: bytes) -> str:
    """What a file is that nothing here reads, and the remedy; "" for one that may be plain text."""
    begins = content[:_LOOKED_AT].lstrip(b" \t\r\n")
    for magic, what, remedy in _MAGIC:
        if begins.startswith(magic):
            return f"the file is {what}: {remedy}"
    if b"\0" in content[:_LOOKED_AT]:
        return "the file has zero bytes: it is text in UTF-16, or no text at all: save it as UTF-8"
    return ""
