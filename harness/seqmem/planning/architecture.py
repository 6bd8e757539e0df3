"""What transformers knows of an architecture, read off its source: importing it imports torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from seqmem.core.choices import Attention, AttentionChoice
from seqmem.core.errors import UsageError
from seqmem.core.sanitize import clean


def ties_embeddings(config: Mapping[str, Any]) -> bool:
    """Return whether the model's head is its embedding; configs of older versions leave out the family's default."""
    if "tie_word_embeddings" in config:
        return bool(config["tie_word_embeddings"])
    family = str(config["model_type"])
    for stated in _family_classes(family, "configuration_*.py").values():
        if stated.get("model_type") == family:
            return bool(stated.get("tie_word_embeddings", False))
    return False


def supports_sdpa(config: Mapping[str, Any]) -> bool | None:
    """Return whether transformers has the sdpa kernel for the architecture; None where its source does not say."""
    if config.get("auto_map"):  # its own code comes with it
        return None
    classes = _family_classes(str(config["model_type"]), "modeling_*.py")
    bases = [stated for name, stated in classes.items() if name.endswith("PreTrainedModel")]
    return any(stated.get("_supports_sdpa", False) for stated in bases) if bases else None


def choose_attention(
    asked: AttentionChoice, config: Mapping[str, Any], where: str
) -> tuple[Attention, list[str]]:
    """Return the attention kernel that is taken, and a line where it is not the usual one and nobody asked for it.

    Raises:
        UsageError: the architecture has no kernel of that name.
    """
    lacking = supports_sdpa(config) is False
    family = clean(str(config["model_type"]))
    if asked == "sdpa" and lacking:
        raise UsageError(
            f"{where}: transformers has no sdpa attention for its architecture, {family}; "
            "use --attention eager, or leave the option out"
        )
    if asked != "auto":
        return asked, []
    if not lacking:
        return "sdpa", []
    return "eager", [f"{where}: transformers has no sdpa attention for {family}; --attention eager is taken"]


@lru_cache(maxsize=64)
def _family_classes(family: str, pattern: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the constants of the classes that transformers' source has for a family of models, by class.

    Families share folders: gemma3_text lies in gemma3, openai-gpt in openai.
    """
    found = importlib.util.find_spec("transformers")
    plain = family.replace("-", "_")
    if found is None or found.origin is None or not plain.isidentifier():
        return {}
    models = Path(found.origin).parent / "models"
    folders = [models / name for name in (plain, plain.removesuffix("_text"), family.partition("-")[0])]
    folder = next((one for one in folders if one.is_dir()), models / plain)
    return {
        made.name: _constants(made)
        for path in sorted(folder.glob(pattern))
        for made in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(made, ast.ClassDef)
    }


def _constants(made: ast.ClassDef) -> dict[str, Any]:
    """Return the constants that a class assigns, by name."""
    found: dict[str, Any] = {}
    for line in made.body:
        if isinstance(line, ast.AnnAssign | ast.Assign) and isinstance(line.value, ast.Constant):
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
            found[ast.unparse(target)] = line.value.value
    return found
