"""The engine that runs bundles as Ray tasks: on a local Ray that it starts, or on a cluster that the user names."""

from __future__ import annotations

import getpass
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from sweep.engine.event import Done, Event, Gone, Pull, Tick, Work
from sweep.engine.ray_start import FORKING, PRELOAD, lean
from sweep.errors import EnvironmentRefused
from sweep.job import FEWER, Accident, Bundle, Job

POLL = 0.2  # seconds between ticks
LOOK = 1.0  # seconds between two checks that Ray is alive
UNDER_A_LIMIT = 30.0  # seconds for Ray to start if its address space is limited
SHARE = 0.3  # the share of a machine's memory that Ray reserves for its object store
RAYLET = "Ray's server on this machine (its raylet)"
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set only in the entry point of a job


class RayEngine:
    """Ray as an engine: `start` it early, call it, `close` it. No process that it started survives.

    address: None starts a private local instance; "auto" or host:port joins a cluster. environment: variables
    that every worker's interpreter needs from the start. forks: the bundles run user code, for which workers fork (see
    `sweep.worker.forked`).
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        cpus: int | None = None,
        forks: bool = False,
    ) -> None:
        self.address, self.environment, self.cpus = address, dict(environment or {}), cpus
        self._forks = forks
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._ours = False

    def start(self) -> None:
        """Start Ray in the background, while planning goes on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._attend, name="ray", daemon=True)
            self._thread.start()

    def _attend(self) -> None:
        """Start Ray and wait for `close`: on Linux the servers of Ray end with the thread that started them."""
        self._start()
        self._started.set()
        self._closing.wait()

    def _start(self) -> None:
        try:
            if "ray" in sys.modules and sys.modules["ray"].is_initialized():
                return
            # Ray prints messages, warns about coming changes and reports usage unless these are set.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            # In a notebook it would recommend widgets that are not needed.
            logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
            warnings.filterwarnings("ignore", message="IProgress not found")
            settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if self.address is None:
                # Inherited by the local workers at no cost; a runtime_env would cost seconds.
                os.environ.update(self.environment)
                settings |= {"address": "local", "include_dashboard": False, "num_cpus": self.cpus or real_cores()}
                _at_home()
            else:
                _require_answer(self.address)
                settings |= {"address": self.address}
                if self.environment:
                    settings |= {"runtime_env": {"env_vars": self.environment}}
            with lean(FORKING if self._forks else PRELOAD) if self.address is None else nullcontext():
                import ray

                ray.init(**settings)
            self._ours = True
        except BaseException as error:
            self._error = error

    def _ready(self) -> Any:
        self.start()
        if not self._started.wait(UNDER_A_LIMIT if _limit() is not None else None):
            self._ours, self._thread = False, None  # it would wait minutes for a server that cannot reserve its memory
            raise _too_little()
        if self._error is not None:
            raise EnvironmentRefused(
                f"Ray could not start: {self._error}", where=self.address or "local Ray",
                hint="use --engine inline; for a cluster, check --address and that both have the same version of Ray",
            ) from self._error  # fmt: skip
        import ray

        _put_handlers_back()
        return ray

    def __call__(self, pull: Pull, work: Work, job: Job) -> Iterator[Event]:
        ray = self._ready()
        _require_feasible(ray, job)
        # max_retries=0: the launch alone retries, with the record on disk as its guide.
        remote = ray.remote(max_retries=0, num_cpus=job.cpus, num_gpus=job.gpus)(_plain(work))
        running: dict[Any, Bundle] = {}
        dead = _dead_server(ray)
        with _as_raised():
            while True:
                if server := dead():
                    # `ray.shutdown` would take a minute without an answer. The servers end with this process.
                    self._ours = False
                    yield Gone(f"{server} no longer answers")
                    return
                width = job.at_once or _fits(ray, job)
                while len(running) < width and (bundle := pull()) is not None:
                    running[remote.remote(bundle)] = bundle
                if not running:
                    return
                ready, _ = ray.wait(list(running), timeout=POLL)
                if not ready:
                    yield Tick()
                for reference in ready:
                    ended = self._ended(ray, reference, running.pop(reference))
                    yield ended
                    if isinstance(ended, Gone):
                        self._ours = False
                        return

    def _ended(self, ray: Any, reference: Any, bundle: Bundle) -> Event:
        try:
            return Done(bundle, ray.get(reference))
        except ray.exceptions.OutOfMemoryError as error:
            # Ray kills any worker, not the one that has filled the memory.
            cause = f"the machine ran out of memory; {FEWER} ({_first_line(error)})"
            return Done(bundle, [Accident(cause, poison=False)])
        except ray.exceptions.LocalRayletDiedError:
            return Gone(f"{RAYLET} no longer answers")
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.RayTaskError) as error:
            # The worker died, or our own code failed there. User code in a forked process cannot be the cause.
            return Done(bundle, [Accident(_first_line(getattr(error, "cause", None) or error), poison=not self._forks)])
        except ray.exceptions.RayError as error:  # a node died, for example
            return Done(bundle, [Accident(_first_line(error), poison=False)])

    def everywhere(self, function: Callable[[], Any], seconds: float) -> Iterator[tuple[str, Any]]:
        """Call a function on every node of a cluster that has CPUs, and yield (node, answer). A local Ray yields none.

        The answer is the value that `function` returned, or its exception, or TimeoutError after `seconds`.
        """
        if self.address is None:
            return
        ray = self._ready()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked: dict[Any, str] = {}
        for node in ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU"):
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_plain(function))
                asked[task.remote()] = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        _, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
        for reference, name in asked.items():
            if reference in late:
                ray.cancel(reference, force=True)
                yield name, TimeoutError(f"no answer within {seconds:g} s")
                continue
            try:
                yield name, ray.get(reference)
            except ray.exceptions.RayError as error:
                yield name, getattr(error, "cause", None) or error

    def close(self) -> None:
        """Shut down Ray if this engine started it, with all workers and their children."""
        if self._thread is None:
            return
        self._started.wait()
        if self._ours:
            import ray

            ray.shutdown()
            self._ours = False
        self._closing.set()
        self._thread.join()
        self._thread = None


def job_address() -> str | None:
    """Return the cluster of the Ray job that this process is (`ray job submit`), or None."""
    return os.environ.get("RAY_ADDRESS") if JOB in os.environ else None


def _dead_server(ray: Any) -> Callable[[], str]:
    """Return a function that checks about once a second that Ray's servers answer, and returns the name of a dead one.

    Ray itself would wait a minute for its head. Without its raylet it would start tasks in vain or wait forever.
    """
    context = ray.get_runtime_context()
    servers = {"Ray's head (its GCS)": str(context.gcs_address)}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            servers[RAYLET] = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    # Servers that cannot be reached from here at the start are not checked.
    servers = {name: address for name, address in servers.items() if _answers(address)}
    looked = [time.monotonic()]

    def dead() -> str:
        if (now := time.monotonic()) < looked[0] + LOOK:
            return ""
        looked[0] = now
        return next((name for name, address in servers.items() if not _answers(address)), "")

    return dead


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    for _ in range(2):
        with suppress(OSError, ValueError), socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK):
            return True
    return False


def _limit() -> int | None:
    """Return the limit of the address space of a process in bytes, or None."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _too_little() -> EnvironmentRefused:
    return EnvironmentRefused(
        f"Ray cannot start within ulimit -v ({(_limit() or 0) / 2**30:.1f} GiB of address space)", where="local Ray",
        hint="use --engine inline, which needs no Ray, or raise the limit: ulimit -v unlimited",
    )  # fmt: skip


def require_memory() -> None:
    """Refuse a local Ray that could not reserve the memory of its object store. Raises: EnvironmentRefused."""
    limit = _limit()
    if limit is not None and limit < SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise _too_little()


def _at_home() -> None:
    """Set a user name and a home folder if there are none, as in a container, because Ray needs both."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ["HOME"] = tempfile.mkdtemp(prefix="sweep-home-")


def _require_answer(address: str) -> None:
    """Check an address within seconds, because Ray would try for minutes. Raises: OSError."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _put_handlers_back() -> None:
    """Restore the signal handlers: with Ray's, SIGTERM aborts a process after three seconds, even while it saves."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def _as_raised() -> Iterator[None]:
    """Raise the exception of a signal handler itself, because Ray's compiled code wraps it in a SystemError."""
    try:
        yield
    except SystemError as error:
        raise error.__cause__ or error from None


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function, because Ray accepts no `partial`."""

    def on_a_worker(*arguments: Any) -> Any:
        return function(*arguments)

    return on_a_worker


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def real_cores() -> int:
    """Return the number of cores that this process may use. Ray would count those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fits(ray: Any, job: Job) -> int:
    have = ray.cluster_resources()
    by = [have.get("CPU", 0) / job.cpus] if job.cpus else []
    by += [have.get("GPU", 0) / job.gpus] if job.gpus else []
    return max(1, int(min(by, default=1)))


def _cores_and_gpus(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"


def _require_feasible(ray: Any, job: Job) -> None:
    """Refuse runs that fit no node, because Ray itself would wait forever. Raises: EnvironmentRefused."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(n.get("CPU", 0) >= job.cpus and n.get("GPU", 0) >= job.gpus for n in nodes):
        return
    have = ", ".join(_cores_and_gpus(n.get("CPU", 0), n.get("GPU", 0)) for n in nodes) or "none"
    raise EnvironmentRefused(
        f"no node has the {_cores_and_gpus(job.cpus, job.gpus)} that one run needs; the nodes have {have}",
        where="resources", hint="lower threads or resources",
    )  # fmt: skip
