"""The process that converts a model, here: the same lines in and out, and no ten seconds to import its libraries."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any


class ConvertingHere:
    """Stands in for `seqmem.core.process.start_module` where a model is converted."""

    def __init__(self, module: str, threads: int, log: Any) -> None:
        assert module == "seqmem.training.convert"
        self.stdin = io.StringIO()
        self.stdout = self._events()

    def _events(self) -> Iterator[str]:
        """Carry out the job once its events are read."""
        from seqmem.training.convert import carry_out

        lines: list[str] = []
        carry_out(json.loads(self.stdin.getvalue()), lambda event: lines.append(json.dumps(event) + "\n"))
        yield from lines

    def wait(self) -> int:
        return 0

    def kill(self) -> None:
        pass

    def communicate(self) -> None:
        pass
