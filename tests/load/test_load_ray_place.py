"""A Ray cluster played by threads: frames in their order, ends, room, and one connection for all places."""

from __future__ import annotations

import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest
from fake_ray import FakeRay
from load_support import wait_for

from pytest_agentperf.config.load_spec import parse_load_spec
from pytest_agentperf.core.errors import ConfigError, LoadError
from pytest_agentperf.load import ray_place
from pytest_agentperf.load.place import GONE
from pytest_agentperf.load.ray_place import RayPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.setattr(ray_place, "_CONNECTION", ray_place._Connection())
    serves(monkeypatch, echo)
    return found


def serves(monkeypatch: pytest.MonkeyPatch, serve: Callable[[Any], None]) -> None:
    """Let every actor's worker be `serve`."""
    worker = types.ModuleType("ray_worker")
    worker.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray_worker", worker)
    monkeypatch.setattr(ray_place, "WORKER_MODULE", "ray_worker")


def echo(channel: Any) -> None:
    """Answer a frame, then what comes by callback, until the line is closed."""
    channel.send(("first", *channel.receive(None)))
    channel.setcallback(channel.send, endmarker=("end",))
    threading.Event().wait()


def place(line: str = "2*ray://head:10001") -> RayPlace:
    return RayPlace(parse_load_spec(line, where="here"))


def listened(link: Any) -> list[Sequence[Any]]:
    frames: list[Sequence[Any]] = []
    link.listen(frames.append)
    return frames


def test_frames_go_both_ways_in_their_order(ray: FakeRay) -> None:
    cluster = place("2*ray=auto//resources=load:1//labels=role:load")
    link, other = cluster.open(range(2))
    frames, others = listened(link), listened(other)
    for i in range(500):
        link.send(("n", i))
    wait_for(lambda: len(frames) == 500)
    assert frames == [("first", "n", 0), *(("n", i) for i in range(1, 500))]
    assert others == []
    asked = {"num_cpus": 1, "resources": {"load": 1.0}, "label_selector": {"role": "load"}}
    assert asked.items() <= ray.actors[0].options.items()
    cluster.close()


def test_a_worker_that_ends_is_gone(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    serves(monkeypatch, lambda channel: channel.send(("last",)))
    (link,) = place().open([0])
    frames = listened(link)
    wait_for(lambda: GONE in frames)
    assert frames == [("last",), GONE]
    assert link.why_gone() == ""
    with pytest.raises(OSError, match="gone"):
        link.send(("beat",))


def test_a_worker_that_fails_says_why(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(channel: Any) -> None:
        raise ModuleNotFoundError("No module named 'pytest_agentperf'")

    serves(monkeypatch, serve)
    (link,) = place().open([0])
    frames = listened(link)
    wait_for(lambda: bool(frames))
    assert (frames, link.why_gone()) == ([GONE], "No module named 'pytest_agentperf'")


def test_an_actor_that_dies_is_gone_with_what_ray_says(ray: FakeRay) -> None:
    (link,) = place().open([0])
    frames = listened(link)
    ray.actors[0].die("its node died: 10.0.0.7")
    wait_for(lambda: bool(frames))
    assert (frames, link.why_gone()) == ([GONE], "its node died: 10.0.0.7")


def test_a_cluster_without_room_is_told_and_nothing_stays_there(ray: FakeRay) -> None:
    ray.cores = 1
    with pytest.raises(LoadError, match="no room for 2 of 3 load workers") as caught:
        place("3*ray=auto").open(range(3))
    assert "ray status" in (caught.value.remedy or "")
    assert [actor.dead for actor in ray.actors] == ["killed"] * 3


def test_where_fewer_will_do_those_that_start_are_taken(ray: FakeRay) -> None:
    ray.cores = 1
    cluster = place("3*ray=auto")
    (link,) = cluster.open(range(3), fewer=True)
    assert [actor.dead for actor in ray.actors] == ["", "killed", "killed"]
    frames = listened(link)
    link.send(("n",))
    wait_for(lambda: frames == [("first", "n")])
    with pytest.raises(LoadError, match="no room for 1 of 1"):
        cluster.open([3], fewer=True)


def test_closing_kills_the_actors_and_leaves_with_the_last_place(ray: FakeRay) -> None:
    one, other = place(), place()
    (link,) = one.open([0])
    other.open([0])
    frames = listened(link)
    one.close()
    one.close()
    wait_for(lambda: frames == [GONE])
    assert [actor.dead for actor in ray.actors] == ["killed", ""]
    assert (ray.joined, ray.left) == (["ray://head:10001"], 0), "the other place is in it"
    other.close()
    assert (ray.actors[1].dead, ray.left) == ("killed", 1)
    place("ray://elsewhere:10001").close()
    assert (ray.joined, ray.left) == (["ray://head:10001", "ray://elsewhere:10001"], 2)


def test_a_second_cluster_is_refused(ray: FakeRay) -> None:
    one = place()
    with pytest.raises(ConfigError, match="in another Ray cluster already: ray://head:10001") as caught:
        place("ray://elsewhere:10001")
    assert caught.value.where == "ray://elsewhere:10001"
    one.close()
    assert not ray.is_initialized()


def test_a_cluster_that_others_joined_is_used_and_not_left(ray: FakeRay) -> None:
    ray.init("somewhere")
    for line in ("ray=auto", f"ray={ray.gcs_address}"):
        place(line).close()
    assert ray.is_initialized()
    with pytest.raises(ConfigError, match=r"already: 10\.0\.0\.1:6379"):
        place("ray://head:10001")


def test_a_cluster_out_of_reach_is_told(ray: FakeRay) -> None:
    with pytest.raises(LoadError, match="cannot be joined: no head there"):
        place("ray://nowhere:1")
    place().close()
    assert ray.left == 1
