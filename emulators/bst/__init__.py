"""The emulated banks of the socket protocol, CMB and CMBC: back office, desk, exit servers, day list."""
