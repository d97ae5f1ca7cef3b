"""SBA, the funds orchestration: Procedures that freeze, transfer and release money.

Facts in, effects out. ``deposit_table`` and ``withdraw_table`` say what moves where; ``sba`` steps them, one
transaction per step; ``performers`` carry effects out and turn each outcome into the next fact.
"""
