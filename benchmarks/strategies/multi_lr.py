"""Cost of `multi_lr`: the copy of the parameters and the scaling of the step, beside a plain step."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any, Literal

from benchmarks.strategies.bar import Bar, batch, interleaved, learner, medium, naive_step, tiny
from seqmem import Experience
from seqmem.training.learner import Learner
from seqmem_plugins.strategies.multi_lr import MultiLr, MultiLrOptions

OPTIMIZERS: dict[Literal["adam", "adamw", "sgd"], dict[str, Any]] = {
    "adam": {},
    "adamw": {"weight_decay": 0.1},
    "sgd": {"momentum": 0.9, "lr": 0.1},
}


def bars() -> Iterator[Bar]:
    """A step with element-wise rates over a step without, and the slower schedule for comparison."""
    for name, settings in OPTIMIZERS.items():
        yield _cost(f"tiny, {name}", learner(tiny(), name, **settings), {}, rounds=30)
        yield _cost(f"medium, {name}", learner(medium(), name, **settings), {}, rounds=7)
    frequency = {"schedule": "frequency"}
    yield _cost("tiny, adam, schedule=frequency", learner(tiny()), frequency, rounds=30)
    yield _cost("medium, adam, schedule=frequency", learner(medium()), frequency, rounds=7)


def _cost(name: str, pupil: Learner, options: dict[str, Any], rounds: int) -> Bar:
    """Both of what a step does more than a plain one: the host's copy and the strategy's scaling."""
    strategy, rows = MultiLr(MultiLrOptions.model_validate(options)), batch()
    strategy.before_experience(pupil, Experience(0, "first", "general", None, (rows,)))
    loss, _, _ = pupil.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {key: parameter.grad for key, parameter in pupil.parameters.items()}

    def added() -> None:
        for key, parameter in pupil.parameters.items():
            parameter.grad = gradients[key]
        before = pupil.copy_parameters()
        strategy.transform_update(pupil, before)
        pupil.step += 1
        pupil.optimizer.zero_grad(set_to_none=True)

    seconds = interleaved({"naive": lambda: naive_step(pupil, rows), "added": added}, rounds)
    naive, more = median(seconds["naive"]), median(seconds["added"])
    return Bar(
        f"multi_lr / naive, {name}",
        1 + more / naive,
        1.05,
        note=f"copy and scaling take {1e3 * more:.2f} ms, a plain step {1e3 * naive:.0f} ms",
    )
