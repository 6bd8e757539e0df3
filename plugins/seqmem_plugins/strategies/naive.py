"""`naive`: train on what comes, keep nothing. The floor every strategy is compared with."""

from __future__ import annotations

from seqmem import Strategy, StrategySpec, hookimpl

seqmem_api = ">=1,<2"


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="naive",
            version="1",
            summary="Plain fine-tuning on the stream, one optimizer state throughout: the reference.",
            build=lambda options: Strategy(),
        )
    ]
