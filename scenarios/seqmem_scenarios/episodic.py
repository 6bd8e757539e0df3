"""The suite `episodic`: three experiments on facts a model meets once, over model sizes.

They are the three settings of `fact_injection`. A fact is met once and then nothing but other text. A fact is
met among other text. Ever new facts are met in a stream whose domain shifts.
"""

from __future__ import annotations

from seqmem import SuitePart, SuiteSpec, hookimpl

seqmem_api = ">=1,<2"

_PYTHIA = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
_OPT = ("125m", "350m", "1.3b", "2.7b", "6.7b", "13b")


@hookimpl
def seqmem_suite() -> list[SuiteSpec]:
    """Declare the suite."""
    return [
        SuiteSpec(
            name="episodic",
            version="1",
            summary="How well are facts learned that are met once or seldom, how long are they kept, and does it "
            "depend on model size?",
            parts=(
                SuitePart(
                    title="Experiment 1: single exposure",
                    question="Of facts trained for one pass by themselves, how many are recalled at once, and how many "
                    "after long training on unrelated text?",
                    scenario="fact_injection",
                    preset="single_exposure",
                    measures=(
                        "initial_recall",
                        "effectivity",
                        "retention",
                        "retention.auc",
                        "retention.half_life",
                        "twin_recall",
                        "general_ability",
                    ),
                ),
                SuitePart(
                    title="Experiment 2: mixed batches",
                    question="Does it help, or hurt, that half of every batch is unrelated text while the facts are "
                    "trained?",
                    scenario="fact_injection",
                    preset="mixed_batch",
                    measures=(
                        "initial_recall",
                        "effectivity",
                        "retention",
                        "retention.auc",
                        "retention.half_life",
                        "twin_recall",
                        "general_ability",
                    ),
                ),
                SuitePart(
                    title="Experiment 3: long term",
                    question="While a stream shifts its domain and brings ever new groups of facts, what happens to "
                    "the older ones?",
                    scenario="fact_injection",
                    preset="long_term",
                    measures=(
                        "interference",
                        "interference.recall",
                        "initial_recall",
                        "retention",
                        "retention.half_life",
                        "decay",
                        "twin_recall",
                        "general_ability",
                    ),
                ),
            ),
            models={
                "embedded": ("tiny", "small", "base"),
                "pythia": tuple(f"EleutherAI/pythia-{size}" for size in _PYTHIA),
                "opt": tuple(f"facebook/opt-{size}" for size in _OPT),
            },
        )
    ]
