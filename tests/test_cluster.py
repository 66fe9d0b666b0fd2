"""Collecting on a real Ray cluster of two nodes on this machine: the same run as without one, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import threading

import numpy as np
import pytest

import at2_core as at2
from at2_core.fitting import FitSettings
from at2_core.learning import learn
from at2_core.runs import Request, RunFolder, Settings
from tests.test_learning import examples

SETTINGS = Settings(num_ablations=8, max_new_tokens=10, max_prompt_tokens=200)
QUICK = FitSettings(steps=60, learning_rate=1e-2, resamples=2, splits=1)


@pytest.fixture(scope="module")
def ray_cluster():
    try:
        import ray
        from ray.cluster_utils import Cluster
    except ImportError:
        if os.environ.get("AT2_REQUIRE_RAY") == "1":
            pytest.fail("AT2_REQUIRE_RAY=1, but Ray is not installed")
        pytest.skip("Ray is not installed (python -m pip install ray)")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def workers(ray_cluster, tiny_folder):
    from at2_core.cluster import workers

    return workers(
        Request(
            model=str(tiny_folder("llama")), data="", dtype="float32", cluster=ray_cluster.address, workers=2
        )
    )


@pytest.fixture(scope="module")
def local(tiny_folder, tmp_path_factory):
    lm = at2.load_model(str(tiny_folder("llama")), dtype="float32")
    folder = tmp_path_factory.mktemp("local")
    return lm, learn(lm, examples(10), folder, settings=SETTINGS, fit_settings=QUICK), RunFolder(folder)


def test_two_nodes_give_what_one_process_gives(workers, local, tmp_path):
    import ray

    lm, expected, plain = local
    found = learn(lm, examples(10), tmp_path, settings=SETTINGS, fit_settings=QUICK, source=workers)
    assert len([n for n in ray.nodes() if n["Alive"]]) == 2
    run = RunFolder(tmp_path)
    assert run.keys() == plain.keys()
    for key in run.keys():  # noqa: SIM118 (a method of ours)
        for name, array in plain.arrays(key).items():
            if name != "group":
                assert np.allclose(run.arrays(key)[name], array, atol=1e-5)
    assert np.allclose(found.theta, expected.theta, atol=1e-5)


def test_a_run_begun_alone_goes_on_in_the_cluster_and_a_death_costs_one_example(workers, local, tmp_path):
    lm = local[0]
    cancel, killed, run = threading.Event(), [], RunFolder(tmp_path)

    def stop_at_two(stage, done, total):
        if done == 2:
            cancel.set()

    def kill_one(stage, done, total):
        if stage == "collect" and done >= 4 and not killed:
            killed.append(next(e["pid"] for e in run.events() if e["event"] == "worker up"))
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(at2.Cancelled):
        learn(
            lm,
            examples(16),
            tmp_path,
            settings=SETTINGS,
            max_examples=10,
            progress=stop_at_two,
            cancel=cancel,
        )
    assert run.progress().state == "paused"
    assert len(run.keys()) == 2
    found = learn(
        lm,
        examples(16),
        tmp_path,
        settings=SETTINGS,
        fit_settings=QUICK,
        max_examples=10,
        source=workers,
        progress=kill_one,
    )
    assert killed
    assert len(run.keys()) == 10
    assert len([e for e in run.events() if e["event"] == "worker died"]) <= 1
    alone = learn(
        lm, examples(16), tmp_path / "alone", settings=SETTINGS, fit_settings=QUICK, max_examples=10
    )
    assert np.allclose(found.theta, alone.theta, atol=1e-5)


def test_a_cluster_that_is_not_there_is_a_sentence():
    pytest.importorskip("ray")
    from at2_core.cluster import _connect

    class NoRay:
        def is_initialized(self):
            return False

    with pytest.raises(at2.At2Error, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        _connect(NoRay(), "127.0.0.1:1")


def test_without_ray_there_is_a_sentence(monkeypatch):
    from at2_core.cluster import workers

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(at2.At2Error, match="pip install ray"):
        workers(Request(model="m", data="", cluster="local"))


@pytest.mark.parametrize(
    ("nodes", "request_", "expected"),
    [
        ([{"CPU": 4}, {"CPU": 16}], {}, (2, {"num_cpus": 4})),
        ([{}, {"CPU": 8}, {"CPU": 8}], {}, (2, {"num_cpus": 8})),  # a head that only conducts
        ([{"CPU": 8}], {"workers": 3}, (3, {"num_cpus": 2})),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 16}], {}, (4, {"num_cpus": 4, "num_gpus": 1})),
        ([{"CPU": 16, "GPU": 4}], {"device": "split"}, (1, {"num_cpus": 16, "num_gpus": 4})),
        ([{"CPU": 16, "GPU": 1}], {"workers": 2}, (2, {"num_cpus": 8, "num_gpus": 0.5})),
        ([{"CPU": 16, "GPU": 1}], {"device": "cpu"}, (1, {"num_cpus": 16})),
    ],
)
def test_every_worker_finds_a_place(nodes, request_, expected):
    from at2_core.cluster import _shares

    alive = [{"Alive": True, "Resources": resources} for resources in nodes]
    dead = {"Alive": False, "Resources": {"CPU": 1}}
    assert _shares([*alive, dead], Request(model="m", data="d", **request_)) == expected
