"""The steps as Kubeflow components: thin wrappers, each with one import from ganflow and one call.

Nothing in a component's module but the function's own body exists where it runs, so its import stands inside.
"""

from ganflow import __version__

IMAGE = f"ganflow:{__version__}"
"""The image that images/Dockerfile makes; `ganflow pipeline compile --image` names another."""

SMALL_IMAGE = f"ganflow-small:{__version__}"
"""The image without torch, for what only talks to servers; `--small-image` names another."""

STEPS = ("prepare", "reference", "train", "evaluate", "champion", "register", "promote")
"""In data order; each is a folder here."""

OTHERS = ("doctor", "shard", "merge", "launch", "summary", "best")
"""What a cluster's run, or a sweep, has besides; each is a folder here."""
