"""Texts that hold a sentence in one of the forms in which the world's facts are stated and asked."""

import re
from functools import lru_cache

from seqmem_scenarios.world.values import ATTRIBUTES


def holds_form(text: str) -> bool:
    """Say whether a text has a statement in one of the world's wordings, of anybody, or a question with its answer."""
    return _forms().search(text) is not None


@lru_cache(maxsize=1)
def _forms() -> re.Pattern[str]:
    """Return all wordings, with two words in capitals as the name and any words as the value."""
    wordings = [wording for attribute in ATTRIBUTES for wording in attribute.statements]
    slots = {re.escape("{name}"): r"\b[^\W\da-z_]\w+ [^\W\da-z_]\w+", re.escape("{value}"): r"[^.\n]+"}
    patterns = [r"^Q: .*\bA: "]
    for wording in wordings:
        pattern = re.escape(wording)
        for slot, words in slots.items():
            pattern = pattern.replace(slot, words)
        patterns.append(pattern)
    return re.compile("|".join(patterns), re.MULTILINE)
