"""Nouns without torch: examples, experiences, streams, probes, options, recipes, errors."""
