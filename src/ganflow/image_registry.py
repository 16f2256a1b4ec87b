"""Whether an image can be pulled: asks its registry for the manifest, as the OCI distribution specification has it."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException

from ganflow.errors import StoreError

MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
DOCKER_HUB = "registry-1.docker.io"
TIMEOUT_SECONDS = 15


def registry_of(image: str) -> str | None:
    """The registry's host in an image's name; None for a name without one, which is the node's own or Docker Hub's."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else None


def has_manifest(image: str) -> bool | None:
    """Whether the image's registry has it: None when it asks for credentials that are not here.

    `image` names a registry, as `registry_of` finds. Raises StoreError when the registry does not answer.
    """
    host = registry_of(image)
    assert host, "a name without a registry"
    name, reference = _split(image.removeprefix(f"{host}/"))
    host = DOCKER_HUB if host == "docker.io" else host
    local = host.partition(":")[0] in ("localhost", "127.0.0.1")
    url = f"{'http' if local else 'https'}://{host}/v2/{name}/manifests/{reference}"
    try:
        status, challenge = _head(url, None)
        if status == 401 and (token := _token(challenge)):
            status, _ = _head(url, token)
    except (OSError, ValueError, KeyError, HTTPException) as error:
        raise StoreError(
            f"the registry {host} does not answer for {image} ({error}); check the name and the network"
        ) from error
    return None if status in (401, 403) else status == 200


def _split(name: str) -> tuple[str, str]:
    if "@" in name:
        path, _, digest = name.partition("@")
        return path.partition(":")[0], digest
    path, _, tag = name.partition(":")
    return path, tag or "latest"


def _head(url: str, token: str | None) -> tuple[int, str]:
    """The answer's status, and what it asks for when it wants credentials."""
    headers = {"Accept": ", ".join(MANIFESTS)} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers, method="HEAD"), timeout=TIMEOUT_SECONDS
        ) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
        return error.code, error.headers.get("WWW-Authenticate", "")


def _token(challenge: str) -> str | None:
    """What the registry gives to anybody; None when it gives nothing."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.startswith("Bearer ") or "realm" not in asked:
        return None
    query = urllib.parse.urlencode({key: value for key, value in asked.items() if key != "realm"})
    try:
        with urllib.request.urlopen(f"{asked['realm']}?{query}", timeout=TIMEOUT_SECONDS) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError:
        return None
    return str(found.get("token") or found["access_token"])
