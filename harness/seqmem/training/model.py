"""Load, check and save the weights of a causal language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seqmem.core.errors import UsageError
from seqmem.planning.model_files import first_line, pads_beyond, read_config
from seqmem.planning.models import ModelChoice
from seqmem.planning.tokenizer import load_tokenizer, quiet

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def load_model(
    folder: Path,
    choice: ModelChoice,
    device: str | torch.device = "cpu",
    *,
    random_weights: int | None = None,
) -> PreTrainedModel:
    """Return the model in the precision of `choice` on `device`, in evaluation mode as transformers returns it.

    With `random_weights`, a seed, the architecture alone is taken and its weights are drawn anew.

    Raises:
        UsageError: the architecture or kernel is not available, weights are missing from the files
            (transformers would silently draw random ones), or the model sees later tokens.
    """
    from transformers import AutoModelForCausalLM

    where = f"model {choice.name!r}"
    if random_weights is not None:
        return _untrained(folder, choice, random_weights).to(device)
    with quiet():
        try:
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=_weight_type(choice),
                attn_implementation=choice.attention,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=choice.trust_remote_code,
                output_loading_info=True,
                **_without_padding(folder, choice),
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            hint = ""
            if "trust_remote_code" in str(error):
                hint = "; it brings its own Python code, which runs only with --trust-remote-code"
            elif choice.attention != "eager" and "attention" in str(error).lower():
                other = "eager" if choice.attention == "sdpa" else "sdpa"
                hint = f"; try --attention {other}"
            raise UsageError(f"{where} could not be loaded: {first_line(error)}{hint}") from error
    absent = sorted({*loaded["missing_keys"], *(key[0] for key in loaded["mismatched_keys"])})
    if absent:
        raise UsageError(
            f"{where} lacks {len(absent)} of its weights, first {absent[0]!r}; "
            "they would be random, so the model is not loaded"
        )
    model.to(device)
    _check_causal(model, where)
    return model


def _without_padding(folder: Path, choice: ModelChoice) -> dict[str, PretrainedConfig]:
    """Return the configuration to load a model with whose padding id has no embedding row; empty for all others."""
    from transformers import AutoConfig

    if not pads_beyond(read_config(folder / "config.json", f"model {choice.name!r}")):
        return {}
    config = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=choice.trust_remote_code
    )
    for part in {id(one): one for one in (config, config.get_text_config())}.values():
        part.pad_token_id = None
    return {"config": config}


def _weight_type(choice: ModelChoice) -> torch.dtype:
    """Return the type of the weights; mixed precision keeps them in float32."""
    import torch

    found: torch.dtype = getattr(torch, "float32" if choice.dtype == "bf16-mixed" else choice.dtype)
    return found


def _untrained(folder: Path, choice: ModelChoice, seed: int) -> PreTrainedModel:
    """Return the architecture of `folder` with the weights its own initialisation draws; drawn on the CPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = choice.trust_remote_code
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _without_padding(folder, choice).get("config") or AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust
        )
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            dtype=_weight_type(choice),
            attn_implementation=choice.attention,
            trust_remote_code=trust,
        )
    model.eval()
    _check_causal(model, f"model {choice.name!r}")
    return model


def _check_causal(model: PreTrainedModel, where: str) -> None:
    """Refuse a model whose outputs depend on later tokens: it would read its answers off the input."""
    import torch

    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    rows = torch.arange(6, device=model.device).repeat(2, 1) % vocabulary
    rows[1, -1] = vocabulary - 1
    training = model.training
    model.eval()
    with quiet(), torch.no_grad():
        output = model(input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=False)
        logits = output.logits[:, :-1].float()
    model.train(training)
    # Relative to the spread of the outputs: kernels may round the two rows differently.
    if (logits[0] - logits[1]).abs().max() > 0.05 * logits[0].std():
        raise UsageError(
            f"{where} reads later tokens while predicting earlier ones; give a causal language model"
        )


def check_saved(model: PreTrainedModel) -> None:
    """Refuse a model whose modules are not those that its configuration makes: nobody could load what it leaves.

    Raises:
        UsageError: it has others.
    """
    import torch

    with torch.device("meta"):
        as_loaded = type(model)(model.config).state_dict().keys()
    strange = sorted(model.state_dict().keys() ^ as_loaded)
    if strange:
        raise UsageError(
            f"--save-models: the strategy changes the model to what transformers cannot load back ({strange[0]}); "
            "leave the option out"
        )


def save_model(model: PreTrainedModel, folder: Path, source: Path, choice: ModelChoice) -> None:
    """Save the model as it stands, and the tokenizer of `source`, in the files that transformers reads."""
    with quiet():
        model.save_pretrained(folder)
    load_tokenizer(source, choice).save_pretrained(folder)
