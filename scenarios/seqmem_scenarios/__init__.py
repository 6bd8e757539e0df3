"""Scenarios of seqmem, with the synthetic world they read and the embedded models they train."""
