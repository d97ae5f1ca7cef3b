"""Benchmarks: ratios against a baseline in the same run, and absolute figures. `make bench` runs all of them."""
