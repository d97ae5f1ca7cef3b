"""A day of 100,000 deposits and 20,000 withdrawals against the time its statements take on storage alone.

The deposits have the mix of `normal_day` (gaps.md B-45): half by bank-securities transfer at Airstar, CMB and CMBC, half
by transfer to the twelve banks that give statements; the withdrawals go to Airstar and CMB. Codec ``messages``, nobody
reads the events. Storage alone: every statement that the core executes on such a day, in its order and with its
parameters, on bare `sqlite3` connections with the same tables.
"""

from __future__ import annotations

from typing import Final

from tests.bench import bench_procedures

DEPOSITS: Final = {"airstar": 500, "cmb": 300, "cmbc": 200, "bochk": 250, "hsbc": 250, "icbc": 120, "hase": 90,
                   "scb": 80, "cgb": 50, "dbs": 40, "ccba": 40, "za": 40, "citi": 20, "spd": 10, "ewb": 10}
"""Of each 2,000, by channel."""
WITHDRAWALS: Final = {"airstar": 240, "cmb": 160}
"""For each 2,000 deposits."""
SHARES: Final = {"airstar": 0.7, "cmb": 0.4, "cmbc": 0.3, "hsbc": 0.4, "bochk": 0.4, "icbc": 0.2, "hase": 0.2,
                 "cgb": 0.1, "scb": 0.2, "citi": 0.1, "ccba": 0.1, "dbs": 0.1, "za": 0.1, "spd": 0.05, "ewb": 0.05}

TEXT: Final = """
name: day
title: A day of many
start: 2026-03-12 00:00
end: 2026-03-13 14:00
seed: 1
wire: messages
settings:            # a day's quota of automatic withdrawals would end the run of many
  auto_settings.row.airstar.HKD.balance: 100000000000
  auto_settings.row.cmb.HKD.balance: 100000000000
  auto_settings.stop_count: 1000000
  auto_settings.alarm_count: 1000000
population:
  customers: {customers}
  balances: {{HKD: {{median: "250,000", p99: "8,000,000"}}, USD: {{median: "20,000", p99: "900,000"}}}}
  at_bank: {{HKD: {{median: "400,000", p99: "9,000,000"}}, USD: {{median: "40,000", p99: "1,200,000"}}}}
  cards: {cards}
  mandate: {{OPEN: 1.0}}
workload:{workload}
staff: {{reviewers: 3, transfer_officers: 2, supervisors: 1}}
"""
DEPOSIT: Final = """
  - deposits: {{channel: {channel}, count: {count}, {by}ccy: {{{ccy}: 1.0}},
               amount: {{{ccy}: {{median: "{median}", p99: "{p99}"}}}}, hours: trading_day, until: 2026-03-13 00:00}}"""
WITHDRAWAL: Final = """
  - withdrawals: {{channel: {channel}, count: {count}, by: {{app: 0.9, bank: 0.1}}, ccy: {{HKD: 1.0}},
                  amount: {{of_balance: {{from: 0.01, to: 0.12}}}}, hours: trading_day, until: 2026-03-13 00:00}}"""


def day(deposits: int) -> str:
    """The scenario of a day with so many deposits, and a fifth as many withdrawals."""
    return _scenario(deposits, {channel: of * deposits // 2_000 for channel, of in DEPOSITS.items()},
                     {channel: of * deposits // 2_000 for channel, of in WITHDRAWALS.items()})


def _scenario(customers: int, deposits: dict[str, int], withdrawals: dict[str, int]) -> str:
    lines = [DEPOSIT.format(channel=channel, count=count, by=BY.get(channel, ""),
                            **(USD if channel == "ewb" else HKD)) for channel, count in deposits.items()]
    lines += [WITHDRAWAL.format(channel=channel, count=count) for channel, count in withdrawals.items()]
    return TEXT.format(customers=max(50, customers), workload="".join(lines),
                       cards="{" + ", ".join(f"{bank}: {share}" for bank, share in SHARES.items()) + "}")


BY: Final = {"airstar": "by: {app: 0.9, bank: 0.1}, ", "cmb": "by: {app: 0.4, bank: 0.6}, ",
             "cmbc": "by: {app: 0.4, bank: 0.6}, "}
HKD: Final = {"ccy": "HKD", "median": "20,000", "p99": "900,000"}
USD: Final = {"ccy": "USD", "median": "3,000", "p99": "120,000"}


if __name__ == "__main__":
    import sys
    print(bench_procedures.run(day(int(sys.argv[1]))))
