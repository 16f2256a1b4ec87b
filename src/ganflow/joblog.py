"""The log of a TrainJob's leading node, line by line to standard output, over every break."""

import sys
import threading
from collections import deque
from types import TracebackType

import urllib3
from kubernetes.client.exceptions import ApiException

from ganflow.cluster import Cluster, rank_of
from ganflow.errors import GanflowError

AGAIN_SECONDS = 2.0
DRAIN_SECONDS = 30.0
LAST_LINES = 8


class JobLog:
    """A thread that reads, for as long as the context lasts; then what is left is read.

    It knows the time of the last line that it has printed: a log that begins anew, after a break, is not printed twice.
    A container that is started again has another log, and so has another pod.
    """

    def __init__(self, job: str) -> None:
        self.cluster, self.job = Cluster(), job
        self.ended = threading.Event()
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.seen = ("", "", "")
        """The pod, and its last line's second and fraction."""
        self.said = ""
        self.thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "JobLog":
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        if kind is None:
            self.thread.join(DRAIN_SECONDS)

    def last_lines(self) -> str:
        """For an error's sentence."""
        return " | ".join(self.last)

    def _read(self) -> None:
        while True:
            final = self.ended.is_set()
            try:
                self._read_once(follow=not final)
            except (ApiException, urllib3.exceptions.HTTPError, GanflowError) as error:
                trouble = " ".join(str(error).split())[:200]
                self._say_once(f"the log breaks off here ({trouble}); it is asked for again")
            if final:
                return
            self.ended.wait(AGAIN_SECONDS)

    def _read_once(self, follow: bool) -> None:
        leading = [pod.metadata.name for pod in self.cluster.nodes(self.job) if rank_of(pod) == 0]
        if not leading:
            self._say_once(f"TrainJob {self.job} waits for its leading node")
        for pod in leading:
            for line in self.cluster.log(pod, follow):
                self._print(pod, line)

    def _print(self, pod: str, line: str) -> None:
        stamp, _, text = line.partition(" ")
        second, _, fraction = stamp.rstrip("Z").partition(".")
        at = (pod, second, fraction.ljust(9, "0"))
        if at[0] == self.seen[0] and at[1:] <= self.seen[1:]:
            return
        self.seen = at
        self.last.append(text)
        print(text, flush=True)

    def _say_once(self, what: str) -> None:
        """The same again every two seconds helps nobody."""
        if what != self.said:
            print(f"launch: {what}", file=sys.stderr, flush=True)
        self.said = what
