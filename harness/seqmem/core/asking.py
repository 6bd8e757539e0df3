"""Rules of what is asked when: a probe set, a schedule of the record, and the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from seqmem.core.segments import Place


@dataclass(frozen=True, slots=True)
class When:
    """Numbers of steps done in an experience after which something is asked.

    Attributes:
        steps: those numbers, given the experience's place.
        kinds: kinds of segments that are meant; all unless given.
    """

    steps: Callable[[Place], Iterable[int]]
    kinds: tuple[str, ...] = ()


def start(*kinds: str, each: int = 1) -> When:
    """Ask before every experience of these kinds, or before one in `each` of them."""
    return When(lambda place: (0,) if place.number % each == 0 else (), kinds)


def end(*kinds: str) -> When:
    """Ask after every experience of these kinds."""
    return When(lambda place: (place.steps,), kinds)


def begin(kind: str = "") -> When:
    """Ask before the first experience of a kind, or of the stream."""
    if not kind:
        return When(lambda place: (0,) if place.index == 0 else ())
    return When(lambda place: (0,) if place.number == 0 else (), (kind,))


def finish(kind: str = "") -> When:
    """Ask after the last experience of a kind, or of the stream."""
    if not kind:
        return When(lambda place: (place.steps,) if place.last else ())
    return When(lambda place: (place.steps,) if place.number == place.count - 1 else (), (kind,))


def every(steps: int, *kinds: str) -> When:
    """Ask at the start of every experience of these kinds, and after every `steps` steps of it."""
    return When(lambda place: range(0, place.steps + 1, steps), kinds)


def log(*kinds: str) -> When:
    """Ask at log-spaced steps of every experience of these kinds, both its ends included."""
    return When(lambda place: log_spaced(place.steps), kinds)


def log_spaced(steps: int) -> tuple[int, ...]:
    """Return 0, the powers of two below `steps`, and `steps`."""
    return tuple(sorted({0, steps, *(2**power for power in range(steps.bit_length()) if 2**power < steps)}))


@dataclass(frozen=True, slots=True)
class Rule:
    """A probe set that is asked under the name of one schedule; made by `ask`."""

    probe_set: str | Callable[[Place], str]
    schedule: str
    when: tuple[When, ...]


def ask(probe_set: str | Callable[[Place], str], schedule: str, *when: When) -> Rule:
    """Return the rule that asks a probe set, which may depend on the place, on a schedule."""
    return Rule(probe_set, schedule, when)
