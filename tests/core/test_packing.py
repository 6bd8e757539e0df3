"""Packed documents train as they would in rows of their own, on every architecture; crossing is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import KINDS, MORE_KINDS, VOCABULARY, WINDOW, Kind, make_model_folder

from seqmem import Example, UsageError, pack
from seqmem.core.choices import Attention
from seqmem.core.errors import RunFailed
from seqmem.core.packing import unpack
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.models import ModelChoice
from seqmem.training import borders
from seqmem.training.learner import Learner
from seqmem.training.model import load_model

LENGTHS = (12, 30, 7, 19, 25)
"""Tokens of five documents, which make three rows of 48."""
KERNELS: tuple[Attention, ...] = ("eager", "sdpa")


def document(number: int, length: int, *facts: str, weight: float | None = None) -> Example:
    """Tokens that no other number has; every second one is a target, the first one too."""
    draw = np.random.PCG64([number, length]).random_raw(length)
    ids = (draw % (VOCABULARY - 1) + 1).astype(np.int32)
    mask = np.arange(length) % 2 == 0
    weights = None if weight is None else np.full(length, weight, dtype=np.float32)
    return Example(ids, mask, facts, weights)


def documents() -> list[Example]:
    return [document(number, length, f"fact {number}") for number, length in enumerate(LENGTHS)]


# -- laying out -------------------------------------------------------------------------------------------


def test_each_document_goes_into_the_first_row_with_room() -> None:
    rows = pack(documents(), 48)
    assert [row.facts for row in rows] == [("fact 0", "fact 1"), ("fact 2", "fact 3"), ("fact 4",)]
    # 12 + 30, then 7 finds 6 left and opens a row, 19 fits there, and 25 finds 22 left
    assert [len(row.input_ids) for row in rows] == [42, 26, 25]
    later = pack([*documents(), document(5, 6, "fact 5")], 48)
    assert later[0].facts == ("fact 0", "fact 1", "fact 5")  # an early row's room is used late


def test_segments_number_the_documents_and_their_first_tokens_are_no_targets() -> None:
    first, second = document(0, 4), document(1, 3)
    (row,) = pack([first, second], 7)
    assert row.segments is not None
    assert row.segments.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert row.segments.dtype == row.input_ids.dtype == np.int32
    assert row.input_ids.tolist() == [*first.input_ids.tolist(), *second.input_ids.tolist()]
    assert first.loss_mask[0] and second.loss_mask[0]
    assert row.loss_mask.tolist() == [False, False, True, False, False, False, True]
    assert first.loss_mask[0], "what is packed is left as it was"


def test_weights_are_joined_with_ones_where_a_document_has_none() -> None:
    (row,) = pack([document(0, 2), document(1, 3, weight=2.5), document(2, 1)], 9)
    assert row.weights is not None
    assert row.weights.tolist() == [1, 1, 2.5, 2.5, 2.5, 1]
    assert row.weights.dtype == np.float32
    (plain,) = pack([document(0, 2), document(1, 3)], 9)
    assert plain.weights is None


def test_facts_are_kept_one_entry_per_statement() -> None:
    (row,) = pack([document(0, 2, "a", "a"), document(1, 2), document(2, 2, "b", "a")], 9)
    assert row.facts == ("a", "a", "b", "a")


def test_a_document_longer_than_the_row_is_one_clear_line() -> None:
    assert len(pack([document(0, 48)], 48)) == 1
    with pytest.raises(
        UsageError, match=r"^a document of 49 tokens does not fit a packed row of 48; use longer"
    ):
        pack([document(1, 5), document(0, 49)], 48)


def test_nothing_packs_into_nothing() -> None:
    assert pack([], 8) == []


def test_crossing_lays_out_the_same_rows_without_borders() -> None:
    apart, across = pack(documents(), 48), pack(documents(), 48, crossing=True)
    assert all(row.segments is None for row in across)
    for one, other in zip(apart, across, strict=True):
        assert one.input_ids.tolist() == other.input_ids.tolist()
        assert one.loss_mask.tolist() == other.loss_mask.tolist()
        assert one.facts == other.facts


def test_unpacking_gives_the_documents_back() -> None:
    given = [document(0, 5, "a", weight=2), document(1, 3, "b"), document(2, 4)]
    (row,) = pack(given, 20)
    back = list(unpack(row))
    assert [d.input_ids.tolist() for d in back] == [d.input_ids.tolist() for d in given]
    assert [d.loss_mask[1:].tolist() for d in back] == [d.loss_mask[1:].tolist() for d in given]
    assert [d.weights.tolist() for d in back if d.weights is not None] == [[2] * 5, [1] * 3, [1] * 4]
    assert [d.facts for d in back] == [("a", "b"), (), ()]
    assert all(d.segments is None for d in back)
    assert list(unpack(given[1])) == [given[1]]


# -- training ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    return {kind: make_model_folder(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def learner_of(folder: Path, attention: Attention = "sdpa") -> Learner:
    """In evaluation mode: OPT and GPT-2 drop units out in training, in other places of differently laid rows."""
    learner = Learner(
        load_model(folder, ModelChoice(name=str(folder), attention=attention)),
        OptimizerSettings(),
        torch.device("cpu"),
        0,
    )
    learner.model.eval()
    return learner


def gradients(
    learner: Learner, rows: Sequence[Example], **arguments: Any
) -> tuple[float, list[torch.Tensor]]:
    learner.model.zero_grad()
    loss, *_ = learner.loss(rows, **arguments)
    loss.backward()  # type: ignore[no-untyped-call]
    found = [p.grad.clone() for p in learner.parameters.values() if p.grad is not None]
    assert len(found) == len(learner.parameters)
    return loss.item(), found


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_have_the_loss_and_gradient_of_rows_of_their_own(
    folders: dict[Kind, Path], kind: Kind, attention: Attention
) -> None:
    learner = learner_of(folders[kind], attention)
    alone, expected = gradients(learner, documents())
    packed, found = gradients(learner, pack(documents(), 48))
    assert packed == pytest.approx(alone, abs=1e-5)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    crossing, _ = gradients(learner, pack(documents(), 48, crossing=True))
    assert abs(crossing - alone) > 1e-4


def losses_of_second(learner: Learner, first: Example, second: Example, **how: Any) -> np.ndarray[Any, Any]:
    """The loss of every target of the second of two packed documents, by weighing each alone."""
    (row,) = pack([first, second], 64, **how)
    start, found = len(first.input_ids), []
    for place in np.flatnonzero(row.loss_mask):
        if place >= start:
            only = np.zeros_like(row.loss_mask)
            only[place] = True
            example = Example(row.input_ids, only, segments=row.segments)
            found.append(learner.loss([example])[0].item())
    return np.array(found)


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_changing_a_document_moves_the_other_s_losses_only_where_crossing_is_asked_for(
    folders: dict[Kind, Path], kind: Kind, attention: Attention
) -> None:
    learner = learner_of(folders[kind], attention)
    second = document(1, 9)
    with torch.no_grad():
        before, after = (losses_of_second(learner, document(n, 14), second) for n in (0, 7))
        assert len(before) == 4
        assert before.tolist() == after.tolist()
        before, after = (losses_of_second(learner, document(n, 14), second, crossing=True) for n in (0, 7))
        assert (np.abs(before - after) > 1e-4).any()


def test_packed_and_plain_rows_of_other_lengths_share_a_batch(folders: dict[Kind, Path]) -> None:
    learner = learner_of(folders["gpt_neox"])
    plain = [document(8, 40), document(9, 5)]
    alone, expected = gradients(learner, [*plain, *documents()])
    mixed, found = gradients(learner, [plain[0], *pack(documents(), 48), plain[1]])
    assert mixed == pytest.approx(alone, abs=1e-5)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    counts = [learner.loss(rows)[1:] for rows in ([*plain, *documents()], [*plain, *pack(documents(), 48)])]
    assert counts[0] == counts[1]


def test_weights_make_the_loss_a_weighted_mean_over_all_targets(folders: dict[Kind, Path]) -> None:
    learner = learner_of(folders["gpt_neox"])
    one, other = document(0, 11), document(1, 21)  # 5 and 10 targets
    alone = [learner.loss([row])[0].item() for row in (one, other)]
    heavy = document(0, 11, weight=4)
    expected = (4 * 5 * alone[0] + 10 * alone[1]) / (4 * 5 + 10)
    assert learner.loss([heavy, other])[0].item() == pytest.approx(expected, abs=1e-5)
    assert learner.loss(pack([heavy, other], 64))[0].item() == pytest.approx(expected, abs=1e-5)
    # of one weight everywhere nothing comes
    same = [document(0, 11, weight=4), document(1, 21, weight=4)]
    assert learner.loss(same)[0].item() == pytest.approx(learner.loss([one, other])[0].item(), abs=1e-5)


def test_rows_without_weights_and_segments_are_trained_as_ever(folders: dict[Kind, Path]) -> None:
    """Bit by bit: the model is given token ids and nothing else, and the loss is the plain mean."""
    learner = learner_of(folders["gpt_neox"])
    rows, given = documents(), []
    inner = learner.model.forward

    def spy(**arguments: Any) -> Any:
        given.append(sorted(arguments))
        return inner(**arguments)

    learner.model.forward = spy  # type: ignore[method-assign]
    loss = learner.loss(rows)[0]
    width = max(LENGTHS)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for line, row in enumerate(rows):
        ids[line, : len(row.input_ids)] = torch.from_numpy(row.input_ids.astype(np.int64))
        mask[line, : len(row.input_ids)] = torch.from_numpy(row.loss_mask)
    logits = inner(input_ids=ids, use_cache=False).logits[:, :-1][mask[:, 1:]]
    assert torch.equal(loss, torch.nn.functional.cross_entropy(logits, ids[:, 1:][mask[:, 1:]]))
    assert given == [["input_ids", "use_cache"]]


def test_a_strategy_s_own_forward_is_given_documents_in_rows_of_their_own(folders: dict[Kind, Path]) -> None:
    learner = learner_of(folders["gpt_neox"])
    shapes = []

    def forward(ids: torch.Tensor, prompt_tokens: torch.Tensor | None) -> torch.Tensor:
        shapes.append(tuple(ids.shape))
        logits: torch.Tensor = learner.model(input_ids=ids, use_cache=False).logits
        return logits

    alone, _ = gradients(learner, documents())
    routed, _ = gradients(learner, pack(documents(), 48), forward=forward)
    assert routed == pytest.approx(alone, abs=1e-5)
    assert shapes == [(5, 30)]


SLIDING: tuple[tuple[Kind, Attention], ...] = (
    ("mistral", "sdpa"),
    ("gemma2", "eager"),
    ("gemma3_text", "sdpa"),
    ("olmo3", "sdpa"),
)


@pytest.mark.parametrize(("kind", "attention"), SLIDING)
def test_packed_documents_longer_than_a_sliding_window_are_read_as_in_rows_of_their_own(
    kind: Kind, attention: Attention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(LENGTHS) > 2 * WINDOW
    learner = learner_of(make_model_folder(kind, tmp_path), attention)
    with torch.no_grad():
        for parameter in learner.parameters.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    alone, expected = gradients(learner, documents())
    packed, found = gradients(learner, pack(documents(), 48))
    assert packed == pytest.approx(alone, abs=1e-5)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    # a mask without the window is another model: what the check finds
    made = borders._bordering

    def without(model: Any, *packed: Any) -> dict[str, Any]:
        with monkeypatch.context() as patched:
            patched.setattr(model.config, "sliding_window", None)
            return made(model, *packed)

    monkeypatch.setattr(learner, "_borders", borders.Borders())
    monkeypatch.setattr(borders, "_bordering", without)
    with pytest.raises(RunFailed, match="reads a packed document otherwise than the same document in a row"):
        learner.loss(pack(documents(), 48))


@pytest.mark.parametrize("kind", MORE_KINDS)
def test_every_architecture_reads_packed_documents_as_they_are_or_is_refused(
    kind: Kind, tmp_path: Path
) -> None:
    learner = learner_of(make_model_folder(kind, tmp_path), "eager")
    with torch.no_grad():
        alone, *_ = learner.loss(documents())
        if kind == "bloom":
            with pytest.raises(RunFailed, match="this model cannot be told of their borders") as refused:
                learner.loss(pack(documents(), 48))
            assert "\n" not in str(refused.value)
        else:
            assert learner.loss(pack(documents(), 48))[0].item() == pytest.approx(alone.item(), abs=1e-5)


# -- models that cannot ------------------------------------------------------------------------------------


class Crossing(torch.nn.Module):
    """Takes a mask and positions and does not care: every token sees the sum of all before it."""

    def __init__(self, kernel: str = "sdpa") -> None:
        super().__init__()
        self.config = SimpleNamespace(_attn_implementation=kernel)
        self.table = torch.nn.Parameter(
            torch.randn(VOCABULARY, 8, generator=torch.Generator().manual_seed(0))
        )

    def forward(
        self,
        input_ids: torch.Tensor,
        use_cache: bool,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> Any:
        return SimpleNamespace(logits=self.table[input_ids].cumsum(1) @ self.table.T)


class Sliding(Crossing):
    """Attends within a window of 20 unless it is given a mask, and has no name for that in its configuration."""

    def forward(
        self,
        input_ids: torch.Tensor,
        use_cache: bool,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> Any:
        places = torch.arange(input_ids.shape[1])
        back = places[:, None] - places
        seen = ((back >= 0) & (back < 20))[None] if attention_mask is None else attention_mask[:, 0] == 0
        return SimpleNamespace(logits=seen.float() @ self.table[input_ids] @ self.table.T)


class Alone(Crossing):
    """Every token sees itself alone."""

    def forward(self, input_ids: torch.Tensor, use_cache: bool, **borders: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.table[input_ids] @ self.table.T)


class Recurrent(Crossing):
    """Knows neither masks nor positions."""

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:  # type: ignore[override]
        return SimpleNamespace(logits=self.table[input_ids].cumsum(1) @ self.table.T)


def toy(model: torch.nn.Module) -> Learner:
    return Learner(model, OptimizerSettings(), torch.device("cpu"), 0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Crossing(), r"packed into rows, and this model lets one document read another; use a model whose"),
        (
            Sliding(),
            r"this model reads a packed document otherwise than the same document in a row of its own;",
        ),
        (Recurrent(), r"this model cannot be told of their borders \(.*position_ids.*\); use a model whose"),
        (Alone("flash_attention_2"), r"'flash_attention_2' takes no mask .*; use --attention sdpa or eager"),
    ],
)
def test_a_model_that_cannot_keep_documents_apart_is_refused_in_one_line(
    model: torch.nn.Module, reason: str
) -> None:
    learner = toy(model)
    learner.loss(documents())  # plain rows are nobody's business
    learner.loss(pack(documents(), 48, crossing=True))
    with pytest.raises(RunFailed, match=reason) as refused:
        learner.loss(pack(documents(), 48))
    assert "\n" not in str(refused.value)
    assert learner.model.training


def test_the_check_is_made_once_and_again_for_a_longer_row() -> None:
    model = Alone()
    learner, passes = toy(model), []
    inner = model.forward

    def counted(*arguments: Any, **further: Any) -> Any:
        passes.append(model.training)
        return inner(*arguments, **further)

    model.forward = counted  # type: ignore[method-assign]
    for _ in range(3):
        learner.loss(pack(documents(), 48))
    assert passes == [False, False, False, True, True, True]
    learner.loss(pack(documents(), 60))  # it may hold a document that is longer than a window
    assert passes[6:] == [False, False, False, True]
    # a row of one document is given a mask too
    with pytest.raises(RunFailed):
        toy(Sliding()).loss(pack([document(0, 40)], 48))
