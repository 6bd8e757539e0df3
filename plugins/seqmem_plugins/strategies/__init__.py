"""Built-in strategies, one idea a file."""
