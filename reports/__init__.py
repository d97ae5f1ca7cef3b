"""Readers of a run's event stream: HTML report, Perfetto trace, JUnit, terminal summary, state diagrams."""
