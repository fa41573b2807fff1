"""A download that was killed goes on where it stopped, and it goes on beside the rows: what fails first ends both."""

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster import binaries
from support.counting_proxy import CountingProxy
from support.hub_mirror import HubMirror
from support.object_store import ObjectStore
from support.prepare_runs import read_outcome, read_result, run_prepare, start_prepare, write_job, write_rows
from support.s3_server import s3_server
from support.tiny_models import build_model

HELD = 25_000_000  # bytes that are passed on before a download is held back
URI = "hf://acme/large"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights are a few of the pieces in which files are fetched."""
    folder = build_model(tmp_path_factory.mktemp("models") / "large", vocab_size=512, hidden_size=512, layers=5)
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat([weights[name], torch.zeros(11_488, 512)])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 12_000}))
    assert (folder / "model.safetensors").stat().st_size > 50_000_000
    return folder


@pytest.fixture
def mirror(tmp_path: Path, large: Path) -> Iterator[HubMirror]:
    shutil.copytree(large, tmp_path / "hub" / "acme" / "large")
    with HubMirror(tmp_path / "hub").serving() as mirror:
        yield mirror


@pytest.fixture
def proxy(mirror: HubMirror) -> Iterator[CountingProxy]:
    with CountingProxy(urlsplit(mirror.endpoint).port or 0).serving() as proxy:
        yield proxy


@pytest.fixture
def env(tmp_path: Path, proxy: CountingProxy) -> dict[str, str]:
    return {"HF_ENDPOINT": f"http://127.0.0.1:{proxy.port}", "HF_HOME": str(tmp_path / "hf-home")}


def kill_when_held(work: Path, proxy: CountingProxy, env: dict[str, str]) -> int:
    """Start the stage, kill it in the middle of its largest download, and return how much of that has come."""

    def largest() -> int:
        return max([path.stat().st_size for path in (work / "prepare").rglob("*.part")], default=0)

    proxy.hold_after = proxy.sent + HELD
    with start_prepare(work, env) as process:
        assert proxy.held.wait(300), process.poll()
        deadline = time.monotonic() + 300
        while largest() < 8 << 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    proxy.release()
    return largest()


def assert_goes_on(work: Path, proxy: CountingProxy, env: dict[str, str], size: int) -> None:
    """Kill the stage while it fetches, and see that only the rest is sent when it is run again."""
    come = kill_when_held(work, proxy, env)
    assert come >= 8 << 20
    before = proxy.sent
    code, errors = run_prepare(work, env)
    assert code == 0, errors
    assert proxy.sent - before < size - come + 2_000_000
    assert not [path for path in (work / "prepare").rglob(".*") if "part" in path.name]


def test_a_model_of_the_hub(tmp_path: Path, proxy: CountingProxy, env: dict[str, str], large: Path) -> None:
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), {"uri": URI})
    size = (large / "model.safetensors").stat().st_size
    assert_goes_on(work, proxy, env, size)
    fetched = work / "prepare" / "model"
    assert sorted(path.name for path in fetched.iterdir()) == sorted(path.name for path in large.iterdir())
    assert (fetched / "model.safetensors").read_bytes() == (large / "model.safetensors").read_bytes()


def test_a_model_of_an_object_store(tmp_path: Path, large: Path) -> None:
    if not binaries.object_store().exists():
        pytest.skip("the object store is not built: make test-kubernetes")
    with s3_server(tmp_path / "store", "127.0.0.1") as store:
        shutil.copytree(large, store.folder / "models" / "large")
        with CountingProxy(urlsplit(store.variables["AWS_ENDPOINT_URL"]).port or 0).serving() as proxy:
            env = {**store.variables, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
            rows = write_rows(tmp_path / "rows.jsonl")
            work = write_job(tmp_path / "work", rows, {"uri": "s3://bucket/models/large"})
            assert_goes_on(work, proxy, env, sum(path.stat().st_size for path in large.iterdir()))
    fetched = work / "prepare" / "model" / "model.safetensors"
    assert fetched.read_bytes() == (large / "model.safetensors").read_bytes()


def test_a_data_file(tmp_path: Path, object_store: ObjectStore) -> None:
    rows = "no JSON\n" + "a b c d\n" * 5_000_000
    object_store.objects["data/rows.jsonl"] = rows.encode()
    with CountingProxy(urlsplit(object_store.endpoint).port or 0).serving() as proxy:
        work = write_job(tmp_path / "work", f"http://127.0.0.1:{proxy.port}/data/rows.jsonl")
        come = kill_when_held(work, proxy, {})
        before = proxy.sent
        code, errors = run_prepare(work)
        assert code == 11, errors  # the file has come whole, and its first row is refused
        assert "rows.jsonl:1: broken JSON" in read_outcome(work)["message"]
        assert proxy.sent - before < len(rows) - come + 1_000_000


def test_bad_rows_do_not_wait_for_the_weights(tmp_path: Path, proxy: CountingProxy, env: dict[str, str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 300)
    with rows.open("a") as file:
        file.write('{"prompt": "no answer"}\n')
    proxy.hold_after = 1_000_000  # and never released
    work = write_job(tmp_path / "work", rows, {"uri": URI})
    code, errors = run_prepare(work, env)
    assert code == 11, errors
    assert "rows.jsonl:301: completion is missing" in read_outcome(work)["message"]
    assert not list((work / "prepare").rglob("model.safetensors"))


def test_bad_weights_end_the_work_on_the_rows(
    tmp_path: Path, mirror: HubMirror, env: dict[str, str], large: Path
) -> None:
    path = mirror.folder / "acme" / "large" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl", 5_000), {"uri": URI})
    code, errors = run_prepare(work, env)
    assert code == 13, errors
    assert f"{URI}: 1 tensors hold values that no model can be trained from" in read_outcome(work)["message"]
    assert not (work / "prepare" / "model").exists()


def test_a_configuration_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, mirror: HubMirror, env: dict[str, str]
) -> None:
    path = mirror.folder / "acme" / "large" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["BertModel"]}))
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), {"uri": URI})
    code, errors = run_prepare(work, env)
    assert code == 13, errors
    assert "BertModel is not supported" in read_outcome(work)["message"]
    assert not [request for request in mirror.requests if request.endswith("model.safetensors")]


def test_progress_says_what_is_done_to_both(tmp_path: Path, proxy: CountingProxy, env: dict[str, str]) -> None:
    proxy.hold_after = HELD
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), {"uri": URI})
    details: list[str] = []
    expected = rf"^waiting for {URI} \d+ seconds, fetching weights 2\d\.\d MB of 6\d\.\d MB$"
    with start_prepare(work, env) as process:
        deadline = time.monotonic() + 300
        while not (details and re.search(expected, details[-1])) and time.monotonic() < deadline:
            time.sleep(0.05)
            if (work / "progress.json").exists():
                details.append(json.loads((work / "progress.json").read_text())["detail"])
        proxy.release()
        process.communicate()
    assert process.returncode == 0
    assert read_result(work)["model"]["path"] == "prepare/model"
    assert re.search(expected, details[-1]), details
