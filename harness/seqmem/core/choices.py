"""Values a request may choose among; apart from all else, so that `seqmem --help` reads them at once."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "bf16-mixed", "bfloat16", "float16"]
"""Type of weights, gradients and moments; mixed: those in float32, matrix products of a forward in bfloat16."""
Attention = Literal["eager", "sdpa", "flash_attention_2"]
AttentionChoice = Literal["auto", "eager", "sdpa", "flash_attention_2"]
Probing = Literal["schedule", "every", "none"]
DisplayName = Literal["auto", "rich", "plain", "none"]
