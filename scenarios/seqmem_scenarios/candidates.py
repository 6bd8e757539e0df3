"""Forced choice about the world's facts: the answers that compete, and twins whose answers are trained as well.

A model that has met an answer often prefers it to others, whomever it is asked about. So the candidates of a fact are
values that the stream trains, for this subject or for others of the same attribute, and the twin of a fact is given
the value of another trained fact. Whoever only prefers trained answers then guesses, about facts and twins alike.

Where facts are trained one after another, candidates are values that are trained by the time a fact is first asked
for after its own exposure (`trained_by_then`). Early facts so have fewer candidates, and a chance that is higher.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, islice

from seqmem import BuildContext, Probe, Relation, UsageError
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, Draw, Fact

MAX_CANDIDATES = 8
"""Candidates of a fact at most, its own answer included."""
MIN_CANDIDATES = 4
"""Candidates at least: where the stream trains fewer values of an attribute, untrained ones are added."""
MIN_TRAINED = 2
"""Candidates at least in a stream that trains one fact after another; others are added to that number only."""
CANDIDATE_TOKENS = 10
"""Generous bound on the tokens of a candidate, for outlines."""
WHOLE: tuple[Relation, ...] = ("verbatim", "paraphrase", "question")
"""Probe forms that ask for the whole answer, in which candidates compete."""


class ClosedSets:
    """Closed sets of answers in a tokenizer's ids, each of them encoded once per probe form."""

    def __init__(self) -> None:
        """Begin with none."""
        self._closed_sets: dict[tuple[str, str], tuple[tuple[int, ...], ...]] = {}

    def competing(self, context: BuildContext, probe: Probe, asked: Fact, values: Iterable[str]) -> Probe:
        """Return a probe of the whole answer with its candidates, its closed set, and chance among candidates.

        Raises:
            UsageError: the tokenizer cuts an answer otherwise than as a word of its own.
        """
        closed = ATTRIBUTE_BY_NAME[asked.attribute].values
        place = (asked.attribute, probe.relation)
        own = probe.input_ids[probe.answer_start :]
        known = self._closed_sets.get(place)
        if known is None or known[closed.index(asked.value)] != own:
            known = tuple(
                tuple(context.encode(f"{probe.prompt} {value}")[probe.answer_start :]) for value in closed
            )
            self._closed_sets[place] = known
        ids = dict(zip(closed, known, strict=True))
        names = tuple(values)
        if len({ids[name] for name in names}) < len(names):
            same = next(a for a in names for b in names if a < b and ids[a] == ids[b])
            raise UsageError(
                f"the tokenizer gives {same!r} and another {asked.attribute} the same ids: answers cannot be told "
                "apart; use a model whose tokenizer keeps letters as they are"
            )
        return replace(
            probe,
            choices=tuple(ids[name] for name in names),
            choice_names=names,
            closed_set=known,
            chance=1 / len(names),
        )


class Candidates(ClosedSets):
    """Candidates of every fact of a stream, drawn with its seed."""

    def __init__(self, trained: Iterable[Fact], seed: int) -> None:
        """Collect the values of the facts that the stream trains, by attribute."""
        super().__init__()
        self.seed = seed
        values: dict[str, list[str]] = {}
        for fact in trained:
            known = values.setdefault(fact.attribute, [])
            if fact.value not in known:
                known.append(fact.value)
        self._trained = {
            name: Draw("candidates", seed, name).shuffled(sorted(known)) for name, known in values.items()
        }

    def twin(self, fact: Fact, twin: Fact) -> Fact:
        """Return the twin with the value of another trained fact; its own where no other value is trained."""
        trained = self._trained[fact.attribute]
        if len(trained) == 1:
            return twin
        shift = 1 + Draw("twin values", self.seed, fact.attribute).below(len(trained) - 1)
        return replace(twin, value=trained[(trained.index(fact.value) + shift) % len(trained)])

    def of(self, fact: Fact, twin: Fact) -> tuple[str, ...]:
        """Return the values that compete when a fact or its twin is asked for: the same for both."""
        draw = Draw("candidates", self.seed, fact.id)
        pool = self._trained[fact.attribute]
        if len(pool) < MIN_CANDIDATES:
            further = [v for v in ATTRIBUTE_BY_NAME[fact.attribute].values if v not in (*pool, twin.value)]
            pool = [*dict.fromkeys([*pool, twin.value]), *draw.sample(further, MIN_CANDIDATES)][
                : max(MIN_CANDIDATES, len(pool))
            ]
        own = [fact.value, twin.value]
        others = [value for value in pool if value not in own]
        chosen = {*own, *draw.sample(others, min(len(others), MAX_CANDIDATES - 2))}
        return tuple(value for value in pool if value in chosen)


def trained_by_then(fact: Fact, nearest: Iterable[str], later: Iterable[str], seed: int) -> tuple[str, ...]:
    """Return the values that compete about a fact of a stream that trains one after another.

    The fact's own comes first, then that of its twin: the one trained nearest in time.

    Args:
        fact: the fact that is asked for.
        nearest: values of its attribute that are trained by the time it is first asked for after its own exposure,
            nearest to it in time first.
        later: those trained afterwards, the soonest first. They fill up to `MIN_TRAINED`, and after them values that
            are never trained.
        seed: of the stream.
    """
    values = dict.fromkeys([fact.value])
    for value in nearest:
        if len(values) == MAX_CANDIDATES:
            break
        values[value] = None
    never = Draw("never trained", seed, fact.id).shuffled(ATTRIBUTE_BY_NAME[fact.attribute].values)
    missing = max(0, MIN_TRAINED - len(values))
    further = (value for value in chain(later, never) if value not in values)
    return (*values, *islice(further, missing))
