"""One module a strategy: what its bars are and what they come to."""
