"""Avalanche in both directions: its plugins as strategies, its benchmarks as a scenario, streams as benchmarks."""
