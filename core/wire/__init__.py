"""Sans-IO codecs, one per bank protocol: bytes in, messages out; no clock, no socket, no ledger."""
