"""A small program that speaks the engine's protocol on real pipes, and can be told to misbehave.

    python fake_engine.py [--fault METHOD:WHAT] --folder DIR

It segments nothing: a run answers labels that hold the scan's voxels, cut off at the setting.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

KEPT_LEGEND = [
    {"value": 1, "text": "pruned at stage 1", "color": "#440154ff", "count": 1},
    {"value": 2, "text": "kept", "color": "#fde725ff", "count": 7},
]

KEEP_RATIO = {"name": "keep ratio", "low": 0.05, "step": 0.05, "about": "How much is kept"}
EXIT = {"name": "exit threshold", "low": 0.5, "step": 0.01, "about": "From where tokens exit"}


def model(name: str, title: str, method: str, control: dict | None, setting: float) -> dict:
    return {
        "name": name,
        "title": title,
        "task": name.rpartition("-")[0],
        "task_title": title,
        "method": method,
        "method_title": method.upper(),
        "about": "What the method does.",
        "source": "",
        "modality": "CT of the neck" if "neck" in name else "MR of the head",
        "structures": ["parotid gland"] if "neck" in name else ["thalamus", "caudate"],
        "colors": ["#ff0000"],
        "spacing": 2.0,
        "license": "Apache-2.0",
        "size_mb": 23.1,
        "default_setting": setting,
        "control": control,
        "seconds": {"cpu": 0.4 if name == "brain-stp" else None, "gpu": None},
    }


MODELS = [
    model("brain-stp", "Brain, STP", "stp", KEEP_RATIO, 0.5),
    model("brain-dtop", "Brain, DToP", "dtop", EXIT, 0.9),
    model("brain-dense", "Brain, Dense", "dense", None, 1.0),
    model("neck-stp", "Neck, STP", "stp", KEEP_RATIO, 0.42),
]
CONTROLS = [
    {"name": name, "title": name.title(), "about": f"About {name}."}
    for name in ("random", "truncated", "none")
]


class FakeEngine:
    """Answers one request after the other; cancels are seen while it works."""

    def __init__(self, folder: Path, fault: str) -> None:
        self.folder = folder
        self.method, _, self.fault = fault.partition(":")
        self.requests: queue.Queue[dict | None] = queue.Queue()
        self.cancelled: set[int] = set()
        self.newest = 0
        self.scan: np.ndarray | None = None
        self.model = self.sparsifier = ""
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message["method"] == "cancel":
                self.cancelled.add(message["params"]["id"])
            else:
                if message["method"] in ("open", "run"):
                    self.newest = message["id"]
                self.requests.put(message)
        self.requests.put(None)

    def serve(self) -> None:
        while (request := self.requests.get()) is not None:
            number, method = request["id"], request["method"]
            if method == self.method and not self.misbehave(number):
                continue
            replaced = method in ("open", "run") and number < self.newest
            if replaced or number in self.cancelled:
                self.refuse(number, "cancelled", "Cancelled.")
            else:
                self.send(id=number, result=getattr(self, f"on_{method}")(**request["params"]))

    def misbehave(self, number: int) -> bool:
        """Do what the fault says; returns whether the request is answered as usual then."""
        if self.fault == "slow":
            step = 0
            while number not in self.cancelled and number == self.newest:
                step += 1
                progress = {"id": number, "done": step % 10, "total": 10, "text": "Encoding"}
                self.send(method="progress", params=progress)
                time.sleep(0.005)
            self.refuse(number, "cancelled", "Cancelled.")
            return False
        if self.fault == "late":  # it hears of the cancel and is done nevertheless
            while number not in self.cancelled:
                time.sleep(0.005)
            self.send(id=number, result=self.on_run(0.5, False))
            return False
        if self.fault == "progress":
            for step in range(3):
                progress = {"id": number, "done": step, "total": 3, "text": f"step {step}"}
                self.send(method="progress", params=progress)
            return True
        return bool(FAULTS[self.fault](self, number))

    def on_hello(self, protocol: int, host: str) -> dict:
        other = self.method == "hello" and self.fault == "version"
        print("fake engine at work", file=sys.stderr, flush=True)
        return {"protocol": 2 if other else protocol, "version": "0", "python": "3", "notice": ""}

    def on_models(self) -> dict:
        return {"models": MODELS, "default": "brain-stp", "controls": CONTROLS}

    def on_devices(self) -> dict:
        return {
            "devices": [
                {"name": "cuda:0", "title": "A card (24 GiB)", "memory_mb": 24576, "free_mb": 2048},
                {"name": "cpu", "title": "CPU (2 threads)", "memory_mb": None, "free_mb": None},
            ]
        }

    def on_open(
        self, volume: dict, model: str, device: str, precision: str, sparsifier: str
    ) -> dict:
        self.scan = np.load(self.folder / volume["data"])
        self.model, self.sparsifier = model, sparsifier
        grid = {"shape": [2, 2, 2], "patch": [8, 8, 8], "affine": volume["affine"]}
        return {"grid": grid, "control": None, "device": "cpu", "precision": "float32"}

    def on_run(self, setting: float | None, compare_dense: bool) -> dict:
        assert self.scan is not None
        labels = (self.scan > (setting or 0)).astype(np.uint8)
        np.save(self.folder / f"labels-{time.time_ns()}.npy", labels)
        (name,) = (path.name for path in self.folder.glob("labels-*.npy"))
        return {
            "labels": name,
            "structures": [
                {
                    "value": 1,
                    "name": "bright",
                    "color": "#ff0000",
                    "terminology": None,
                    "voxels": int(labels.sum()),
                    "millilitres": 1.0,
                    "dice_to_dense": 0.9 if compare_dense else None,
                }
            ],
            "maps": [self.kept_map(), self.importance_map()],
            "fate": "pruned",
            "report": self.report(labels, setting),
        }

    def report(self, labels: np.ndarray, setting: float | None) -> dict:
        return {
            "notice": "",
            "model": self.model,
            "method": "stp",
            "sparsifier": self.sparsifier or "stp",
            "setting": None if setting is None else {"name": "keep ratio", "value": setting},
            "device": "cpu",
            "precision": "float32",
            "tokens": {
                "total": 8, "air": 0, "kept": 7, "pruned": 1, "exited": 0, "reactivated": 0,
            },
            "gmacs": {"run": 1.0, "dense": 2.0, "encoder": 1.0, "encoder_dense": 2.0},
            "seconds": {"total": 0.5, "preprocess": 0.1, "sparse_network": 0.4},
            "peak_memory_mb": None,
        }  # fmt: skip

    def on_preview(self, setting: float) -> dict:
        return {"map": {**self.kept_map(), "about": "What goes on."}}

    def on_close(self) -> dict:
        self.scan = None
        return {}

    def kept_map(self) -> dict:
        name = f"kept-{time.time_ns()}.npy"
        np.save(self.folder / name, np.full((2, 2, 2), 2, np.uint8))
        return {
            "kind": "kept",
            "stage": None,
            "title": "kept / pruned",
            "about": "Where each token left.",
            "data": name,
            "type": "categories",
            "legend": KEPT_LEGEND,
        }

    def importance_map(self) -> dict:
        name = f"importance-{time.time_ns()}.npy"
        np.save(self.folder / name, np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2))
        return {
            "kind": "importance",
            "stage": 1,
            "title": "importance at stage 1",
            "about": "Rank of each token.",
            "data": name,
            "type": "shades",
            "range": [0, 1],
            "colormap": [f"#{n:02x}00{255 - n:02x}ff" for n in range(256)],
        }

    def refuse(self, number: int, kind: str, sentence: str) -> None:
        error = {"code": -32000, "message": sentence, "data": {"kind": kind}}
        self.send(id=number, error=error)

    def send(self, **message: object) -> None:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def hang(engine: FakeEngine, number: int) -> None:
    time.sleep(3600)


def hang_with_child(engine: FakeEngine, number: int, escapes: bool = False) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    child = subprocess.Popen(command, start_new_session=escapes)
    text = f"child {child.pid}"
    engine.send(method="log", params={"level": "info", "text": text})
    hang(engine, number)


def die(engine: FakeEngine, number: int) -> None:
    print("Traceback: something broke", file=sys.stderr, flush=True)
    os._exit(3)


FAULTS = {
    "garbage": lambda engine, number: print("<html>", flush=True),
    "number": lambda engine, number: print("7", flush=True),
    "stranger": lambda engine, number: engine.send(id=999, result={}),
    "text": lambda engine, number: engine.send(id=number, result="done"),
    "partial": lambda engine, number: engine.send(id=number, result={"labels": "gone.npy"}),
    "outside": lambda engine, number: engine.send(id=number, result={"labels": "../x.npy"}),
    "memory": lambda engine, number: engine.refuse(number, "memory", "The card is full."),
    "killed": lambda engine, number: os.kill(os.getpid(), 9),
    "version": lambda engine, number: True,
    "crash": die,
    "hang": hang,
    "child": hang_with_child,
    "escaped": lambda engine, number: hang_with_child(engine, number, escapes=True),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--fault", default=":")
    options = parser.parse_args()
    FakeEngine(options.folder, options.fault).serve()
