"""Compute every figure of a published board's TABLE.md a second time, from its records.

No code of the package is used: only the formats of records (docs/records.md, docs/leaderboards.md) and the formulas of
docs/metrics and docs/how-to-read-a-row.md. In the folder tests:

    python -m recompute ../leaderboards/memory_loops-v4
"""

from .compare import Found, compare

__all__ = ["Found", "compare"]
