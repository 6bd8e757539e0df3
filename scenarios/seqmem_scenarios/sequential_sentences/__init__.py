"""`sequential_sentences`: unique sentences arrive one by one, the last few stay in the batch, then comes rest.

Every arrival is one experience: its batch holds the last `window` sentences, one a row, among rows of
background text, and is trained `repeats` times. A sentence so slides through the window and is never trained
again. When the stream begins the window is full already, of sentences that are never asked: every batch has
the same number of sentences, and the share of background is exact. The schedules:

* ``boundary``: last token, last word and verbatim completion of the asked sentences and their twins, before
  every `probe_every`-th arrival, before the rest and at the end; ``log``: the same, log-spaced in the rest;
* ``ladder``: every probe form; ``context``: one probe form after `context_sentences` sentences of the sentence's own
  window, then after one fewer, down to none; ``general``: held-out background text. All three at the start,
  after the last arrival and at the end. ``rest_text``: rows of the rest itself, at both its ends.

Recall is by forced choice in the probe forms that ask for the whole value: the right one must be more probable than
every other candidate, and candidates are values that are trained for other sentences by the time a sentence is first
asked for after its arrival (see `seqmem_scenarios.candidates`). In front of a context no answers compete.

Everything about sentence n is a pure function of (seed, n), so a stream of any length takes no more memory
than a short one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqmem import BuildContext, Decoding, Design, Outline, ScenarioSpec, Stream, hookimpl
from seqmem.streams import Schedule, Segment, Size, ask, begin, finish, log, rest, start
from seqmem_scenarios.candidates import CANDIDATE_TOKENS, MAX_CANDIDATES, WHOLE
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_FORMS,
    PROBE_TOKENS,
    bare_size,
    general_size,
    joined,
    rest_size,
    spare,
)
from seqmem_scenarios.sequential_sentences.options import SequentialSentencesOptions
from seqmem_scenarios.sequential_sentences.rows import NEAR, PRIMARY, Sentences

seqmem_api = ">=1,<2"

SENTENCE_TOKENS = 24
"""Generous bound on one sentence, for the outline."""
CONTEXT_TOKENS = 16
"""Bound on the mean length of the sentences of one context, for the outline."""


def schedule(options: SequentialSentencesOptions) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this file."""
    o = options
    edges = (begin(), begin("rest"), finish())
    return Schedule(
        [
            Segment("arrival", "inject", 1, count=o.arrivals, name="arrival {}".format, repeats=o.repeats),
            rest(o.rest_steps),
        ],
        [
            ask("near", "boundary", start("arrival", each=o.probe_every), *edges),
            ask("near", "log", log("rest")),
            *(ask(name, name, *edges) for name in ("ladder", "general", *(["context"] if o.kept else []))),
            ask("rest", "rest_text", begin("rest"), finish("rest")),
        ],
        covers={"ladder": ["near"]},
    )


def build(options: SequentialSentencesOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    sentences = Sentences(options, context)
    sets = sentences.probe_sets()
    sentences.check_rows()
    decoding = Decoding(options.temperature, options.top_k)
    make = {"arrival": sentences.arrival, "rest": lambda place: sentences.rest(place.steps)}
    design = Design(recall="forced_choice", samples=options.samples)
    return schedule(options).stream(make, sets, decoding, design)


def outline(options: SequentialSentencesOptions) -> Outline:
    """Return steps, tokens and probes, counted without making a sentence."""
    o = options
    background, rested = o.background_before(o.arrivals), o.rest_steps * o.rest_rows
    further = spare(o.rest_text, rested)
    sentence = SENTENCE_TOKENS + o.shown * CONTEXT_TOKENS
    asked = 2 * min(o.probed, o.arrivals)  # facts and twins
    competing = asked * CANDIDATE_TOKENS * MAX_CANDIDATES
    # contexts of every length, down to none
    in_context = asked * (o.kept + 1), asked * (o.kept + 1) * (PROBE_TOKENS + o.kept * CONTEXT_TOKENS // 2)
    return schedule(o).outline(
        {
            "near": bare_size(asked * len(NEAR), competing),
            "ladder": bare_size(asked * len(PROBE_FORMS), len(WHOLE) * competing),
            "context": Size(*in_context),
            "general": general_size(o.row_tokens),
            "rest": rest_size(o.rest_steps, o.row_tokens),
        },
        train_tokens=o.repeats * (o.arrivals * o.window * sentence + background * o.row_tokens)
        + rested * o.row_tokens,
        longest_row=max(o.row_tokens, sentence, PROBE_TOKENS + o.kept * CONTEXT_TOKENS),
        documents=((background + rested + further) * joined(o.row_tokens), GENERAL_DOCUMENTS),
        primary="retention",
        primary_relation=PRIMARY,
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "arrivals": 10,
        "window": 4,
        "repeats": 2,
        "probed": 10,
        "probe_every": 5,
        "context_sentences": 2,
        "rest_steps": 4,
        "row_tokens": 32,
    },
    "default": {},
    "paper": {
        "arrivals": 1000,
        "window": 100,
        "repeats": 1,
        "context_sentences": 10,
        "context_rung": "verbatim",
        "probed": 200,
        "probe_every": 20,
        "rest_steps": 1000,
        "row_tokens": 128,
    },
    "pretrained": {
        "arrivals": 30,
        "window": 9,
        "background_ratio": 0.25,
        "repeats": 2,
        "context_sentences": 2,
        "context_rung": "verbatim",
        "probed": 15,
        "probe_every": 5,
        "rest_steps": 12,
        "row_tokens": 32,
    },
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "default": {"name": "adam", "lr": 1e-3},
    "pretrained": {"name": "adam", "lr": 1e-4},
}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="sequential_sentences",
            version="3",
            summary="Unique sentences slide through a rolling window of the batch; then rest.",
            options=SequentialSentencesOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
            further_controls={"plain_rest": {"rest_text": "plain"}},
        )
    ]
