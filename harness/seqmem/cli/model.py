"""`seqmem model`: add a model of another form under a name, or remove it."""

from __future__ import annotations

from typing import Annotated

import typer

from seqmem.cli.app import OK, app, registry
from seqmem.cli.options import Json
from seqmem.cli.terminal import print_json, say, warn

model_app = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Add models in other forms under a name, or remove them.",
)
app.add_typer(model_app, name="model")


@model_app.command("add")
def add(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A GGUF file, or a folder or Hugging Face id with safetensors, pytorch_model.bin or a PEFT adapter."
        ),
    ],
    name: Annotated[str, typer.Option(help="What --model calls it from now on.")],
    base: Annotated[
        str | None, typer.Option(help="Model an adapter is merged into; by default the one it names.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a Hugging Face id.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what was added under this name.")] = False,
    as_json: Json = False,
) -> int:
    """Convert a model to safetensors in the cache, once, and list it under a name.

    Nothing but tensors is read from files of PyTorch, and no code of a model is run. The card beside the weights holds
    the kind and the SHA-256 of the source; both stand in every record.
    """
    from seqmem.verbs.models import add_model, card_of

    located = add_model(source, name, registry(ctx), base=base, revision=revision, force=force)
    model, card = located.model, card_of(name)
    if as_json:
        print_json({"name": name, "folder": str(located.folder), "model": model.model_dump(), "source": card})
        return OK
    say(
        f"Added {name}: {model.architecture}, {model.parameters:,} parameters, rows of up to "
        f"{model.max_positions:,} tokens; {card['kind']}, sha256 {card['sha256']}"
    )
    say(f"Written to {located.folder}. Take it with: --model {name}")
    for note in located.notes:
        warn(f"seqmem: {note}")
    return OK


@model_app.command("remove")
def remove(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="Name that it was added under.")]
) -> int:
    """Delete a model that was added on this machine; records of its runs stay."""
    from seqmem.verbs.models import remove_model

    say(f"Removed {name} from {remove_model(name)}")
    return OK
