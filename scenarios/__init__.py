"""Scenarios: what happens in a run, as data (principles.md 9): population, workload, faults, staff, expectations."""
