from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from model_folders import KINDS, VOCABULARY, Kind, make_model_folder
from pydantic import ValidationError

from seqmem.core.errors import UsageError
from seqmem.planning.architecture import supports_sdpa, ties_embeddings
from seqmem.planning.model_files import ASSUMED_POSITIONS
from seqmem.planning.models import ModelChoice, ResolvedModel, resolve
from seqmem.planning.tokenizer import encoder, load_tokenizer, within
from seqmem.plugin.specs import ModelSpec
from seqmem.training.model import load_model


@dataclass(frozen=True)
class Listed:
    name: str


class FakeRegistry:
    """Two short names: `tiny` lies in a folder, `base` has not been made yet."""

    def __init__(self, tiny: Path | None = None) -> None:
        self.tiny = tiny

    def names(self, kind: str, /) -> list[Listed]:
        assert kind == "model"
        return [Listed("base"), Listed("tiny")]

    def load(self, kind: str, name: str, /) -> ModelSpec:
        folder = self.tiny if name == "tiny" else None
        return ModelSpec(
            name, "1", "", locate=lambda: folder, pretrain=lambda *_: {} if name == "base" else None
        )


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        make_model_folder(kind, root / kind)
    return root


@pytest.fixture
def copy(folders: Path, tmp_path: Path) -> Callable[[str], Path]:
    def fresh(kind: str = "gpt_neox") -> Path:
        return Path(shutil.copytree(folders / kind, tmp_path / kind))

    return fresh


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no attempt to go online."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def choice(folder: Path, **settings: Any) -> ModelChoice:
    return ModelChoice(name=str(folder), **settings)


def refused(name: str | Path, registry: FakeRegistry | None = None, **settings: Any) -> str:
    """The one line a user reads."""
    with pytest.raises(UsageError) as caught:
        resolve(ModelChoice(name=str(name), **settings), registry or FakeRegistry())
    line = str(caught.value)
    assert "\n" not in line
    return line


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


# ---- what resolve reads off


@pytest.mark.parametrize("kind", KINDS)
def test_resolve_agrees_with_the_loaded_model(folders: Path, kind: str) -> None:
    asked = choice(folders / kind)
    located = resolve(asked, FakeRegistry())
    found = located.model
    assert (found.name, found.revision, found.architecture) == (kind, None, kind)
    assert found.max_positions == 256
    model = load_model(located.folder, asked)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert sorted(located.shapes.values()) == sorted(tuple(p.shape) for p in model.parameters())
    assert not model.training


def test_no_path_of_this_machine_in_what_is_recorded(folders: Path) -> None:
    located = resolve(choice(folders / "gpt2"), FakeRegistry())
    assert str(folders) not in located.model.model_dump_json()
    assert ResolvedModel.model_validate_json(located.model.model_dump_json()) == located.model


def test_fingerprint_is_of_content_only(folders: Path, copy: Callable[[str], Path]) -> None:
    original = resolve(choice(folders / "gpt2"), FakeRegistry()).model.fingerprint
    folder = copy("gpt2")
    (folder / "README.md").write_text("says nothing about the model")
    assert resolve(choice(folder), FakeRegistry()).model.fingerprint == original
    for name in ("config.json", "tokenizer.json"):
        path = folder / name
        path.write_text(path.read_text() + "\n")
        changed = resolve(choice(folder), FakeRegistry()).model.fingerprint
        assert changed != original and len(changed) == 64
        original = changed


def test_fingerprint_sees_one_changed_weight(copy: Callable[[str], Path]) -> None:
    folder = copy("gpt2")
    before = resolve(choice(folder), FakeRegistry()).model
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    after = resolve(choice(folder), FakeRegistry()).model
    assert after.fingerprint != before.fingerprint and after.parameters == before.parameters


def test_sharded_weights(folders: Path, tmp_path: Path) -> None:
    asked = choice(folders / "llama")
    whole = resolve(asked, FakeRegistry()).model
    shutil.copytree(folders / "llama", tmp_path / "parts")
    (tmp_path / "parts" / "model.safetensors").unlink()
    load_model(folders / "llama", asked).save_pretrained(tmp_path / "parts", max_shard_size="50KB")
    parts = sorted((tmp_path / "parts").glob("model-*.safetensors"))
    assert len(parts) > 1
    assert resolve(choice(tmp_path / "parts"), FakeRegistry()).model.parameters == whole.parameters
    parts[1].unlink()
    assert parts[1].name in refused(tmp_path / "parts")


def test_stored_buffers_are_not_parameters(copy: Callable[[str], Path]) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder = copy("gpt_neox")
    before = resolve(choice(folder), FakeRegistry()).model.parameters
    tensors = load_file(folder / "model.safetensors")
    layer = "gpt_neox.layers.0.attention"
    tensors |= {
        f"{layer}.bias": np.ones((1, 1, 256, 256), np.float32),
        f"{layer}.causal": np.ones((256, 256), np.bool_),
        f"{layer}.masked_bias": np.zeros((), np.float32),
        f"{layer}.rotary_emb.inv_freq": np.zeros((4,), np.float32),
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert resolve(choice(folder), FakeRegistry()).model.parameters == before


HEADS: dict[Kind, tuple[str, str]] = {
    "gpt2": ("lm_head.weight", "transformer.wte.weight"),
    "llama": ("lm_head.weight", "model.embed_tokens.weight"),
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("stated", [True, False, None])
@pytest.mark.parametrize("stored", ["both, equal", "both, different", "the head alone"])
def test_the_count_is_the_loaded_model_s_whatever_is_said_and_stored_of_the_head(
    kind: Kind, stated: bool | None, stored: str, copy: Callable[[str], Path]
) -> None:
    from safetensors.numpy import load_file, save_file

    head, embedding = HEADS[kind]
    folder = copy(kind)
    edit_config(folder, tie_word_embeddings=stated)
    tensors = load_file(folder / "model.safetensors")
    tensors[head] = tensors[embedding] + (1 if stored == "both, different" else 0)
    if stored == "the head alone":
        del tensors[embedding]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    located = resolve(choice(folder), FakeRegistry())
    tied = stated if stated is not None else kind == "gpt2"
    if stored == "the head alone" and not tied:
        with pytest.raises(UsageError, match="lacks 1 of its weights"):
            load_model(folder, choice(folder))
        return
    model = load_model(folder, choice(folder))
    assert located.model.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("family", "ties"),
    [
        ("gpt2", True),
        ("opt", True),
        ("gemma", True),
        ("falcon", True),
        ("llama", False),
        ("gpt_neox", False),
        ("own", False),
    ],
)
def test_what_a_family_ties_by_default_is_known_without_torch(family: str, ties: bool) -> None:
    assert ties_embeddings({"model_type": family}) is ties


def test_positions_are_assumed_where_nothing_states_them(copy: Callable[[str], Path]) -> None:
    folder = copy("gpt_neox")
    edit_config(folder, max_position_embeddings=None)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    assert resolve(choice(folder), FakeRegistry()).model.max_positions == ASSUMED_POSITIONS
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 96}))
    assert resolve(choice(folder), FakeRegistry()).model.max_positions == 96


def test_resolve_imports_no_torch(folders: Path) -> None:
    code = (
        "import sys; from types import SimpleNamespace as N; from seqmem.planning.models import ModelChoice, resolve\n"
        f"resolve(ModelChoice(name={str(folders / 'opt')!r}), N(names=lambda kind: []))\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'avalanche'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


# ---- names


def test_a_short_name_wins_over_a_folder(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folders / "opt", tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    registry = FakeRegistry(folders / "gpt2")
    assert resolve(ModelChoice(name="tiny"), registry).model.architecture == "gpt2"
    found = resolve(ModelChoice(name="./tiny"), registry).model
    assert (found.name, found.architecture) == ("tiny", "opt")
    # A plain relative path, which could also be read as a Hugging Face id.
    assert resolve(ModelChoice(name="../" + tmp_path.name + "/tiny"), registry).model.name == "tiny"


def test_a_model_that_is_not_made_yet() -> None:
    assert "seqmem pretrain base" in refused("base")


def test_unknown_names(offline: Path, tmp_path: Path) -> None:
    line = refused("tinny")
    assert "Did you mean 'tiny'?" in line and "base, tiny" in line
    line = refused("EleutherAI/pythia-14m")
    assert "cannot be reached" in line and "base, tiny" in line
    assert "does not exist" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(tmp_path / "file")
    assert "Hugging Face shows no such model" in refused("one/two/three")


def test_a_cached_hugging_face_id(folders: Path, offline: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = offline / "models--some--model"
    shutil.copytree(folders / "llama", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "refs" / "step100").write_text(commit)
    found = resolve(ModelChoice(name="some/model"), FakeRegistry()).model
    assert (found.name, found.revision, found.architecture) == ("some/model", commit, "llama")
    assert resolve(ModelChoice(name="some/model", revision="step100"), FakeRegistry()).model == found
    assert "cannot be reached" in refused("some/model", revision="step200")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("RevisionNotFoundError", "no revision 'v9'"),
        ("GatedRepoError", "hf auth login"),
        ("RepositoryNotFoundError", "shows no such model"),
        ("HTTPError", "could not be downloaded: first line"),
        ("OSError", "could not be downloaded: first line"),
    ],
)
def test_what_hugging_face_may_answer(monkeypatch: pytest.MonkeyPatch, fault: str, said: str) -> None:
    import builtins

    import huggingface_hub
    from huggingface_hub import errors

    kind: type[Exception] = getattr(errors, fault, None) or getattr(builtins, fault)

    def download(*_: object, **__: object) -> str:
        error = kind.__new__(kind)
        error.args = ("first line\nsecond line",)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert said in refused("some/model", revision="v9")


def test_settings_that_cannot_work(folders: Path) -> None:
    assert "only applies to a Hugging Face id" in refused(folders / "gpt2", revision="main")
    assert "--precision bfloat16" in refused(folders / "gpt2", attention="flash_attention_2")
    with pytest.raises(ValidationError):
        ModelChoice(name="tiny", dtype="int8")  # type: ignore[arg-type]


# ---- folders that cannot work


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer (tokenizer.json)"),
        ("model.safetensors", "no weights (model.safetensors or pytorch_model.bin)"),
    ],
)
def test_a_file_is_missing(copy: Callable[[str], Path], lost: str, said: str) -> None:
    folder = copy("gpt_neox")
    (folder / lost).unlink()
    line = refused(folder)
    assert said in line


def test_an_empty_folder_names_everything(tmp_path: Path) -> None:
    line = refused(tmp_path)
    assert "config.json" in line and "tokenizer" in line and "weights" in line


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_named(copy: Callable[[str], Path], name: str) -> None:
    folder = copy("gpt_neox")
    path = folder / name
    path.write_bytes(path.read_bytes()[:-20])
    assert f"damaged {name}" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": None}, "without model_type"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM, not a causal"),
        ({"is_encoder_decoder": True, "architectures": None}, "encoder-decoder"),
        ({"architectures": 7}, "damaged config.json: architectures must be a list of names"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized"),
        ({"vocab_size": 100}, "only 100 embedding rows"),
    ],
)
def test_a_config_that_cannot_work(copy: Callable[[str], Path], changes: dict[str, Any], said: str) -> None:
    folder = copy("gpt_neox")
    edit_config(folder, **changes)
    assert said in refused(folder)


def test_an_adapter_is_not_a_model(copy: Callable[[str], Path]) -> None:
    folder = copy("gpt_neox")
    (folder / "adapter_config.json").write_text("{}")
    assert "adapter" in refused(folder)


# ---- loading


@pytest.mark.parametrize("dtype", ["float32", "bf16-mixed", "bfloat16", "float16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_load_and_train_a_step(folders: Path, kind: str, dtype: str, attention: str) -> None:
    import torch

    model = load_model(folders / kind, choice(folders / kind, dtype=dtype, attention=attention))
    weights = getattr(torch, "float32" if dtype == "bf16-mixed" else dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {weights}
    assert model.config._attn_implementation == attention
    rows = torch.arange(16).reshape(2, 8)
    output = model(input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=False)
    assert output.logits.shape == (2, 8, VOCABULARY)
    output.logits.float().logsumexp(-1).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_loading_is_quiet_and_puts_settings_back(folders: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    load_model(folders / "gpt2", choice(folders / "gpt2"))
    load_tokenizer(folders / "gpt2", choice(folders / "gpt2"))
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_missing_weight_is_an_error_not_a_random_one(copy: Callable[[str], Path]) -> None:
    from safetensors.numpy import load_file, save_file

    folder = copy("gpt_neox")
    tensors = load_file(folder / "model.safetensors")
    lost = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    kept = {name: tensor for name, tensor in tensors.items() if name != lost}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    resolve(choice(folder), FakeRegistry())
    with pytest.raises(UsageError, match="lacks 1 of its weights.*dense_h_to_4h"):
        load_model(folder, choice(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 64}, "could not be loaded|lacks"),
        ({"model_type": "no_such_architecture"}, "could not be loaded"),
    ],
)
def test_weights_and_config_that_disagree(
    copy: Callable[[str], Path], changes: dict[str, Any], said: str
) -> None:
    folder = copy("gpt_neox")
    edit_config(folder, **changes)
    with pytest.raises(UsageError, match=said) as caught:
        load_model(folder, choice(folder))
    assert "\n" not in str(caught.value)


def test_code_of_the_model_runs_only_when_trusted(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder, mark = copy("gpt_neox"), tmp_path / "it ran"
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
    edit_config(folder, model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"})
    with pytest.raises(UsageError, match="--trust-remote-code"):
        load_model(folder, choice(folder))
    assert not mark.exists()
    plain = resolve(choice(folder), FakeRegistry()).model
    assert (
        plain.fingerprint != resolve(choice(folder, trust_remote_code=True), FakeRegistry()).model.fingerprint
    )


def test_a_model_that_reads_ahead_is_refused(tmp_path: Path, folders: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    folder = tmp_path / "bert"
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=VOCABULARY, initializer_range=0.5, **shape)
    BertLMHeadModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folders / "gpt2" / name, folder)
    resolve(choice(folder), FakeRegistry())
    with pytest.raises(UsageError, match="reads later tokens"):
        load_model(folder, choice(folder))


# ---- tokenizers


@pytest.mark.parametrize("kind", KINDS)
def test_encode_puts_the_tokenizers_own_tokens_in_front(folders: Path, kind: str) -> None:
    tokenizer = load_tokenizer(folders / kind, choice(folders / kind))
    encode = encoder(tokenizer)
    front = [1] if kind in ("opt", "llama") else []
    text = "Who lives in the old town? Ærøskøbing, naïve – 東京."
    ids = encode(text)
    assert ids[: len(front)] == front and tokenizer.decode(ids[len(front) :]) == text
    assert encode("") == front
    assert max(ids) < VOCABULARY and all(type(token) is int for token in ids)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_end_token_is_left_off(tmp_path: Path, folders: Path, kind: Any) -> None:
    make_model_folder(kind, tmp_path, appends_end=True)
    tokenizer = load_tokenizer(tmp_path, choice(tmp_path))
    assert tokenizer("the town")["input_ids"][-1] == 0
    plain = encoder(load_tokenizer(folders / kind, choice(folders / kind)))
    assert encoder(tokenizer)("the town") == plain("the town")


def test_a_long_text_is_encoded_without_a_word(folders: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encode = encoder(load_tokenizer(folders / "gpt2", choice(folders / "gpt2")))
    assert len(encode("the old town " * 2000)) > 2000
    assert capfd.readouterr() == ("", "")


def test_a_tokenizer_that_cannot_be_built(copy: Callable[[str], Path]) -> None:
    folder = copy("gpt2")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="could not be loaded"):
        load_tokenizer(folder, choice(folder))


# ---- what is said and made to work


def notes(folder: Path, **settings: Any) -> tuple[str, ...]:
    return resolve(choice(folder, **{"attention": "auto", **settings}), FakeRegistry()).notes


def test_nothing_is_said_of_an_ordinary_model(folders: Path) -> None:
    for kind in KINDS:
        located = resolve(choice(folders / kind, attention="auto"), FakeRegistry())
        assert (located.notes, located.attention) == ((), "sdpa")
    assert resolve(choice(folders / "opt", attention="eager"), FakeRegistry()).attention == "eager"


@pytest.mark.parametrize("kind", KINDS)
def test_a_padding_id_beyond_the_embedding_is_left_out(kind: Kind, copy: Callable[[str], Path]) -> None:
    import torch

    folder = copy(kind)
    plain = load_model(folder, choice(folder))
    edit_config(folder, pad_token_id=VOCABULARY)
    (line,) = notes(folder)
    assert f"pad_token_id {VOCABULARY} lies beyond the {VOCABULARY} rows" in line
    model = load_model(folder, choice(folder))
    ids = torch.arange(20)[None]
    assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    assert load_model(folder, choice(folder), random_weights=3).config.pad_token_id is None


def test_added_tokens_without_a_row_are_named_and_refused_in_text(copy: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer

    folder = copy("gpt_neox")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    rows = len(tokenizer) - 1
    edit_config(folder, vocab_size=rows)
    (line,) = notes(folder)
    assert "1 of its tokenizer's added tokens" in line and "'<pad>'" in line
    encode = within(encoder(load_tokenizer(folder, choice(folder))), rows)
    assert encode("the old town")
    with pytest.raises(UsageError, match=f"token id {rows}, and"):
        encode("the old <pad> town")


def test_an_added_token_that_frames_every_text_needs_its_row(copy: Callable[[str], Path]) -> None:
    from tokenizers import Tokenizer, processors

    folder = copy("gpt_neox")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(["<bos>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", rows)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    edit_config(folder, vocab_size=rows)
    assert "do not belong together" in refused(folder)


@pytest.mark.parametrize(
    ("family", "there"),
    [
        ("llama", True),
        ("opt", True),
        ("gemma3_text", True),
        ("bloom", False),
        ("gpt_neo", False),
        ("gemma2", False),
        ("openai-gpt", False),
        ("own", None),
        ("../../secret", None),
    ],
)
def test_which_families_lack_sdpa_is_known_without_torch(family: str, there: bool | None) -> None:
    assert supports_sdpa({"model_type": family}) is there


def test_eager_is_taken_and_said_where_nobody_asked(tmp_path: Path, folders: Path) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    folder = tmp_path / "bloom"
    BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2)).save_pretrained(
        folder
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folders / "gpt2" / name, folder)
    located = resolve(choice(folder, attention="auto"), FakeRegistry())
    assert located.attention == "eager"
    (line,) = located.notes
    assert "no sdpa attention for bloom" in line and "--attention eager is taken" in line
    load_model(folder, choice(folder, attention=located.attention))
    said = refused(folder, attention="sdpa")
    assert "use --attention eager, or leave the option out" in said


@pytest.mark.slow
def test_what_is_read_of_kernels_is_what_the_classes_say() -> None:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    checked = 0
    for family, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        there = supports_sdpa({"model_type": family})
        if there is not None and isinstance(name, str):
            assert there is getattr(transformers, name)._supports_sdpa, family
            checked += 1
    assert checked > 150
