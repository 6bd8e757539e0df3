"""The verbs from end to end: bench, tune, suite, and what is shown meanwhile."""
