"""Nouns without torch: examples, experiences, streams and their schedules, probes, options, recipes, errors."""
