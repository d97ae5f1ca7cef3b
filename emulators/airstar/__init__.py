"""The emulated Airstar bank: its back office and API, an ASGI application in front of it, and the links to it."""
