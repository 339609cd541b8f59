"""Benchmarks: each figure is measured against its bare building block in the same run, interleaved, as a ratio of medians."""
