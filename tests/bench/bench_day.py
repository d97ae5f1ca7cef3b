"""A day of 100,000 deposits and 20,000 withdrawals against the time its transactions take on storage alone.

The deposits have the mix of `normal_day` (gaps.md B-45): half by bank-securities transfer at Airstar, CMB and CMBC,
half by transfer to the twelve banks that give statements; the withdrawals go to Airstar and CMB. Codec ``messages``,
nobody reads the events. Storage alone: the statements of a tenth of such a day, recorded with their parameters, are
executed again in their order on bare `sqlite3` connections to copies of the same databases, once without those that
only read (the transactions of the transitions) and once all. What a transaction takes there, times the number of
transactions of the whole day, is compared with what the whole day takes. All are CPU seconds of this process.
"""

from __future__ import annotations

import gc
import math
import pickle
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any, Final

from core.storage.sqlite import connect
from scenarios.world import World
from tests.bench import bench_procedures

Step = tuple[int, int, tuple[Any, ...]]
"""Number of the database, number of the text, arguments."""
DATABASES: Final = ("primary", "account", "procedure", "assets")
CHUNK: Final = 50_000
WHOLE, TENTH = 100_000, 10_000

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


class Recording:
    """What a day executes on its databases, from copies of them on."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._texts, self._steps = folder, dict[str, int](), list[Step]()
        self._file = (folder / "steps").open("wb")

    def of(self, world: World) -> None:
        """Copy the databases as they are now, and record from now on."""
        for number, name in enumerate(DATABASES):
            db: Any = getattr(world.databases, name)
            db.copy_to(self._folder / name)
            db.cursor = _Recorded(db.cursor, number, self)

    def step(self, database: int, text: str, arguments: tuple[Any, ...]) -> None:
        self._steps.append((database, self._texts.setdefault(text, len(self._texts)), arguments))
        if len(self._steps) == CHUNK:
            self.end()

    def end(self) -> None:
        """Write what is not written yet."""
        pickle.dump(self._steps, self._file)
        self._steps.clear()
        self._file.flush()

    def seconds(self, *, reads: bool) -> float:
        """CPU seconds of all again on bare connections."""
        texts = list(self._texts)
        taken = [reads or not text.startswith("SELECT") for text in texts]
        cursors = [self._bare(name) for name in DATABASES]
        spent = 0.0
        for steps in self._read():
            wanted = [(cursors[database], texts[text], arguments) for database, text, arguments in steps if taken[text]]
            began = process_time()
            for cursor, text, arguments in wanted:
                cursor.execute(text, arguments).fetchall()
            spent += process_time() - began
        return spent

    def _bare(self, name: str) -> sqlite3.Cursor:
        copy = connect(None, durable=False)
        with sqlite3.connect(self._folder / name) as file:
            file.backup(copy)
        return copy.cursor()

    def _read(self) -> Iterator[list[Step]]:
        with (self._folder / "steps").open("rb") as file:
            while file.peek(1):
                steps = pickle.load(file)
                gc.collect()
                yield steps


class _Recorded:
    """The cursor of a database; each statement is written down before it is executed."""

    def __init__(self, cursor: sqlite3.Cursor, number: int, recording: Recording) -> None:
        self._cursor, self._number, self._recording = cursor, number, recording

    def execute(self, text: str, arguments: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        self._recording.step(self._number, text, arguments)
        return self._cursor.execute(text, arguments)


def recorded(deposits: int) -> dict[str, float]:
    """A smaller day, and what its statements take by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(Path(folder))
        ran = bench_procedures.run(day(deposits), begun=recording.of)
        recording.end()
        return {"commits": ran["commits"], "writes": recording.seconds(reads=False),
                "all": recording.seconds(reads=True)}


def measure(whole: int = WHOLE, tenth: int = TENTH) -> dict[str, float]:
    """Seconds, rates, and the ratio of storage alone to the whole."""
    alone = recorded(tenth)
    small, large = bench_procedures.run(day(tenth)), bench_procedures.run(day(whole))
    transactions_s = alone["writes"] / alone["commits"] * large["commits"]
    return {
        "procedures finished": large["finished"],
        "CPU s": large["cpu"],
        "wall s": large["seconds"],
        "procedures per CPU s": large["finished"] / large["cpu"],
        "transactions per procedure": large["commits"] / large["finished"],
        "us of a transaction on bare sqlite3": alone["writes"] / alone["commits"] * 1e6,
        "storage alone, its transactions, s": transactions_s,
        "storage alone over the whole": transactions_s / large["cpu"],
        "the same with all that it reads": alone["all"] / alone["commits"] * large["commits"] / large["cpu"],
        "a tenth: procedures per CPU s": small["finished"] / small["cpu"],
        "growth exponent, a tenth to the whole": (
            math.log(large["cpu"] / small["cpu"]) / math.log(large["finished"] / small["finished"])),
    }


if __name__ == "__main__":
    for name, value in measure(*map(int, sys.argv[1:3])).items():
        print(f"{name:44} {value:12.3f}")
