"""A pace that tests need not measure."""

from __future__ import annotations

import json
from pathlib import Path

from seqmem.planning.pace import Pace
from seqmem.verbs.pace import FILE, setting

PACE = Pace(widths=(128,), train=(1e10,), forward=(1e10,), per_matrix=1e-4, per_parameter=1e-8)


def know_the_pace(cache: Path) -> None:
    """Let a cache know the pace of runs on one thread, so that a plan measures nothing and says nothing of it."""
    cache.mkdir(parents=True, exist_ok=True)
    known = {
        setting("cpu", precision, 1): PACE.model_dump(mode="json") for precision in ("float32", "bfloat16")
    }
    (cache / FILE).write_text(json.dumps(known))
