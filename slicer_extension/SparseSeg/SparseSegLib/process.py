"""A child process that speaks in lines: pipes, reader threads, and an end that leaves nothing.

Standard library only. Threads do nothing but read; everything else happens where ``lines`` is
called.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

LONGEST_LINE = 8 * 2**20
"""Bytes of one line; a child that writes more is not the engine."""

_OUT, _ERROR = "out", "error"
_WAIT_SECONDS = 0.5


class ChildProcess:
    """A running child process in a group of its own.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    environment : mapping, optional
        Environment variables; those of this process if left out.
    popen : callable
        Starts it; tests put another one here.

    Raises
    ------
    OSError
        If it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        popen: Callable[..., subprocess.Popen] = subprocess.Popen,
    ) -> None:
        self._process = popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if environment is None else dict(environment),
            **_own_group(),
        )
        self._lines: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=args, daemon=True)
            for args in ((_OUT, self._process.stdout), (_ERROR, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Number of the process, and of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def write(self, line: bytes) -> bool:
        """Send a line; returns whether it could be sent."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # it has ended, or its input was closed
            return False
        return True

    def lines(self) -> Iterator[tuple[bool, bytes]]:
        """Take what was written since the last call.

        Yields
        ------
        bool
            Whether it was written to the standard output, not to the standard error.
        bytes
            The line without its end.
        """
        while True:
            try:
                source, line = self._lines.get_nowait()
            except queue.Empty:
                return
            yield source == _OUT, line

    def end(self, patience: float = 0.0) -> None:
        """End it with all that it started.

        Parameters
        ----------
        patience : float
            Seconds in which it may end by itself now that its input is closed.
        """
        self._close(self._process.stdin)
        if patience > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        _kill_group(self._process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_WAIT_SECONDS)
        pipes = (self._process.stdout, self._process.stderr)
        for reader, pipe in zip(self._readers, pipes, strict=True):
            reader.join(_WAIT_SECONDS)
            # What has left the group may hold the pipe open still; to close it would wait for that.
            if not reader.is_alive():
                self._close(pipe)

    def _read(self, source: str, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed under the reader
            while line := pipe.readline(LONGEST_LINE):
                self._lines.put((source, line.rstrip(b"\r\n")))

    @staticmethod
    def _close(pipe: IO[bytes] | None) -> None:
        with contextlib.suppress(OSError):  # what was not sent yet has no reader any more
            if pipe is not None:
                pipe.close()


def _own_group() -> dict[str, Any]:
    """Return the arguments that give a child a group of its own, and no console window."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}


def _kill_group(process: subprocess.Popen) -> None:
    """Kill a child and what it started, whether or not the child itself has ended."""
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/PID", str(process.pid), "/T", "/F"],
            capture_output=True,
            check=False,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
