"""What a run leaves behind: written, read, made compact, searched for contamination."""
