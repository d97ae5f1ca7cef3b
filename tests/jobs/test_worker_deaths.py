"""A worker dies after every single commit of a job's life, and at many moments between; another finishes the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select

from core.domain import JobState
from core.jobs import Again, Done, Job, Jobs, Verdict
from core.storage import Databases, Severed, Statement
from core.storage.primary import task_flows

World = Any
EFFECT = Statement(insert(task_flows).values({name: bindparam(name) for name in (
    "task_id", "step", "action", "staff_id", "remark", "created_at")}))
EFFECTS = Statement(select(task_flows.c.action).order_by(task_flows.c.id))


class Died(BaseException):
    """The process ended here."""


def effect(action: str) -> dict[str, Any]:
    return {"task_id": 1, "step": "", "action": action, "staff_id": "", "remark": "", "created_at": 0}


class Chain:
    """Two jobs: Poll asks twice and then settles its effect and the next job in one transaction; Once has an effect in
    a transaction of its own and is settled after it."""

    def __init__(self, world: World, databases: Databases, worker: str) -> None:
        self.world, self.databases = world, databases
        self.jobs: Jobs = world.worker({"Poll": self.poll, "Once": self.once}, worker, databases)

    async def poll(self, job: Job) -> Verdict:
        await asyncio.sleep(0.5)
        if job.payload.get("asked", 0) < 2:
            return Again(job.due_ms + 3_000, payload={"asked": job.payload.get("asked", 0) + 1})
        async with self.databases.primary.transaction() as tx:
            await tx.execute(EFFECT, effect("exactly once"))
            await self.jobs.enqueue(tx, "Once", "A1", {}, self.world.clock.now_ms() + 1_000, 3)
            return await job.settle(tx, Done())

    async def once(self, job: Job) -> Verdict:
        await self.databases.primary.execute(EFFECT, effect("at least once"))
        await asyncio.sleep(0.5)
        return Done()

    async def submit(self) -> None:
        async with self.databases.primary.transaction() as tx:
            await self.jobs.enqueue(tx, "Poll", "A1", {}, self.world.clock.now_ms() + 1_000, 3)


def run_to_the_end(world: World, die: Callable[[Chain], None], successor: str) -> list[str]:
    """One worker until it dies, another for the rest; the effects that are left."""
    first = Chain(world, world.databases, "w1")
    die(first)
    try:
        world.run(first.jobs.start())
        world.run(first.submit())
        world.pass_s(40)
    except Died:
        pass
    first.jobs.halt()
    world.databases.on_commit = None
    world.databases = world.databases.reopen()
    second = Chain(world, world.databases, successor)
    world.run(second.jobs.start())
    if world.run(second.jobs.find("Poll", "A1")) is None:
        world.run(second.submit())  # the customer's request was never accepted: he asks again
    world.pass_s(120)
    assert world.run(second.jobs.open_jobs()) == []
    for event in ("Poll", "Once"):
        assert world.row(second.jobs, event).state is JobState.DONE
    return [action for (action,) in world.run(world.databases.primary.all(EFFECTS, {}))]




@pytest.mark.parametrize("successor", ["w1", "w2"])
def test_death_after_every_commit(make_world: Callable[[], World], successor: str) -> None:
    died, seen = 0, set()
    for number in range(1, 20):
        world = make_world()

        def die(chain: Chain, number: int = number, world: World = world) -> None:
            def on_commit(_name: str, count: int) -> None:
                if count == number:
                    chain.jobs.halt()
                    world.databases.sever()
                    raise Died

            world.databases.on_commit = on_commit

        effects = run_to_the_end(world, die, successor)
        assert effects.count("exactly once") == 1, number
        assert effects.count("at least once") >= 1, number
        seen.add(effects.count("at least once"))
        assert all(isinstance(error, Died | Severed) for error in world.raised), world.raised
        died += any(isinstance(error, Died) for error in world.raised) or number <= 2
    assert died >= 7, "start, submit, two polls, the settlement, the effect, its settlement"
    assert seen == {1, 2}, "an effect outside the settling transaction happens again when the worker dies after it"


@pytest.mark.parametrize("successor", ["w1", "w2"])
def test_death_at_any_moment(make_world: Callable[[], World], successor: str) -> None:
    for tenth in range(0, 120, 3):
        world = make_world()

        def die(chain: Chain, tenth: int = tenth, world: World = world) -> None:
            def kill() -> None:
                chain.jobs.halt()
                world.databases.sever()

            world.loop.call_later(tenth / 10 + 0.01, kill)

        effects = run_to_the_end(world, die, successor)
        assert effects.count("exactly once") == 1, tenth
        assert effects.count("at least once") >= 1, tenth
        assert all(isinstance(error, Severed) for error in world.raised), world.raised


def test_a_successor_of_the_same_name_goes_on_at_once_another_after_the_lease(make_world: Callable[[], World]) -> None:
    taken: dict[str, float] = {}
    for successor in ("w1", "w2"):
        world = make_world()
        ran: list[float] = []

        async def handler(job: Job, ran: list[float] = ran, world: World = world) -> Verdict:
            ran.append(world.now)
            return Again(job.due_ms + 3_000)

        first = world.started({"Poll": handler})
        world.queue(first, "Poll", after_s=3, max_retry=1_000)
        world.pass_s(7)
        first.halt()
        world.databases = world.databases.reopen()
        world.started({"Poll": handler}, successor)
        world.pass_s(60)
        taken[successor] = ran[2]
    assert taken["w1"] == 9, "no poll is missed"
    assert 39 <= taken["w2"] <= 39 + 30, "lease_until is due + 30 s; the sweep comes every 30 s"


def test_a_worker_that_stops_hands_over_at_once_and_finishes_what_runs(make_world: Callable[[], World]) -> None:
    world = make_world()
    ended: list[tuple[str, str, float]] = []

    def handler(worker: str) -> Callable[[Job], Any]:
        async def run(job: Job) -> Verdict:
            await asyncio.sleep(80 if job.key == "long" else 0)
            ended.append((worker, job.key, world.now))
            return Done()

        return run

    first = world.started({"Once": handler("w1")})
    world.queue(first, "Once", "long")
    world.queue(first, "Once", "later", after_s=200)
    world.pass_s(1)
    world.run(first.stop())
    assert ended == [("w1", "long", 80)]
    assert world.row(first, "Once", "later").lease_owner is None
    world.started({"Once": handler("w2")}, "w2")
    world.pass_s(200)
    assert ended[1:] == [("w2", "later", 200)]
