"""Options of `conversation_recall`."""

from __future__ import annotations

from math import floor
from typing import Literal

from pydantic import Field, model_validator

from seqmem import Options
from seqmem_scenarios.common import REST_TEXT, RestText
from seqmem_scenarios.world import ATTRIBUTES, population

RATIO_ERROR = 5e-5
"""A ratio typed with four decimals means the fraction of whole documents that is so near."""
MAX_PEOPLE = 20 * population("injected")
"""People with names of their own: beyond the plain ones come those with a middle initial."""


class ConversationRecallOptions(Options):
    """Options of `conversation_recall`."""

    blocks: int = Field(4, ge=1, description="blocks of conversations, one experience each")
    conversations: int = Field(2, ge=1, description="conversations of a block, going on at the same time")
    turns: int = Field(
        8,
        ge=2,
        le=2 * len(ATTRIBUTES),
        description="turns of a conversation; each states one fact, and no speaker speaks of one thing twice",
    )
    small_talk: float = Field(0.25, ge=0, le=1, description="share of turns that begin with a remark")
    loss: Literal["ar", "seq2seq", "both"] = Field(
        "both",
        description="ar: the dialogue's text; seq2seq: each turn after a cue, only the turn counts; both",
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="weight of a seq2seq target in the loss; every other target, so all of loss ar, has weight 1",
    )
    cue: Literal["topic", "turns_back"] = Field(
        "topic",
        description="what a seq2seq cue names beside the speaker: the topic, or the number of turns back",
    )
    window: int = Field(
        8, ge=1, description="turns back that are trained after each turn; 1 for the last only"
    )
    steps_per_turn: int = Field(2, ge=1, description="optimizer steps after each turn")
    background_ratio: float = Field(
        0.5, ge=0, lt=1, description="background documents among those and the turns trained, in every batch"
    )
    background_tokens: int = Field(64, ge=8, description="longest background document in tokens")
    packing: Literal["separate", "crossing", "none"] = Field(
        "separate",
        description="separate: packed documents do not see each other; crossing: they do; none: a row each",
    )
    row_tokens: int = Field(256, ge=8, description="length of a packed row in tokens")
    context_turns: int | None = Field(
        None, ge=0, description="last turns put in front of the in-context probes; all unless given"
    )
    probed_blocks: int | None = Field(
        None, ge=1, description="blocks asked about, spread evenly over the stream; all unless given"
    )
    rest_steps: int = Field(48, ge=1, description="steps on background text afterwards")
    rest_text: RestText = Field("any", description=REST_TEXT)
    batch_size: int = Field(16, ge=1, description="background documents per step of the rest")

    @model_validator(mode="after")
    def _consistent(self) -> ConversationRecallOptions:
        if self.background_tokens > self.row_tokens:
            raise ValueError(
                f"background_tokens ({self.background_tokens}) must be at most row_tokens ({self.row_tokens})"
            )
        if self.context_turns is not None and self.context_turns > self.turns:
            raise ValueError(f"context_turns ({self.context_turns}) must be at most turns ({self.turns})")
        if self.probed_blocks is not None and self.probed_blocks > self.blocks:
            raise ValueError(f"probed_blocks ({self.probed_blocks}) must be at most blocks ({self.blocks})")
        return self

    @model_validator(mode="after")
    def _whole_documents(self) -> ConversationRecallOptions:
        wanted = self.conversations * self.background_ratio / (1 - self.background_ratio)
        near = [count / (count + self.conversations) for count in (floor(wanted), floor(wanted) + 1)]
        if min(abs(ratio - self.background_ratio) for ratio in near) > RATIO_ERROR:
            raise ValueError(
                f"background_ratio {self.background_ratio:g} with {self.conversations} conversations asks for "
                f"{wanted:.4g} background documents a turn; nearest that can be: {near[0]:.4f} or {near[1]:.4f}"
            )
        return self

    @model_validator(mode="after")
    def _enough_people(self) -> ConversationRecallOptions:
        people = 2 * self.blocks * self.conversations
        if people > MAX_PEOPLE:
            raise ValueError(
                f"{self.blocks} blocks of {self.conversations} conversations need {people} people, the world "
                f"has {MAX_PEOPLE}; use fewer of either"
            )
        return self

    @property
    def _background_share(self) -> int:
        """Background documents for one turn of every conversation."""
        return round(self.conversations * self.background_ratio / (1 - self.background_ratio))

    @property
    def ticks(self) -> int:
        """Ticks of a block: one per turn, and those in which the window runs empty."""
        return self.turns + self.window - 1

    @property
    def block_steps(self) -> int:
        """Optimizer steps of a block."""
        return self.ticks * self.steps_per_turn

    def trained(self, tick: int) -> range:
        """Return the turns, from 0, that a conversation trains in this tick."""
        return range(max(0, tick - self.window + 1), min(tick, self.turns - 1) + 1)

    def background(self, tick: int) -> int:
        """Return background documents in a batch of this tick."""
        return len(self.trained(tick)) * self._background_share

    @property
    def block_background(self) -> int:
        """Background documents of a block: every turn is trained `window` times in each of its steps."""
        return self.turns * self.window * self.steps_per_turn * self._background_share

    @property
    def kept(self) -> int:
        """Turns in front of an in-context probe."""
        return self.turns if self.context_turns is None else self.context_turns

    @property
    def probed(self) -> list[int]:
        """Blocks that are asked about."""
        count = self.blocks if self.probed_blocks is None else self.probed_blocks
        return [number * self.blocks // count for number in range(count)]
