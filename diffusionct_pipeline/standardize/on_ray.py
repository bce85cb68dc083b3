"""Standardize all series of an input on the workers of a Ray cluster, or of this machine: each as a job of a list, then one report.

A worker is an actor that loads the model once. One that dies is restarted and goes on where it was, since a series keeps its
estimate and its finished slices.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..utils.devices import one_thread
from ..utils.files import private_folder
from ..utils.optional import import_optional
from ..utils.usage import UsageError
from ..volumes.inputs import require_apart, scan_source
from .listed import merge_reports, run_alone, run_of_series
from .options import FolderOptions
from .run import FolderRun, make_run
from .series_list import ListedSeries, list_series, scan_listed
from .standardizer import Standardizer

LOCAL = "local"
RETRIES = 5  # of a series whose worker died: one that kills every worker is given up
WORKER_BYTES = 1 << 30  # of memory: the model and a series
# Ray's object store holds the list only; it takes no less than 75 MB.
OF_THIS_MACHINE = {"include_dashboard": False, "object_store_memory": 100 << 20, "_node_ip_address": "127.0.0.1"}
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "120",  # a busy machine takes longer than Ray waits by itself
    "RAY_worker_niceness": "0",  # of a Ray of this machine; 15 by itself, so that any other program comes first
}


def standardize_on_ray(
    source: str | os.PathLike,
    output: str | os.PathLike,
    address: str = LOCAL,
    *,
    pipe: Standardizer | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Standardize all of an input on Ray; every series becomes the bytes of `standardize_folder`.

    Args:
        source: Input as in `standardize_folder`, at the same path on every node.
        output: Folder for the results, also at the same path.
        address: Of a running cluster, or "local" for workers on this machine.
        pipe: None: each worker loads its own.
        progress: Called with the samples done and all, whenever a series has ended.
        **options: See `FolderOptions`.

    Returns:
        The report of `merge_reports`.

    Raises:
        As `standardize_folder`. ImportError: Ray is not installed. ConnectionError: there is no cluster at `address`.
            ChildProcessError: a series was given up because its workers died, after the others were done.
    """
    if pipe is not None:
        raise UsageError("`pipe` stays in this process, and workers load their own; leave it out.")
    settings = FolderOptions(**options)
    if settings.device not in (None, "cpu"):
        raise UsageError(f'`device` must be "cpu" with Ray, got "{settings.device}".')
    source, output = Path(source).absolute(), Path(output).absolute()
    scan = scan_source(source, settings.again)
    require_apart(scan, source, output)
    settings.require_apply(scan)
    settings = replace(
        settings, device="cpu", model=_absolute(settings.model), reference=_absolute(settings.reference),
        known_source=_absolute(settings.known_source),
    )  # fmt: skip
    listed = list_series(scan)
    with _connected(address) as ray:
        failed = _run_all(ray, source, output, settings, listed, progress or (lambda done, total: None))
    report = merge_reports(output, source, settings.again)
    if failed:
        raise failed[0]
    return report


class SeriesWorker:
    """Standardize series in a process of its own."""

    def __init__(self, source: Path, output: Path, options: FolderOptions) -> None:
        logging.disable(logging.CRITICAL)  # its log is a file of Ray's, where values of headers do not belong
        self.source, self.output, self.options = source, output, options
        self.run: FolderRun | None = None

    def begin(self) -> str:
        """Answer, which a worker does once the cluster has a place for it."""
        return ""

    def standardize(self, listed: ListedSeries, before: int) -> str:
        """Standardize a series of the list, `before` others come before it -> why it was stopped, "" if it was not."""
        scan = scan_listed(self.source, listed, self.options.again)
        with one_thread():
            if self.run is None:
                self.run = make_run(scan, self.output, self.options, None)
            of_series = run_of_series(self.run, listed, scan, before)
            run_alone(of_series)
        return of_series.stopped


def _run_all(
    ray: ModuleType,
    source: Path,
    output: Path,
    options: FolderOptions,
    listed: Sequence[ListedSeries],
    progress: Callable[[int, int], None],
) -> list[Exception]:
    """Give series to workers as they become free; return what went wrong, beside what reports of series say.

    Raises:
        UsageError: an option is wrong, so that no series could be begun. ChildProcessError: no worker could be started.
    """
    actor = ray.remote(num_cpus=1, memory=WORKER_BYTES, max_restarts=-1, max_task_retries=RETRIES)(SeriesWorker)
    workers = [actor.remote(source, output, options) for _ in range(_worker_count(ray, len(listed)))]
    running: dict[Any, tuple[Any, ListedSeries | None]] = {worker.begin.remote(): (worker, None) for worker in workers}
    waiting, idle, failed = list(enumerate(listed)), list[Any](), list[Exception]()
    done, total = 0, sum(item.slices for item in listed) * options.num_samples
    progress(done, total)
    while waiting or any(item is not None for _, item in running.values()):
        while waiting and idle:
            before, following = waiting.pop(0)
            worker = idle.pop()
            running[worker.standardize.remote(following, before)] = worker, following
        (ended, *_), _ = ray.wait(list(running), num_returns=1)
        worker, item = running.pop(ended)
        try:
            if ray.get(ended):  # stopped, by a disk that is full or a folder that is gone: others would fare no better
                waiting.clear()
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UsageError) or not isinstance(error.cause, Exception):
                raise error.cause from error
            failed.append(error.cause)
        except ray.exceptions.RayActorError as error:
            if item is None:  # the package is not installed on its node, say
                if not running and not idle:
                    raise ChildProcessError(f"no worker could be started: {error}") from error
                continue
            reason = f'"{item.path}" was given up: its worker died {RETRIES + 1} times ({error})'
            failed.append(ChildProcessError(reason))
        idle.append(worker)
        if item is not None:
            done += item.slices * options.num_samples
            progress(done, total)
    return failed


def _worker_count(ray: ModuleType, series: int) -> int:
    """Return how many workers there are series, cores and memory for; at least one."""
    found = ray.cluster_resources()
    return max(1, min(series, int(found.get("CPU", 1)), int(found.get("memory", WORKER_BYTES) // WORKER_BYTES)))


@contextmanager
def _connected(address: str) -> Iterator[ModuleType]:
    """Connect Ray to a cluster while the block runs; one of this machine ends with the block, and leaves no file."""
    with private_folder("dct_ray") if address == LOCAL else nullcontext() as folder:
        ray = _imported(address)
        here = {} if folder is None else {**OF_THIS_MACHINE, "_temp_dir": str(folder)}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
        try:
            yield ray
        finally:
            ray.shutdown()


def _imported(address: str) -> ModuleType:
    """Import Ray with its settings, which it reads at import.

    Raises:
        ImportError: it is not installed.
    """
    settings = dict(SETTINGS)
    if address == LOCAL and "ray" not in sys.modules:  # its server listens on all interfaces: nobody else may use it
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    return import_optional("ray")


def _absolute(path: str | os.PathLike | None) -> str | os.PathLike | None:
    """Return a path as workers find it, whose working folder is another; what is none, such as "user/repo", as it is."""
    return os.path.abspath(path) if path is not None and os.path.exists(path) else path
