"""The embedded models, pretrained on the synthetic world."""

from pathlib import Path

from seqmem_scenarios.model_sizes.evaluate import evaluate
from seqmem_scenarios.model_sizes.pretrain import pretrain
from seqmem_scenarios.model_sizes.recipe import RECIPES, Mixture, Recipe

TINY = Path(__file__).parent / "tiny"
"""The folder of the model that ships with the package."""

__all__ = ["RECIPES", "TINY", "Mixture", "Recipe", "evaluate", "pretrain"]
