"""The record of standing alerts: told once, whoever looks, how often, and at whichever moment a core dies."""

from __future__ import annotations

import pytest
from crossing import CrossedDatabase, Moment

from core.storage import Databases
from core.storage.standing import StandingAlerts
from core.trace import Event, Trace

RULE, KEY = "HSBC-03", "hsbc"


class Killed(BaseException):
    """The simulated death of a core."""


class Watch:
    """Whoever watches a line: any number of workers on one database, one stream of events."""

    def __init__(self, databases: Databases) -> None:
        self.databases, self.events = databases, list[Event]()
        self.db = CrossedDatabase(databases.primary)

    def worker(self, databases: Databases | None = None) -> StandingAlerts:
        db = self.db if databases is None else databases.primary
        return StandingAlerts(db, Moment(), Trace(Moment(), self.events.append))

    def phases(self) -> list[str]:
        return [event[4]["phase"] for event in self.events]


async def test_it_is_told_once_however_often_it_is_found_and_by_whom(databases: Databases) -> None:
    watch = Watch(databases)
    one, other = watch.worker(), watch.worker()
    await one.cleared(RULE, KEY, "well")
    assert watch.phases() == [] and not await one.stands(RULE, KEY)
    for worker in (one, other, one):
        await worker.hold(RULE, KEY, True, "wrong")
    assert watch.phases() == ["raised"] and await other.stands(RULE, KEY)
    await one.raised(RULE, "another", "wrong")
    await one.raised("HSBC-01", KEY, "wrong")
    assert await other.keys(RULE) == ["another", KEY]
    for worker in (other, one):
        await worker.hold(RULE, KEY, False, "well")
    assert watch.phases() == ["raised", "raised", "raised", "cleared"]
    assert await one.keys(RULE) == ["another"] and await one.stands("HSBC-01", KEY)
    await one.raised(RULE, KEY, "wrong again")
    assert watch.phases()[-1] == "raised" and await other.stands(RULE, KEY)


async def test_while_nothing_changes_nothing_is_written(databases: Databases) -> None:
    watch = Watch(databases)
    worker = watch.worker()
    await worker.raised(RULE, KEY, "wrong")
    before = databases.commits
    for _ in range(3):
        await worker.raised(RULE, KEY, "wrong")
        await worker.cleared(RULE, "another", "well")
    assert databases.commits == before


@pytest.mark.parametrize("wrong", [True, False])
async def test_of_two_workers_that_see_it_at_one_moment_one_tells_it(databases: Databases, wrong: bool) -> None:
    watch = Watch(databases)
    one, other = watch.worker(), watch.worker(databases)
    if not wrong:
        await other.raised(RULE, KEY, "wrong")
    watch.db.cross(lambda: other.hold(RULE, KEY, wrong, "seen by the other"))
    await one.hold(RULE, KEY, wrong, "seen by the one")
    assert watch.db.crossed
    assert watch.phases() == (["raised"] if wrong else ["raised", "cleared"])
    assert await one.stands(RULE, KEY) is wrong


@pytest.mark.parametrize("wrong", [True, False])
@pytest.mark.parametrize("committed", [True, False])
async def test_a_core_killed_at_the_commit_has_told_it_and_the_next_one_loses_nothing(
    databases: Databases, committed: bool, wrong: bool
) -> None:
    """Told twice at worst: by both cores if what was told was not kept."""
    watch = Watch(databases)
    if not wrong:
        await watch.worker().raised(RULE, KEY, "wrong")

    def die(*_: object) -> None:
        databases.sever()
        raise Killed

    if committed:
        databases.on_commit = die
        worker = watch.worker()
    else:
        worker = StandingAlerts(databases.primary, Moment(), Trace(
            Moment(), watch.events.append, lambda event: die() if event[2] == "alert" else None))
    with pytest.raises(Killed):
        await worker.hold(RULE, KEY, wrong, "seen")
    phase = "raised" if wrong else "cleared"
    assert watch.phases().count(phase) == 1
    again = databases.reopen()
    after = watch.worker(again)
    assert await after.stands(RULE, KEY) is (wrong is committed)
    await after.hold(RULE, KEY, wrong, "seen again")
    await after.hold(RULE, KEY, wrong, "and again")
    assert watch.phases().count(phase) == (1 if committed else 2)
    assert await after.stands(RULE, KEY) is wrong
    await again.close()
