"""Adversarial training."""

from ganflow.training.loop import Log, NoLog, begin, conclude, train

__all__ = ["Log", "NoLog", "begin", "conclude", "train"]
