"""All that surrounds the core in a simulation: the virtual clock, the memory network, the emulated banks and people."""
