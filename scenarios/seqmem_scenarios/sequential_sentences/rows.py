"""The sentences, rows and probes of `sequential_sentences`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from seqmem import Batch, BuildContext, Example, Probe, Relation, UsageError, answer_probe, text_example
from seqmem.streams import Place
from seqmem_scenarios.candidates import WHOLE, ClosedSets
from seqmem_scenarios.common import (
    PROBE_FORMS,
    background_row,
    check_lengths,
    fact_probe,
    form_texts,
    general_probes,
    rest_batches,
    rest_probes,
)
from seqmem_scenarios.sequential_sentences.options import SequentialSentencesOptions
from seqmem_scenarios.sequential_sentences.sentences import Told

PRIMARY: Relation = "verbatim"
"""Probe form that metrics read: as near to the trained text as one can ask with a known chance, at most 1 in 64 for
every attribute (the last word of a two-word value is 1 of 16, the last token of a word has no known chance)."""
NEAR: tuple[Relation, ...] = ("last_token", "last_word", PRIMARY)
OWN_KEPT = "own sentence kept"
"""Group of the probes whose context holds the asked sentence itself; metric `coupling` counts them."""


class Sentences:
    """The stream of one seed. Every sentence and row is a pure function of (options, seed, place)."""

    def __init__(self, options: SequentialSentencesOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.told = Told(options, context.seed)
        self._closed_sets = ClosedSets()

    # -- training rows --------------------------------------------------------------------------------

    def _before(self, numbers: range) -> str:
        """Return the text of sentences in front of another text."""
        return "".join(f"{self.told.trained(n).text()}{self.options.divider}" for n in numbers)

    def _shown(self, number: int, arrival: int) -> range:
        """Return the sentences in front of a trained one: those of the window just before it."""
        oldest = arrival - self.options.window + 1
        return range(max(oldest, number - self.options.train_context), number)

    def row(self, number: int, arrival: int) -> Example:
        """Return the row of sentence `number` at an arrival: it is the target, the text before it is not."""
        sentence = self.told.trained(number)
        text, identity = sentence.text(), sentence.fact.id
        before = self._before(self._shown(number, arrival))
        if not before:
            return text_example(self.context.encode, text, facts=[identity])
        # the blank between two words belongs to the second one's token, and so to the sentence
        prompt = before.rstrip(" ")
        parted = answer_probe(
            self.context.encode,
            id=identity,
            prompt=prompt,
            answer=before[len(prompt) :] + text,
            fact=identity,
            relation=PRIMARY,
        )
        ids = np.asarray(parted.input_ids, dtype=np.int32)
        return Example(ids, np.arange(len(ids)) >= parted.answer_start, (identity,))

    def arrival(self, place: Place) -> Iterator[Batch]:
        """Make the one batch of an arrival: the window's sentences, and background rows."""
        o, arrival = self.options, place.number
        sentences = [self.row(n, arrival) for n in range(arrival - o.window + 1, arrival + 1)]
        rows = range(o.background_before(arrival), o.background_before(arrival + 1))
        yield (*sentences, *(background_row(self.context, index, o.row_tokens) for index in rows))

    def rest(self, steps: int) -> Iterator[Batch]:
        """Make the rest's background."""
        o = self.options
        first = o.background_before(o.arrivals)
        rows = range(first, first + steps * o.rest_rows)
        return rest_batches(self.context, o.rest_text, rows, o.rest_rows, o.row_tokens, rows.stop)

    def _rest_row(self, step: int) -> Example:
        o = self.options
        return background_row(
            self.context, o.background_before(o.arrivals) + step * o.rest_rows, o.row_tokens
        )

    def check_rows(self) -> None:
        """Refuse sentences that do not fit the model together with what stands before them in training.

        The rows of a stream cannot all be kept, but the lengths of the window's sentences slide along.

        Raises:
            UsageError: naming the length and what the model reads.
        """
        o = self.options
        shown = o.shown
        if not shown:
            return
        lengths: list[int] = []
        longest, arrival = 0, 0
        for number in range(1 - o.window, o.arrivals):
            lengths = [
                *lengths[-shown:],
                len(self.context.encode(o.divider + self.told.trained(number).text())),
            ]
            if number >= 0 and sum(lengths) > longest:
                longest, arrival = sum(lengths), number
        tokens = len(self.row(arrival, arrival).input_ids)
        if tokens > self.context.max_positions:
            raise UsageError(
                f"train_context {o.train_context} makes a row of {tokens} tokens, the model reads "
                f"{self.context.max_positions}; show fewer sentences or take another model"
            )

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """Return all probes by set.

        Raises:
            UsageError: the model cannot read a probe, or an answer is longer than `max_new_tokens`.
        """
        o = self.options
        both = [(number, twin) for number in o.asked for twin in (False, True)]
        sets = {
            "near": tuple(self._bare(n, relation, twin=twin) for n, twin in both for relation in NEAR),
            "ladder": tuple(
                self._bare(n, relation, twin=twin) for n, twin in both for relation in PROBE_FORMS
            ),
            "general": general_probes(self.context, o.row_tokens),
            "rest": rest_probes(
                self.context, o.rest_text, o.rest_steps, self._rest_row, lambda: self.rest(o.rest_steps)
            ),
        }
        self._check_answers(sets["ladder"])
        check_lengths(self.context, sets)
        if o.kept:
            sets["context"] = tuple(
                self._in_context(n, kept, twin=twin) for n, twin in both for kept in range(o.kept, -1, -1)
            )
            longest = max(len(probe.input_ids) for probe in sets["context"])
            if longest > self.context.max_positions:
                raise UsageError(
                    f"context_sentences {o.kept} makes a probe of {longest} tokens, the model reads "
                    f"{self.context.max_positions}; keep fewer sentences or take another model"
                )
        return sets

    def _check_answers(self, probes: tuple[Probe, ...]) -> None:
        longest = max(probes, key=lambda probe: len(probe.input_ids) - probe.answer_start)
        tokens = len(longest.input_ids) - longest.answer_start
        if tokens > self.options.max_new_tokens:
            raise UsageError(
                f"the answer {longest.answer!r} takes {tokens} tokens, more than max_new_tokens "
                f"({self.options.max_new_tokens}): it could never be produced; raise max_new_tokens"
            )

    def _bare(self, number: int, relation: Relation, *, twin: bool) -> Probe:
        sentence = self.told.asked(number)
        fact = sentence.asked(twin=twin)
        probe = fact_probe(
            self.context,
            fact,
            relation,
            twin_of=sentence.fact if twin else None,
            wording=sentence.wording,
            position=number,
        )
        if relation not in WHOLE:
            return probe
        return self._closed_sets.competing(self.context, probe, fact, sorted(self.told.candidates(number)))

    def _in_context(self, number: int, kept: int, *, twin: bool) -> Probe:
        """Return a probe after the last `kept` sentences of a full context; a twin's holds twins only.

        A full context is the asked sentence with those that came right after it (`own_sentence` oldest: the
        window when it was about to leave), or right before (newest: the window when it arrived). No answers compete:
        the right one is often the only candidate that stands in the context.
        """
        o, sentence = self.options, self.told.asked(number)
        last = number + o.kept - 1 if o.own_sentence == "oldest" else number
        shown = range(last - kept + 1, last + 1)
        before = "".join(f"{self.told.asked(n).text(twin=twin)}{o.divider}" for n in shown)
        fact = sentence.asked(twin=twin)
        prompt, right, chance = form_texts(fact, o.context_rung, sentence.wording)
        return answer_probe(
            self.context.encode,
            id=f"{fact.id}-{o.context_rung}-context {kept}",
            prompt=before + prompt,
            answer=right,
            fact=fact.id,
            relation=o.context_rung,
            chance=chance,
            twin_of=sentence.fact.id if twin else None,
            subject=fact.person.name,
            group=OWN_KEPT if number in shown else "",
            position=number,
            context=kept,
        )
