"""The rows and probes of `conversation_recall`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from seqmem import (
    Batch,
    BuildContext,
    Example,
    Probe,
    Relation,
    UsageError,
    answer_probe,
    pack,
    text_example,
)
from seqmem.streams import Place
from seqmem_scenarios.candidates import WHOLE, ClosedSets
from seqmem_scenarios.common import (
    PROBE_FORMS,
    background_row,
    check_lengths,
    form_texts,
    general_probes,
    last_token,
    rest_batches,
    rest_probes,
)
from seqmem_scenarios.conversation_recall.bound import longest_document
from seqmem_scenarios.conversation_recall.options import ConversationRecallOptions
from seqmem_scenarios.conversation_recall.turns import CUES, Turn, Turns
from seqmem_scenarios.world import statement_prompt

PRIMARY: Relation = "verbatim"
MAX_READ = 1000
"""Conversations that are all read before training, in some three seconds; rows of longer streams are bounded."""


class Conversations:
    """The stream of one seed. Everything in it is a pure function of (options, seed, place)."""

    def __init__(self, options: ConversationRecallOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.turns = Turns(options, context.seed)
        self._closed_sets = ClosedSets()

    # -- training rows --------------------------------------------------------------------------------

    def block(self, place: Place) -> Iterator[Batch]:
        """Make the batches of a block: tick by tick, the turns trained and their background."""
        o, background = self.options, place.row
        conversations = self._of_block(place.number)
        for tick in range(o.ticks):
            for step in range(o.steps_per_turn):
                rows = [
                    row
                    for number in conversations
                    for row in self._examples(self.turns.of(number), tick, step)
                ]
                count = o.background(tick)
                rows += [self._background(background + i) for i in range(count)]
                background += count
                yield self._batch(rows)

    def rest(self, place: Place) -> Iterator[Batch]:
        """Make the rest's background."""
        o = self.options
        rows = range(place.row, place.row + place.steps * o.batch_size)
        return rest_batches(self.context, o.rest_text, rows, o.batch_size, o.background_tokens, rows.stop)

    def _of_block(self, block: int) -> range:
        """Return the numbers of a block's conversations."""
        return range(block * self.options.conversations, (block + 1) * self.options.conversations)

    def _examples(self, turns: Sequence[tuple[Turn, Turn]], tick: int, step: int) -> Iterator[Example]:
        """Return the rows that one conversation trains in a step of a tick."""
        o = self.options
        trained = [turns[turn][0] for turn in o.trained(tick)]
        if o.loss != "seq2seq":
            yield self._dialogue(trained)
        if o.loss != "ar":
            for turn in trained:
                age = tick - (o.turns - turn.back)
                yield self._reproduction(turn, age * o.steps_per_turn + step)

    def _dialogue(self, turns: Sequence[Turn]) -> Example:
        """Return turns as dialogue, under the ordinary loss."""
        text = "\n".join(turn.line for turn in turns)
        facts = [turn.fact.id for turn in turns]
        return text_example(self.context.encode, text, facts=facts, length=self.options.row_tokens)

    def _reproduction(self, turn: Turn, exposure: int) -> Example:
        """Return the row of a cue and its turn; only the turn is a target."""
        cue = self.turns.cue(turn, exposure)
        source = self.context.encode(cue)
        row = text_example(
            self.context.encode,
            f"{cue} {turn.words}",
            facts=[turn.fact.id],
            length=self.options.row_tokens,
        )
        if row.input_ids[: len(source)].tolist() != source:
            raise UsageError(f"the tokenizer merges the end of {cue[-20:]!r} with the turn that follows")
        mask = np.arange(len(row.input_ids)) >= len(source)
        weight = self.options.weight
        weights = None if weight == 1 else np.where(mask, weight, 1).astype(np.float32)
        return replace(row, loss_mask=mask, weights=weights)

    def _batch(self, rows: Sequence[Example]) -> Batch:
        o = self.options
        if o.packing == "none":
            return tuple(rows)
        return tuple(pack(rows, o.row_tokens, crossing=o.packing == "crossing"))

    def _background(self, index: int) -> Example:
        return background_row(self.context, index, self.options.background_tokens)

    def check_rows(self) -> None:
        """Refuse turns that do not fit a row before anything is trained.

        Few conversations are all read. Of many, only those that are asked about are read, and a bound holds for the
        others. So long streams are refused where any conversation of their kind might not fit.

        Raises:
            UsageError: naming the fact, or the bound.
        """
        o = self.options
        count = o.blocks * o.conversations
        if count > MAX_READ:
            most = longest_document(o, self.context.encode)
            if most > o.row_tokens:
                raise UsageError(
                    f"{count} conversations are too many to read before training, and one of them may have a "
                    f"document of up to {most} tokens, more than the row's {o.row_tokens}; set "
                    f"scenario.row_tokens={most} or more, or lower scenario.window"
                )
        for block in range(o.blocks) if count <= MAX_READ else o.probed:
            for number in self._of_block(block):
                turns = [turn for turn, _ in self.turns.of(number)]
                if o.loss != "seq2seq":
                    for tick in range(o.ticks):
                        self._dialogue([turns[turn] for turn in o.trained(tick)])
                if o.loss != "ar":
                    for turn, wording in product(turns, range(len(CUES[o.cue]))):
                        self._reproduction(turn, wording)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self, rest: Place) -> Mapping[str, tuple[Probe, ...]]:
        """Return all probes by set; `rest` is the rest's place in the stream."""
        o = self.options
        primary: list[Probe] = []
        all_forms: list[Probe] = []
        for block in o.probed:
            for number in self._of_block(block):
                asked = list(self.turns.asked(number))
                for pair, values in asked:
                    primary += self._ask(block, pair, PRIMARY, values)
                    for relation in PROBE_FORMS:
                        all_forms += self._ask(block, pair, relation, values)
                if o.kept:
                    sides = zip(*(pair for pair, _ in asked), strict=True)
                    lines = [[turn.line for turn in side[-o.kept :]] for side in sides]
                    for pair, _ in asked:
                        all_forms += self._ask(block, pair, PRIMARY, lines=lines)
        general = general_probes(self.context, o.background_tokens)
        rested = rest_probes(
            self.context,
            o.rest_text,
            rest.steps,
            lambda step: self._background(rest.row + step * o.batch_size),
            lambda: self.rest(rest),
        )
        sets = {"primary": tuple(primary), "ladder": tuple(all_forms), "general": general, "rest": rested}
        check_lengths(self.context, sets)
        return sets

    def _ask(
        self,
        block: int,
        pair: tuple[Turn, Turn],
        relation: Relation,
        values: Sequence[str] = (),
        lines: Sequence[Sequence[str]] = ((), ()),
    ) -> Iterator[Probe]:
        """Return probes of a turn's fact and its twin in one form, each after the lines of its own dialogue.

        Where the form asks for the whole value, `values` compete. In front of a dialogue none do: the right one is
        often the only candidate that stands in it.
        """
        for turn, before in zip(pair, lines, strict=True):
            prompt, right, chance = self._form_texts(turn, relation)
            probe = answer_probe(
                self.context.encode,
                id=f"{turn.fact.id}-{relation}{'-context' if before else ''}",
                prompt="\n".join([*before, prompt]),
                answer=right,
                fact=turn.fact.id,
                relation=relation,
                chance=chance,
                task_label=block,
                twin_of=None if turn is pair[0] else pair[0].fact.id,
                subject=turn.name,
                group="turn",
                position=turn.back,
                context=len(before),
            )
            if relation == "last_token":
                probe = last_token(probe)
            elif relation in WHOLE and values:
                probe = self._closed_sets.competing(self.context, probe, turn.fact, sorted(values))
            yield probe

    def _form_texts(self, turn: Turn, relation: Relation) -> tuple[str, str, float | None]:
        """Return prompt, answer and chance: the near probe forms continue the turn as it was trained."""
        prompt, right, chance = form_texts(turn.fact, relation)
        if relation in ("question", "paraphrase"):
            return prompt, right, chance
        given = prompt.removeprefix(statement_prompt(turn.fact, 0))  # words of the value, for last_word
        opening = f"{turn.name}:" if self.options.loss == "ar" else self.turns.cue(turn, 0)
        return f"{opening} {turn.opening}{given}", right, chance
