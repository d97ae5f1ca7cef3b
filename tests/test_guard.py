"""The determinism guard catches each planted violation and nothing else."""

from __future__ import annotations

import asyncio
import datetime as datetime_module
import os
import random
import sys
import threading
import time
import types
import uuid
from datetime import date, datetime

import pytest

from emulators.guard import Nondeterminism, determinism_guard
from emulators.loop import SimLoop

PLANTED = {
    "time.time": "import time\ndef act(): time.time()",
    "time.time_ns": "import time\ndef act(): time.time_ns()",
    "time.monotonic": "import time\ndef act(): time.monotonic()",
    "time.perf_counter": "import time\ndef act(): time.perf_counter()",
    "time.sleep": "import time\ndef act(): time.sleep(0)",
    "time.time imported by name": "from time import time as now\ndef act(): now()",
    "datetime.now": "from datetime import datetime\ndef act(): datetime.now()",
    "datetime.utcnow": "import datetime\ndef act(): datetime.datetime.utcnow()",
    "datetime.today": "import datetime\ndef act(): datetime.datetime.today()",
    "date.today": "from datetime import date\ndef act(): date.today()",
    "os.urandom": "import os\ndef act(): os.urandom(4)",
    "uuid.uuid1": "import uuid\ndef act(): uuid.uuid1()",
    "uuid.uuid4": "from uuid import uuid4\ndef act(): uuid4()",
    "secrets.token_hex": "import secrets\ndef act(): secrets.token_hex(4)",
    "secrets.choice": "import secrets\ndef act(): secrets.choice([1, 2])",
    "SystemRandom": "import random\ndef act(): random.SystemRandom().random()",
    "random.random": "import random\ndef act(): random.random()",
    "random.choice by name": "from random import choice\ndef act(): choice([1, 2])",
    "random.shuffle": "import random\ndef act(): random.shuffle([1, 2])",
    "unseeded Random": "import random\ndef act(): random.Random()",
    "Thread.start": "import threading\ndef act(): threading.Thread(target=print).start()",
    "start_new_thread": "import _thread\ndef act(): _thread.start_new_thread(print, ())",
}


@pytest.fixture
def loop():
    loop = SimLoop()
    yield loop
    loop.close()


@pytest.fixture
def plant(monkeypatch):
    def module(source, name="core.planted"):
        planted = types.ModuleType(name)
        exec(compile(source, f"/house/{name.replace('.', '/')}.py", "exec"), planted.__dict__)
        monkeypatch.setitem(sys.modules, name, planted)
        return planted

    return module


@pytest.mark.req("TWIN-02")
@pytest.mark.parametrize("source", PLANTED.values(), ids=PLANTED.keys())
@pytest.mark.parametrize("room", ["core", "emulators", "scenarios"])
def test_each_planted_violation_is_caught_with_its_place(plant, loop, source, room):
    planted = plant(source, f"{room}.planted")
    with pytest.raises(Nondeterminism) as caught, determinism_guard(loop):
        planted.act()
    assert caught.value.file == f"/house/{room}/planted.py"
    assert caught.value.line == 2
    assert f"/house/{room}/planted.py:2" in str(caught.value)


@pytest.mark.parametrize("source", [s for n, s in PLANTED.items() if n not in ("Thread.start", "start_new_thread")])
def test_third_party_modules_may_read_clock_and_entropy(plant, loop, source):
    planted = plant(source, "thirdparty.module")
    with determinism_guard(loop):
        planted.act()


@pytest.mark.parametrize("name", ["os.urandom", "uuid.uuid4", "secrets.token_hex", "random.random", "unseeded Random"])
def test_entropy_can_be_refused_to_everybody(plant, loop, name):
    planted = plant(PLANTED[name], "thirdparty.module")
    with pytest.raises(Nondeterminism), determinism_guard(loop, entropy="everybody"):
        planted.act()


@pytest.mark.parametrize("name", ["Thread.start", "start_new_thread"])
def test_a_thread_is_refused_to_everybody(plant, loop, name):
    planted = plant(PLANTED[name], "thirdparty.module")
    with pytest.raises(Nondeterminism), determinism_guard(loop):
        planted.act()


def test_a_listed_module_may_do_anything(plant, loop):
    planted = plant(PLANTED["Thread.start"].replace("print", "int"), "thirdparty.module.part")
    with determinism_guard(loop, allow=("thirdparty.module",)):
        planted.act()


def test_a_swallowed_violation_is_raised_at_the_end(plant, loop):
    planted = plant("import time\ndef act():\n  try: time.time()\n  except Exception: pass")
    with pytest.raises(Nondeterminism), determinism_guard(loop):
        planted.act()


def test_a_violation_in_a_task_nobody_awaits_is_raised_at_the_end(plant, loop):
    planted = plant("import time, asyncio\nasync def act():\n  await asyncio.sleep(5)\n  time.time()")
    loop.set_exception_handler(lambda *_: None)

    async def main():
        task = asyncio.create_task(planted.act())
        await asyncio.wait([task])
        task.exception()

    with pytest.raises(Nondeterminism, match="virtual 5000000 µs"), determinism_guard(loop):
        loop.run_until_complete(main())


def test_a_run_that_keeps_the_rules_is_left_alone(plant, loop):
    planted = plant(
        "import asyncio, random\nfrom datetime import datetime, timezone\n"
        "async def act(rng):\n"
        "  await asyncio.sleep(3)\n"
        "  return rng.random(), datetime.fromtimestamp(5, timezone.utc), random.Random(4).random()"
    )
    with determinism_guard(loop) as guard:
        drawn, moment, _ = loop.run_until_complete(planted.act(random.Random(1)))
    assert guard.violations == []
    assert drawn == random.Random(1).random()
    assert type(moment) is datetime


def test_everything_is_put_back(plant, loop):
    planted = plant("from time import time as now\nfrom random import random as draw")
    guarded = (time, "time"), (time, "sleep"), (os, "urandom"), (uuid, "uuid4"), (random, "random"), (planted, "now"), (
        threading.Thread, "start"), (random.Random, "seed"), (planted, "draw")  # fmt: skip
    before = [getattr(owner, name) for owner, name in guarded]
    with determinism_guard(loop):
        assert all(getattr(owner, name) is not old for (owner, name), old in zip(guarded, before, strict=True))
    assert [getattr(owner, name) for owner, name in guarded] == before
    assert type(datetime.__dict__["now"]).__name__ == type(date.__dict__["today"]).__name__ == "classmethod_descriptor"
    assert datetime.now().year >= 2024
    assert datetime_module.date.today().year >= 2024
