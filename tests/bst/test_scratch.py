import asyncio
import pytest
from platform_world import *
from emulators.bst.faults import FAULTS
CASES = {
 "drop": [{}, {"server":"both"}], "half_open": [{}, {"server":"both"}], "silent_heartbeats": [{}, {"server":"both"}], "wrong_key": [{}, {"server":"both"}],
 "split": [{"server":"both"}], "merged": [{"server":"both"}], "bad_signature": [{}, {"message":"deposit_push"}, {"message":"result"}, {"message":"withdraw"}], "sequence_gap": [{"count":1}, {}],
 "duplicate_push": [{}, {"fresh":True}], "lost_push": [{}], "lost_ack": [{}], "timeout": [{"processed":True}, {"processed":False}],
 "answer_minus5": [{}, {"processed":False}, {"at":"result"}], "reject": [{}, {"at":"answer"}], "system_error": [{}, {"processed":True}],
 "malformed": [{}], "forged": [{}], "unsigned": [{}], "limit": [{}], "closed": [{}], "slow": [{}, {"delay_s":20}],
 "list_disagrees": [{"how":"missing"},{"how":"foreign"},{"how":"amount"}], "list_outage": [{}, {"answer":"silence"}]}
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("name,params", [(n,p) for n in CASES for p in CASES[n]])
def test_f(bank, name, params):
    async def story(s):
        await asyncio.sleep(60)
        s.bank.fault(name, for_s=600, **params)
        await asyncio.sleep(1)
        w = await s.withdraw("alice")
        d = await s.deposit("bob")
        await asyncio.sleep(30)
        bw = s.asks("withdraw", "alice"); bd = s.asks("deposit", "bob")
        await asyncio.sleep(30)
        s.bank.unsign("bob", 2)
        await asyncio.sleep(600+3000)
        wp = await s.of_task(w)
        from collections import Counter
        print(bank, name, params, "W", wp["state"], s.over("withdraw"), "D", await s.apply_status(d), s.over("deposit"), "Q", len(s.heard("query")), "R", len(s.heard("reverse")))
        print("   ", Counter(s.alerts()), s.active, [(r[1],r[3],r[4]) for r in await s.pushes()], [t[1:] for t in await s.transfers()])
        print("   ", await s.money("alice"), await s.money("bob"), len(s.booked("pay")), len(s.booked("collect")), [(j.event,j.last_error) for j in await s.rig.core.jobs.open_jobs()], [(r["source"],r["requested"],r["missing"]) for r in s.rig.of_kind("recovery",bank=bank)])
    at_bank(bank, story)
