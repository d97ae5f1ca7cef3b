"""Matching: who owns the money that a bank's statement shows (ADR-001, gaps.md B-09)."""
