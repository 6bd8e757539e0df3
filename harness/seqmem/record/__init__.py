"""Records of runs: written, read, made compact, searched for contamination."""
