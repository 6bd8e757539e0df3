"""Models of Hugging Face, fetched into its cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqmem.core.errors import UsageError, unknown
from seqmem.planning.model_files import first_line

_DOWNLOADED = ("*.safetensors", "*.json", "*.txt", "*.model")
_PICKLED = ("pytorch_model*.bin", "adapter_model.bin")
_NOT_DOWNLOADED = ("*/*", "consolidated*")  # copies of the same weights in other layouts


def download(
    name: str, revision: str | None, short_names: Sequence[str], *, code: bool = False
) -> tuple[Path, str]:
    """Fetch a Hugging Face id into its cache, or find it there; return the folder and the commit.

    Files of PyTorch are fetched only where there are no safetensors.

    Args:
        name: the id.
        revision: branch, tag or commit.
        short_names: what else could have been meant.
        code: fetch the code that comes with it too.

    Raises:
        UsageError: there is none of that name, or it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]

    patterns = [*_DOWNLOADED, "*.py"] if code else [*_DOWNLOADED]
    try:
        folder = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, ignore_patterns=[*_NOT_DOWNLOADED]
            )
        )
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=folder.name, allow_patterns=[*_PICKLED]))
    except RevisionNotFoundError:
        raise UsageError(
            f"model {name!r} has no revision {revision!r} on Hugging Face; "
            "give a branch, tag or commit that its page lists"
        ) from None
    except GatedRepoError:
        raise UsageError(
            f"model {name!r} is gated on Hugging Face; accept its terms on its page, then run: hf auth login"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise _not_found(name, short_names, "Hugging Face shows no such model") from None
    except LocalEntryNotFoundError:
        reason = "Hugging Face cannot be reached while its cache does not hold it"
        raise _not_found(name, short_names, reason) from None
    except (OSError, TransportError) as error:
        raise UsageError(f"model {name!r} could not be downloaded: {first_line(error)}") from None
    # The cache keeps each snapshot in a folder named after its commit.
    return folder, folder.name


def _not_found(name: str, short_names: Sequence[str], reason: str) -> UsageError:
    if "/" in name:
        return UsageError(
            f"model {name!r} is not a local folder, and {reason}; "
            f"give a folder that is here or a short name: {', '.join(short_names)}"
        )
    return UsageError(
        f"{unknown('model', name, short_names)} A folder or a Hugging Face id works too, "
        f"but {name!r} is not a local folder, and {reason}."
    )
