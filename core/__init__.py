"""The orchestration core of Nostro: the same code in simulation, paced and in production."""
