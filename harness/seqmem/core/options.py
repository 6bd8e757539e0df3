"""Options as users write them, turned into checked ones; every fault is one clear line."""

from __future__ import annotations

import enum
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from seqmem.core.errors import UsageError, unknown

Scope = Literal["scenario", "strategy", "text", "optimizer"]
SCOPES: tuple[Scope, ...] = ("scenario", "strategy", "text", "optimizer")

MAX_SEEDS = 10_000
MAX_SWEPT = 1_000

OptionsT = TypeVar("OptionsT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One option, for people: everything `describe` prints.

    Attributes:
        type: what it may be, e.g. ``integer >= 1`` or ``own | conflict``.
        default: as it would be typed, or ``required``.
    """

    name: str
    type: str
    default: str
    help: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """One option taking several values, a run per value."""

    scope: Scope
    name: str
    values: tuple[Any, ...]


class Typed:
    """A value that remembers how it was typed, for an option that turns out to be plain text."""

    typed: str


class _TypedInt(int, Typed):
    pass


class _TypedFloat(float, Typed):
    pass


class _TypedList(list[Any], Typed):
    pass


class _TypedMapping(dict[str, Any], Typed):
    pass


_REMEMBERING: Mapping[type, type] = {
    int: _TypedInt,
    float: _TypedFloat,
    list: _TypedList,
    dict: _TypedMapping,
}


def parse_assignments(assignments: Iterable[str]) -> dict[Scope, dict[str, Any]]:
    """Read `scope.name=value` texts; a value is JSON where it parses as JSON, else it is text.

    Args:
        assignments: e.g. ``scenario.loops=4``, ``strategy.init=zero``.

    Returns:
        Values by scope and name; every scope is there, be it empty.

    Raises:
        UsageError: not of that form, an unknown scope, or a name given twice.
    """
    found: dict[Scope, dict[str, Any]] = {scope: {} for scope in SCOPES}
    for assignment in assignments:
        scope, name, text = _split_assignment(assignment)
        if name in found[scope]:
            raise UsageError(f"option {scope}.{name} is given twice")
        found[scope][name] = parse_value(text)
    return found


def parse_value(text: str) -> Any:
    """Return JSON where it parses as JSON, a number where it reads as one (.5), else the text itself.

    A value that would be written otherwise than it was typed is a `Typed` one.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # JSON has no .5, +1 or 1.; people write them.
        if not re.fullmatch(r"[+-]?(\d+\.|\.\d+|[1-9]\d*)(e[+-]?\d+)?", text.lower()):
            return text
        value = float(text)
    kind = _REMEMBERING.get(type(value))
    if kind is None or _typed(value) == text:
        return value
    remembering = kind(value)
    remembering.typed = text
    return remembering


def parse_sweep(text: str) -> Sweep:
    """Read `scope.name=value,value,...`, e.g. ``strategy.target=-1,-.5,0``.

    A piece ``first:last:count`` stands for that many evenly spaced numbers, both ends included.
    """
    scope, name, listed = _split_assignment(text)
    pieces = [piece.strip() for piece in _split_commas(listed)]
    if not all(pieces):
        raise UsageError(f"sweep {text!r} has an empty value; write {scope}.{name}=VALUE,VALUE,...")
    values = tuple(value for piece in pieces for value in _spaced(piece))
    for position, value in enumerate(values):
        if any(value == other and _kind(value) is _kind(other) for other in values[:position]):
            raise UsageError(f"sweep {text!r} names the value {_typed(value)} twice")
    return Sweep(scope, name, values)


def _spaced(piece: str) -> list[Any]:
    """Return the values of one piece of a sweep.

    Raises:
        UsageError: a range that no numbers lie in.
    """
    bounds = [parse_value(bound) for bound in piece.split(":")] if piece[:1] not in ('"', "[", "{") else []
    if len(bounds) != 3 or any(_kind(bound) not in (int, float) for bound in bounds):
        return [parse_value(piece)]
    first, last, count = bounds
    if _kind(count) is not int or not 2 <= count <= MAX_SWEPT or first == last:
        raise UsageError(
            f"{piece!r} is not a valid range: write FIRST:LAST:COUNT with a COUNT of 2 to {MAX_SWEPT}, e.g. -1:1:5"
        )
    # rounded, so that a tenth is written as .1 in names and tables
    return [round(first + (last - first) * place / (count - 1), 12) for place in range(count)]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds as numbers and ranges, both ends included: `0-4,7` is 0, 1, 2, 3, 4, 7."""
    seeds: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,20})\s*(?:-\s*(\d{1,20})\s*)?", piece, re.ASCII)
        if match is None:
            raise UsageError(f"seeds {text!r}: {piece.strip()!r} is not a valid seed; write e.g. 0-4,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"seeds {text!r}: the range {first}-{last} runs backwards")
        if last - first + len(seeds) >= MAX_SEEDS:
            raise UsageError(f"seeds {text!r}: more than {MAX_SEEDS} seeds")
        if last >= 2**32:
            raise UsageError(f"seeds {text!r}: a seed must be below 2**32")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) < len(seeds):
        twice = next(seed for position, seed in enumerate(seeds) if seed in seeds[:position])
        raise UsageError(f"seeds {text!r}: seed {twice} is named twice")
    return tuple(seeds)


def seeds_text(seeds: Sequence[int]) -> str:
    """Return seeds as they are typed: ``0-5``, or ``0,3,7``."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))


def validate(options_class: type[OptionsT], values: Mapping[str, Any], what: str) -> OptionsT:
    """Check values against an options class.

    Args:
        options_class: what a plugin declares.
        values: option values by name.
        what: whose options these are, e.g. ``strategy moment_avg``.

    Raises:
        UsageError: one line naming each faulty option, its value and what is allowed.
    """
    for name in values:
        if name not in options_class.model_fields:
            raise UsageError(unknown(f"option of {what}", name, options_class.model_fields))
    try:
        return options_class(**{name: _as_text(options_class, name, value) for name, value in values.items()})
    except ValidationError as error:
        faults: dict[str, str] = {}
        for details in error.errors(include_url=False):
            name = str(details["loc"][0]) if details["loc"] else ""
            faults.setdefault(name, _fault(options_class, name, values, details))
        raise UsageError(f"{what}: {'; '.join(faults.values())}") from error


def describe_options(options_class: type[BaseModel]) -> list[OptionRow]:
    """Return every option of a class, in the order it declares them."""
    return [
        OptionRow(name, type_text(field), _default(field), field.description or "")
        for name, field in options_class.model_fields.items()
    ]


def type_text(field: FieldInfo) -> str:
    """Return what an option may be, in words."""
    return _type_text(field.annotation, field.metadata)


def _split_assignment(text: str) -> tuple[Scope, str, str]:
    """Take `scope.name=value` apart."""
    key, equals, value = text.partition("=")
    scope_text, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        raise UsageError(f"{text!r} is not of the form SCOPE.NAME=VALUE, e.g. scenario.loops=4")
    for scope in SCOPES:
        if scope == scope_text:
            return scope, name, value.strip()
    raise UsageError(unknown(f"scope in {text!r}:", scope_text, SCOPES))


def _split_commas(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets and quotes."""
    pieces, depth, quoted, start = [], 0, False, 0
    for position, sign in enumerate(text):
        if sign == '"' and text[position - 1 : position] != "\\":
            quoted = not quoted
        elif not quoted and sign in "[{":
            depth += 1
        elif not quoted and sign in "]}":
            depth -= 1
        elif not quoted and depth == 0 and sign == ",":
            pieces.append(text[start:position])
            start = position + 1
    return [*pieces, text[start:]]


def _refuse_constant(name: str) -> float:
    """Refuse NaN and Infinity, which are not valid JSON, though Python would take them."""
    raise ValueError(name)


def _kind(value: Any) -> type:
    """Return the type of a value, whether or not it remembers how it was typed."""
    return next(
        (kind for kind, remembering in _REMEMBERING.items() if type(value) is remembering), type(value)
    )


def _as_text(options_class: type[BaseModel], name: str, value: Any) -> Any:
    """Return the value of a plain text option as it was typed, be it written as a number or as other JSON."""
    annotation = options_class.model_fields[name].annotation
    choices = set(typing.get_args(annotation) or (annotation,))
    kind = _kind(value)
    number = kind in (int, float) and not choices & {int, float}
    other = (
        kind in (bool, list, dict, type(None)) and kind not in choices and choices <= {str, Path, type(None)}
    )
    if not choices & {str, Path} or not (number or other):
        return value
    return value.typed if isinstance(value, Typed) else _typed(value)


def _fault(
    options_class: type[BaseModel], name: str, values: Mapping[str, Any], details: ErrorDetails
) -> str:
    """Return one fault in words: the option, the value, what is allowed."""
    if name not in options_class.model_fields:
        return _reason(details)
    allowed = type_text(options_class.model_fields[name])
    if details["type"] == "missing":
        return f"option {name!r} is required: {allowed}"
    value = values.get(name)
    if details["type"] in ("value_error", "assertion_error"):
        return f"option {name!r} = {_typed(value)} {_reason(details)}"
    hint = ""
    if isinstance(value, str) and " | " in allowed:
        near = re.search(r"Did you mean '[^']*'\?", unknown("", value, allowed.split(" | ")))
        hint = f". {near[0]}" if near else ""
    return f"option {name!r} = {_typed(value)} is not allowed; it must be: {allowed}{hint}"


def _reason(details: ErrorDetails) -> str:
    """Return what a plugin's own check says, on one line."""
    return " ".join(re.sub(r"^(Value|Assertion) error, ", "", details["msg"]).split())


def _default(field: FieldInfo) -> str:
    """Return a default as it would be typed."""
    if field.is_required():
        return "required"
    return _typed(field.get_default(call_default_factory=True, validated_data={}))


def _typed(value: Any) -> str:
    """Return a value as it would be typed."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, (str, Path)):
        return str(value) if str(value) else '""'
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError):
        return str(value)


_PLAIN: dict[Any, str] = {
    int: "integer",
    float: "number",
    bool: "true | false",
    str: "text",
    Path: "path",
    type(None): "null",
    Any: "any JSON value",
}


def _type_text(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Return an annotation and its constraints in words."""
    constraints = list(metadata)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_text(arguments[0], [*arguments[1:], *constraints])
    if origin is Literal:
        return " | ".join(_typed(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(
            _type_text(argument, () if argument is type(None) else constraints) for argument in arguments
        )
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " | ".join(_typed(member) for member in annotation)
    return (_PLAIN.get(annotation) or _container(annotation, origin, arguments)) + _range(constraints)


def _container(annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> str:
    """Return a list, tuple or mapping in words."""
    if origin is tuple and Ellipsis not in arguments:
        return f"list of {len(arguments)}: {', '.join(map(_type_text, arguments))}"
    if origin in (list, tuple, set, frozenset):
        return f"list of {_type_text(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type_text(arguments[0])} to {_type_text(arguments[1])}"
    return getattr(annotation, "__name__", str(annotation))


def _range(constraints: Iterable[Any]) -> str:
    """Return constraints in words: `` >= 1 and <= 8``."""
    parts: list[str] = []
    for constraint in constraints:
        match constraint:
            case FieldInfo(metadata=inner):
                parts.append(_range(inner).strip())
            case annotated_types.Ge(ge=bound):
                parts.append(f">= {bound}")
            case annotated_types.Gt(gt=bound):
                parts.append(f"> {bound}")
            case annotated_types.Le(le=bound):
                parts.append(f"<= {bound}")
            case annotated_types.Lt(lt=bound):
                parts.append(f"< {bound}")
            case annotated_types.MultipleOf(multiple_of=step):
                parts.append(f"a multiple of {step}")
            case annotated_types.MinLen(min_length=length):
                parts.append(f"at least {length} long")
            case annotated_types.MaxLen(max_length=length):
                parts.append(f"at most {length} long")
    return " " + " and ".join(filter(None, parts)) if any(parts) else ""
