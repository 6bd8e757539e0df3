"""A strategy that halves every gradient."""

import seqmem

seqmem_api = ">=1,<2"


class HalfGradient(seqmem.Strategy):
    def transform_gradient(self, learner: seqmem.Learner) -> None:
        for parameter in learner.parameters.values():
            parameter.grad.mul_(0.5)


@seqmem.hookimpl
def seqmem_strategy() -> list[seqmem.StrategySpec]:
    return [
        seqmem.StrategySpec("half_gradient", "1", "halves every gradient", lambda options: HalfGradient())
    ]
