from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Read by numpy and torch when they are first imported: repeatable, and kind to small machines.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

settings.register_profile("fast", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("full", settings.get_profile("fast"), max_examples=200)
settings.load_profile("full" if os.environ.get("EMGCODEC_FULL") == "1" else "fast")

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real recordings that EMGCODEC_DATA names; skips without one."""
    if not os.environ.get("EMGCODEC_DATA"):
        pytest.skip("EMGCODEC_DATA names no folder of real recordings")
    folder = Path(os.environ["EMGCODEC_DATA"])
    if not folder.is_dir():
        pytest.fail(f"EMGCODEC_DATA={folder} is not a folder")
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where made-up people to train on, and what is prepared of them, lie."""
    from training import write_people

    folder = tmp_path_factory.mktemp("corpus")
    return {"data": write_people(folder / "data"), "cache": folder / "cache"}


@pytest.fixture
def pylsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Lab Streaming Layer, set to this machine alone."""
    settings = tmp_path / "lsl_api.cfg"
    settings.write_text(
        "[lab]\nKnownPeers = {127.0.0.1}\n[multicast]\nResolveScope = machine\n[log]\nlevel = -3\n"
    )
    monkeypatch.setenv("LSLAPICFG", str(settings))
    try:
        import pylsl
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"pylsl or its library is missing: {error}")
    return pylsl


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Tests talk to nothing beyond this machine."""
    lookup, connect, connect_ex = (
        socket.getaddrinfo,
        socket.socket.connect,
        socket.socket.connect_ex,
    )

    def check(host: Any) -> None:
        if host and (host.decode() if isinstance(host, bytes) else host) not in LOOPBACK:
            raise AssertionError(f"a test reached for the network: {host!r}")

    def guarded_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        check(host)
        return lookup(host, *args, **kwargs)

    def guarded(method: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(address[0])
            return method(self, address)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", guarded_lookup)
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        yield
