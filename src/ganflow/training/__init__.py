"""Adversarial training."""

from ganflow.training.loop import Log, NoLog, conclude, train

__all__ = ["Log", "NoLog", "conclude", "train"]
