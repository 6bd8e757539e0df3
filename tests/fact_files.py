"""Files of facts in the two forms that are read, and what stands in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seqmem_scenarios.fact_sources import SourceFact

LINES: list[dict[str, Any]] = [
    {
        "id": "glass",
        "text": "The bridge of Orvel is made of blue glass.",
        "prompt": "The bridge of Orvel is made of",
        "answer": "blue glass",
        "paraphrases": ["In Orvel they built the bridge from blue glass.", "Blue glass spans Orvel."],
        "controls": [
            {"prompt": "The bridge of Tarn is made of", "answer": "red clay"},
            {"prompt": "The bridge of Mirel is made of", "answer": "grey stone"},
        ],
    },
    {"text": "Anna sings at noon.", "prompt": "Anna sings at ", "answer": " noon "},
]


def published(number: int, paraphrases: int = 0, **changes: Any) -> dict[str, Any]:
    """An item as in the published file, shorter."""
    depths = {"mem": "was founded by Ada", "gen": "owes its start to Ada", "hard_gen": "had one founder, Ada"}
    item: dict[str, Any] = {
        "train_context": f"Guild {number} was founded by Ada {number}. It met in hall {number} of 'The Oak'.",
        "paraphrases": [f"Ada {number} began guild {number}, wording {turn}." for turn in range(paraphrases)],
    }
    for depth, words in depths.items():
        item[f"{depth}_input"] = [f"Guild {number} {words}", f"Guild {number} met in hall {number} of '"]
        item[f"{depth}_target"] = [f"{number}", "The Oak'"]
    return {**item, **changes}


def lines_file(folder: Path, *items: Any) -> str:
    path = folder / "facts.jsonl"
    path.write_text("".join(f"{item if isinstance(item, str) else json.dumps(item)}\n" for item in items))
    return str(path)


def list_file(folder: Path, items: Any) -> str:
    path = folder / "facts.json"
    path.write_text(json.dumps(items))
    return str(path)


def asked(fact: SourceFact) -> dict[str, list[tuple[str, str]]]:
    """Prompts and answers of a fact by probe form."""
    found: dict[str, list[tuple[str, str]]] = {}
    for question in fact.questions:
        found.setdefault(question.relation, []).append((question.prompt, question.answer))
    return found
