"""Adversarial training."""

from ganflow.training.loop import Log, NoLog, train

__all__ = ["Log", "NoLog", "train"]
