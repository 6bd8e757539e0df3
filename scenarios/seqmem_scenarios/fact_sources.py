"""Facts as they are injected and asked, and files of them: JSON lines, or the published fictional knowledge.

A file has one of two forms, recognised by its first sign:

* JSON lines (``{`` first), one fact a line: ``text`` is what is trained, ``prompt`` and ``answer`` ask for it.
  Optional: ``paraphrases`` (other wordings of the text), ``controls`` (never-trained questions of the same
  kind, each with ``prompt`` and ``answer``) and ``id``.
* The published *fictional knowledge* (``[`` first; Chang et al. 2024, arXiv 2406.11813), a list of items with
  ``train_context``, ``paraphrases`` and three lists of prompts with their targets: ``mem_`` continues the
  text word for word (probe form ``verbatim``), ``gen_`` rewords the prompt (``paraphrase``), ``hard_gen_`` asks for
  something that follows from the text (``question``).

A question is asked in the form that is trained: with whatever stands between prompt and answer in the text of the
item (`_joint`), and where prompt and answer stand in it together, in the tokens of that text's own row.

Every error in a file is one line that names the item and the remedy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqmem import Relation, UsageError, utf8
from seqmem_scenarios.world import WORLD_VERSION, Fact

WORLD = "world"
"""The value of the option `facts` that names the synthetic world; anything else is a path."""

_PUBLISHED: Mapping[str, Relation] = {"mem": "verbatim", "gen": "paraphrase", "hard_gen": "question"}
_READING = b"joined\n"
"""How files are read. It stands in the id of a run, so that another way of asking is another run."""
_LINE_KEYS = ("text", "prompt", "answer", "paraphrases", "controls", "id")
_OPENING = re.compile(r"(?:^|\s)[\"'“‘«$€£¥@#]$|[(\[「『（《【]$")
"""A prompt that ends in an opening quote or bracket, or in a sign such as $: its answer follows without a blank."""
_PUNCTUATION = ".,;:!?\"'’”)]»。，、；：！？」』）》】"


@dataclass(frozen=True)
class Question:
    """One way to ask for a fact.

    Attributes:
        relation: probe form.
        prompt: everything before the answer, without a blank at its end.
        answer: with the white space it starts with, where it has any.
        chance: probability of the answer under uniform guessing in its closed set; None for open text.
        text: the trained text that `prompt + answer` stands in; empty where they stand in none, and in the world.
        field: where a file has the answer, for messages.
    """

    relation: Relation
    prompt: str
    answer: str
    chance: float | None = None
    text: str = ""
    field: str = "answer"


@dataclass(frozen=True)
class SourceFact:
    """A fact as it is trained and asked.

    Attributes:
        id: unique in its source.
        texts: wordings that may be trained, the one that `verbatim` continues first; none for a twin.
        questions: questions about it, any number per probe form.
        subject: whom it is about; empty where the source does not say.
        twins: never-trained counterparts of the same kind.
        of_world: the fact of the world that it is; None of a file's.
        candidates: answers that compete where the whole answer is asked for, its own included; none of a file's.
    """

    id: str
    texts: tuple[str, ...]
    questions: tuple[Question, ...]
    subject: str = ""
    twins: tuple[SourceFact, ...] = ()
    of_world: Fact | None = None
    candidates: tuple[str, ...] = ()


def fingerprint(source: str) -> str:
    """Return the world's version, or the SHA-256 of the file and how it is read: it changes when the facts do.

    Raises:
        UsageError: the file cannot be read.
    """
    if source == WORLD:
        return f"{WORLD}-{WORLD_VERSION}"
    return hashlib.sha256(_READING + _content(source)).hexdigest()


def take(source: str, count: int) -> list[SourceFact]:
    """Return the first `count` facts of a file.

    Raises:
        UsageError: the file cannot be read, an item of it is wrong, or it holds too few.
    """
    found = _read(source)
    if len(found) < count:
        raise UsageError(
            f"facts {source!r} holds {len(found)} item{'s' * (len(found) != 1)}, but {count} are needed; "
            "lower scenario.facts_count, scenario.never_count or scenario.groups, or add items"
        )
    return found[:count]


# -- files ------------------------------------------------------------------------------------------------


def _content(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:  # not only the system's: "~nobody", a null character
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error).rstrip(".")
        raise UsageError(
            f"facts {path!r} cannot be read: {why}; give {WORLD!r} or a JSON or JSONL file "
            "with --set scenario.facts=..."
        ) from None


def _read(path: str) -> list[SourceFact]:
    """Return every fact of a file, in its order."""
    where = f"facts {path!r}"
    text = utf8(_content(path), where)
    found = _items(text, where) if text.lstrip().startswith("[") else _lines(text, where)
    seen: dict[str, str] = {}
    for at, fact in found:
        for name in (fact.id, *(twin.id for twin in fact.twins)):
            if name in seen:
                raise UsageError(
                    f"{at} has the id {name!r} of {seen[name]}; give every fact an id of its own"
                )
            seen[name] = at.removeprefix(f"{where} ")
    return [fact for _, fact in found]


def _lines(text: str, where: str) -> list[tuple[str, SourceFact]]:
    """Return facts of a JSONL file, each with its place for messages."""
    found = []
    # Not splitlines: JSON strings may hold other line separators, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        at = f"{where} line {number}"
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{at} is not JSON: {_not_json(error)}; write one fact per line") from None
        if not isinstance(item, dict):
            raise UsageError(f"{at} is not a JSON object; write one fact per line")
        extra = sorted(set(item) - set(_LINE_KEYS))
        if extra:
            raise UsageError(f"{at} has an unknown key {extra[0]!r}; allowed: {', '.join(_LINE_KEYS)}")
        found.append((at, _of_line(item, at, str(number))))
    if not found:
        raise UsageError(f"{where} holds no fact")
    return found


def _of_line(item: Mapping[str, Any], at: str, number: str) -> SourceFact:
    name = item.get("id", number)
    if not isinstance(name, str | int) or isinstance(name, bool) or not str(name).strip():
        raise UsageError(f"{at}: 'id' must be a text or a whole number, not {json.dumps(name)}")
    texts = (_text(item, "text", at), *_texts(item, "paraphrases", at))
    answer = _text(item, "answer", at)
    _check_stands(answer, texts[0], at, "answer", "text")
    own = _question("verbatim", _raw(item, "prompt", at), _raw(item, "answer", at), texts, answer)
    controls = item.get("controls", [])
    if not isinstance(controls, list) or not all(isinstance(control, dict) for control in controls):
        raise UsageError(f"{at}: 'controls' must be a list of objects with 'prompt' and 'answer'")
    twins = tuple(
        SourceFact(f"{name}-control-{turn}", (), _near(_control(control, turn + 1, at, texts, answer)))
        for turn, control in enumerate(controls)
    )
    return SourceFact(str(name), texts, _near(own), twins=twins)


def _control(control: Mapping[str, Any], number: int, at: str, texts: Sequence[str], answer: str) -> Question:
    """Return the question of a control, which is joined as the fact's own answer would be."""
    where = f"{at} control {number}"
    asked = (_raw(control, "prompt", where), _raw(control, "answer", where))
    return _question("verbatim", *asked, texts, answer, field=f"control {number} answer", trained=False)


def _items(text: str, where: str) -> list[tuple[str, SourceFact]]:
    """Return facts of a file in the published form, each with its place for messages."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {_not_json(error)}") from None
    found = []
    for number, item in enumerate(items):
        at = f"{where} item {number}"
        if not isinstance(item, dict):
            raise UsageError(f"{at} is not a JSON object with 'train_context' and the prompts and targets")
        texts = (_text(item, "train_context", at), *_texts(item, "paraphrases", at))
        questions: list[Question] = []
        for depth, relation in _PUBLISHED.items():
            prompts = _raw_texts(item, f"{depth}_input", at, needed=True)
            targets = _raw_texts(item, f"{depth}_target", at, needed=True)
            if len(prompts) != len(targets):
                raise UsageError(
                    f"{at} has {len(prompts)} {depth}_input and {len(targets)} {depth}_target; "
                    "every prompt needs its target"
                )
            for turn, (prompt, target) in enumerate(zip(prompts, targets, strict=True), start=1):
                field, answer = f"{depth}_target {turn}", target.strip()
                if depth != "hard_gen":  # whose answer follows from the text
                    _check_stands(answer, texts[0], at, field, "train_context")
                elif answer not in texts[0]:
                    answer = questions[0].answer.strip()
                question = _question(relation, prompt, target, texts, answer, field=field)
                questions += _near(question) if relation == "verbatim" else [question]
        found.append((at, SourceFact(str(number), texts, tuple(questions))))
    if not found:
        raise UsageError(f"{where} holds no fact")
    return found


def _not_json(error: Exception) -> str:
    return "too many brackets in one another" if isinstance(error, RecursionError) else str(error)


def _text(item: Mapping[str, Any], key: str, at: str) -> str:
    """Return a text, which must be present, without white space at its ends."""
    return _raw(item, key, at).strip()


def _raw(item: Mapping[str, Any], key: str, at: str) -> str:
    """Return a text as it stands in the file, which must be present."""
    if key not in item:
        raise UsageError(f"{at} has no {key!r}")
    value = item[key]
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{at}: {key!r} must be a text that is not empty, not {json.dumps(value)[:40]}")
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        raise UsageError(f"{at}: {key!r} holds half of a surrogate pair, which is not text")
    return value


def _texts(item: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
    """Return a list of texts without white space at their ends, which may be missing or empty."""
    return tuple(text.strip() for text in _raw_texts(item, key, at))


def _raw_texts(item: Mapping[str, Any], key: str, at: str, *, needed: bool = False) -> tuple[str, ...]:
    """Return a list of texts as they stand in the file, which may be missing or empty unless it is needed."""
    values = item.get(key, [])
    if needed and not values:
        raise UsageError(f"{at} has no {key!r}")
    if not isinstance(values, list):
        raise UsageError(f"{at}: {key!r} must be a list of texts")
    return tuple(_raw({key: value}, key, f"{at} {key} {turn + 1}") for turn, value in enumerate(values))


def _check_stands(answer: str, text: str, at: str, field: str, key: str) -> None:
    """Refuse an answer that the trained text does not hold: nothing would teach it."""
    if answer in text:
        return
    other = re.search(re.escape(answer), text, re.IGNORECASE)
    hint = f"write {other[0]!r}, as it does" if other else "write it as the text does, sign by sign"
    raise UsageError(f"{at}: {field} {answer[:60]!r} does not stand in {key!r}; {hint}")


def _question(
    relation: Relation,
    prompt: str,
    answer: str,
    texts: Sequence[str],
    like: str,
    *,
    field: str = "answer",
    trained: bool = True,
) -> Question:
    """Return a question in the form in which its fact is trained.

    Args:
        relation: probe form.
        prompt: as it stands in the file.
        answer: as it stands in the file.
        texts: the fact's wordings.
        like: an answer that stands in the first of them, before which the joint is read off.
        field: where the file has the answer.
        trained: prompt and answer may stand in a text; those of a control may not.
    """
    asked, right = prompt.strip(), answer.strip()
    for text in texts if trained else ():
        found = _found(rf"{re.escape(asked)}(\s*){re.escape(right)}", text)
        if found:
            return Question(relation, asked, found[1] + right, text=text, field=field)
    stated = prompt[len(prompt.rstrip()) :] or answer[: len(answer) - len(answer.lstrip())]
    return Question(relation, asked, (stated or _joint(asked, like, texts[0])) + right, field=field)


def _joint(prompt: str, answer: str, text: str) -> str:
    """Return what joins an answer to a prompt in other words than the text's: what stands before it in the text.

    Nothing follows an opening quote, a bracket or a sign such as $. An answer behind a sign that the prompt does not
    end in, such as a quote, says nothing: a blank is taken then, or nothing in a text that has no white space. Several
    blanks, as between sentences, are one.
    """
    if _OPENING.search(prompt):
        return ""
    for pattern in _whole_words_first(re.escape(answer)):
        for found in re.finditer(pattern, text):
            before = text[: found.start()].rstrip()
            joint = text[len(before) : found.start()]
            if before and (joint or before[-1].isalnum() or before[-1] == prompt[-1]):
                return joint if joint.strip(" ") else joint[:1]
    return " " if re.search(r"\s", text) else ""


def _found(pattern: str, text: str) -> re.Match[str] | None:
    """Return where a text has a pattern, first as whole words."""
    return next(filter(None, (re.search(wanted, text) for wanted in _whole_words_first(pattern))), None)


def _whole_words_first(pattern: str) -> tuple[str, str]:
    """Return a pattern as whole words and as any part of a text: not every script parts its words."""
    return rf"(?<!\w){pattern}(?!\w)", pattern


def _near(question: Question) -> tuple[Question, ...]:
    """Return the probe forms nearest the trained text, punctuation excluded, the answer itself last."""
    bare = question.answer.rstrip(_PUNCTUATION)
    if not bare.strip():
        return (question,)
    before, blank, last = bare.rpartition(" ")
    token = replace(question, relation="last_token", answer=bare)
    word = replace(question, relation="last_word", prompt=question.prompt + before, answer=blank + last)
    return token, word, question
