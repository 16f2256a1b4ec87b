"""Everything that ganflow raises on purpose.

Each message is one sentence: the problem, the value, and the correction. The command line prints it and exits
with `exit_code`; anything else that is raised is a defect of ganflow.

    Exception
    └── GanflowError            1  something failed
        ├── ConfigError         2  a parameter, or the command line, is wrong
        ├── DataError           1  raw data is missing, broken, or not images
        ├── ArtifactError       1  what an earlier step wrote is missing, damaged, or of another run
        ├── TrainingError       1  the training diverged
        ├── RegistryError       1  the MLflow registry lacks, or refuses, what is asked
        ├── StoreError          1  the object store lacks, or refuses, what is asked
        ├── Refused             3  the gate said no
        └── Interrupted         0  stopped by SIGTERM or Ctrl-C, with everything saved
"""

__all__ = [
    "ArtifactError",
    "ConfigError",
    "DataError",
    "GanflowError",
    "Interrupted",
    "Refused",
    "RegistryError",
    "StoreError",
    "TrainingError",
]


class GanflowError(Exception):
    """Something failed, and the message says what to do."""

    exit_code = 1


class ConfigError(GanflowError):
    """A parameter, or the command line, is wrong."""

    exit_code = 2


class DataError(GanflowError):
    """Raw data is missing, broken, or not images."""


class ArtifactError(GanflowError):
    """What an earlier step wrote is missing, damaged, or belongs to another run."""


class TrainingError(GanflowError):
    """The training diverged."""


class RegistryError(GanflowError):
    """The MLflow registry lacks, or refuses, what is asked of it."""


class StoreError(GanflowError):
    """The object store lacks, or refuses, what is asked of it."""


class Refused(GanflowError):
    """The gate said no."""

    exit_code = 3


class Interrupted(GanflowError):
    """Stopped by SIGTERM or Ctrl-C; everything is saved."""

    exit_code = 0
