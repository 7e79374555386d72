"""Models on the Hub, by the real client in a process of its own, against a Hub on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import codec_for
from local_hub import TOKEN, Files, LocalHub

from emgcodec import Codec, Tokens, sample

SRC = Path(__file__).parents[1] / "src"


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        yield running


@dataclass
class Client:
    """Calls functions of `hub_client` in its process."""

    process: subprocess.Popen[str]

    def call(self, name: str, **options: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, options]) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def load(self, name: str, **options: Any) -> str:
        found = self.call("load", name_or_path=name, **options)
        assert "error" not in found, found["error"]
        return str(found["value"])

    def fails(self, name: str, **options: Any) -> str:
        """The message, which must be of our own error."""
        found = self.call("load", name_or_path=name, **options)
        assert found.get("kind") == "ModelError", found
        return str(found["error"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(hub: LocalHub, home: Path) -> Iterator[Client]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ours = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": str(SRC),
    }
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("hub_client.py")],
        env=kept | ours,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Client(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    codec = Codec(codec_for("student").config.replace(weights_license="Some\x1b[31m licence."))
    codec.load_state_dict(codec_for("student").state_dict())
    codec.eval()
    codec.devices = {"armband": codec.calibrate([sample("armband")])}
    codec.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(model: Path) -> Files:
    return {path.name: path.read_bytes() for path in model.iterdir()}


@pytest.fixture(scope="module")
def codec_id(model: Path) -> str:
    return Codec.from_pretrained(model).codec_id


# Loading


def test_a_model_is_fetched_once_and_its_licence_shown_once(
    hub: LocalHub, client: Client, files: Files, codec_id: str
) -> None:
    hub.put("me/once", files)
    first = client.call("load", name_or_path="me/once")
    assert first["value"] == codec_id
    assert first["err"] == "emgcodec: weights of me/once: Some [31m licence.\n"
    assert first["out"] == ""
    hub.requests.clear()
    again = client.call("load", name_or_path="me/once")
    assert (again["value"], again["err"]) == (codec_id, "")
    assert hub.requests == ["GET /api/models/me/once"]  # is there a newer one?


def test_config_and_weights_are_of_one_commit(
    hub: LocalHub, client: Client, files: Files, codec_id: str
) -> None:
    old = hub.put("me/moving", files)
    hub.repos["me/moving"].refs["v1"] = old
    hub.put("me/moving", {"config.json": b"{}", "model.safetensors": b"", "README.md": b""})
    assert client.load("me/moving", revision="v1") == codec_id
    assert client.load("me/moving", revision=old) == codec_id
    assert "format_version" in client.fails("me/moving")
    taken = (line for line in hub.requests if line.startswith("GET") and "/me/moving/" in line)
    fetched = [line.split("/")[-2:] for line in taken]
    new = hub.repos["me/moving"].refs["main"]
    assert [commit for commit, name in fetched if name == "config.json"] == [old, new]
    assert [commit for commit, name in fetched if name == "model.safetensors"] == [old]


def test_tokens_open_private_and_gated_repositories(
    hub: LocalHub, client: Client, files: Files, codec_id: str
) -> None:
    hub.put("me/private", files, private=True)
    hub.put("me/gated", files, gated="granted")
    hub.put("me/closed", files, gated="asked")
    assert "neither a folder here nor" in client.fails("me/private", token=False)
    assert "accept its terms" in client.fails("me/gated", token=False)
    assert "accept its terms" in client.fails("me/closed", token=TOKEN)
    assert "Invalid credentials" in client.fails("me/private", token="hf_wrong")
    assert client.load("me/private", token=TOKEN) == codec_id
    assert client.load("me/gated", token=TOKEN) == codec_id


def test_what_is_not_there_is_named(hub: LocalHub, client: Client, files: Files) -> None:
    hub.put("me/there", files)
    assert "'me/none' is neither a folder here nor" in client.fails("me/none")
    assert "check the name" in client.fails("me/none", token=TOKEN)
    assert "has no revision='v9'" in client.fails("me/there", revision="v9")
    assert "revision='" + "a" * 40 in client.fails("me/there", revision="a" * 40)
    assert "is no Hub repository" in client.fails("me/..there")
    assert "neither bundled" in client.fails("a/b/c")
    assert "leave local_files_only out" in client.fails("me/unseen", local_files_only=True)


def test_only_whole_models_of_this_package_are_read(
    hub: LocalHub, client: Client, files: Files
) -> None:
    pickled = {"config.json": files["config.json"], "pytorch_model.bin": b"\x80\x04."}
    hub.put("me/pickled", pickled)
    assert "pickles above all, are not read" in client.fails("me/pickled")
    hub.put("me/empty", {"README.md": b""})
    assert "no config.json and no model.safetensors" in client.fails("me/empty")
    newer = json.loads(files["config.json"]) | {"format_version": 2}
    hub.put("me/newer", files | {"config.json": json.dumps(newer).encode()})
    assert "upgrade emgcodec" in client.fails("me/newer")
    huge = json.loads(files["config.json"])
    huge["quantizer"] |= {"levels": 16, "size": 65536, "dim": 65536}
    hub.put("me/huge", files | {"config.json": json.dumps(huge).encode()})
    assert "asks for 27" in client.fails("me/huge")
    hub.put("me/long", files | {"config.json": b" " * (5 << 20)})
    assert "more than 4,194,304 bytes" in client.fails("me/long")
    other = json.loads(files["config.json"]) | {"weights_sha256": "0" * 64}
    hub.put("me/other", files | {"config.json": json.dumps(other).encode()})
    assert "not the file that config.json was written with" in client.fails("me/other")
    hub.put("me/foreign", files | {"model.safetensors": b"PK\x03\x04" * 100})
    assert "damaged" in client.fails("me/foreign")
    taken = [line for line in hub.requests if "GET" in line and "safetensors" in line]
    assert not any(name in line for line in taken for name in ("newer", "huge", "long", "pickled"))


@pytest.mark.parametrize(
    "path", ["model.safetensors", "config.json", "golden.tokens", "devices.safetensors"]
)
def test_an_altered_file_of_the_same_size_is_not_kept(
    hub: LocalHub, client: Client, files: Files, codec_id: str, path: str
) -> None:
    name = f"me/altered-{path.partition('.')[0]}"
    hub.put(name, files)
    hub.fault(name, path, flip=True)
    for _ in range(2):  # not from the cache either
        assert f"{path} of {name!r} came damaged" in client.fails(name)
    hub.faults.clear()
    assert client.load(name) == codec_id


def test_a_broken_download_is_named_and_goes_on(
    hub: LocalHub, client: Client, files: Files, codec_id: str
) -> None:
    hub.put("me/broken", files)
    hub.fault("me/broken", "model.safetensors", cut=1000)
    assert "load it again" in client.fails("me/broken")
    hub.fault("me/broken", "model.safetensors", status=503)
    assert "refused by the Hub: try again later" in client.fails("me/broken")
    hub.faults.clear()
    assert client.load("me/broken") == codec_id


def test_a_cache_that_takes_nothing_is_named(
    hub: LocalHub, client: Client, files: Files, codec_id: str, home: Path
) -> None:
    hub.put("me/homeless", files)
    place = home / "hub" / "models--me--homeless"
    place.parent.mkdir(exist_ok=True)
    place.write_text("in the way")
    assert "HF_HOME, must have room" in client.fails("me/homeless")
    place.unlink()
    assert client.load("me/homeless") == codec_id


def test_what_the_client_mends_by_itself_is_not_seen(
    hub: LocalHub, client: Client, files: Files, codec_id: str
) -> None:
    """A connection that ends early is taken up where it ended, and one who must wait waits."""
    hub.put("me/weak", files, private=True)
    hub.fault("me/weak", "model.safetensors", hang_up=1000)
    assert client.load("me/weak", token=TOKEN) == codec_id
    taken = [line for line in hub.requests if line.startswith("GET /storage/me/weak/")]
    assert sum(line.endswith("model.safetensors") for line in taken) == 2
    hub.put("me/busy", files)
    hub.fault("me/busy", "model.safetensors", busy=True)
    assert client.load("me/busy") == codec_id
    hub.faults.clear()


def test_without_network_the_cache_is_enough(
    hub: LocalHub, client: Client, files: Files, codec_id: str
) -> None:
    hub.put("me/cached", files)
    hub.put("me/unseen", files)
    assert client.load("me/cached") == codec_id
    hub.down = True
    try:
        assert client.load("me/cached") == codec_id
        assert "connect once" in client.fails("me/unseen")
    finally:
        hub.down = False
    hub.requests.clear()
    assert client.load("me/cached", local_files_only=True) == codec_id
    assert "connect once" in client.fails("me/unseen", local_files_only=True)
    client.call("set_offline", offline=True)
    try:
        assert client.load("me/cached") == codec_id
        assert "unset HF_HUB_OFFLINE" in client.fails("me/unseen")
    finally:
        client.call("set_offline", offline=False)
    assert hub.requests == []


# Publishing


def test_a_pushed_model_comes_back(
    hub: LocalHub, client: Client, model: Path, codec_id: str
) -> None:
    pushed = client.call("push", model=str(model), repo_id="me/pushed", token=TOKEN, private=True)
    assert pushed["value"].startswith(f"{hub.endpoint}/me/pushed/commit/")
    repo = hub.repos["me/pushed"]
    assert repo.private
    assert len(repo.commits) == 2  # the empty one that makes it, and all files in one
    assert set(repo.commits[repo.refs["main"]]) == {path.name for path in model.iterdir()}
    assert client.load("me/pushed", token=TOKEN) == codec_id
    refused = client.call("push", model=str(model), repo_id="me/mine", token="hf_wrong")
    assert "refused by the Hub" in refused["error"]
    assert refused["kind"] == "ModelError"


def test_another_model_leaves_nothing_of_the_one_before(
    hub: LocalHub, client: Client, tmp_path: Path
) -> None:
    """One without codebooks has neither golden codes nor devices."""
    hub.put("me/reused", dict.fromkeys(("golden.tokens", "devices.safetensors", "my.txt"), b"old"))
    free = "Apache-2.0. Trained on simulated signals only."
    bare = Codec.from_preset("student", **{"quantizer.kind": "none", "weights_license": free})
    bare.save_pretrained(tmp_path)
    pushed = client.call("push", model=str(tmp_path), repo_id="me/reused", token=TOKEN)
    assert "error" not in pushed
    repo = hub.repos["me/reused"]
    files = {"config.json", "model.safetensors", "README.md", "my.txt"}
    assert set(found := repo.commits[repo.refs["main"]]) == files
    assert b"\nlicense: apache-2.0\n---\n" in found["README.md"]


def test_what_is_to_be_private_is_not_put_where_everybody_sees_it(
    hub: LocalHub, client: Client, model: Path
) -> None:
    hub.put("me/open", {"my.txt": b"old"})
    refused = client.call("push", model=str(model), repo_id="me/open", token=TOKEN, private=True)
    assert "public: make it private" in refused["error"]
    assert refused["kind"] == "ModelError"
    repo = hub.repos["me/open"]
    assert set(repo.commits[repo.refs["main"]]) == {"my.txt"}


def test_publish_puts_models_with_card_and_golden_codes_and_records_where(
    hub: LocalHub, client: Client, home: Path, tmp_path: Path
) -> None:
    (home / "token").write_text(TOKEN)  # logged in
    record = tmp_path / "pretrained.json"
    record.write_text('{"student": "", "student-open": "", "teacher": "", "teacher-open": ""}')
    argv = ["publish", "--org", "lab", "--record", str(record)]
    done = client.call("command", argv=[*argv, "student", "no-such", "teacher"])
    assert done["value"] == 2  # for the one that is not there, which is named
    assert done["err"].startswith("emgcodec publish: no-such: model 'no-such' is neither bundled")
    assert json.loads(record.read_text()) == {
        "student": "lab/emgcodec-student",
        "student-open": "",
        "teacher": "lab/emgcodec-teacher",
        "teacher-open": "",
    }
    repo = hub.repos["lab/emgcodec-student"]
    found = repo.commits[repo.refs["main"]]
    card = found["README.md"].decode()
    assert card.startswith("---\nlibrary_name: emgcodec\nlicense: other\nlicense_name: ")
    assert "Weights licence: We license our own rights" in card
    (tmp_path / "golden.tokens").write_bytes(found["golden.tokens"])
    golden = Tokens.load(tmp_path / "golden.tokens")
    assert golden.codec_id == client.load("lab/emgcodec-student") == client.load("student")
    verified = client.call("command", argv=["info", "--verify", "lab/emgcodec-student"])
    assert verified["value"] == 0


def test_sigterm_during_an_upload_publishes_nothing_and_a_rerun_all(
    hub: LocalHub, client: Client, home: Path, tmp_path: Path
) -> None:
    (home / "token").write_text(TOKEN)
    record = tmp_path / "pretrained.json"
    record.write_text('{"student": ""}')
    argv = ["publish", "--org", "clinic", "--record", str(record), "student"]

    def terminate() -> None:
        client.process.send_signal(signal.SIGTERM)
        time.sleep(1.0)  # it comes before the answer does

    hub.uploading = terminate
    done = client.call("command", argv=argv)
    assert (done["value"], record.read_text()) == (130, '{"student": ""}')
    assert "interrupted" in done["err"]
    repo = hub.repos["clinic/emgcodec-student"]
    assert [files for files in repo.commits.values() if "config.json" in files] == []
    hub.uploading = lambda: None
    assert client.call("command", argv=argv)["value"] == 0
    assert "config.json" in repo.commits[repo.refs["main"]]


def test_a_model_that_does_not_verify_is_not_published(
    hub: LocalHub, client: Client, model: Path, tmp_path: Path
) -> None:
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "golden.tokens").unlink()
    done = client.call("command", argv=["publish", str(tmp_path), "--org", "lab"])
    assert done["value"] == 2
    assert "has no golden.tokens" in done["err"]
