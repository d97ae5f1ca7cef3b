"""An emulated bank as a server of its own: real ports, a paced clock, and an HTTP interface to control it.

The bank's days pass at a speed. What concerns its clients' connections (heartbeats, silence, repeats of pushes, idle
HTTP connections) passes in real time: a client with an ordinary clock is never cut off by a fast or a paused bank.
"""
