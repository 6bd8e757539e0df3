"""A stream that is not what it declares is refused in one line, before it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import installed, small_model

from seqmem import Example, Experience, Outline, PluginError, Probe, ProbePoint, Stream
from seqmem.core.validate import checked
from seqmem.planning.plan import plan
from seqmem.planning.primary import check_primary
from seqmem.planning.request import Request
from seqmem.plugin.registry import Registry

ROW = Example(np.arange(3, dtype=np.int32), np.array([False, True, True]))
PROBE = Probe("p1", (0, 1, 2), 2, "a", " b", "fact", "question")
EXPERIENCES = (
    Experience(0, "first", "general", None, ((ROW,), (ROW,)), save_as="base"),
    Experience(1, "second", "task", 0, ((ROW,),), start_from="base"),
    Experience(2, "third", "rest", None, ((ROW,),)),
)
POINT = ProbePoint(0, "facts", ("boundary",))
OUTLINE = Outline(
    steps=4,
    train_tokens=100,
    probe_rows=6,
    probe_tokens=100,
    loops=1,
    experiences=3,
    longest_row=8,
    documents=(0, 0),
    primary="retention",
    primary_relation="question",
    branches=True,
)


def stream(
    experiences: tuple[Experience, ...] = EXPERIENCES,
    point: ProbePoint = POINT,
    probes: tuple[Probe, ...] = (PROBE, replace(PROBE, id="p2")),
    **further: Any,
) -> Stream:
    return Stream(len(experiences), experiences.__getitem__, lambda i: (point,), {"facts": probes}, **further)


def changed(place: int, /, **changes: Any) -> Stream:
    experiences = list(EXPERIENCES)
    experiences[place] = replace(experiences[place], **changes)
    return stream(tuple(experiences))


def walk(made: Stream, outline: Outline = OUTLINE) -> None:
    done = checked(made, outline, "mine")
    for index in range(done.length):
        done.experience(index)


def test_a_stream_as_declared_comes_through_unchanged() -> None:
    walk(stream())
    walk(changed(0, batches=(), save_as="base"), replace(OUTLINE, steps=2))
    own = stream(point=replace(POINT, schedule=("log", "weekly")), schedules=("weekly",))
    walk(own)
    assert checked(own, OUTLINE, "mine").experience(1) is EXPERIENCES[1]


AT_ONCE: dict[str, tuple[Callable[[], Stream], str]] = {
    "a probe id used twice": (
        lambda: stream(probes=(PROBE, replace(PROBE, answer=" c"))),
        "probe 'p1' of set 'facts': set 'facts' has another probe of this id; ids must be unique",
    ),
    "a probe twice in a set": (
        lambda: stream(probes=(PROBE, PROBE)),
        "probe 'p1': set 'facts' holds it 2 times; once is allowed",
    ),
    "an unknown relation": (
        lambda: stream(probes=(replace(PROBE, relation="questoin"),)),  # type: ignore[arg-type]
        "probe 'p1' of set 'facts': unknown relation 'questoin'. Did you mean 'question'? Allowed: general",
    ),
    "an unknown cue": (
        lambda: stream(probes=(replace(PROBE, cue="owm"),)),  # type: ignore[arg-type]
        "unknown cue 'owm'. Did you mean 'own'? Allowed: none, other, own.",
    ),
    "an unknown probe set": (
        lambda: stream(point=replace(POINT, probe_set="fact")),
        "experience 0, probe point after step 0: unknown probe_set 'fact'. Did you mean 'facts'? Allowed: facts.",
    ),
    "an unknown schedule": (
        lambda: stream(point=replace(POINT, schedule=("log", "boundry"))),
        "unknown schedule 'boundry'. Did you mean 'boundary'? Allowed: boundary",
    ),
    "fewer experiences than the outline says": (
        lambda: stream(EXPERIENCES[:2]),
        "length is 2, but its outline says 3 experiences",
    ),
    "no experience": (lambda: stream(()), "length is 0; a stream needs at least 1 experience"),
    "more probes than the outline says": (
        lambda: stream(probes=tuple(replace(PROBE, id=str(n)) for n in range(3))),
        "9 probes are asked, but its outline says probe_rows 6",
    ),
}


@pytest.mark.parametrize("case", AT_ONCE)
def test_what_needs_no_experience_is_refused_at_once(case: str) -> None:
    make, said = AT_ONCE[case]
    with pytest.raises(PluginError) as refused:
        checked(make(), OUTLINE, "mine")
    assert str(refused.value).startswith("scenario mine")
    assert said in str(refused.value) and "\n" not in str(refused.value)


WHEN_MADE: dict[str, tuple[Stream, str]] = {
    "an index that does not ascend": (
        changed(1, index=0),
        "experience 1 ('second'): index is 0, it must be 1: indices ascend from 0 without gaps",
    ),
    "an unknown phase": (
        changed(1, phase="tsk"),
        "experience 1 ('second'): unknown phase 'tsk'. Did you mean 'task'? Allowed: general, inject, loop",
    ),
    "an unknown trains": (changed(1, trains="al"), "unknown trains 'al'. Did you mean 'all'?"),
    "an empty experience": (changed(2, batches=()), "experience 2 ('third'): batches is empty"),
    "an empty batch": (
        changed(2, batches=((ROW,), ())),
        "experience 2 ('third'): batch 1 is empty; every batch needs at least 1 row",
    ),
    "no repeats": (changed(2, repeats=0), "repeats is 0, it must be at least 1"),
    "no size": (changed(2, update_norm=0.0), "update_norm is 0.0, it must be above 0, or None"),
    "a probe point after the last step": (
        stream(point=replace(POINT, after=2)),
        "experience 1 ('second'): a probe point is after step 2 of 1; allowed: 0 to 1",
    ),
    "a snapshot that was never saved": (
        changed(1, start_from="bass"),
        "experience 1 ('second'): unknown start_from 'bass'. Did you mean 'base'? Allowed: base.",
    ),
    "more steps than the outline says": (
        changed(1, repeats=9),
        "experience 1 ('second'): the stream has at least 11 steps, but its outline says 4",
    ),
    "fewer steps than the outline says": (
        changed(0, batches=((ROW,),)),
        "experience 2 ('third'): the stream has 3 steps, but its outline says 4; they must be equal",
    ),
    "more labels than the outline says": (
        changed(2, task_label=7),
        "experience 2 ('third'): task_label 7 makes 2 labels, but its outline says loops 1",
    ),
}


@pytest.mark.parametrize("case", WHEN_MADE)
def test_an_experience_is_refused_when_it_is_made(case: str) -> None:
    made, said = WHEN_MADE[case]
    with pytest.raises(PluginError) as refused:
        walk(made)
    assert str(refused.value).startswith("scenario mine, experience ")
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_run_that_starts_in_the_middle_is_checked_as_far_as_can_be_told() -> None:
    resumed = checked(stream(), OUTLINE, "mine")
    assert resumed.experience(1).start_from == "base"
    with pytest.raises(PluginError, match="index is 0"):
        checked(changed(2, index=0), OUTLINE, "mine").experience(2)


def test_a_long_stream_keeps_nothing_per_experience() -> None:
    made: list[int] = []

    def experience(index: int) -> Experience:
        made.append(index)
        return replace(EXPERIENCES[2], index=index)

    long = Stream(100_000, experience, lambda i: (), {})
    done = checked(long, replace(OUTLINE, experiences=100_000, steps=100_000), "mine")
    assert not made
    assert done.experience(99_999).index == 99_999 and made == [99_999]


def test_a_primary_measure_that_no_metric_gives_is_refused() -> None:
    check_primary("mine", "retention", installed())
    check_primary("mine", "retention.auc", installed())
    with pytest.raises(PluginError) as refused:
        check_primary("mine", "retension", installed())
    said = "scenario mine: unknown primary measure 'retension'. Did you mean 'retention'? Allowed: "
    assert str(refused.value).startswith(said)


def test_planning_and_runs_refuse_a_scenario_that_breaks_its_word(tmp_path: Path) -> None:
    from small_runs import carry_out

    spec = installed().load("scenario", "freeze_loops")
    request = Request(
        scenario=("freeze_loops",),
        strategy=("naive",),
        model=(str(small_model(tmp_path / "model")),),
        preset="smoke",
        seeds="0",
        device="cpu",
        controls=False,
    )

    def offered(**changes: Any) -> Any:
        registry = Registry.from_environment()
        registry._specs[("scenario", "freeze_loops")] = replace(spec, **changes)
        return registry

    with pytest.raises(PluginError, match="unknown primary measure 'task_recal'"):
        plan(request, offered(outline=lambda o: replace(spec.outline(o), primary="task_recal")))
    lying = offered(outline=lambda o: replace(spec.outline(o), experiences=5))
    (run,) = plan(request, lying).runs.values()
    events = carry_out(run, tmp_path / "run", registry=lying)
    assert events[-1]["event"] == "refused"
    assert "length is 6, but its outline says 5 experiences" in events[-1]["reason"]
    assert not (tmp_path / "run").exists()
