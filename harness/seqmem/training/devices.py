"""The devices that torch can compute on here."""

from __future__ import annotations

import torch


def describe_devices() -> dict[str, str]:
    """Return a line per device by its name; ``cpu`` comes first, with the threads that torch uses."""
    found = {"cpu": f"torch uses {torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found
