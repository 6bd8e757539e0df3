"""The pretraining text of a model: its documents, its tokenizer and its batches.

A batch is a pure function of (recipe, seed, step), so a resumed run needs no state of the stream.
"""

from collections.abc import Iterator
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from seqmem_scenarios.model_sizes.recipe import Mixture, Recipe
from seqmem_scenarios.world.documents import (
    biography,
    dialogue,
    draw_attributes,
    filler,
    join_questions,
    place_prose,
    questionnaire,
)
from seqmem_scenarios.world.draw import Draw
from seqmem_scenarios.world.people import Person, World, population

END_OF_TEXT = "<|endoftext|>"
# Pretraining prose and dialogues come from streams of negative seeds, which no benchmark uses.
TRAIN_STREAM, HELD_OUT_STREAM = -1, -2
_STEP_STRIDE = 100_000  # document numbers kept apart for one step; far more than a step uses
_ONEOFF_STRIDE = 1000  # the same for one-off people
_MISSES = 12  # documents that may find no room before the rest of a batch is filled with prose


class Corpus:
    """The documents of one mixture and seed, drawn step by step."""

    def __init__(self, mixture: Mixture, seed: int) -> None:
        """Prepare the known people; everybody else is made when needed."""
        self._mixture = mixture
        self._seed = seed
        self._known = World(seed).people("known", mixture.known_people)

    def documents(self, step: int) -> Iterator[str]:
        """Return the endless documents of one step."""
        mixture, draw = self._mixture, Draw("corpus", self._seed, step)
        strangers = (self._oneoff(step * _ONEOFF_STRIDE + number) for number in count())
        for number in count(step * _STEP_STRIDE):
            share = draw.below(10_000) / 10_000
            if share < mixture.known:
                yield self._about_known(draw)
            elif share < mixture.known + mixture.oneoff:
                yield self._about_oneoff(draw, strangers)
            elif share < mixture.known + mixture.oneoff + mixture.dialogue:
                yield dialogue(TRAIN_STREAM, number)
            else:
                yield self.prose(number)

    def prose(self, number: int) -> str:
        """Return general text about nobody: everyday prose, now and then that of some loop's place."""
        draw = Draw("prose", self._seed, number)
        if draw.chance(0.25):
            return place_prose(TRAIN_STREAM, draw.below(200), number)
        return filler(TRAIN_STREAM, number)

    def _oneoff(self, number: int) -> Person:
        # Numbers past one world's names go on in the next world: a name may return as somebody else.
        lap, index = divmod(number, population("oneoff"))
        return World(self._seed + lap).person("oneoff", index)

    def _about_known(self, draw: Draw) -> str:
        person = draw.pick(self._known)
        attributes = draw_attributes(draw, 3)
        share = draw.below(10_000) / 10_000
        if share < self._mixture.known_bare:
            return join_questions("", questionnaire(person, draw, attributes), draw)
        asked = share < self._mixture.known_bare + self._mixture.known_read
        return biography(person, draw, attributes, questions=draw.between(1, len(attributes)) if asked else 0)

    def _about_oneoff(self, draw: Draw, strangers: Iterator[Person]) -> str:
        """Return statements about one person or a few, and mostly questions about what they said.

        One-off people are never asked about without their text: the answer would be noise.
        """
        asked = draw.chance(self._mixture.oneoff_asked)
        if not draw.chance(self._mixture.oneoff_crowd):
            attributes = draw_attributes(draw)
            questions = draw.between(1, len(attributes)) if asked else 0
            return biography(next(strangers), draw, attributes, questions=questions)
        told_of = [(person, draw_attributes(draw, 2)) for person in islice(strangers, draw.between(2, 3))]
        text = " ".join(biography(person, draw, told) for person, told in told_of)
        if not asked:
            return text
        questions_of = [text for person, told in told_of for text in questionnaire(person, draw, told)]
        return join_questions(text, draw.sample(questions_of, draw.between(1, 2)), draw)


def train_tokenizer(recipe: Recipe, seed: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE that puts `<|endoftext|>` in front of every text, as OPT does with `</s>`.

    It never reads about known people, so their surnames cost as many tokens as anybody else's.
    """
    general = Mixture(known=0.0, oneoff=0.85, dialogue=0.05, oneoff_asked=0.7)
    texts = islice(Corpus(general, seed).documents(0), recipe.tokenizer_documents)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A $B",
        special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=recipe.positions,
    )


class Batches:
    """Token batches of a recipe, packed so that as few documents as possible are cut."""

    def __init__(self, recipe: Recipe, seed: int, tokenizer: PreTrainedTokenizerFast) -> None:
        """Bind the stream to a tokenizer."""
        self._recipe = recipe
        self._corpus = Corpus(recipe.mixture, seed)
        self._tokenizer = tokenizer

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the (rows, block) token ids of one step; every row begins with a document.

        Each document, `<|endoftext|>` first, goes to the first row with room for it. The rest of
        a row is filled with prose that is cut at its end.
        """
        recipe = self._recipe
        long = step % recipe.long_every == recipe.long_every - 1
        block = recipe.long_block if long else recipe.block
        rows: list[list[int]] = [[] for _ in range(recipe.batch_tokens // block)]
        documents = self._corpus.documents(step)
        misses = 0
        while misses < _MISSES:
            for ids in self._encode(list(islice(documents, _MISSES))):
                row = next((row for row in rows if len(row) + len(ids) <= block), None)
                if row is None:
                    misses += 1
                else:
                    row += ids
        filling = count((step + 1) * _STEP_STRIDE - len(rows) * block)
        for row in rows:
            while len(row) < block:
                row += self._encode([self._corpus.prose(next(filling))])[0]
        return np.array([row[:block] for row in rows], dtype=np.int64)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(texts)["input_ids"]
        return ids
