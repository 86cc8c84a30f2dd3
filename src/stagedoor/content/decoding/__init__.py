"""Decoding in child processes: strangers' bytes are never decoded in this one.

`pool` has the processes; the other modules have what can be asked of them, `child` is what runs there.
"""

from __future__ import annotations

from .pool import Answer, Decoder, DecoderLimits, Sandbox
from .sentences import SENTENCES

__all__ = ["SENTENCES", "Answer", "Decoder", "DecoderLimits", "Sandbox"]
