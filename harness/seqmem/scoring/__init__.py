"""Metrics over records: statistics, comparison with the reference, verdicts."""
