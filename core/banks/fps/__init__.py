"""CGB, SCB and Citi: incoming FPS credits (A-49, gaps.md B-23, B-24; STMT-10, STMT-13).

`CreditReader` makes an entry of a credit; `CreditLines` is what a collector is given. The exchanges in each bank's own
bytes stand in `cgb`, `scb` and `citi`, imported by whoever opens real lines.
"""

from core.banks.fps.entries import CREDIT_BANKS, CreditLines, CreditReader, Hear

__all__ = ["CREDIT_BANKS", "CreditLines", "CreditReader", "Hear"]
