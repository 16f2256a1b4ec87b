"""Adversarial training."""

from ganflow.training.files import conclude
from ganflow.training.log import Log, NoLog
from ganflow.training.loop import begin, train
from ganflow.training.watch import Judge, Sets

__all__ = ["Judge", "Log", "NoLog", "Sets", "begin", "conclude", "train"]
