"""CREDIT-04 outlives a core: what a bank that counts anew shows under the cursor is not taken for what stood there."""

from __future__ import annotations

import pytest
from credits_world import credits_world
from test_credits_collection import QUICK, begins_anew


@pytest.mark.parametrize("restarted", [(60,), (60, 60)])
@pytest.mark.parametrize("bank", ["scb", "dbs"])
def test_a_list_that_comes_back_after_a_restart_clears_it_once(bank, restarted):
    with credits_world(bank, settings=QUICK) as world:
        world.pay(bank)
        world.pass_s(120)
        kept = list(world.bank(bank)._items)
        begins_anew(world, bank)
        for wait_s in restarted:
            world.pass_s(wait_s)
            world.restart_core()
        world.pass_s(60)
        assert (world.alerts("CREDIT-04"), world.alerts("CREDIT-04", "cleared")) == ([bank], [])
        world.bank(bank)._items[:] = kept
        world.pass_s(60)
        assert (world.alerts("CREDIT-04"), world.alerts("CREDIT-04", "cleared")) == ([bank], [bank])


@pytest.mark.parametrize("bank", ["scb", "dbs"])
def test_a_bank_that_has_caught_up_by_its_new_count_stays_noticed_over_a_restart(bank):
    with credits_world(bank, settings=QUICK) as world:
        world.pay(bank)
        world.pass_s(120)
        world.bank(bank).courier = None
        begins_anew(world, bank)
        fresh = [world.pay(bank, "b"), world.pay(bank, "c")]
        world.pass_s(120)
        world.restart_core()
        world.pass_s(120)
        assert (world.alerts("CREDIT-04"), world.alerts("CREDIT-04", "cleared")) == ([bank], [])
        assert world.references(bank)[1:] == [line.reference for line in fresh]
