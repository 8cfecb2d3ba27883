"""A real https server of one file that can be told to misbehave."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """What the server has and how it behaves.

    Attributes
    ----------
    content : bytes
        The file, at any address.
    cut : int
        Bytes after which the connection breaks off, once; 0 for never.
    knows_ranges : bool
        Whether it can go on from the middle.
    status, location : int, str
        What it answers instead of the file.
    drip : bool
        Send a byte now and then, until the client leaves.
    endless : bool
        Say no length and never stop.
    asked : list of str
        The ``Range`` of each request, "" for none.
    """

    content: bytes
    cut: int = 0
    knows_ranges: bool = True
    status: int = 200
    location: str = ""
    drip: bool = False
    endless: bool = False
    asked: list[str] = field(default_factory=list)
    url: str = ""
    context: ssl.SSLContext | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        wanted = self.headers.get("Range", "")
        site.asked.append(wanted)
        self.close_connection = True
        if site.status != 200:
            self.send_response(site.status)
            self.send_header("Location", site.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted[6:-1]) if wanted and site.knows_ranges else 0
        self.send_response(206 if start else 200)
        if start:
            size = len(site.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if not site.endless:
            self.send_header("Content-Length", str(len(site.content) - start))
        self.send_header("Connection", "close")
        self.end_headers()
        self._send(site, site.content[start:])

    def _send(self, site: Site, content: bytes) -> None:
        try:
            if site.drip:
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            while site.endless:
                self.wfile.write(content)
            if site.cut:
                content, site.cut = content[: site.cut], 0
            self.wfile.write(content)
        except OSError:  # the client has left
            pass

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def make_certificate(folder: Path) -> Path:
    """Make a certificate for localhost that nobody but a test trusts; gives its file."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


@contextmanager
def serve(site: Site, certificate: Path) -> Iterator[Site]:
    """Run the server; sets the site's address and whom its clients have to trust."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.site = True, site  # type: ignore[attr-defined]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    site.url = f"https://localhost:{server.server_port}/models/tiny.safetensors"
    site.context = ssl.create_default_context(cafile=str(certificate))
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
