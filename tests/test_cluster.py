"""Work on Ray: addresses where nobody answers, and errors that come home as themselves."""

import os
import signal
import socket
from pathlib import Path

import pytest

from pockethdr.cluster import LOCAL, ClusterError, on_ray
from pockethdr.errors import PocketError, Unavailable

pytest.importorskip("ray", reason="Ray is not installed: pip install 'pockethdr[scale]'")


def unused_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1"])
def test_an_address_where_nothing_answers(address: str) -> None:
    where = address if address == "nowhere" else f"{address}:{unused_port()}"
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at {where}") as caught:
        list(on_ray(lambda job, folder: None, None, [Path("a")], address=where))
    assert "ray start --head" in caught.value.fix


def test_errors_and_relative_folders_come_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)

    def work(job: str, folder: Path) -> str:
        if not folder.is_dir():
            raise Unavailable(f"{folder} needs {job}", install=f"pip install {job}")
        return str(folder.resolve())

    folders = [Path("there"), Path("nowhere")]
    found = {}
    results = on_ray(work, "rawpy", folders, address=LOCAL, threads=1000)
    with pytest.raises(Unavailable, match="nowhere needs rawpy") as caught:
        found.update(results)
    assert found in ({}, {Path("there"): str(tmp_path / "there")})
    assert caught.value.install == "pip install rawpy"
    assert isinstance(caught.value, PocketError)


def test_a_task_that_kills_every_worker_ends(tmp_path: Path) -> None:
    def work(job: None, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ClusterError, match="deadly: its workers died of it"):
        list(on_ray(work, None, [Path("deadly")], address=LOCAL))


def test_local_is_local_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{unused_port()}")
    found = on_ray(lambda job, folder: job, "done", [Path("a")], address=LOCAL)
    assert list(found) == [(Path("a"), "done")]


def test_a_session_that_is_open_is_used_and_left_open() -> None:
    import ray

    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        found = on_ray(lambda job, folder: job, "done", [Path("a")], address=LOCAL)
        assert list(found) == [(Path("a"), "done")]
        assert ray.is_initialized()
        elsewhere = f"127.0.0.1:{unused_port()}"
        with pytest.raises(ClusterError, match=f"is open, not of {elsewhere}"):
            list(on_ray(lambda job, folder: job, None, [Path("a")], address=elsewhere))
    finally:
        ray.shutdown()
