"""Load tests: clients of the HTTP interface and of the socket protocol. Neither exists yet; see README, "Not built"."""
