"""The Kubeflow Pipelines API, through kfp's own client, with time limits, patience and one-sentence errors.

Where it is and who asks comes from the environment: KF_PIPELINES_ENDPOINT and what else kfp.Client reads; and
KF_PIPELINES_TOKEN, KF_PIPELINES_COOKIES, KF_PIPELINES_SA_TOKEN_PATH (a file, read anew for every request, so that a
token that is renewed there never expires), KF_PIPELINES_NAMESPACE, KF_PIPELINES_CA_CERT.
"""

import contextlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import kfp_server_api
import urllib3
from kfp import client as kfp_client

from ganflow.errors import ConfigError, GanflowError

TIMEOUT_SECONDS = (10.0, 60.0)
PAGE = 200
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 30.0
BUSY = (408, 425, 429)
"""Answers, besides 5xx, after which asking again may help."""


class Unreachable(GanflowError):
    """The API does not answer, or asks to be let alone."""


class Missing(GanflowError):
    """The API knows no such thing."""


class _Client(kfp_client.Client):  # type: ignore[misc]
    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """Asked when a client is made: kfp's own asks five times, without a time limit."""
        return self._healthz_api.healthz_service_get_healthz(_request_timeout=TIMEOUT_SECONDS)


class Cluster:
    """An API server.

    `patience_seconds`: for how long a question is asked again while there is no answer. `timeout_seconds`: to connect,
    and between two bytes of an answer.
    """

    def __init__(self, patience_seconds: float = 600, timeout_seconds: tuple[float, float] = TIMEOUT_SECONDS) -> None:
        self.patience_seconds, self.timeout_seconds = patience_seconds, timeout_seconds
        self.client = self._patiently(_connect, "connect")

    @property
    def namespace(self) -> str | None:
        """Of the user, where Kubeflow is for many users."""
        found: str = self.client.get_user_namespace()
        return found or None

    def ask(self, service: str, verb: str, *arguments: Any, **named: Any) -> Any:
        """Call an API, `ask("runs", "run_service_get_run", run_id)`, again and again while it does not answer.

        Only for what may be done twice. Raises Unreachable, Missing, or GanflowError with the API's own words.
        """
        call = getattr(getattr(self.client, service), verb)
        return self._patiently(lambda: call(*arguments, **named, _request_timeout=self.timeout_seconds), verb)

    def tell(self, service: str, verb: str, *arguments: Any, find: Callable[[], Any], **named: Any) -> Any:
        """Call an API that makes something, once: where the answer is lost, `find` says whether it was made."""
        call = getattr(getattr(self.client, service), verb)
        end = time.monotonic() + self.patience_seconds
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return _answered(lambda: call(*arguments, **named, _request_timeout=self.timeout_seconds), verb)
            except Unreachable:
                if time.monotonic() > end:
                    raise
                time.sleep(wait)
                wait = min(2 * wait, MAX_WAIT_SECONDS)
                if found := find():
                    return found

    def pages(self, service: str, verb: str, items: str, **named: Any) -> Iterator[Any]:
        """Everything that a listing has, page by page."""
        token = ""
        while True:
            page = self.ask(service, verb, page_token=token, page_size=PAGE, **named)
            yield from getattr(page, items) or []
            token = page.next_page_token or ""
            if not token:
                return

    def logs(self, run: str, pod: str) -> Iterator[bytes]:
        """What a pod of a run has printed, as it comes; the API follows a pod that still runs."""
        api = self.client.runs.api_client
        answer = self._patiently(
            lambda: api.call_api(
                "/apis/v1alpha1/runs/{run}/nodes/{pod}/log", "GET", {"run": run, "pod": pod}, [("follow", "true")],
                {}, auth_settings=["Bearer"], _return_http_data_only=True, _preload_content=False,
                _request_timeout=(10, None),
            ),
            "read the log",
        )  # fmt: skip
        try:
            yield from answer.stream()
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"the log of {pod} broke off ({type(error).__name__}); ask for it again") from error

    def link(self, run: str) -> str:
        """Address of a run in the UI."""
        return f"{self.client._get_url_prefix().rstrip('/')}/#/runs/details/{run}"

    def _patiently(self, call: Callable[[], Any], verb: str) -> Any:
        end = time.monotonic() + self.patience_seconds
        wait, complained = FIRST_WAIT_SECONDS, False
        while True:
            try:
                return _answered(call, verb)
            except Unreachable as error:
                if time.monotonic() > end:
                    raise
                if not complained:
                    print(f"ganflow: {error}; asking again", file=sys.stderr)
                complained = True
                time.sleep(wait)
                wait = min(2 * wait, MAX_WAIT_SECONDS)


def filtered(key: str, value: str) -> str:
    """A listing's filter: `key` equals `value`."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def _connect() -> Any:
    variable = os.environ.get
    token_file = variable("KF_PIPELINES_SA_TOKEN_PATH")
    credentials = kfp_client.ServiceAccountTokenVolumeCredentials(token_file) if token_file else None
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        return _Client(
            namespace=variable("KF_PIPELINES_NAMESPACE", "kubeflow"),
            existing_token=variable("KF_PIPELINES_TOKEN"),
            cookies=variable("KF_PIPELINES_COOKIES"),
            ssl_ca_cert=variable("KF_PIPELINES_CA_CERT"),
            credentials=credentials,
        )


def _answered(call: Callable[[], Any], verb: str) -> Any:
    place = os.environ.get("KF_PIPELINES_ENDPOINT", "its address in the cluster")
    try:
        return call()
    except kfp_server_api.ApiException as error:
        said = _said(error)
        if error.status == 401 and "KF_PIPELINES_SA_TOKEN_PATH" in os.environ:
            raise Unreachable(f"the token in {os.environ['KF_PIPELINES_SA_TOKEN_PATH']} is refused ({said})") from error
        if error.status in (401, 403):
            raise ConfigError(
                f"the Kubeflow Pipelines API at {place} refuses us ({error.status} {said}); give a valid token in "
                "KF_PIPELINES_TOKEN, or the file of one that is renewed in KF_PIPELINES_SA_TOKEN_PATH"
            ) from error
        if error.status == 404:
            raise Missing(
                f"the Kubeflow Pipelines API at {place} knows no such thing ({said}); check the name"
            ) from error
        if error.status is None or error.status >= 500 or error.status in BUSY:
            raise Unreachable(f"the Kubeflow Pipelines API at {place} is in trouble ({error.status} {said})") from error
        raise GanflowError(f"the Kubeflow Pipelines API at {place} refuses {verb} ({error.status} {said})") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        reason = type(getattr(error, "reason", None) or error).__name__
        raise Unreachable(
            f"the Kubeflow Pipelines API at {place} does not answer ({reason}); check KF_PIPELINES_ENDPOINT"
        ) from error


def _said(error: Any) -> str:
    """The API's own sentence."""
    try:
        content = json.loads(error.body)
        text = str(content.get("message") or content.get("error"))
    except (TypeError, ValueError, AttributeError):
        text = str(error.reason)
    return " ".join(text.split())[:300].rstrip(".")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kfp prints and logs what we say in a sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(before)
