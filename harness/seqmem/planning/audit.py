"""What an audit finds: whether a stream's questions can be measured on a model, before anything is trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from seqmem.core.data import Probe, Relation
from seqmem.core.digits import fixed, without_zero
from seqmem.core.guessing import expected, is_improbable, standard_error
from seqmem.core.sanitize import clean

ERRORS = 3.0
"""Standard errors from chance from which on the screen tells; a run is refused from `core.guessing.IMPROBABLE` on."""
MIN_FORMAT_RATE = 0.5
"""Format rate below which exact match says nothing."""


class Asked(NamedTuple):
    """A probe and what an untrained model answers: place among the choices, exactly right, in the right form."""

    probe: Probe
    rank: int | None
    exact: bool
    in_form: bool | None


class _Found(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(_Found):
    """Facts, or twins, of one probe form by forced choice.

    Attributes:
        asked, right: questions, and those whose answer is the most probable candidate.
        expected, error: right answers expected of guessing, and the standard error of that.
        refused: guessing does not explain it.
    """

    asked: int
    right: int
    expected: float
    error: float
    refused: bool

    @property
    def off(self) -> float:
        """Return the distance from chance in standard errors."""
        return (self.right - self.expected) / self.error if self.error else 0.0


class Form(_Found):
    """One probe form.

    Attributes:
        name: its name, with what is put in front of the prompt.
        primary: recall is read from it.
        facts, twins: by forced choice; None where it has none.
        exact: trained facts answered exactly, as a share.
        in_form: answers that begin as one of the closed set does, as a share; None without such a set.
        tokens, most_tokens: tokens per answer, mean and largest.
        joined: facts whose answer stands in a row that trains it with the tokens it is asked with, and facts looked
            for; None where no row states them or the rows were not looked at.
    """

    name: str
    primary: bool
    facts: Group | None
    twins: Group | None
    exact: float
    in_form: float | None
    tokens: float
    most_tokens: int
    joined: tuple[int, int] | None = None


class Check(_Found):
    """One line of an audit.

    Attributes:
        state: ``ok``; ``told``, which a reader has to know; ``failed``, with which the primary measure would be false.
        text: what was found, and what to change.
    """

    state: Literal["ok", "told", "failed"]
    text: str


class Audit(_Found):
    """The audit of one stream with one model.

    Attributes:
        recall: how a fact counts as recalled.
        rows: longest row trained, longest probe, both in tokens, and what the model reads at once.
        counted: the rows that are trained were looked at; otherwise their longest is a bound.
    """

    scenario: str
    model: str
    seed: int
    recall: Literal["exact_match", "forced_choice"]
    forms: tuple[Form, ...]
    rows: tuple[int, int, int]
    counted: bool
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Return whether the primary measure can be trusted."""
        return all(check.state != "failed" for check in self.checks)


def form_of(probe: Probe) -> str:
    """Return the name of a probe's form."""
    cue = "" if probe.cue == "none" else f", cue {probe.cue}"
    return f"{probe.relation}{cue}{', in context' if probe.context else ''}"


def group_of(asked: Sequence[Asked]) -> Group | None:
    """Return what forced choice finds; None where the answers do not compete."""
    asked = [one for one in asked if one.rank is not None]
    if not asked:
        return None
    probes = [one.probe for one in asked]
    right = sum(one.rank == 1 for one in asked)
    return Group(
        asked=len(asked),
        right=right,
        expected=expected(probes),
        error=standard_error(probes),
        refused=is_improbable(probes, right),
    )


def forms_of(asked: Iterable[Asked], primary: Relation) -> list[Form]:
    """Return what was found by probe form, the primary one first."""
    by_form: defaultdict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        by_form[form_of(one.probe)].append(one)
    return sorted((_form(name, own, primary) for name, own in by_form.items()), key=lambda f: not f.primary)


def _form(name: str, asked: Sequence[Asked], primary: Relation) -> Form:
    facts = [one for one in asked if not one.probe.never_trained]
    spoken = [one.in_form for one in asked if one.in_form is not None]
    tokens = [len(one.probe.input_ids) - one.probe.answer_start for one in asked]
    return Form(
        name=name,
        primary=name == primary,
        facts=group_of(facts),
        twins=group_of([one for one in asked if one.probe.never_trained]),
        exact=sum(one.exact for one in facts) / max(len(facts), 1),
        in_form=sum(spoken) / len(spoken) if spoken else None,
        tokens=sum(tokens) / len(tokens),
        most_tokens=max(tokens),
    )


def chance_checks(form: Form) -> list[Check]:
    """Return whether facts and twins of the primary form lie at chance before training."""
    named = (("facts", form.facts), ("never-trained twins", form.twins))
    return [_chance_check(form.name, what, group) for what, group in named if group is not None]


def _chance_check(form: str, what: str, group: Group) -> Check:
    text = (
        f"{form}: {group.right} of {group.asked} {what} are right before training, guessing gives "
        f"{fixed(group.expected, 1)} with a standard error of {fixed(group.error, 1)}"
    )
    if not group.refused and abs(group.off) <= ERRORS:
        return Check(state="ok", text=text)
    if group.off > 0 and what == "facts":
        why = "the model may know them; take facts it has not met, or another model"
    else:
        why = "the model prefers some of the answers; take another model or other facts"
    return Check(state="failed" if group.refused else "told", text=f"{text}: {why}")


def answer_checks(probes: Iterable[Probe], unknown: int | None) -> list[Check]:
    """Return whether the tokenizer can tell the answers: unknown tokens, and different answers with the same ids."""
    answers = [p for p in probes if p.relation not in ("general", "last_token")]
    ids = {p.id: p.input_ids[p.answer_start :] for p in answers}
    unread = [p for p in answers if unknown is not None and unknown in ids[p.id]]
    texts: dict[tuple[int, ...], str] = {}
    alike = [p for p in answers if texts.setdefault(ids[p.id], p.answer.strip()) != p.answer.strip()]
    found = []
    if unread:
        found.append(
            f"{_count(unread)} of {_count(answers)} answers hold the tokenizer's unknown token, first "
            f"{_shown(unread[0])}: write them in signs it knows or take another model"
        )
    if alike:
        found.append(
            f"different answers are the same tokens, first {_shown(alike[0])} and {texts[ids[alike[0].id]]!r}: change "
            "one of them or take another model"
        )
    return [Check(state="failed", text=text) for text in found] or [
        Check(state="ok", text="no answer holds an unknown token; different answers have different tokens")
    ]


def form_checks(forms: Sequence[Form]) -> list[Check]:
    """Return what a reader of the forms has to know: whether exact match can be read, and how answers are joined."""
    told = []
    foreign = [
        f"{form.name} {share(form.in_form)}"
        for form in forms
        if form.in_form is not None and form.in_form < MIN_FORMAT_RATE
    ]
    if foreign:
        told.append(
            f"exact match is not interpretable for {_these(foreign)}, by the share of greedy answers in the form: "
            f"{', '.join(foreign)}; read forced choice, or take a model that answers so"
        )
    apart = [
        f"{form.name} {form.joined[1] - form.joined[0]} of {form.joined[1]}"
        for form in forms
        if form.joined is not None and form.joined[0] < form.joined[1]
    ]
    if apart:
        told.append(
            f"answers are not asked with the tokens they are trained with: {', '.join(apart)}; end the prompts where a "
            "token of the trained text ends"
        )
    return [Check(state="told", text=text) for text in told]


def _these(forms: Sequence[str]) -> str:
    return "this form" if len(forms) == 1 else "these forms"


def share(value: float) -> str:
    """Return a share as tables have it: ``.41``."""
    return without_zero(fixed(value, 2))


def _count(probes: Sequence[Probe]) -> str:
    return f"{len({probe.answer for probe in probes}):,}"


def _shown(probe: Probe) -> str:
    return repr(clean(probe.answer.strip())[:60])
