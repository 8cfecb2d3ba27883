"""Downloads from a real https server that cuts, cheats, stalls and redirects."""

from __future__ import annotations

import hashlib
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from napari_sparseseg.downloads import download
from napari_sparseseg.errors import Cancelled, InputError, ModelError, OutputError
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.weights import ModelInfo, find_model, load_network, register_model
from tests.trust.conftest import assert_refused
from tests.trust.server import Site, make_certificate, serve


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make a certificate")
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def site(model: ModelInfo, certificate: Path) -> Iterator[Site]:
    """Serve the weights of ``tiny-stp``, which are registered but not here."""
    with serve(Site(model.path.read_bytes()), certificate) as site:
        register_model(replace(model, url=site.url))
        model.path.unlink()
        yield site


@pytest.fixture
def fetch(site: Site) -> Callable[..., Path]:
    """Download ``tiny-stp`` as the registry knows it."""

    def fetch(**options: object) -> Path:
        return download(find_model("tiny-stp"), context=site.context, **options)  # type: ignore[arg-type]

    return fetch


def left(model: ModelInfo) -> list[str]:
    return sorted(p.suffix for p in model.path.parent.iterdir() if p.name != "index.json")


def test_a_download_is_the_registered_file(
    model: ModelInfo, site: Site, fetch: Callable[..., Path]
) -> None:
    told: list[tuple[int, int, str]] = []
    path = fetch(progress=lambda *what: told.append(what))

    assert path == model.path
    assert path.read_bytes() == site.content
    assert told[-1] == (len(site.content), len(site.content), "Downloading tiny-stp")
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})
    assert left(model) == [".safetensors"]
    load_network(find_model("tiny-stp"))


def test_a_file_that_is_there_is_not_asked_for(site: Site, fetch: Callable[..., Path]) -> None:
    fetch()
    fetch()

    assert site.asked == [""]


def test_a_damaged_file_is_replaced(
    model: ModelInfo, site: Site, fetch: Callable[..., Path]
) -> None:
    model.path.write_bytes(b"damaged")

    assert fetch().read_bytes() == site.content


def test_a_download_that_broke_off_goes_on_where_it_was(
    model: ModelInfo, site: Site, fetch: Callable[..., Path]
) -> None:
    site.cut = 100_000
    assert_refused(fetch, "broke off; run 'sparseseg download tiny-stp' again", ModelError)
    assert left(model) == [".part"]

    assert fetch().read_bytes() == site.content
    assert site.asked == ["", "bytes=100000-"]
    assert left(model) == [".safetensors"]


def test_a_server_without_ranges_sends_all_of_it_again(
    site: Site, fetch: Callable[..., Path]
) -> None:
    site.cut, site.knows_ranges = 100_000, False
    with pytest.raises(ModelError):
        fetch()

    assert fetch().read_bytes() == site.content


def test_a_part_that_is_too_long_is_not_trusted(
    model: ModelInfo, site: Site, fetch: Callable[..., Path]
) -> None:
    site.cut = 1000
    with pytest.raises(ModelError):
        fetch()
    (part,) = model.path.parent.glob("*.part")
    part.write_bytes(site.content + b"more")

    assert fetch().read_bytes() == site.content
    assert site.asked == ["", ""]


def test_a_file_of_another_hash_never_appears(
    model: ModelInfo, site: Site, fetch: Callable[..., Path]
) -> None:
    site.content = site.content[:-1] + bytes([site.content[-1] ^ 1])

    assert_refused(fetch, "is not the registered file and was removed", ModelError)
    assert left(model) == []


def test_a_spoilt_part_is_removed(model: ModelInfo, site: Site, fetch: Callable[..., Path]) -> None:
    site.cut = 1000
    with pytest.raises(ModelError):
        fetch()
    (part,) = model.path.parent.glob("*.part")
    part.write_bytes(b"x" * 1000)

    assert_refused(fetch, "is not the registered file", ModelError)
    assert fetch().read_bytes() == site.content


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_file_of_another_size_is_refused_before_it_is_read(
    model: ModelInfo, site: Site, fetch: Callable[..., Path], change: bytes
) -> None:
    site.content = site.content + change if change else site.content[:-1]

    assert_refused(fetch, "another size", ModelError)
    assert left(model) == []


def test_an_endless_answer_ends_at_the_registered_size(
    model: ModelInfo, site: Site, fetch: Callable[..., Path]
) -> None:
    site.endless = True

    assert_refused(fetch, "more than the registered size", ModelError)
    sizes = [path.stat().st_size for path in model.path.parent.glob("*.part")]
    assert all(size <= len(site.content) for size in sizes)


def test_a_server_that_hardly_sends_anything_is_left(
    site: Site, fetch: Callable[..., Path]
) -> None:
    site.drip = True

    assert_refused(lambda: fetch(patience=0.3), "does not answer in time", ModelError)


@pytest.mark.parametrize("address", ["http://localhost:9/x", "file:///etc/passwd", "ftp://x/y"])
def test_a_way_out_of_https_is_refused(
    model: ModelInfo, site: Site, fetch: Callable[..., Path], address: str
) -> None:
    site.status, site.location = 302, address

    assert_refused(fetch, "without https|status 302", ModelError)
    assert left(model) == []


def test_a_redirect_within_https_is_followed(
    site: Site, certificate: Path, fetch: Callable[..., Path]
) -> None:
    with serve(Site(site.content), certificate) as mirror:
        site.status, site.location = 302, mirror.url
        assert fetch().read_bytes() == site.content
        assert mirror.asked == [""]


@pytest.mark.parametrize("status", [404, 403, 416, 500])
def test_a_server_without_the_file_is_named(
    site: Site, fetch: Callable[..., Path], status: int
) -> None:
    site.status = status

    assert_refused(fetch, rf"localhost does not have the file \(status {status}\)", ModelError)


def test_a_certificate_that_nobody_vouches_for_is_refused(model: ModelInfo, site: Site) -> None:
    info = find_model("tiny-stp")

    assert_refused(lambda: download(info), "certificate of the server is not trusted", ModelError)


def test_offline_it_says_which_file_to_put_where(
    model: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://models.invalid/tiny-stp.safetensors"
    register_model(replace(model, url=url))
    model.path.unlink()

    folder = model.path.parent
    assert_refused(
        lambda: download(find_model("tiny-stp")), f"from {url} into {folder}", ModelError
    )


def test_loading_what_is_not_here_says_how_to_get_it(model: ModelInfo, site: Site) -> None:
    assert_refused(
        lambda: load_network(find_model("tiny-stp")),
        rf"run 'sparseseg download tiny-stp', or put the file from {site.url} into",
        ModelError,
    )
    assert site.asked == []  # nothing is fetched of itself


def test_a_stopped_download_keeps_what_has_arrived(
    model: ModelInfo, site: Site, fetch: Callable[..., Path]
) -> None:
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        fetch(progress=lambda *_: cancel.cancel(), cancel=cancel)

    assert left(model) == [".part"]
    assert fetch().read_bytes() == site.content
    assert site.asked[1].startswith("bytes=")


def test_a_full_disk_is_said_before_anything_is_sent(
    model: ModelInfo, site: Site, fetch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(model.path.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    assert_refused(fetch, "No space left on device.; free some space", OutputError)
    assert site.asked == []


def test_a_disk_that_fills_up_meanwhile_is_named(
    model: ModelInfo, fetch: Callable[..., Path]
) -> None:
    """The system lets no file grow above 64 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        assert_refused(fetch, "cannot be written .*; free some space", OutputError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(model) in ([], [".part"])


def test_a_model_that_comes_with_the_package_has_no_address(model: ModelInfo) -> None:
    assert download(model) == model.path
    model.path.unlink()

    assert_refused(lambda: download(model), "comes with the package", ModelError)


def test_the_command_wants_to_know_what(
    model: ModelInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_sparseseg.cli.download import download as command

    assert_refused(lambda: command("", everything=False), "what to download", InputError)
    assert_refused(lambda: command("x", everything=True), "what to download", InputError)
    assert_refused(lambda: command("x", everything=False), "no model named 'x'", ModelError)
    command("", everything=True)
    assert capsys.readouterr().out == f"tiny-stp  {model.path}\n"


def test_downloads_that_the_package_folder_cannot_take_go_to_the_user(
    model: ModelInfo, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sparseseg import weights

    folder = model.path.parent
    monkeypatch.delenv("SPARSESEG_WEIGHTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(weights, "weights_folder", lambda: folder)
    monkeypatch.setattr(weights.os, "access", lambda *_: False)  # root may write anywhere

    path = download(find_model("tiny-stp"), context=site.context)
    assert path.parent == weights.user_folder() != folder
    assert find_model("tiny-stp").path == path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256
