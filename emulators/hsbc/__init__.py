"""The emulated HSBC: our receiving accounts there, told by MT910 files that it drops at our server and lays out at its
own (gaps.md B-20; protocols.md, HSBC)."""
