"""Cost of `ewc`: its penalty beside a plain step, for any number of past experiences."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.strategies.bar import Bar, batch, interleaved, learner, medium, naive_step, tiny
from seqmem import Experience
from seqmem.training.learner import Learner
from seqmem_plugins.strategies.ewc import EWC, EWCOptions


def bars() -> Iterator[Bar]:
    """A step with the penalty over a step without, after 1, 10 and 100 experiences."""
    yield from _costs("tiny", learner(tiny()), rounds=30)
    yield from _costs("medium", learner(medium()), rounds=7)


def _costs(name: str, pupil: Learner, rounds: int) -> Iterator[Bar]:
    strategy, rows = EWC(EWCOptions.model_validate({"examples": 1})), batch()
    strategy.setup(pupil)
    loss, _, _ = pupil.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {key: parameter.grad for key, parameter in pupil.parameters.items()}

    def penalty() -> None:
        for key, parameter in pupil.parameters.items():
            parameter.grad = gradients[key]
        strategy.add_gradient(pupil)
        pupil.optimizer.zero_grad(set_to_none=True)

    past = 0
    for wanted in (1, 10, 100):
        for index in range(past, wanted):
            visit = Experience(index, f"experience {index}", "task", None, (batch(1, seed=index),))
            strategy.after_experience(pupil, visit)
        past = wanted
        seconds = interleaved({"naive": lambda: naive_step(pupil, rows), "penalty": penalty}, rounds)
        naive, added = median(seconds["naive"]), median(seconds["penalty"])
        yield Bar(
            f"ewc / naive, {name}, {past} past experiences",
            1 + added / naive,
            1.05,
            note=f"the penalty alone takes {1e3 * added:.1f} ms, a plain step {1e3 * naive:.0f} ms",
        )
