"""The version of seqmem, for records and pages."""

__version__ = "0.1.0"
