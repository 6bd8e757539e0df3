"""Recipes of the embedded models: their shape, text and training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mixture:
    """Composition of the pretraining text; the three shares add up to at most one.

    The rest, `1 - known - oneoff - dialogue`, is prose. Shares count documents.
    """

    known_people: int = 140
    known: float = 0.46
    oneoff: float = 0.45
    dialogue: float = 0.04
    known_bare: float = 0.45
    """Share of the known people's documents that are questions without any text to read."""
    known_read: float = 0.10
    """Share of the known people's documents that ask about their own text."""
    oneoff_asked: float = 0.90
    """Share of the one-off people's documents that end in questions about what they say."""
    oneoff_crowd: float = 0.20
    """Share of the one-off people's documents that tell of two or three people before asking."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a model's weights, apart from the seed and the machine."""

    hidden_size: int
    layers: int
    heads: int
    steps: int
    learning_rate: float
    batch_tokens: int = 2048
    """Tokens per step: rows times block length."""
    block: int = 128
    long_block: int = 256
    long_every: int = 4
    """Steps from one with long blocks to the next."""
    vocabulary: int = 1024
    positions: int = 512
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float = 1.0
    checkpoint_every: int = 200
    tokenizer_documents: int = 12_000
    mixture: Mixture = Mixture()


RECIPES: dict[str, Recipe] = {
    "tiny": Recipe(hidden_size=128, layers=4, heads=4, steps=6000, learning_rate=2e-3),
    "small": Recipe(
        hidden_size=320,
        layers=6,
        heads=5,
        steps=8000,
        learning_rate=1e-3,
        batch_tokens=8192,
        mixture=Mixture(known_people=400),
    ),
    "base": Recipe(
        hidden_size=704,
        layers=8,
        heads=11,
        steps=12_000,
        learning_rate=6e-4,
        batch_tokens=16_384,
        mixture=Mixture(known_people=1500),
    ),
}


def recipe_of(size: str) -> Recipe:
    """Return the recipe of an embedded model by its name."""
    if size not in RECIPES:
        raise ValueError(f"unknown embedded model {size!r}; known: {', '.join(RECIPES)}")
    return RECIPES[size]
