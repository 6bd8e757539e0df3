"""Options of the verbs, made from the fields of what they ask for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer

from seqmem.planning.request import EARLIER, PYTHON_ONLY, kind_of, parameters

Given = Mapping[str, Any]
"""Fields by name, for a verb's parameter `given`."""

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

ResultT = TypeVar("ResultT")


def takes(
    *models: type, names: Sequence[str] = ()
) -> Callable[[Callable[..., ResultT]], Callable[..., ResultT]]:
    """Give a verb an option for each of the named fields of the models, by default for all of them.

    The options stand in place of the verb's parameter `given`, which receives their values.
    """
    fields = {p.name: p for p in parameters(*models) if p.name not in PYTHON_ONLY}
    chosen = [fields[name] for name in names or fields]
    switched_off = {p.name for p in chosen if p.default is True}

    def decorate(verb: Callable[..., ResultT]) -> Callable[..., ResultT]:
        @functools.wraps(verb)
        def call(**values: Any) -> ResultT:
            given = {p.name: values.pop(p.name) for p in chosen}
            return verb(given=given | {name: not given[name] for name in switched_off}, **values)

        own = list(inspect.signature(verb, eval_str=True).parameters.values())
        place = [p.name for p in own].index("given")
        shown = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for p in (*own[:place], *map(_option, chosen), *own[place + 1 :])
        ]
        call.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in shown}
        return call

    return decorate


def _option(field: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter that typer makes a field's option of; what is on by default has a flag to leave it out."""
    kind, help_text = kind_of(field.annotation), field.annotation.__metadata__[-1]
    off = field.default is True
    flag = f"--{'no-' * off}{field.name.replace('_', '-')}"
    flags = [flag, *(f"--{EARLIER[name]}" for name in [field.name] if name in EARLIER)]
    if get_origin(kind) is tuple:
        kind = list[str]
    elif get_origin(kind) is Literal or any(get_origin(one) is Literal for one in get_args(kind)):
        kind = str  # checked with all else, so that the error names the nearest
    default = False if off else list(field.default) if isinstance(field.default, tuple) else field.default
    return field.replace(annotation=Annotated[kind, typer.Option(*flags, help=help_text)], default=default)
