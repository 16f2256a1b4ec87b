"""prepare, fanned out over the shards of a profile, and merged.

The shards are tasks of their own, and not the turns of a ParallelFor, which fails within an ExitHandler on KFP's
backend (docs/adr/0008-the-exit-task.md).
"""

from typing import Any

from components.merge.component import merge as merge_step
from components.shard.component import shard as shard_step
from pipelines.resources import Target

PARTS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
"""The inputs of merge."""


def prepare_in_shards(raw: Any, data: Any, target: Target, checked: Any) -> Any:
    """The task that merges what as many tasks prepare as the profile has shards, after the task `checked`, if any."""
    count = target.profile.shards
    pieces = [shard_step(raw=raw, data=data, part=f"{number}/{count}") for number in range(count)]
    for piece in pieces:
        target.prepare(piece)
        if checked:
            piece.after(checked)
    return merge_step(**{name: piece.output for name, piece in zip(PARTS, pieces, strict=False)})
