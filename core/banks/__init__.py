"""Bank adapters, one per bank: wire messages in the words of the core. Independent of each other (ADR-006)."""
