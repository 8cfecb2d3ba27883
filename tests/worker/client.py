"""A host: starts the real worker, sends lines and collects what comes back."""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.volume import Volume

_RUN = "import sys; from napari_sparseseg.worker.__main__ import main; main(sys.argv[1:])"
PATIENCE = 120.0  # seconds until a test gives up; what is tested never depends on it


MODEL = "hippocampus-mr-stp"
CPU = {"device": "cpu", "precision": "float32"}


class Failed(Exception):
    """An answer that is an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code, self.kind = error["code"], error["data"]["kind"]
        self.message, self.detail = error["message"], error["data"].get("detail", "")


class Host:
    """One worker and its folder.

    Parameters
    ----------
    folder : Path
        The shared folder.
    code : str
        What runs before the worker in its process.
    environment : str
        Variables of its environment.
    """

    def __init__(self, folder: Path, code: str = "", **environment: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "napari_sparseseg.worker"]
        if code:
            command = [sys.executable, "-c", f"{code}\n{_RUN}"]
        self.errors = folder.with_name(f"{folder.name}.stderr")
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, "--folder", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )
        self.log: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._waiting: list[dict[str, Any]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def write(self, line: bytes) -> None:
        """Send bytes as they are."""
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def notify(self, method: str, **params: Any) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())
        self.write(b"\n")

    def send(self, method: str, **params: Any) -> int:
        """Send a request; gives its id."""
        id_ = next(self._numbers)
        message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
        self.write(json.dumps(message).encode() + b"\n")
        return id_

    def next_message(self) -> dict[str, Any]:
        """Give the next message, whatever it is."""
        message = self._messages.get(timeout=PATIENCE)
        assert message is not None, f"the worker ended:\n{self.errors.read_text()}"
        self.log.append(message)
        return message

    def answer(self, id_: int | None) -> dict[str, Any]:
        """Wait for the answer to a request; raises what it failed with."""
        while not (found := [m for m in self._waiting if m["id"] == id_]):
            message = self.next_message()
            if "id" in message:
                self._waiting.append(message)
        self._waiting.remove(found[0])
        if "error" in found[0]:
            raise Failed(found[0]["error"])
        return found[0]["result"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        return self.answer(self.send(method, **params))

    def failure(self, id_: int | None) -> Failed:
        """Wait for the answer to a request, which has to be an error."""
        try:
            result = self.answer(id_)
        except Failed as failed:
            return failed
        raise AssertionError(f"the request did not fail: {result}")

    def progress(self, id_: int, text: str) -> None:
        """Wait until a request tells that it does something."""
        while True:
            message = self.next_message()
            assert "result" not in message, message
            told = message.get("params", {})
            if told.get("id") == id_ and told.get("text") == text:
                return

    def greet(self) -> Host:
        self.call("hello", protocol=1, host="a test")
        return self

    def scan(self, volume: Volume, name: str = "input.npy") -> dict[str, Any]:
        """Write a scan to the folder; gives what ``open`` takes for it."""
        np.save(self.folder / name, volume.data)
        return {"data": name, "affine": volume.affine.tolist(), "name": volume.name}

    def open(self, volume: Volume, model: str = MODEL, **more: Any) -> dict[str, Any]:
        """Open a scan; its file goes at once, as a host may do."""
        facts = self.scan(volume)
        try:
            return self.call("open", volume=facts, model=model, **CPU, **more)
        finally:
            (self.folder / facts["data"]).unlink()

    def send_open(self, volume: Volume, /, **changed: Any) -> int:
        """Ask to open a scan, with some of the parameters changed; gives the id."""
        params = {"volume": self.scan(volume), "model": MODEL, **CPU, **changed}
        return self.send("open", **params)

    def take(self, name: str) -> NDArray[Any]:
        """Read an array and remove its file."""
        array = np.load(self.folder / name, allow_pickle=False)
        (self.folder / name).unlink()
        return array

    def take_all(self, answer: dict[str, Any]) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """Read and remove the labels and maps of a run."""
        return self.take(answer["labels"]), [self.take(m["data"]) for m in answer["maps"]]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def end(self) -> int:
        """Close the worker's input, and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE)
