"""Built-in metrics, one idea a file: pure functions of stored records."""
