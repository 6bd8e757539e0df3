"""A bound on the longest row of `conversation_recall`, for streams too long to be read before training."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from seqmem_scenarios.conversation_recall.options import ConversationRecallOptions
from seqmem_scenarios.conversation_recall.turns import CUES, SAYINGS
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, names, population
from seqmem_scenarios.world.grammar import TURNS, WORDS


def longest_document(options: ConversationRecallOptions, encode: Callable[[str], list[int]]) -> int:
    """Return a bound on the tokens of any dialogue or cue with its turn, of any seed.

    Every template is taken with its longest fillers, word by word: a text has at most as many tokens as its
    words have by themselves where tokens do not reach across a blank.
    """
    o = options
    front = len(encode(""))

    @cache
    def tokens(word: str) -> int:
        return len(encode(word)) - front

    def most(template: str, words: Mapping[str, Sequence[str]]) -> int:
        """Return the most tokens of a template, each of its words with the blank before it."""
        total = 0
        for place, piece in enumerate(template.split(" ")):
            slot = re.search(r"\{(\w+)\}", piece)
            filled = [piece.replace(slot[0], filler) for filler in words[slot[1]]] if slot else [piece]
            filled = [text[0].upper() + text[1:] for text in filled] if place == 0 else filled
            total += max(sum(tokens(f" {word}") for word in text.split(" ")) for text in filled)
        return total

    first_names, surnames = names("injected")
    initials = {"initial": [f"{letter}." for letter in string.ascii_uppercase]}
    known = {
        **WORDS,
        "first": first_names,
        "last": surnames,
        **initials,
        "back": [f"{back} turns before the end" for back in range(1, o.turns + 1)],
    }
    name = (
        "{first} {initial} {last}"
        if 2 * o.blocks * o.conversations > population("injected")
        else "{first} {last}"
    )
    remark = max(most(form, known) for exchange in TURNS for form in exchange) if o.small_talk else 0
    facts = {
        topic: max(most(saying, {"value": ATTRIBUTE_BY_NAME[topic].values}) for saying in sayings)
        for topic, sayings in SAYINGS.items()
    }
    longest = 0
    if o.loss != "seq2seq":
        # No speaker speaks of one thing twice, so that two turns at most are about the same.
        topics = sorted([*facts.values(), *facts.values()], reverse=True)[: min(o.window, o.turns)]
        line = tokens("\n") + most(f"{name}:", known) + remark
        longest = len(topics) * line + sum(topics)
    if o.loss != "ar":
        for topic, fact in facts.items():
            for form in CUES[o.cue]:
                cue = most(form.replace("{name}", name), {**known, "topic": [topic]})
                longest = max(longest, cue + remark + fact)
    return front + longest
