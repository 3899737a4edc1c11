# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Names that the Hub cannot have never go there; a Hub that does not answer is not waited for; a Hub that refuses says why."""

import json
import shutil
import socket
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification, embed
from hf_audio_ssm.common import hub_access
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.common.hub_access import is_hub_name
from hf_audio_ssm.data.names import data_on_hub
from hf_audio_ssm.data.sources import load_source
from hf_audio_ssm.hub.adapters import adapter_config, load_adapted, push_adapted
from hf_audio_ssm.hub.base_models import read_base_model
from hf_audio_ssm.hub.loading import load_checkpoint, load_config, load_feature_extractor, load_merged, load_model
from hf_audio_ssm.hub.names import model_on_hub
from hf_audio_ssm.hub.push import push_folder


REPO = "org/ssamba"
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "max_length": 64, "num_labels": 3}
LOADERS = {
    "load_checkpoint": load_checkpoint,
    "load_model": load_model,
    "load_feature_extractor": load_feature_extractor,
    "load_config": load_config,
    "load_merged": load_merged,
    "load_adapted": load_adapted,
    "embed": lambda name: embed(torch.randn(16000), 16000, name),
}
# None of them names a repository, though some of them begin like one.
NO_NAMES = [
    "",
    " ",
    "ssamba",
    "org/ssamba/",
    "org/ssamba/model.pth",
    "/absent/model",
    "./absent",
    "../absent",
    "~/absent",
    "org\\ssamba",
    "C:\\models\\ssamba",
    "org/my model",
    "org/ssamba\n",
    "org/ss\x00amba",
    "org/ssämba",
    "org/" + "x" * 97,
    "org/a--b",
    "org/a..b",
    "org/ssamba.git",
    "-org/ssamba",
    "https://huggingface.co/org/ssamba",
    "hf://org/ssamba",
    "org/ssamba@main",
    "org/ssamba:main",
]


def make_model() -> SsambaForAudioClassification:
    torch.manual_seed(0)
    return SsambaForAudioClassification(SsambaConfig(**SIZES)).eval()


def push_all(repo_id: str = REPO, **kwargs) -> None:
    make_model().push_to_hub(repo_id, **kwargs)
    SsambaFeatureExtractor(max_length=64).push_to_hub(repo_id)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> Path:
    """A folder with adapters and their base model."""
    folder = tmp_path_factory.mktemp("adapters")
    make_model().save_pretrained(folder / "base")
    SsambaFeatureExtractor(max_length=64).save_pretrained(folder / "base")
    import peft

    model = SsambaForAudioClassification.from_pretrained(folder / "base")
    peft.get_peft_model(model, adapter_config(model, r=2)).save_pretrained(folder / "saved")
    return folder


def rename_base(folder: Path, name: str) -> None:
    fields = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**fields, "base_model_name_or_path": name}))


class TestNames:
    @pytest.mark.parametrize("name", NO_NAMES)
    def test_loaders_do_not_ask_the_hub(self, hub, name):
        for load in LOADERS.values():
            with pytest.raises((OSError, InputError), match="cannot be loaded: there is no such folder") as caught:
                load(name)
            assert str(caught.value).isprintable()
        assert model_on_hub(name) is None
        assert read_base_model(name).on_hub is None
        assert hub.requests == []

    @pytest.mark.parametrize("name", NO_NAMES)
    def test_neither_do_adapters_for_their_base(self, hub, adapters, tmp_path, name):
        shutil.copytree(adapters / "saved", tmp_path / "saved")
        rename_base(tmp_path / "saved", name)
        (tmp_path / "saved" / "preprocessor_config.json").unlink()
        (tmp_path / "saved" / "classifier_config.json").unlink()
        for load in LOADERS.values():
            with pytest.raises(
                (OSError, InputError), match="the base model .* of these adapters is not here|names no base"
            ) as caught:
                load(tmp_path / "saved")
            assert str(caught.value).isprintable()
        assert hub.requests == []

    @pytest.mark.parametrize(
        "name", [name for name in NO_NAMES if name not in ("ssamba", "org/ssamba:main", "org/ssamba@main")]
    )
    def test_neither_do_sources_of_data(self, hub, name):
        assert data_on_hub(name) is None
        with pytest.raises(InputError):
            load_source(name)
        assert hub.requests == []

    @pytest.mark.parametrize("name", NO_NAMES)
    def test_neither_do_pushes(self, hub, tmp_path, name):
        if name == "ssamba":
            pytest.skip("a name alone is pushed to the user's own")
        with pytest.raises(InputError, match="could not be pushed to") as caught:
            push_folder(tmp_path, name, "Upload", "the folder")
        assert str(caught.value).isprintable()
        assert hub.requests == []

    def test_names(self):
        assert all(map(is_hub_name, ["org/ssamba", "a/b", "o-r.g/x_y.z-0"]))
        assert not any(map(is_hub_name, NO_NAMES))
        assert is_hub_name("superb", needs_owner=False)

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "model.safetensors").touch()
        with pytest.raises(InputError, match="cannot be loaded: it is a file, expected a folder"):
            load_checkpoint(tmp_path / "model.safetensors")


class TestBaseOfMovedAdapters:
    @pytest.mark.parametrize("name", ["base", "./base", "../base", "outputs/base", "/elsewhere/outputs/base"])
    def test_beside_the_adapters(self, hub, adapters, tmp_path, monkeypatch, name):
        shutil.copytree(adapters, tmp_path / "moved")
        rename_base(tmp_path / "moved" / "saved", name)
        monkeypatch.chdir("/")
        for load in LOADERS.values():
            load(tmp_path / "moved" / "saved")
        assert hub.requests == []

    def test_in_the_folder_that_the_name_starts_from(self, adapters, tmp_path, monkeypatch):
        shutil.copytree(adapters / "base", tmp_path / "moved" / "outputs" / "base")
        shutil.copytree(adapters / "saved", tmp_path / "moved" / "runs" / "3" / "saved")
        rename_base(tmp_path / "moved" / "runs" / "3" / "saved", "outputs/base")
        monkeypatch.chdir("/")
        load_adapted(tmp_path / "moved" / "runs" / "3" / "saved")

    def test_where_the_name_leads_from_here(self, adapters, tmp_path, monkeypatch):
        shutil.copytree(adapters / "base", tmp_path / "here" / "models" / "base")
        shutil.copytree(adapters / "saved", tmp_path / "there" / "saved")
        rename_base(tmp_path / "there" / "saved", "models/base")
        monkeypatch.chdir(tmp_path / "here")
        load_adapted(tmp_path / "there" / "saved")


@pytest.fixture
def silent_server():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def accept():
            server.settimeout(0.1)
            held = []
            while not stop.is_set():
                try:
                    held.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()
        thread.join()


@pytest.fixture
def no_server() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def use_endpoint(monkeypatch):
    """Lets the client ask another server."""

    def use(address: str) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", address, raising=False)
        monkeypatch.setattr(hub_access, "_unreachable", {})

    return use


class TestUnreachable:
    @pytest.mark.parametrize("loader", LOADERS)
    def test_nobody_listens(self, hub, use_endpoint, no_server, loader):
        use_endpoint(no_server)
        started = time.monotonic()
        with pytest.raises(
            (OSError, InputError), match=f"it is no folder here, and the Hub cannot be reached \\({no_server}: "
        ):
            LOADERS[loader](REPO)
        assert time.monotonic() - started < 2

    def test_no_answer(self, hub, use_endpoint, silent_server, monkeypatch, adapters, tmp_path):
        monkeypatch.setattr(hub_access, "ANSWER_SECONDS", 0.3)
        monkeypatch.setattr(hub_access, "LOOK_UP_SECONDS", 0.2)
        use_endpoint(silent_server)
        started = time.monotonic()
        for load in LOADERS.values():
            with pytest.raises((OSError, InputError), match="the Hub cannot be reached"):
                load(REPO)
        shutil.copytree(adapters / "saved", tmp_path / "saved")
        rename_base(tmp_path / "saved", "org/base")
        with pytest.raises(
            OSError, match="the base model 'org/base' of these adapters is not here: .* cannot be reached"
        ):
            load_adapted(tmp_path / "saved")
        # All of them have waited once.
        assert time.monotonic() - started < 3

    @pytest.mark.slow
    def test_no_answer_in_full(self, hub, use_endpoint, silent_server):
        for load in LOADERS.values():
            use_endpoint(silent_server)
            started = time.monotonic()
            with pytest.raises((OSError, InputError), match="the Hub cannot be reached"):
                load(REPO)
            assert time.monotonic() - started < 10

    def test_an_address_that_nobody_knows(self, hub, use_endpoint, monkeypatch):
        """The look-up of a name has no time limit of its own."""
        monkeypatch.setattr(hub_access, "ANSWER_SECONDS", 0.2)
        monkeypatch.setattr(hub_access, "LOOK_UP_SECONDS", 0.2)
        asked = threading.Event()

        def look_up(*args, **kwargs):
            asked.set()
            time.sleep(2)
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        use_endpoint("http://hub.invalid")
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        started = time.monotonic()
        with pytest.raises(OSError, match=r"the Hub cannot be reached \(http://hub.invalid"):
            load_adapted(REPO)
        assert asked.is_set()
        assert time.monotonic() - started < 1.5

    @pytest.mark.parametrize("loader", LOADERS)
    def test_a_hub_that_fails(self, hub, loader, monkeypatch):
        monkeypatch.setattr(hub_access, "WAITS", (0.01, 0.01))
        for method in ("GET", "HEAD"):
            hub.fail(method, ".*", status=503, times=1000)
        with pytest.raises((OSError, InputError), match=f"the Hub cannot be reached \\({hub.address} answers 503\\)"):
            LOADERS[loader](REPO)
        assert len(hub.requests) == 3

    def test_a_failure_that_passes(self, hub, monkeypatch):
        monkeypatch.setattr(hub_access, "WAITS", (0.01, 0.01))
        push_all()
        hub.fail("GET", "/api/models/", status=503, times=2)
        load_checkpoint(REPO)

    def test_what_is_cached_is_used(self, hub, use_endpoint, no_server):
        push_all("org/base")
        base = SsambaForAudioClassification.from_pretrained("org/base")
        import peft

        push_adapted(peft.get_peft_model(base, adapter_config(base, r=2)), REPO)
        load_checkpoint(REPO, "audio-classification")
        load_checkpoint("org/base")
        use_endpoint(no_server)
        load_checkpoint(REPO, "audio-classification")
        load_checkpoint("org/base")
        assert load_adapted(REPO).config.num_labels == 3

    def test_data(self, hub, use_endpoint, no_server):
        use_endpoint(no_server)
        started = time.monotonic()
        with pytest.raises(InputError, match="org/clips: the Hub cannot be reached .*, and there is no such folder"):
            load_source("org/clips")
        assert time.monotonic() - started < 2

    def test_pushes(self, hub, use_endpoint, no_server, tmp_path):
        use_endpoint(no_server)
        started = time.monotonic()
        with pytest.raises(InputError, match=f"the folder could not be pushed to {REPO}: the Hub cannot be reached"):
            push_folder(tmp_path, REPO, "Upload", "the folder")
        assert time.monotonic() - started < 2


class TestRefusals:
    """`load_adapted` says by an `OSError` what it could not find; other loaders by an `InputError`."""

    @pytest.mark.parametrize("loader", LOADERS)
    def test_no_such_repository(self, hub, loader):
        with pytest.raises(
            (OSError, InputError), match="it is no folder here, and no repository on the Hub that can be read"
        ):
            LOADERS[loader]("org/none")
        assert hub.count("HEAD", ".*") == 0

    def test_private(self, hub, monkeypatch):
        push_all(private=True)
        monkeypatch.delenv("HF_TOKEN")
        for token in (False, "hf_of_bob"):
            with pytest.raises(
                OSError, match=r"no repository on the Hub that can be read \(one that is private needs a token\)"
            ):
                load_adapted(REPO, token=token)
        with pytest.raises(OSError, match="the Hub refuses it: .*401"):
            load_adapted(REPO, token="hf_revoked")

    def test_revision(self, hub):
        push_all()
        with pytest.raises(OSError, match="the Hub has no revision 'v2' of it"):
            load_adapted(REPO, revision="v2")
        with pytest.raises(InputError, match="the Hub has no revision 'v2' of it"):
            load_checkpoint(REPO, revision="v2")

    def test_no_adapters(self, hub, tmp_path):
        push_all()
        for name in (REPO, tmp_path):
            with pytest.raises(
                OSError, match=r"cannot be loaded: it holds no adapters \(adapter_config.json is missing\)"
            ):
                load_adapted(name)

    def test_no_weights(self, adapters, tmp_path):
        shutil.copytree(adapters / "saved", tmp_path / "saved")
        (tmp_path / "saved" / "adapter_model.safetensors").unlink()
        with pytest.raises(OSError, match=r"it has no weights of adapters \(adapter_model.safetensors is missing\)"):
            load_adapted(tmp_path / "saved")

    def test_gated(self, hub):
        """Everybody may ask for such a repository, but not for its files."""
        push_all()
        answer = hub_access._put

        def refuse(*args):
            raise huggingface_hub.errors.GatedRepoError("403", response=hub_response(403))

        assert "gated" in str(answer(refuse, REPO, None, "https://hub"))

    def test_base_of_adapters(self, hub, adapters, tmp_path):
        shutil.copytree(adapters / "saved", tmp_path / "saved")
        rename_base(tmp_path / "saved", "org/base")
        with pytest.raises(
            OSError, match="the base model 'org/base' of these adapters is not here: .* no repository on the Hub"
        ):
            load_adapted(tmp_path / "saved")


def hub_response(status: int):
    import httpx2

    return httpx2.Response(status, request=httpx2.Request("GET", "https://hub"))
