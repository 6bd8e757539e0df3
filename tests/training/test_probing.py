"""One teacher-forced forward says what greedy decoding would: right or wrong, and how probable the answer was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import KINDS, Kind
from questions import Encode, answered, generated, of_folder, questions, shipped, smallest_margin
from small_runs import small_model

from seqmem import Decoding, Probe, text_example
from seqmem.core.probes import ROW_TOKENS
from seqmem.core.recipe import OptimizerSettings
from seqmem.training.learner import Learner
from seqmem.training.probe_rows import Block
from seqmem.training.probing import ProbeSet
from seqmem_scenarios.world import ATTRIBUTES, background

CPU = torch.device("cpu")
TIE = 1e-4
"""Logits closer than this are a tie: rows padded on the left and on the right are added up differently."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: small_model(root / kind, kind) for kind in KINDS}


def agreement(model: Any, probes: Sequence[Probe]) -> tuple[int, int]:
    """Asks the probes both ways; number of right ones, and of disagreements, which must be ties."""
    said = generated(model, probes)
    mixed = answered(probes, said)
    correct = ProbeSet(mixed, CPU).ask(model).exact_match
    expected = [row == probe.input_ids[probe.answer_start :] for row, probe in zip(said, mixed, strict=True)]
    other = [probe for probe, a, b in zip(mixed, correct, expected, strict=True) if a != b]
    for probe in other:
        assert smallest_margin(model, probe) < TIE, (probe.prompt, probe.answer)
    return sum(expected), len(other)


def taught(model: Any, encode: Encode, steps: int) -> Any:
    """The model after some steps of training on the world's text."""
    learner = Learner(model, OptimizerSettings(lr=1e-3), CPU, seed=0)
    for step in range(steps):
        rows = [text_example(encode, background(7, step * 8 + n), length=64) for n in range(8)]
        learner.loss(rows)[0].backward()
        learner.optimizer.step()
        learner.optimizer.zero_grad()
    return learner.model


@pytest.mark.parametrize("kind", KINDS)
def test_asking_agrees_with_greedy_generation_on_every_architecture(
    kind: Kind, folders: dict[Kind, Path]
) -> None:
    model, encode = of_folder(folders[kind], kind)
    right, disagreements = agreement(model, questions(encode, 150))
    assert right >= 50  # the third of the answers that are the model's own
    assert disagreements == 0


def test_asking_agrees_with_greedy_generation_on_the_shipped_model_as_it_learns() -> None:
    model, encode = shipped()
    for step in (0, 12):
        model = taught(model, encode, step)
        right, disagreements = agreement(model, questions(encode, 200, seed=step))
        assert 67 < right < 150, step  # its own answers, some true ones that it knows, hardly a changed one
        assert disagreements == 0, step


@pytest.mark.slow
def test_asking_agrees_with_greedy_generation_on_1000_prompts_at_several_checkpoints(
    folders: dict[Kind, Path],
) -> None:
    model, encode = shipped()
    for step in (0, 10, 40):
        model = taught(model, encode, step)
        probes = questions(encode, 1000, seed=step)
        lengths = [probe.answer_start for probe in probes]
        right, disagreements = agreement(model, probes)
        print(
            f"\ntiny after {step} more steps: 1000 prompts of {min(lengths)} to {max(lengths)} tokens, "
            f"{right} right, {disagreements} disagreements"
        )
        assert disagreements == 0
    for kind in KINDS:
        model, encode = of_folder(folders[kind], kind)
        right, disagreements = agreement(model, questions(encode, 1000))
        print(f"random {kind}: 1000 prompts, {right} right, {disagreements} disagreements")
        assert disagreements == 0


@pytest.mark.parametrize("kind", KINDS)
def test_probes_asked_together_score_as_each_asked_alone(kind: Kind, folders: dict[Kind, Path]) -> None:
    model, encode = of_folder(folders[kind], kind)
    probes = questions(encode, 100, choices=3)
    probes = [replace(p, choices=(), choice_names=()) if n % 4 == 0 else p for n, p in enumerate(probes)]
    together = ProbeSet(probes, CPU)
    assert together.tokens > ROW_TOKENS  # more than one block
    answers = together.ask(model)
    for n, probe in enumerate(probes):
        if n % 3:
            continue  # of all blocks a third; with and without choices
        alone = ProbeSet([probe], CPU).ask(model)
        assert answers.logprob[n] == pytest.approx(alone.logprob[0], rel=1e-5, abs=1e-4)
        assert answers.exact_match[n] == alone.exact_match[0]
        assert answers.choice[n] == alone.choice[0]
        assert answers.top_distractor_logprob[n] == (
            None
            if alone.top_distractor_logprob[0] is None
            else pytest.approx(alone.top_distractor_logprob[0], rel=1e-5, abs=1e-4)
        )


@torch.no_grad()
def by_hand(model: Any, prompt: tuple[int, ...], continuation: tuple[int, ...]) -> float:
    """Log-probability of a continuation in nats, token by token, each from a forward of its own."""
    model.eval()
    total, ids = 0.0, list(prompt)
    for token in continuation:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double()
        total += float(torch.log_softmax(logits, 0)[token])
        ids.append(token)
    return total


def test_log_probabilities_and_choices_are_those_of_the_chain_rule() -> None:
    model, encode = shipped()
    probes = questions(encode, 24, seed=5, choices=4)
    # the right answer not always first, and one choice twice as long as the others
    probes = [replace(p, choices=p.choices[n % 4 :] + p.choices[: n % 4]) for n, p in enumerate(probes)]
    longer = probes[0].choices[1] + tuple(encode(" and more"))
    probes[0] = replace(probes[0], choices=(*probes[0].choices, longer))
    answers = ProbeSet(probes, CPU).ask(model)
    for n, probe in enumerate(probes):
        prompt, right = probe.input_ids[: probe.answer_start], probe.input_ids[probe.answer_start :]
        scores = [by_hand(model, prompt, choice) for choice in probe.choices]
        assert answers.logprob[n] == pytest.approx(by_hand(model, prompt, right), rel=1e-5, abs=1e-4)
        assert answers.choice[n] == int(np.argmax(scores))
        others = [score for score, choice in zip(scores, probe.choices, strict=True) if choice != right]
        assert answers.top_distractor_logprob[n] == pytest.approx(max(others), rel=1e-5, abs=1e-4)
    picked = [probe.choices[answers.choice[n] or 0] for n, probe in enumerate(probes)]
    rights = [probe.input_ids[probe.answer_start :] for probe in probes]
    assert 0 < sum(a == b for a, b in zip(picked, rights, strict=True)) < len(probes)


def test_without_choices_there_is_neither_a_choice_nor_a_rival(folders: dict[Kind, Path]) -> None:
    model, encode = of_folder(folders["gpt_neox"], "gpt_neox")
    plain, only = questions(encode, 2)
    only = replace(only, choices=(only.input_ids[only.answer_start :],), choice_names=("right",))
    answers = ProbeSet([plain, only], CPU).ask(model)
    assert answers.choice == [None, 0]
    assert answers.top_distractor_logprob == [None, None]


def test_only_the_last_token_can_be_asked_for(folders: dict[Kind, Path]) -> None:
    model, encode = of_folder(folders["llama"], "llama")
    (probe,) = questions(encode, 1)
    last = replace(probe, answer_start=len(probe.input_ids) - 1)
    answers = ProbeSet([probe, last], CPU).ask(model)
    assert answers.logprob[1] == pytest.approx(
        by_hand(model, probe.input_ids[:-1], probe.input_ids[-1:]), rel=1e-5, abs=1e-4
    )
    assert answers.logprob[0] < answers.logprob[1]


@pytest.mark.parametrize("training", [True, False])
def test_asking_leaves_the_model_its_mode_and_the_random_state_as_they_were(
    training: bool, folders: dict[Kind, Path]
) -> None:
    model, encode = of_folder(folders["gpt2"], "gpt2")  # with dropout
    model.train(training)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    probes = ProbeSet(questions(encode, 5), CPU)
    first, second = probes.ask(model), probes.ask(model)
    assert first == second
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_rows_that_are_padded_have_the_loss_they_have_alone(folders: dict[Kind, Path]) -> None:
    for kind in KINDS:
        model, encode = of_folder(folders[kind], kind)
        learner = Learner(model, OptimizerSettings(), CPU, seed=0)
        learner.model.eval()
        rows = [text_example(encode, background(0, n), length=20 + 9 * n) for n in range(5)]
        together, tokens, targets = learner.loss(rows)
        alone = [learner.loss([row]) for row in rows]
        assert (tokens, targets) == (sum(a[1] for a in alone), sum(a[2] for a in alone))
        mean = sum(loss.item() * count for loss, _, count in alone) / targets
        assert together.item() == pytest.approx(mean, rel=1e-5, abs=1e-4), kind


# -- one-token choices, closed sets, sampled decoding -----------------------------------------------------


def test_one_token_choices_score_as_rows_of_their_own(folders: dict[Kind, Path]) -> None:
    """Asked for the last token only, choices are single tokens; a longer one beside them is a row again."""
    model, encode = of_folder(folders["gpt_neox"], "gpt_neox")
    probes = []
    for number, probe in enumerate(questions(encode, 12, seed=3)):
        ids, last = probe.input_ids, len(probe.input_ids) - 1
        rivals = tuple((token,) for token in range(20 + number, 24 + number) if token != ids[-1])
        probes.append(replace(probe, answer_start=last, choices=((ids[-1],), *rivals)))
    alone = ProbeSet(probes, CPU).ask(model)
    # a rival of two tokens, never the best, forces nothing on the others
    mixed = [replace(p, choices=(*p.choices, (p.input_ids[-1], 5, 5, 5))) for p in probes]
    with_rows = ProbeSet(mixed, CPU).ask(model)
    for index, probe in enumerate(probes):
        scores = [by_hand(model, probe.input_ids[:-1], choice) for choice in probe.choices]
        assert alone.logprob[index] == pytest.approx(scores[0], abs=1e-4)
        assert alone.top_distractor_logprob[index] == pytest.approx(max(scores[1:]), abs=1e-4)
        assert alone.choice[index] == int(np.argmax(scores))
        assert alone.choice_logprob[index] == pytest.approx(scores[0] - np.logaddexp.reduce(scores), abs=1e-4)
        more = by_hand(model, mixed[index].input_ids[:-1], mixed[index].choices[-1])
        assert with_rows.choice_logprob[index] == pytest.approx(
            scores[0] - np.logaddexp.reduce([*scores, more]), abs=1e-4
        )
    assert ProbeSet(probes, CPU).tokens == sum(len(p.input_ids) - 1 for p in probes)


def test_a_choice_given_twice_counts_once_more_and_never_as_certain(folders: dict[Kind, Path]) -> None:
    model, encode = of_folder(folders["gpt_neox"], "gpt_neox")
    (probe,) = questions(encode, 1)
    start = len(probe.input_ids) - 1
    twice = replace(probe, answer_start=start, choices=(probe.input_ids[start:], (21,), (21,)))
    answers = ProbeSet([twice], CPU).ask(model)
    rival = by_hand(model, probe.input_ids[:start], (21,))
    assert answers.top_distractor_logprob[0] == pytest.approx(rival, abs=1e-4)
    assert answers.choice_logprob[0] == pytest.approx(
        answers.logprob[0] - np.logaddexp.reduce([answers.logprob[0], rival, rival]), abs=1e-4
    )


def test_an_answer_that_is_none_of_the_choices_has_no_closed_score(folders: dict[Kind, Path]) -> None:
    model, encode = of_folder(folders["gpt_neox"], "gpt_neox")
    (probe,) = questions(encode, 1)
    answers = ProbeSet([replace(probe, choices=((1, 2),))], CPU).ask(model)
    assert answers.choice_logprob == [None]
    assert ProbeSet([probe], CPU).ask(model).choice_logprob == [None]


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(0.7), Decoding(1.3, 5), Decoding(1.0, 1)])
def test_the_sampled_share_is_what_sampling_by_transformers_gives(decoding: Decoding) -> None:
    """The share of right answers among 600 drawn by `generate` is the stated probability, within 4 errors."""
    model, encode = shipped()
    model.eval()
    model.generation_config.eos_token_id = None
    asked = questions(encode, 40)
    scores = ProbeSet(asked, CPU).ask(model).logprob
    known = [probe for probe, score in zip(asked, scores, strict=True) if score > -6]
    wordy = replace(known[0], input_ids=(*known[0].input_ids[: known[0].answer_start], *encode(" the")[:1]))
    drawn = 600
    torch.manual_seed(0)
    for probe in [known[0], known[1], wordy]:
        answer = probe.input_ids[probe.answer_start :]
        (share,) = ProbeSet([probe], CPU, decoding).ask(model).sampled
        assert share is not None
        prompt = torch.tensor([probe.input_ids[: probe.answer_start]]).repeat(drawn, 1)
        said = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=decoding.temperature,
            top_k=decoding.top_k or 0,
            max_new_tokens=len(answer),
            pad_token_id=0,
        )[:, prompt.shape[1] :]
        right = sum(tuple(row) == answer for row in said.tolist())
        error = 4 * np.sqrt(max(share * (1 - share), 1e-9) * drawn)
        assert abs(right - share * drawn) <= error + 1e-6, (right, share * drawn)


def test_with_one_candidate_sampling_is_greedy_decoding() -> None:
    model, encode = shipped()
    probes = questions(encode, 60)
    answers = ProbeSet(probes, CPU, Decoding(1.0, 1)).ask(model)
    assert answers.sampled == [float(right) for right in answers.exact_match]
    assert 10 < sum(answers.exact_match) < 50


@torch.no_grad()
def test_a_wrong_answer_is_kept_as_greedy_decoding_begins_it() -> None:
    model, encode = shipped()
    probes = questions(encode, 40)
    document = replace(probes[0], id="document", relation="general")
    answers = ProbeSet([*probes, document], CPU).ask(model)
    assert answers.greedy_tokens[-1] is None and not answers.exact_match[0]
    model.eval()
    for n, probe in enumerate(probes):
        if answers.exact_match[n]:
            assert answers.greedy_tokens[n] is None
            continue
        ids, begun = list(probe.input_ids[: probe.answer_start]), []
        for true in probe.input_ids[probe.answer_start :]:
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            begun.append(int(logits.argmax()))
            ids.append(begun[-1])
            if begun[-1] != true:
                break
        assert answers.greedy_tokens[n] == begun
    lengths = {len(said) for said in answers.greedy_tokens if said is not None}
    assert len(lengths) > 1  # some go wrong later than others


@pytest.mark.parametrize("kind", KINDS)
def test_answers_that_share_a_prompt_score_as_rows_of_their_own(
    kind: Kind, folders: dict[Kind, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encode = of_folder(folders[kind], kind)
    probes = questions(encode, 40, choices=6)
    together = ProbeSet(probes, CPU)
    shared = together.ask(model)
    assert any(block.borders is not None for block in together._blocks)
    monkeypatch.setattr(ProbeSet, "_keeps_apart", lambda self, line, model: False)
    apart = ProbeSet(probes, CPU)
    alone = apart.ask(model)
    assert all(block.borders is None for block in apart._blocks)
    assert shared.logprob == pytest.approx(alone.logprob, rel=1e-5, abs=1e-4)
    assert shared.top_distractor_logprob == pytest.approx(alone.top_distractor_logprob, rel=1e-5, abs=1e-4)
    assert (shared.rank, shared.exact_match) == (alone.rank, alone.exact_match)
    assert sum(map(numel, together._blocks)) < 0.5 * sum(map(numel, apart._blocks))


def numel(block: Block) -> int:
    return block.ids.numel()


def test_a_model_that_lets_answers_read_each_other_scores_them_in_rows_of_their_own(
    folders: dict[Kind, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encode = of_folder(folders["llama"], "llama")
    probes = questions(encode, 8, choices=6)
    right = ProbeSet(probes, CPU).ask(model)
    plain = model.forward

    def deaf(**given: Any) -> Any:
        """Forget the mask, as an architecture without one would."""
        given.pop("attention_mask", None)
        return plain(**given)

    monkeypatch.setattr(model, "forward", deaf)
    probe_set = ProbeSet(probes, CPU)
    found = probe_set.ask(model)
    assert all(block.borders is None for block in probe_set._blocks)
    assert found.logprob == pytest.approx(right.logprob, rel=1e-5, abs=1e-4)


def test_ranks_count_ties_against_the_answer(folders: dict[Kind, Path]) -> None:
    model, encode = of_folder(folders["gpt_neox"], "gpt_neox")
    (probe,) = questions(encode, 1)
    start = len(probe.input_ids) - 1
    prompt, right = probe.input_ids[:start], probe.input_ids[start:]
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
    order = [token for token in logits.argsort(descending=True).tolist() if token < 500]
    place = order.index(right[0])
    better, worse = order[:place][-2:], order[place + 1 :][:3]
    choices = [right, *((token,) for token in (*better, *worse))]
    asked = replace(probe, answer_start=start, choices=tuple(choices))
    assert ProbeSet([asked], CPU).ask(model).rank == [1 + len(better)]
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    assert ProbeSet([asked], CPU).ask(model).rank == [len(choices)]


@torch.no_grad()
def test_the_form_of_an_answer_is_what_greedy_decoding_shows() -> None:
    """Closed sets of the attribute's values, every one scored, or four of them; decoded to the end by hand."""
    model, encode = shipped()
    model.eval()
    whole, some, truth = [], [], []
    for number, probe in enumerate(questions(encode, 40, choices=4)):
        own = probe.input_ids[probe.answer_start :]
        values = [value for a in ATTRIBUTES if probe.choice_names[1] in a.values for value in a.values]
        members = tuple(tuple(encode(f"{probe.prompt} {value}")[probe.answer_start :]) for value in values)
        if number % 3 == 0:
            members = tuple(m for m in members if m != own)  # a right answer is then in no form
        some.append(replace(probe, closed_set=members))
        whole.append(replace(some[-1], choices=members, choice_names=tuple(map(str, members))))
        path: list[int] = []
        for _ in range(max(map(len, members))):
            ids = torch.tensor([[*probe.input_ids[: probe.answer_start], *path]])
            path.append(int(model(input_ids=ids, use_cache=False).logits[0, -1].argmax()))
        truth.append(any(tuple(path[: len(member)]) == member for member in members))
    found = ProbeSet(whole, CPU).ask(model).in_form
    assert [bool(one) for one in found] == truth and 5 < sum(truth) < 35
    # of few candidates less is known: what is said to be out of form is so
    guessed = ProbeSet(some, CPU).ask(model).in_form
    assert all(one or not right for one, right in zip(guessed, truth, strict=True))
    assert sum(map(bool, guessed)) < sum(truth) + 8
    assert ProbeSet([replace(some[0], closed_set=())], CPU).ask(model).in_form == [None]
