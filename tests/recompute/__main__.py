"""Compare the boards in the folders that are named on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from .compare import compare

failed = False
for path in map(Path, sys.argv[1:]):
    found = compare(path)
    equal = found.compared - len(found.differing) - len(found.near)
    print(
        f"{found.board}: {equal} of {found.compared} places are equal, {found.cells} of them cells of tables"
    )
    for what, places in (
        ("printed otherwise", found.differing),
        ("beside a fit, within its tolerance", found.near),
    ):
        print("\n".join([f"{what}:", *places]) + "\n" if places else "", end="")
    failed = failed or bool(found.differing)
sys.exit(failed)
