"""From lines to answers: the order of requests, cancelling, and one answer for each."""

from __future__ import annotations

import platform
import sys
import threading
import traceback
from typing import Any

from napari_sparseseg import __version__
from napari_sparseseg.errors import Cancelled
from napari_sparseseg.report import NOTICE
from napari_sparseseg.worker.engine import Engine
from napari_sparseseg.worker.failures import (
    INVALID_REQUEST,
    UNKNOWN_METHOD,
    Failure,
    Refusal,
    failure_of,
)
from napari_sparseseg.worker.folder import Files, Folder
from napari_sparseseg.worker.jobs import Job, Jobs
from napari_sparseseg.worker.params import Hello, Nothing, Open, Preview, Run, decode
from napari_sparseseg.worker.wire import PROTOCOL, Id, Message, Wire, is_id, parse

AT_ONCE = ("hello", "models", "preview", "shutdown")
IN_TURN = ("devices", "open", "run", "close")
"""Methods that are answered while a run goes on, and those that take their turn."""

_PATIENCE = 1.0  # seconds that a job has to stop in when the worker ends


class Server:
    """Follows the messages of one host.

    Parameters
    ----------
    wire : Wire
        Where answers go.
    folder : Folder
        Where arrays come from and go to.
    engine : Engine
        What computes.
    """

    def __init__(self, wire: Wire, folder: Folder, engine: Engine) -> None:
        self._wire, self._folder, self._engine = wire, folder, engine
        self._greeted = self._stopped = False
        self._answering = threading.Lock()
        self._jobs = Jobs(self._work, self._drop)

    def handle(self, line: bytes) -> bool:
        """Follow one line; returns False once the host has asked the worker to end."""
        if not line.strip():
            return True
        try:
            message = parse(line)
            if message.id is not None and self._jobs.holds(id_=message.id):
                raise Refusal(f"The id {message.id!r} is in use; choose another.", INVALID_REQUEST)
        except Refusal as refusal:
            self._wire.error(None, refusal.failure)
            return True
        if message.id is None:
            self._note(message)
            return True
        try:
            return self._follow(message, message.id)
        except Exception as error:
            self._fail(message.id, error)
            return True

    def stop(self) -> None:
        """Cancel everything, and remove the files that nobody was told of."""
        if self._stopped:
            return
        stuck = self._jobs.close(_PATIENCE)
        if stuck is not None and self._claim(stuck):
            self._fail(stuck.id, _cancelled())
        self._folder.close()
        self._stopped = True  # not before: a signal may have broken off an earlier attempt

    def _note(self, message: Message) -> None:
        """Follow a notification; there is only one."""
        id_ = message.params.get("id")
        if message.method == "cancel" and is_id(id_):
            self._jobs.cancel(id_)
        else:
            text = f"The notification '{message.method}' was ignored."
            self._wire.notify("log", level="warning", text=text)

    def _follow(self, message: Message, id_: Id) -> bool:
        """Answer a request at once, or put it in the queue."""
        method = message.method
        if method not in AT_ONCE + IN_TURN:
            known = ", ".join(AT_ONCE + IN_TURN)
            raise Refusal(f"There is no method '{method}'; use {known}.", UNKNOWN_METHOD)
        if not self._greeted and method != "hello":
            raise Refusal("The first request has to be hello.", INVALID_REQUEST)
        if method in IN_TURN:
            self._jobs.add(Job(message, id_))
            return True
        files = self._folder.files()
        try:
            result = self._at_once(message, files)
        except BaseException:
            files.discard()
            raise
        files.keep()
        self._wire.result(id_, result)
        return method != "shutdown"

    def _at_once(self, message: Message, files: Files) -> dict[str, Any]:
        method, params = message.method, message.params
        if method == "hello":
            return self._hello(params)
        if method == "preview":
            wanted = decode(Preview, params, method)
            if self._jobs.holds(method="open"):
                raise Refusal("The scan is still being opened; wait for it.", kind="busy")
            return self._engine.preview(wanted, files)
        decode(Nothing, params, method)
        if method == "models":
            return self._engine.models()
        self.stop()
        return {}

    def _hello(self, params: dict[str, Any]) -> dict[str, Any]:
        # a host of another version may say more
        known = {name: params[name] for name in ("protocol", "host") if name in params}
        hello = decode(Hello, known, "hello")
        if hello.protocol != PROTOCOL:
            raise Refusal(
                f"napari-sparseseg {__version__} speaks protocol {PROTOCOL} and "
                f"{hello.host or 'the host'} protocol {hello.protocol}; update the older one.",
                kind="version",
            )
        self._greeted = True
        return {
            "protocol": PROTOCOL,
            "version": __version__,
            "python": platform.python_version(),
            "notice": NOTICE,
        }

    # Jobs; these run in their thread

    def _work(self, job: Job) -> None:
        """Do a job and answer it."""
        files = self._folder.files()
        error: BaseException | None = None
        result: dict[str, Any] = {}
        try:
            result = self._in_turn(job, files)
        except BaseException as raised:  # whatever it is: the host waits for an answer
            error = raised
        if not self._claim(job):
            files.discard()
        elif job.token.cancelled or error is not None:
            files.discard()
            self._fail(job.id, _cancelled() if job.token.cancelled else error)
        else:
            files.keep()
            self._wire.result(job.id, result)

    def _in_turn(self, job: Job, files: Files) -> dict[str, Any]:
        method, params = job.message.method, job.message.params

        def progress(done: int, total: int, text: str) -> None:
            self._wire.notify("progress", id=job.id, done=done, total=total, text=text)

        if method == "open":
            # first of all: should it fail, no later run may answer for another scan than the
            # host believes to be open
            self._engine.forget()
            return self._engine.open(decode(Open, params, method), progress, job.token)
        if method == "run":
            return self._engine.run(decode(Run, params, method), files, progress, job.token)
        decode(Nothing, params, method)
        return self._engine.devices() if method == "devices" else self._engine.close()

    def _drop(self, job: Job) -> None:
        """Answer a job that was cancelled before its turn came; in any thread."""
        if self._claim(job):
            self._fail(job.id, _cancelled())

    def _claim(self, job: Job) -> bool:
        """Tell whether the caller is the one who answers a job."""
        with self._answering:
            first = not job.answered
            job.answered = True
        return first

    def _fail(self, id_: Id, error: BaseException | None) -> None:
        assert error is not None
        failure: Failure = failure_of(error)
        if failure.kind == "internal":
            traceback.print_exception(error, file=sys.stderr)
        self._wire.error(id_, failure)


def _cancelled() -> Cancelled:
    return Cancelled("The request was cancelled; nothing of it was kept.")
