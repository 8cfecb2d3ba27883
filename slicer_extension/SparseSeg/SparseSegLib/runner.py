"""The engine as a process of its own: requests, answers, progress, cancel; standard library only.

JSON-RPC 2.0, one message a line, on the pipes of ``python -m napari_sparseseg.worker``. Nothing
happens in other threads than the caller's: whoever holds a :class:`Worker` calls
:meth:`Worker.poll` again and again, from a timer or a loop, and callbacks are called from there.
"""

from __future__ import annotations

import atexit
import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from SparseSegLib.failures import WorkerError, cancelled, error_of
from SparseSegLib.process import ChildProcess

PROTOCOL = 1
"""Version of the protocol that this host speaks."""

HOST = "3D Slicer"

GRACE_SECONDS = 0.7
"""How long a cancelled request may take to stop before the process is killed."""

GOODBYE_SECONDS = 1.0
"""How long the process may take to end by itself when it is not needed any more."""

_STOPPED = "press Apply to start it again"
_KILLED = (-9, 137)  # how the system ends who takes too much memory
_TAIL = 30  # lines of the standard error that are kept for a crash

Result = Callable[[dict[str, Any]], None]
Refusal = Callable[[WorkerError], None]
Step = Callable[[int, int, str], None]


class State(Enum):
    """What the engine does."""

    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FAILED = "failed"


@dataclass(frozen=True)
class _Pending:
    """A request that waits for its answer."""

    on_result: Result
    on_error: Refusal
    on_progress: Step
    background: bool


def _ignore(*_: object) -> None:
    """Take anything and do nothing."""


class Worker:
    """The engine process, one at a time; after its end another one can be started.

    Parameters
    ----------
    open_process : callable
        Starts a child process from a command and its environment.
    clock : callable
        Seconds that never run backwards.
    on_log : callable
        See the attribute.
    grace : float
        Seconds that a cancelled request may take to stop.

    Attributes
    ----------
    folder : Path or None
        The private folder of the running process; it is deleted with all in it when that ends.
    facts : dict
        What the engine said of itself: version, Python and notice.
    on_log : callable
        Gets each line for the log.
    """

    def __init__(
        self,
        open_process: Callable[..., ChildProcess] = ChildProcess,
        clock: Callable[[], float] = time.monotonic,
        on_log: Callable[[str], None] = _ignore,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self.folder: Path | None = None
        self.facts: dict[str, Any] = {}
        self._open_process, self._clock, self.on_log = open_process, clock, on_log
        self._grace = grace
        self._process: ChildProcess | None = None
        self._pending: dict[int, _Pending] = {}
        self._cancelled_at: dict[int, float] = {}
        self._last_id = 0
        self._greeted = False
        self._failed = False
        self._errors: deque[str] = deque(maxlen=_TAIL)

    @property
    def alive(self) -> bool:
        """Whether there is a process to talk to."""
        return self._process is not None

    @property
    def state(self) -> State:
        """What the engine does; requests in the background do not count as running."""
        if self._process is None:
            return State.FAILED if self._failed else State.IDLE
        if self._cancelled_at:
            return State.CANCELLING
        if any(not pending.background for pending in self._pending.values()):
            return State.RUNNING
        return State.READY if self._greeted else State.STARTING

    def start(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        host: str = HOST,
    ) -> None:
        """Start the engine.

        Parameters
        ----------
        command : sequence of str
            What starts it, but for the folder: ``[python, "-m", "napari_sparseseg.worker"]``.
        folder : Path
            A folder for its files alone; made if it is not there, deleted when the engine ends.
        environment : mapping, optional
            Environment variables; those of this process if left out.
        host : str
            Name and version of this program.

        Raises
        ------
        WorkerError
            If it cannot be started.
        """
        self.stop()
        self._failed = self._greeted = False
        self._errors.clear()
        self.folder = Path(folder)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._process = self._open_process(
                [*command, "--folder", str(self.folder)], environment
            )
        except OSError as error:
            self._remove_folder()
            self._failed = True
            raise WorkerError(
                "crash",
                f"The engine cannot be started ({error.strerror or error}); check that its "
                f"Python is there: {command[0]}.",
            ) from error
        atexit.register(self.stop)
        self.request(
            "hello",
            {"protocol": PROTOCOL, "host": host},
            self._on_hello,
            self._break_off,
            background=True,
        )

    def request(
        self,
        method: str,
        params: Mapping[str, Any],
        on_result: Result = _ignore,
        on_error: Refusal = _ignore,
        on_progress: Step = _ignore,
        background: bool = False,
    ) -> int:
        """Ask for something; exactly one of the first two callbacks is called, from ``poll``.

        Parameters
        ----------
        method, params : str, mapping
            The request.
        on_result : callable
            Gets the result.
        on_error : callable
            Gets a :class:`WorkerError`.
        on_progress : callable
            Gets steps done, steps in all (0 if unknown) and the present step.
        background : bool
            Whether it is no run that a user waits for.

        Returns
        -------
        int
            What :meth:`cancel` takes.

        Raises
        ------
        WorkerError
            If no engine runs.
        """
        if self._process is None:
            raise WorkerError("crash", f"The engine is not running; {_STOPPED}.")
        self._last_id += 1
        self._pending[self._last_id] = _Pending(on_result, on_error, on_progress, background)
        # One that has ended is found by the next poll, with the reason.
        self._send({"id": self._last_id, "method": method, "params": dict(params)})
        return self._last_id

    def cancel(self, request: int) -> None:
        """Stop a request; its ``on_error`` is called with the kind "cancelled" before long."""
        if request in self._pending and request not in self._cancelled_at:
            self._cancelled_at[request] = self._clock()
            self._send({"method": "cancel", "params": {"id": request}})

    def drop(self, request: int) -> None:
        """Let nobody wait for a request any more; what it still answers is deleted."""
        self._pending.pop(request, None)
        self._cancelled_at.pop(request, None)

    def poll(self) -> None:
        """Read what the engine wrote, call the callbacks, and see whether it still lives."""
        process = self._process
        if process is None:
            return
        ended = process.exit_code is not None
        if ended:
            process.end()  # what it has written is complete then
        self._read(process)
        if self._process is not process:  # a callback stopped it, or started another
            return
        if ended:
            self._break_off(self._crash(process.exit_code))
        elif self._overdue():
            self.kill_tree()

    def kill_tree(self) -> None:
        """End the process and all that it started, at once; waiting requests are cancelled."""
        self._end(0.0, cancelled(), failed=False)

    def stop(self) -> None:
        """End the process, politely if it listens; nobody waits for an answer any more."""
        self._pending = {}
        self._end(GOODBYE_SECONDS, None, failed=self._failed)

    # Reading

    def _read(self, process: ChildProcess) -> None:
        for is_message, line in process.lines():
            text = line.decode("utf-8", "replace")
            if is_message:
                self._take(text)
            else:
                self._errors.append(text)
                self.on_log(text)
            if self._process is not process:  # it broke off, or a callback stopped it
                return

    def _take(self, text: str) -> None:
        """Hand a message to whom it concerns."""
        try:
            deliver = self._understand(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            sentence = f"The engine sent something that nobody understands; {_STOPPED}."
            self._break_off(WorkerError("protocol", sentence, f"{error!r}: {text[:200]}"))
            return
        deliver()

    def _understand(self, message: dict[str, Any]) -> Callable[[], None]:
        """Return what to do about a message; an error of its form is raised."""
        if "method" in message:
            return self._notification(message["method"], message["params"])
        number = message["id"]
        if not isinstance(number, int) or not 0 < number <= self._last_id:
            raise ValueError("an answer to nothing that was asked")
        answer = message["result"] if "result" in message else error_of(message["error"])
        if not isinstance(answer, dict | WorkerError):
            raise TypeError("a result that is no object")
        return lambda: self._deliver(number, answer)

    def _notification(self, method: str, params: dict[str, Any]) -> Callable[[], None]:
        if method == "log":
            text = str(params["text"])
            return lambda: self.on_log(text)
        if method == "progress" and params["id"] not in self._cancelled_at:
            step = int(params["done"]), int(params["total"]), str(params["text"])
            pending = self._pending.get(params["id"])
            if pending is not None:
                return lambda: pending.on_progress(*step)
        # Others are for later versions of the protocol, as JSON-RPC says of notifications.
        return _ignore

    def _deliver(self, number: int, answer: dict[str, Any] | WorkerError) -> None:
        pending = self._pending.pop(number, None)
        was_cancelled = self._cancelled_at.pop(number, None) is not None
        if pending is None or was_cancelled:
            self._discard(answer)
        if pending is None:
            return
        if was_cancelled:  # even if it was done just before
            pending.on_error(cancelled())
        elif isinstance(answer, WorkerError):
            pending.on_error(answer)
        else:
            pending.on_result(answer)

    def _discard(self, value: object) -> None:
        """Delete the files of an answer that nobody wants any more."""
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for part in value:
                self._discard(part)
        elif isinstance(value, str) and value.endswith(".npy") and self.folder is not None:
            (self.folder / Path(value).name).unlink(missing_ok=True)

    def _on_hello(self, facts: dict[str, Any]) -> None:
        if facts.get("protocol") != PROTOCOL:
            self._break_off(
                WorkerError(
                    "version",
                    f"This panel speaks version {PROTOCOL} of the engine's protocol, the engine "
                    f"version {facts.get('protocol')}; update the extension and napari-sparseseg "
                    "together.",
                )
            )
            return
        self.facts, self._greeted = facts, True

    # Ending

    def _overdue(self) -> bool:
        oldest = min(self._cancelled_at.values(), default=None)
        return oldest is not None and self._clock() - oldest >= self._grace

    def _break_off(self, error: WorkerError) -> None:
        """End the process because of what went wrong; all requests get that for an answer."""
        if self._cancelled_at and error.kind == "crash":  # it went when it was told to stop
            error = cancelled()
        self._end(0.0, error, failed=error.kind != "cancelled")

    def _end(self, patience: float, error: WorkerError | None, failed: bool) -> None:
        process, self._process = self._process, None
        waiting, self._pending = self._pending, {}
        self._cancelled_at = {}
        self._greeted, self._failed = False, failed
        if process is not None:
            atexit.unregister(self.stop)
            process.end(patience)
        self._remove_folder()
        for pending in waiting.values():
            if error is not None:
                pending.on_error(error)

    def _crash(self, code: int | None) -> WorkerError:
        advice = _STOPPED
        if code in _KILLED:
            advice = f"crop the scan or close other programs if memory ran out, and {_STOPPED}"
        sentence = f"The engine stopped unexpectedly (exit code {code}); {advice}."
        return WorkerError("crash", sentence, "\n".join(self._errors))

    def _remove_folder(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is not None:
            self._process.write(json.dumps({"jsonrpc": "2.0", **message}).encode())
