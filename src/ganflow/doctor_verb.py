"""`ganflow doctor`: is everything there that a run needs?"""

import json
from pathlib import Path
from typing import Any

from ganflow.errors import ConfigError, GanflowError
from ganflow.verbs import Arguments, add_verb


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    doctor = add_verb(
        verbs, "doctor", "is everything there that a run needs? a line a check, with the cure", run_doctor
    )
    doctor.add_argument("--cluster", action="store_true", help="nothing may be unset that a cluster needs")
    doctor.add_argument("--profile", metavar="NAME", help="one of resources.profiles: its GPUs, memory and nodes")
    doctor.add_argument(
        "--data", metavar="DATA", help="what `dvc add` versions, a file of `ganflow data pin`, or its text"
    )
    doctor.add_argument(
        "--image", metavar="IMAGE", action="append", default=[], help="can it be pulled? may be repeated"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")


def run_doctor(arguments: Arguments) -> None:
    """`ganflow doctor`."""
    from ganflow import doctor

    profile = _profile(arguments)
    needs = doctor.Needs(
        raw=_raw(arguments.data),
        images=tuple(arguments.image),
        accelerators=profile.accelerators if profile else 0,
        shm=profile.shm if profile else "0Mi",
        nodes=profile.nodes if profile else 1,
        cluster=arguments.cluster,
    )
    findings = doctor.examine(needs)
    print(json.dumps(doctor.as_dicts(findings), indent=2) if arguments.json else doctor.table(findings))
    if failed := doctor.failures(findings):
        raise GanflowError(f"{len(failed)} of {len(findings)} checks failed; mend what is said above, and ask again")


def _profile(arguments: Arguments) -> Any:
    from ganflow.config import load

    if arguments.profile is None:
        return None
    profiles = load(arguments.params, arguments.overrides).resources.profiles
    if arguments.profile not in profiles:
        raise ConfigError(
            f"there is no profile {arguments.profile}; resources.profiles has {', '.join(sorted(profiles))}"
        )
    return profiles[arguments.profile]


def _raw(data: str | None) -> str | None:
    """A pin's text as it is, or from its file; a versioned set is pinned; any other path is itself."""
    from ganflow.pin import given_pin, make_pin

    if data is None:
        return None
    path = Path(data)
    versioned = path if path.suffix == ".dvc" else path.with_name(f"{path.name}.dvc")
    return given_pin(data) or (make_pin(path).model_dump_json() if versioned.is_file() else data)
