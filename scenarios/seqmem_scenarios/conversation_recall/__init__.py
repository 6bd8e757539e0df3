"""`conversation_recall`: conversations are trained turn by turn; are their turns remembered without them?

An experience is a block of conversations that go on at the same time, each between two invented people who
tell facts about themselves. A *tick* is one turn of every conversation: after turn t the last `window` turns
are trained, in `loss`

* ``ar``: as dialogue, every token a target;
* ``seq2seq``: each turn after a cue that asks for it, only the turn's own tokens being targets;
* ``both``: in both ways;

and for every turn trained there is background text under the ordinary loss, all packed into rows. After the
last turn the window runs empty, so that every turn is trained equally often. After the last
block the learner rests on background text. Turns are counted back from the end of their conversation: the
last one is 1 back (`Probe.position`). The schedules:

* ``boundary``: every fact and twin in the primary probe form, before every block, before the rest, at the end;
* ``log``: the same over the rest, log-spaced;
* ``ladder``: every probe form, and the primary one with the dialogue in front of it; ``general``: held-out
  background text; at the start, when the conversations are done, and at the end;
* ``rest_text``: rows of the rest itself, at both its ends.

Recall is by forced choice in the probe forms that ask for the whole value: the right one must be more probable than
every other candidate, and candidates are values that other turns state by the time a block has been trained (see
`seqmem_scenarios.candidates`). In front of a dialogue no answers compete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqmem import BuildContext, Design, Outline, ScenarioSpec, Stream, hookimpl
from seqmem.streams import Schedule, Segment, Size, ask, begin, finish, log, rest, start
from seqmem_scenarios.candidates import CANDIDATE_TOKENS, MAX_CANDIDATES, WHOLE
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_FORMS,
    PROBE_TOKENS,
    general_size,
    joined,
    rest_size,
    spare,
)
from seqmem_scenarios.conversation_recall.options import ConversationRecallOptions
from seqmem_scenarios.conversation_recall.rows import PRIMARY, Conversations

seqmem_api = ">=1,<2"

TURN_TOKENS = 48
"""Generous bound on a turn with its speaker's name, for the outline."""


def schedule(options: ConversationRecallOptions) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this file."""
    o, edges = options, (begin(), begin("rest"), finish())
    return Schedule(
        [
            Segment(
                "block",
                "inject",
                o.block_steps,
                count=o.blocks,
                rows=o.block_background,
                name="block {}".format,
                label=int,
            ),
            rest(o.rest_steps, rows=o.rest_steps * o.batch_size, name="rest"),
        ],
        [
            ask("primary", "boundary", start(), finish()),
            ask("primary", "log", log("rest")),
            ask("ladder", "ladder", *edges),
            ask("general", "general", *edges),
            ask("rest", "rest_text", begin("rest"), finish()),
        ],
    )


def build(options: ConversationRecallOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    made, times = Conversations(options, context), schedule(options)
    made.check_rows()
    make = {"block": made.block, "rest": made.rest}
    probe_sets = made.probe_sets(times.first("rest"))
    return times.stream(make, probe_sets, design=Design(recall="forced_choice"))


def outline(options: ConversationRecallOptions) -> Outline:
    """Return steps, tokens and probes, counted without making a conversation."""
    o, times = options, schedule(options)
    stated = o.blocks * o.conversations * o.turns * o.window * o.steps_per_turn
    asked = 2 * len(o.probed) * o.conversations * o.turns
    in_context = asked if o.kept else 0
    competing = asked * CANDIDATE_TOKENS * MAX_CANDIDATES
    further = spare(o.rest_text, o.rest_steps * o.batch_size)
    bare_tokens, dialogue_tokens = PROBE_TOKENS + TURN_TOKENS, o.kept * TURN_TOKENS + PROBE_TOKENS
    return times.outline(
        {
            "primary": Size(asked, asked * bare_tokens + competing),
            "ladder": Size(
                len(PROBE_FORMS) * asked + in_context,
                len(PROBE_FORMS) * asked * bare_tokens
                + len(WHOLE) * competing
                + in_context * dialogue_tokens,
            ),
            "general": general_size(o.background_tokens),
            "rest": rest_size(o.rest_steps, o.background_tokens),
        },
        train_tokens=stated * TURN_TOKENS * (2 if o.loss == "both" else 1) + times.rows * o.background_tokens,
        longest_row=max(o.row_tokens, dialogue_tokens),
        documents=((times.rows + further) * joined(o.background_tokens), GENERAL_DOCUMENTS),
        primary="retention",
        primary_relation=PRIMARY,
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "blocks": 2,
        "conversations": 1,
        "turns": 4,
        "window": 2,
        "rest_steps": 6,
        "batch_size": 4,
    },
    "default": {},
    "paper": {
        "blocks": 16,
        "conversations": 8,
        "turns": 12,
        "window": 6,
        "background_tokens": 256,
        "row_tokens": 1024,
        "rest_steps": 500,
        "batch_size": 16,
    },
    "pretrained": {
        "blocks": 3,
        "turns": 6,
        "window": 4,
        "background_ratio": 0.3333,
        "background_tokens": 32,
        "context_turns": 2,
        "rest_steps": 16,
        "batch_size": 8,
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
            name="conversation_recall",
            version="3",
            summary="Conversations trained turn by turn, asked about turns 1 to n back without them; then rest.",
            options=ConversationRecallOptions,
            presets=PRESETS,
            models={"paper": "EleutherAI/pythia-410m"},
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
            further_controls={"plain_rest": {"rest_text": "plain"}},
        )
    ]
