"""The audit of a stream with an untrained model, and what a run asks of it before its first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from odd_tokenizers import unigram, word_piece
from small_runs import carry_out, finish, installed, job_of, planned, small_model
from taught import taught_model

from seqmem import Probe, RunRecord, answer_probe
from seqmem.planning.audit import Audit, answer_checks
from seqmem.training.audit import audit
from seqmem.training.run import build_run
from seqmem.training.run_audit import RunAudit

SMOKE = {"scenario": "memory_loops", "preset": "smoke", "small": False}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def knows_facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "facts"
    return taught_model(folder, "primary", twins=False, scenario="memory_loops", preset="smoke")


@pytest.fixture(scope="module")
def knows_twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "twins"
    return taught_model(folder, "primary", twins=True, scenario="memory_loops", preset="smoke")


def audited(model: Path | str, folder: Path, **request: Any) -> Audit:
    run = planned(model, **{**SMOKE, **request})  # type: ignore[arg-type]
    return audit(job_of(run, folder), installed())


def failed(found: Audit) -> list[str]:
    return [check.text for check in found.checks if check.state == "failed"]


def test_a_random_model_passes_by_chance_and_its_own_format_is_said(small: Path, tmp_path: Path) -> None:
    found = audited(small, tmp_path)
    assert found.passed and found.recall == "forced_choice" and found.counted
    primary = found.forms[0]
    assert (primary.name, primary.primary) == ("question", True)
    assert primary.facts is not None and primary.facts.asked == 8 and abs(primary.facts.off) < 3
    assert primary.joined == (8, 8)
    assert [form.name for form in found.forms] == [
        *("question", "last_token", "last_word", "verbatim", "paraphrase"),
        *("question, cue own", "question, cue other"),
    ]
    said = [check.text for check in found.checks if check.state == "told"]
    assert primary.in_form == 0.0 and primary.exact == 0.0
    (line,) = [text for text in said if text.startswith("exact match is not interpretable for these forms")]
    assert "question .00, verbatim .00" in line


def few_and_many(scenario: str) -> list[Any]:
    """Three seeds in small; the others, and the presets as published, are for `make perf`."""
    few = [pytest.param(scenario, seed, "smoke") for seed in range(3)]
    many = [("smoke", seed) for seed in range(3, 8)] + [("default", seed) for seed in range(8)]
    return few + [pytest.param(scenario, seed, preset, marks=pytest.mark.slow) for preset, seed in many]


@pytest.mark.parametrize(
    ("scenario", "seed", "preset"), [*few_and_many("memory_loops"), *few_and_many("freeze_loops")]
)
def test_the_shipped_model_has_met_none_of_the_facts(
    scenario: str, seed: int, preset: str, tmp_path: Path
) -> None:
    found = audited("tiny", tmp_path, scenario=scenario, seed=seed, preset=preset)
    assert not failed(found)
    assert found.forms[0].in_form == 1.0


def test_a_model_that_knows_the_facts_is_refused_and_nothing_stays(knows_facts: Path, tmp_path: Path) -> None:
    found = audited(knows_facts, tmp_path / "audit")
    assert found.forms[0].facts is not None and found.forms[0].facts.right == 8
    (line,) = failed(found)
    assert "8 of 8 facts are right before training, guessing gives 2.0" in line and "may know them" in line
    events = carry_out(planned(knows_facts, **SMOKE), tmp_path / "run")  # type: ignore[arg-type]
    assert events[-1]["event"] == "refused"
    assert line in events[-1]["reason"] and "--accept-audit" in events[-1]["reason"]
    assert not (tmp_path / "run").exists() and not any(event["event"] == "step" for event in events)


def test_a_model_that_knows_the_twins_is_refused(knows_twins: Path, tmp_path: Path) -> None:
    found = audited(knows_twins, tmp_path)
    (line,) = failed(found)
    assert "8 of 8 never-trained twins are right" in line and "prefers some of the answers" in line


def test_another_seed_has_other_facts(knows_facts: Path, tmp_path: Path) -> None:
    assert audited(knows_facts, tmp_path, seed=1).forms[0].facts.right < 8  # type: ignore[union-attr]


def test_what_is_accepted_is_recorded_and_survives_a_resumption(knows_facts: Path, tmp_path: Path) -> None:
    short = {"scenario.cycles": 1, "scenario.rest_steps": 4}
    run, asked = planned(knows_facts, "naive", short, **SMOKE), []  # type: ignore[arg-type]
    first = finish(run, tmp_path / "whole", accept_audit=True)
    (line,) = first.info["accepted_audit"]
    assert "8 of 8 facts are right before training" in line
    assert first.id == run.recipe.id
    stopped: list[None] = asked
    carry_out(
        run,
        tmp_path / "part",
        accept_audit=True,
        should_stop=lambda: stopped.append(None) or len(stopped) == 3,
    )
    assert RunRecord.open(tmp_path / "part").info["accepted_audit"] == [line]
    again = finish(run, tmp_path / "part", resume=True)  # it was accepted when it began
    assert again.info["accepted_audit"] == [line]
    assert again.info["final"] == first.info["final"]


def test_answers_of_the_first_probe_point_are_not_asked_twice(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    whole = torch.nn.Module.__call__

    def counting(self: torch.nn.Module, *arguments: Any, **named: Any) -> Any:
        if "logits_to_keep" in named and not named.get("use_cache", True):
            asked.append(1)
        return whole(self, *arguments, **named)

    monkeypatch.setattr(torch.nn.Module, "__call__", counting)
    run, outline = build_run(job_of(planned(small, **SMOKE), tmp_path), installed())  # type: ignore[arg-type]
    checks = RunAudit(run, outline.primary_relation, accept=False)
    checks.check_stream()
    checks.check_unasked()
    assert not asked
    run.stream = replace(run.stream, probe_points=lambda index: ())
    checks.check_unasked()
    assert asked


def test_a_stream_that_asks_later_is_asked_before_the_first_step(knows_facts: Path, tmp_path: Path) -> None:
    from seqmem.core.errors import Refused

    run, outline = build_run(job_of(planned(knows_facts, **SMOKE), tmp_path), installed())  # type: ignore[arg-type]
    run.stream = replace(run.stream, probe_points=lambda index: ())
    with pytest.raises(Refused, match="8 of 8 facts are right before training"):
        RunAudit(run, outline.primary_relation, accept=False).check_unasked()


def test_exact_match_recall_needs_no_chance(knows_facts: Path, tmp_path: Path) -> None:
    options = {"optimizer.lr": 0.001, "scenario.others": 0}
    found = audited(knows_facts, tmp_path, scenario="learning_threshold", options=options)
    assert found.recall == "exact_match" and found.passed


# -- tokenizers -------------------------------------------------------------------------------------------


def probes_of(encode: Callable[[str], Any], *answers: str) -> list[Probe]:
    return [
        answer_probe(
            lambda text: list(encode(text).ids),
            id=str(number),
            prompt="The bridge is made of",
            answer=f" {answer}",
            fact=str(number),
            relation="question",
        )
        for number, answer in enumerate(answers)
    ]


def test_answers_with_unknown_tokens_fail() -> None:
    tokenizer = unigram()
    probes = probes_of(tokenizer.encode, "glass", "π")
    (check,) = answer_checks(probes, tokenizer.token_to_id("<unk>"))
    assert check.state == "failed"
    assert check.text.startswith("1 of 2 answers hold the tokenizer's unknown token, first 'π'")


def test_different_answers_with_the_same_ids_fail() -> None:
    tokenizer = word_piece()
    probes = probes_of(tokenizer.encode, "Glass", "blue", "glass")
    (check,) = answer_checks(probes, tokenizer.token_to_id("[UNK]"))
    assert check.state == "failed"
    assert check.text.startswith("different answers are the same tokens, first 'glass' and 'Glass'")
    assert answer_checks(probes[:2], None)[0].state == "ok"


def test_a_run_with_unknown_tokens_is_refused_before_anything_is_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(small, **SMOKE)  # type: ignore[arg-type]
    built, _ = build_run(job_of(run, tmp_path), installed())
    token = built.stream.probe_sets["primary"][0].input_ids[-1]
    monkeypatch.setattr("seqmem.training.run.unknown_id", lambda tokenizer: token)
    events = carry_out(run, tmp_path / "run")
    assert events[-1]["event"] == "refused" and "unknown token" in events[-1]["reason"]
    assert not (tmp_path / "run").exists()


def test_answers_trained_with_other_tokens_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(row: bytes, answer: bytes) -> bool:
        return False

    monkeypatch.setattr("seqmem.training.audit._holds", cut)
    found = audited("tiny", tmp_path)
    said = [check.text for check in found.checks if check.state == "told"]
    wanted = "not asked with the tokens they are trained with: question 8 of 8, last_token 8 of 8"
    assert any(wanted in text for text in said)
