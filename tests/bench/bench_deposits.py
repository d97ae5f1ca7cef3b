"""Per bank: statement entries taken in, and standard deposits credited end to end, for each CPU second.

Taken in: transfers that nobody announced, in the bank's signed bytes (``wire: full``), from the emulated bank's booking
to the row of ``flows_{bank}_{YYYYMM}``; the work of the emulated bank is in the figure. End to end: announced in the
App, transferred, collected, matched, credited (``wire: messages``). What the same day takes with one of them, polls and
all, is taken out. Both are of one core.
"""

from __future__ import annotations

from typing import Final

from tests.bench import bench_procedures

BANKS: Final = ("bochk", "hsbc", "icbc", "cgb", "scb", "citi", "hase", "ccba", "dbs", "za", "spd", "ewb")
COUNT: Final = 600
TEXT: Final = """
name: statements
title: Transfers of one bank
start: 2026-03-12 08:00
end: 2026-03-12 {end}
seed: 1
wire: {wire}
settings: {settings}
population:
  customers: 200
  balances: {{}}
  at_bank: {{{ccy}: {{median: "40,000,000", p99: "90,000,000"}}}}
  cards: {{{bank}: 1.0}}
workload:
  - deposits: {{channel: {bank}, count: {count}, by: {{{by}: 1.0}}, ccy: {{{ccy}: 1.0}},
               amount: {{{ccy}: {{median: "2,000", p99: "90,000"}}}}, hours: {{9-10: 1}}, until: 10:00}}
staff: {{reviewers: 3, transfer_officers: 2, supervisors: 1}}
"""
UNMATCHED: Final = "{jobs.auto_match.period_s: 86400}"
"""No round looks at them: only the taking in is measured."""

ENDS: Final = {"bochk": "23:00", "ewb": "23:00"}
"""The last lists and files of the day; elsewhere an hour after the last transfer."""


def rate(bank: str, *, announced: bool) -> float:
    """Entries, or deposits, for each CPU second."""
    text = TEXT.replace("{bank}", bank).replace("{ccy}", "USD" if bank == "ewb" else "HKD")
    few, many = (bench_procedures.run(text.format(
        count=count, by="app" if announced else "bank", settings="{}" if announced else UNMATCHED,
        end=ENDS.get(bank, "11:00"),
        wire="messages" if announced else "full")) for count in (1, COUNT + 1))
    if announced and many["finished"] < 0.9 * COUNT:
        raise AssertionError(f"{bank}: {many['finished']} of {COUNT} deposits finished")
    return COUNT / (many["cpu"] - few["cpu"])


def measure() -> dict[str, float]:
    """Every figure of this file."""
    bench_procedures.story(100)
    return {f"{bank}: entries taken in per CPU s": rate(bank, announced=False) for bank in BANKS} | {
        f"{bank}: deposits end to end per CPU s": rate(bank, announced=True) for bank in BANKS}


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:44} {value:12.1f}")
