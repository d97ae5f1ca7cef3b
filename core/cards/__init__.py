"""Bank cards and what they authorize: Airstar mandates (gaps.md B-06)."""
