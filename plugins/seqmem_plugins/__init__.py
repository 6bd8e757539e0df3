"""Built-in strategies, metrics and text sources; they use the same door as anybody's plugins."""
