"""Measurements that `make perf` prints."""
