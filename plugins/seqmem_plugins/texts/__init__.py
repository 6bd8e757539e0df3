"""Sources of background text."""
