"""Fine-tuning: all weights, cross-entropy."""

from __future__ import annotations

from typing import ClassVar

from workers.methods.base import FineTuning


class FineTune(FineTuning):
    """Every weight is trained on the cross-entropy over the downstream set's classes."""

    name: ClassVar[str] = "ft"
