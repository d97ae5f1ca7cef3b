"""Deposits: applications and how they become credits."""
