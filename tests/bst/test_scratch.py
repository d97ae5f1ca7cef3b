import asyncio
import pytest
from platform_world import *

def show(s, task=None, ap=None):
    print("--", s.alerts(), s.active, "W", s.heard("withdraw"), "D", s.heard("deposit"), "Q", s.heard("query"), "R", s.heard("reverse"), s.booked("pay"), s.booked("collect"))

def test_minus5(bank="cmb"):
    async def story(s):
        await asyncio.sleep(700)
        s.bank.fault("answer_minus5", processed=False, count=1)
        task = await s.withdraw()
        await asyncio.sleep(120)
        print((await s.of_task(task))["state"]); show(s)
        await asyncio.sleep(1200)
        show(s)
    at_bank(bank, story)

def test_wish_refused(bank="cmb"):
    async def story(s):
        await asyncio.sleep(1)
        s.asks("withdraw", amount=900_000_000) if False else None
        r = s.bank.customer_withdraws(s.card(), 1, "HKD", 50_000_000)
        print(r)
        await asyncio.sleep(600)
        show(s)
        print(await s.pushes(), await s.transfers())
        print(s.rig.of_kind("job", job="CmbRefuse"))
    at_bank(bank, story)

def test_9_after_5(bank="cmb"):
    async def story(s):
        await asyncio.sleep(1)
        s.bank.fault("answer_minus5", processed=False, count=1)
        s.bank.fault("closed", after_s=0.2, for_s=300)
        task = await s.withdraw()
        await asyncio.sleep(3600)
        print((await s.of_task(task))["state"]); show(s)
    at_bank(bank, story)

def test_signlost(bank="cmb"):
    async def story(s):
        await asyncio.sleep(1)
        s.bank.unsign("alice", 1)
        await asyncio.sleep(5)
        s.bank.fault("lost_push", message="sign_notice", count=1)
        s.bank.sign("alice", 1)
        s.asks("deposit")
        await asyncio.sleep(600)
        print(await s.pushes(), await s.money()); show(s)
    at_bank(bank, story)
