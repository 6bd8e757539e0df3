"""The request of a user: every field is an option of the command line and an argument of the Python verbs.

The text beside a type is the help of the option. The models are plain dataclasses, so that `seqmem --help` can read
them without importing pydantic; `read` checks values with it.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Ge

from seqmem.core.choices import AttentionChoice, DisplayName, Precision, Probing
from seqmem.core.errors import UsageError, unknown

Texts = tuple[str, ...]
Count = Annotated[int, Ge(1)]
CountOrAuto = Count | Literal["auto"]

PYTHON_ONLY = ("probing", "disabled")
"""Fields without an option on the command line."""


@dataclass(frozen=True)
class Request:
    """A bench: what is to be run.

    No `model` means the one each scenario proposes, no `sweep` what the scenario's preset sweeps.
    """

    scenario: Annotated[Texts, "Scenario to run; may be repeated."]
    strategy: Annotated[Texts, "Strategy to compare; may be repeated."]
    model: Annotated[
        Texts,
        "A model that is listed, a local folder or a Hugging Face id; may be repeated. By default the one "
        "the scenario proposes, which is tiny for most.",
    ] = ()
    preset: Annotated[str, "Size of the scenario: smoke, default, paper, or one of its own."] = "default"
    seeds: Annotated[str, "Seeds, e.g. 0-4 or 0,3,7."] = "0-2"
    set: Annotated[Texts, "Option of scenario, strategy, optimizer or text, e.g. scenario.loops=4."] = ()
    sweep: Annotated[
        Texts,
        "A row per value of an option and a figure against it: strategy.init=average,zero. May be repeated "
        "for all combinations; by default what the preset sweeps.",
    ] = ()
    tuned: Annotated[
        Texts,
        "A search file of `seqmem tune`: what it chose is applied to its strategy. May be repeated.",
    ] = ()
    text: Annotated[str, "Background text: world, a text file, or a dataset id."] = "world"
    optimizer: Annotated[str | None, "adam, adamw or sgd; the preset proposes one."] = None
    lr: Annotated[float | None, "Learning rate; the preset proposes one."] = None
    revision: Annotated[str | None, "Revision of a Hugging Face id, e.g. step3000."] = None
    precision: Annotated[
        Precision,
        "float32, bf16-mixed (weights and moments in float32, products in bfloat16), bfloat16 or float16.",
    ] = "float32"
    attention: Annotated[
        AttentionChoice, "auto, eager, sdpa or flash_attention_2; auto is sdpa where the architecture has it."
    ] = "auto"
    trust_remote_code: Annotated[bool, "Run code that comes with the model; recorded."] = False
    device: Annotated[str, "auto, cpu or cuda."] = "auto"
    threads: Annotated[
        CountOrAuto, "Threads per run; auto: the cores divided by the runs of the request, at least 1."
    ] = 1
    micro_tokens: Annotated[
        CountOrAuto | None,
        "Tokens of a forward in training, padding included: a larger batch is read in parts, and what it trains "
        "is the same but for rounding. auto: what takes 2 GiB; by default the whole batch at once.",
    ] = None
    activation_checkpointing: Annotated[
        bool,
        "Keep the activations at the borders of the model's blocks only and compute the rest again: less memory, "
        "more time, the same bits.",
    ] = False
    probing: Annotated[Probing, "When probes are asked: as the stream says, after every step, or never."] = (
        "schedule"
    )
    reference: Annotated[bool, "Leave out the reference strategy."] = True
    controls: Annotated[bool, "Leave out the scenario's controls."] = True
    control: Annotated[
        Texts, "A control of the scenario that is run only where it is asked for; may be repeated."
    ] = ()

    def asked(self) -> dict[str, Any]:
        """Return what differs from the defaults of a bench, for the record."""
        return {
            f.name: list(value) if isinstance(value, tuple) else value
            for f in fields(Request)
            if (value := getattr(self, f.name)) != f.default
        }

    def as_bench(self, **changes: Any) -> Request:
        """Return the request of a bench with some fields changed, less what only another verb has."""
        return Request(**{f.name: getattr(self, f.name) for f in fields(Request)} | changes)


@dataclass(frozen=True)
class TuneRequest(Request):
    """A search; its trials are rows of a bench without reference."""

    scenario: Annotated[Texts, "Scenario to tune on."]
    model: Annotated[Texts, "Model to tune; by default the one the scenario proposes."] = ()
    seeds: Annotated[str, "Tuning seeds: 100 and up, those below are for scoring."] = "100-101"
    reference: bool = False
    controls: Annotated[bool, "Run the scenario's controls as well, for a measure that needs them."] = False
    space: Annotated[
        Texts,
        "Values to try of an option of strategy or optimizer: strategy.lam=10,100,1000. May be repeated for "
        "all combinations; by default the learning rate at a third of the preset's, at it, and at three times.",
    ] = ()
    budget: Annotated[
        Count, "Runs each strategy may take. A grid of more is sampled at random, always the same way."
    ] = 12
    measure: Annotated[str | None, "What is best; by default the measure the scenario ranks by."] = None


@dataclass(frozen=True)
class SuiteRequest(Request):
    """A suite: its parts name scenario and preset, and `models` the models of all of them."""

    scenario: Texts = ()
    strategy: Annotated[Texts, "Strategy to run; may be repeated."] = ("naive",)
    models: Annotated[
        str,
        "Models separated by commas: names that are listed, folders, Hugging Face ids, or a list the suite "
        "knows, such as embedded, pythia or opt. Those that cannot be used are left out and named.",
    ] = "tiny"
    smoke: Annotated[bool, "Run every part at preset smoke: seconds, to see that all works."] = False


@dataclass(frozen=True)
class AuditRequest(Request):
    """An audit; its runs are planned as those of a bench of the scenario's reference strategy, and not trained."""

    strategy: Texts = ()
    scenario: Annotated[Texts, "Scenario whose probes are asked; may be repeated."] = ()
    seeds: Annotated[str, "Seeds, e.g. 0-4 or 0,3,7."] = "0"
    reference: bool = False
    controls: bool = False


@dataclass(frozen=True)
class Execution:
    """The way runs are carried out; nothing in it changes their results."""

    out: Annotated[Path, "Output folder; finished runs in it are reused."] = Path("runs")
    workers: Annotated[Count | None, "Runs at a time; by default one per core, on a GPU one."] = None
    resume: Annotated[bool, "Continue unfinished runs from their checkpoints."] = False
    force: Annotated[bool, "Run finished runs again, start unfinished ones over."] = False
    accept_versions: Annotated[
        bool, "Keep runs that other versions of torch, transformers or seqmem made; the table says so."
    ] = False
    accept_audit: Annotated[
        bool, "Run on models that the audit before the first step refuses; the table says so."
    ] = False
    checkpoint_every: Annotated[str, "Steps between checkpoints, 50, or minutes, 10m."] = "50"
    keep_checkpoints: Annotated[bool, "Keep the last checkpoints of finished runs."] = False
    save_models: Annotated[bool, "Leave each trained model in its record, as transformers loads it."] = False
    measure_cost: Annotated[
        bool,
        "Time every row's steps beside the reference's, about 20 s a row; on finished runs nothing else.",
    ] = False
    display: Annotated[DisplayName, "auto, rich, plain or none."] = "auto"
    disabled: Annotated[frozenset[str], "Plugins to leave out."] = frozenset()

    def __post_init__(self) -> None:
        """Refuse an interval that is none."""
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}m?", self.checkpoint_every, re.ASCII):
            raise UsageError(
                f"--checkpoint-every {self.checkpoint_every} is not allowed; it must be: a number of steps such as "
                "50, or of minutes such as 10m"
            )

    @property
    def checkpoint_steps(self) -> int | None:
        """Return the steps between checkpoints; None where minutes were asked for."""
        return None if self.checkpoint_every.endswith("m") else int(self.checkpoint_every)

    @property
    def checkpoint_minutes(self) -> int | None:
        """Return the minutes between checkpoints; None where steps were asked for."""
        return int(self.checkpoint_every[:-1]) if self.checkpoint_every.endswith("m") else None


EARLIER = {"precision": "dtype"}
"""Fields by the names that they had earlier, which still work."""

RequestT = TypeVar("RequestT", bound=Request)
ModelT = TypeVar("ModelT")
VerbT = TypeVar("VerbT", bound=Callable[..., Any])


def parameters(*models: type) -> Iterator[inspect.Parameter]:
    """Yield the fields of models as keyword parameters, with their types, help and defaults."""
    for model in models:
        hints = get_type_hints(model, include_extras=True)
        for f in fields(model):
            default = inspect.Parameter.empty if f.default is MISSING else f.default
            yield inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[f.name]
            )


def kind_of(annotation: Any) -> Any:
    """Return a field's type without its help."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def keywords(*models: type) -> Callable[[VerbT], VerbT]:
    """Show the fields of models in the signature of a verb that takes them as keywords."""

    def decorate(verb: VerbT) -> VerbT:
        signature = inspect.signature(verb)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        names = {p.name for p in own}
        further = (p.replace(annotation=kind_of(p.annotation)) for p in parameters(*models))
        shown = [*own, *(p for p in further if p.name not in names)]
        verb.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
        return verb

    return decorate


def read(
    asked: type[RequestT], given: Mapping[str, Any], verb: str, without: Sequence[str] = ()
) -> tuple[RequestT, Execution]:
    """Return what the keyword arguments of a verb ask for, and how it is to be carried out.

    Notebooks may give one name where several are allowed, seeds as numbers, options and spaces as mappings.
    The verb does not take the fields `without`.

    Raises:
        UsageError: an argument is unknown, or its value is not allowed.
    """
    now = {before: name for name, before in EARLIER.items()}
    given = {now.get(name, name): value for name, value in given.items()}
    known = {f.name for model in (asked, Execution) for f in fields(model)} - {*without}
    for name in given:
        if name not in known:
            raise UsageError(unknown(f"argument of seqmem.{verb}", name, known))
    return _checked(asked, given), _checked(Execution, given)


def _checked(model: type[ModelT], given: Mapping[str, Any]) -> ModelT:
    from pydantic import TypeAdapter, ValidationError
    from pydantic.fields import FieldInfo

    from seqmem.core.options import type_text

    types = {parameter.name: parameter.annotation for parameter in parameters(model)}
    values = {name: _as_typed(name, types[name], given[name]) for name in types if name in given}
    try:
        return TypeAdapter(model).validate_python(values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        option = name if name in PYTHON_ONLY else f"--{name.replace('_', '-')}"
        if get_origin(kind_of(types[name])) is Literal:
            raise UsageError(unknown(option, str(values[name]), get_args(kind_of(types[name])))) from error
        allowed = type_text(FieldInfo.from_annotation(types[name]))
        raise UsageError(f"{option} {values.get(name)} is not allowed; it must be: {allowed}") from error


def _as_typed(name: str, annotation: Any, value: Any) -> Any:
    """Return a value as the command line would give it."""
    if name == "seeds" and isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, value))
    if name == "set" and isinstance(value, Mapping):
        return tuple(f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in value.items())
    if name == "space" and isinstance(value, Mapping):
        return tuple(f"{key}={','.join(map(json.dumps, values))}" for key, values in value.items())
    if get_origin(kind_of(annotation)) is tuple and isinstance(value, Iterable | Path):
        return tuple(map(str, (value,) if isinstance(value, str | Path) else value))
    return str(value) if name in ("text", "checkpoint_every") else value
