"""Options as typed on the command line: what is read, what is refused, and the words of a refusal."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from seqmem import Options, UsageError
from seqmem.core.options import (
    OptionRow,
    describe_options,
    parse_assignments,
    parse_seeds,
    parse_sweep,
    parse_value,
    validate,
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Sample(Options):
    loops: int = Field(3, ge=1, le=8, description="how many loops")
    init: Literal["average", "zero"] = Field("zero", description="how a loop starts")
    rate: float = Field(0.5, gt=0, lt=1)
    cap: int | None = Field(None, ge=1)
    floor: Annotated[int, Field(ge=2)] | None = None
    colour: Colour = Colour.RED
    layers: list[int] = Field(default_factory=list)
    pair: tuple[float, float] = (0.9, 0.999)
    where: Path | None = None
    field: str = "text"
    even: int = 0
    flag: bool = False

    @field_validator("even")
    @classmethod
    def _check_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value


class Needy(Options):
    path: Path = Field(description="the file")


def test_assignments_go_to_their_scope() -> None:
    given = ["scenario.loops=4", "strategy.init=zero", "text.field=a=b", "optimizer.lr=1e-3"]
    assert parse_assignments(given) == {
        "scenario": {"loops": 4},
        "strategy": {"init": "zero"},
        "text": {"field": "a=b"},
        "optimizer": {"lr": 0.001},
    }


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("loops=4", "not of the form SCOPE.NAME=VALUE"),
        ("scenario.loops", "not of the form SCOPE.NAME=VALUE"),
        ("scenario.=4", "not of the form SCOPE.NAME=VALUE"),
        ("scenaro.loops=4", "Did you mean 'scenario'?"),
        ("", "not of the form SCOPE.NAME=VALUE"),
    ],
)
def test_a_wrong_assignment_is_refused(assignment: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        parse_assignments([assignment])


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"strategy\.init is given twice"):
        parse_assignments(["strategy.init=zero", "strategy.init=average"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4), ("-1", -1), ("0.5", 0.5), (".5", 0.5), ("-.5", -0.5), ("1e-3", 0.001), ("2.", 2.0),
        ("+3", 3.0), ("true", True), ("null", None), ("zero", "zero"), ('"4"', "4"), ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("NaN", "NaN"), ("Infinity", "Infinity"), ("007", "007"), ("", ""), ("[" * 100_000, "[" * 100_000),
    ],
)  # fmt: skip
def test_values_are_json_where_they_can_be(text: str, value: Any) -> None:
    assert parse_value(text) == value
    assert isinstance(parse_value(text), type(value))


class Texts(Options):
    plain: str = ""
    place: Path = Path()
    perhaps: str | None = "x"
    number: float = 0.0
    number_or_text: int | str = 0


@pytest.mark.parametrize(
    "text",
    [
        "1.10",
        "1e3",
        "2.",
        "+3",
        ".5",
        "-0",
        "12345678901234567890123",
        "true",
        "null",
        "[1,2]",
        '{"a":  1}',
        "007",
    ],
)
def test_an_option_that_is_text_is_what_was_typed(text: str) -> None:
    (typed,) = parse_assignments([f"text.plain={text}"])["text"].values()
    assert validate(Texts, {"plain": typed}, "x").plain == text
    assert validate(Texts, {"place": typed}, "x").place == Path(text)
    assert validate(Texts, {"perhaps": typed}, "x").perhaps == (None if text == "null" else text)


def test_other_options_are_the_plain_values_they_were() -> None:
    made = validate(Texts, {"number": parse_value("1e3"), "number_or_text": parse_value("+3")}, "x")
    assert (made.number, type(made.number)) == (1000.0, float)
    assert made.number_or_text == 3
    assert validate(Texts, {"plain": parse_value('"4"')}, "x").plain == "4"
    assert json.dumps([parse_value("1e3"), parse_value("[1,2]")]) == "[1000.0, [1, 2]]"


def test_a_value_swept_twice_is_refused_however_it_is_typed() -> None:
    with pytest.raises(UsageError, match=r"names the value 0\.001 twice"):
        parse_sweep("optimizer.lr=0.001,1e-3")


@given(st.text())
def test_any_text_is_some_value(text: str) -> None:
    parse_value(text)


def test_sweeps() -> None:
    sweep = parse_sweep("strategy.target=-1,-.5, 0,.5,1")
    assert (sweep.scope, sweep.name, sweep.values) == ("strategy", "target", (-1, -0.5, 0, 0.5, 1))
    assert parse_sweep('strategy.layers=[1,2],[3],"a,b"').values == ([1, 2], [3], "a,b")
    assert parse_sweep("strategy.flag=true,1").values == (True, 1)


def test_a_range_stands_for_evenly_spaced_values() -> None:
    assert parse_sweep("strategy.target=-1:1:5").values == (-1, -0.5, 0, 0.5, 1)
    assert parse_sweep("strategy.target=-1:1:50").values[1] == pytest.approx(-1 + 2 / 49)
    assert parse_sweep("strategy.x=0:1:11,5").values == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 5)
    assert parse_sweep("strategy.path=a:b:c").values == ("a:b:c",)  # text may hold colons


@pytest.mark.parametrize(
    "text",
    [
        "strategy.target=",
        "strategy.target=1,,2",
        "strategy.target=1,1",
        "target=1,2",
        "strategy.target=0:1:1",
        "strategy.target=0:0:3",
        "strategy.target=0:1:2.5",
        "strategy.target=0:1:3,.5",
    ],
)
def test_a_wrong_sweep_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sweep(text)


def test_seeds() -> None:
    assert parse_seeds("0-4,7") == (0, 1, 2, 3, 4, 7)
    assert parse_seeds(" 3 , 1 - 2 ") == (3, 1, 2)


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "a", "-1", "1-", "4-0", "0-2,1", "0-10000000000", "4294967296", "1.5", "²"]
)
def test_wrong_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="seeds"):
        parse_seeds(text)


def test_valid_options() -> None:
    options = validate(
        Sample, {"loops": 4, "init": "average", "colour": "blue", "pair": [0.5, 0.6]}, "strategy x"
    )
    assert (options.loops, options.init, options.colour, options.pair) == (
        4,
        "average",
        Colour.BLUE,
        (0.5, 0.6),
    )


def test_text_options_take_what_looks_like_a_number() -> None:
    options = validate(Sample, {"field": 4, "where": 7}, "text x")
    assert (options.field, options.where) == ("4", Path("7"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loops": 0}, "strategy x: option 'loops' = 0 is not allowed; it must be: integer >= 1 and <= 8"),
        (
            {"loops": 4.5},
            "strategy x: option 'loops' = 4.5 is not allowed; it must be: integer >= 1 and <= 8",
        ),
        (
            {"rate": "fast"},
            "strategy x: option 'rate' = fast is not allowed; it must be: number > 0.0 and < 1.0",
        ),
        ({"cap": 0}, "strategy x: option 'cap' = 0 is not allowed; it must be: integer >= 1 | null"),
        ({"floor": 1}, "strategy x: option 'floor' = 1 is not allowed; it must be: integer >= 2 | null"),
        (
            {"init": "averag"},
            "strategy x: option 'init' = averag is not allowed; it must be: average | zero. "
            "Did you mean 'average'?",
        ),
        ({"colour": "pink"}, "strategy x: option 'colour' = pink is not allowed; it must be: red | blue"),
        (
            {"layers": [1, "a"]},
            "strategy x: option 'layers' = [1, \"a\"] is not allowed; it must be: list of integer",
        ),
        ({"even": 3}, "strategy x: option 'even' = 3 must be even"),
        (
            {"loops": 9, "flag": "perhaps"},
            "strategy x: option 'loops' = 9 is not allowed; it must be: integer >= 1 and <= 8; "
            "option 'flag' = perhaps is not allowed; it must be: true | false",
        ),
    ],
)
def test_a_refusal_names_option_value_and_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        validate(Sample, values, "strategy x")
    assert str(raised.value).replace("> 0 and < 1", "> 0.0 and < 1.0") == message


def test_an_unknown_option_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="unknown option of strategy x 'lops'. Did you mean 'loops'"):
        validate(Sample, {"lops": 3}, "strategy x")
    with pytest.raises(UsageError, match="unknown option of strategy y 'a'. Allowed: none"):
        validate(Options, {"a": 3}, "strategy y")


def test_a_required_option_is_asked_for() -> None:
    with pytest.raises(UsageError, match="text x: option 'path' is required: path"):
        validate(Needy, {}, "text x")


def test_descriptions() -> None:
    rows = {row.name: row for row in describe_options(Sample)}
    assert rows["loops"] == OptionRow("loops", "integer >= 1 and <= 8", "3", "how many loops")
    assert rows["init"] == OptionRow("init", "average | zero", "zero", "how a loop starts")
    assert rows["floor"].type == "integer >= 2 | null"
    assert rows["pair"].type == "list of 2: number, number"
    assert (rows["layers"].default, rows["cap"].default, rows["colour"].default) == ("[]", "null", "red")
    assert describe_options(Needy) == [OptionRow("path", "path", "required", "the file")]
