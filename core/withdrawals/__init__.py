"""Withdrawals: tasks and how they reach the bank."""
