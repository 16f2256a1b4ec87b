"""Adversarial training."""

from ganflow.training.files import conclude
from ganflow.training.log import Log, NoLog
from ganflow.training.loop import begin, train
from ganflow.training.mirror import Mirror
from ganflow.training.watch import Judge, Sets

__all__ = ["Judge", "Log", "Mirror", "NoLog", "Sets", "begin", "conclude", "train"]
