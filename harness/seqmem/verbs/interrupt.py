"""Ctrl-C as a wish to stop, and what else asks a program to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and a terminal that was closed."""

STOPPING = (
    "stopping: runs under way end with a checkpoint after their step, those that wait are not started; "
    "Ctrl-C again ends all at once"
)

ENDED = "ended: --resume goes on from the last checkpoints"


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Let the first signal set the event; a second one raises KeyboardInterrupt. After `nohup` a hangup is none."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [n for n in SIGNALS if n != signal.SIGHUP or before[n] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        for number in heard:
            signal.signal(number, before[number])
