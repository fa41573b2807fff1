"""The store: newest wins, what is gone stays gone, children are found by their owner."""

from typing import Any

from tunesmith_operator.engine.labels import OWNER_KIND, OWNER_NAME, OWNER_UID
from tunesmith_operator.engine.watch.cache import CompressedCache, Key, owner_of
from tunesmith_operator.engine.watch.store import ObjectStore

Object = dict[str, Any]


def make(name: str, version: int, uid: str = "", kind: str = "Job", owner: str = "", namespace: str = "ns") -> Object:
    labels = {OWNER_UID: owner, OWNER_KIND: "FineTuneJob", OWNER_NAME: "o"} if owner else {}
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"{name}-uid", "resourceVersion": str(version)}
    return {"kind": kind, "metadata": {**metadata, "labels": labels}}


def test_an_older_event_does_not_replace_a_newer_answer() -> None:
    store = ObjectStore()
    assert store.put(make("a", 9))
    assert not store.put(make("a", 9))
    assert not store.put(make("a", 10 - 2))
    assert store.put(make("a", 10))
    assert store.get("Job", "ns", "a")["metadata"]["resourceVersion"] == "10"  # type: ignore[index]


def test_what_was_deleted_does_not_come_back() -> None:
    store = ObjectStore()
    store.put(make("a", 5))
    assert store.remove(make("a", 7))
    assert not store.put(make("a", 6))  # An answer to a write that was on its way.
    assert store.get("Job", "ns", "a") is None
    assert store.put(make("a", 8, uid="another"))


def test_what_lost_its_label_and_has_it_again_comes_back() -> None:
    store = ObjectStore()
    store.put(make("a", 5, owner="o1"))
    assert store.remove(make("a", 7))  # A watch by label tells this as a deletion.
    assert store.put(make("a", 8, owner="o1"))
    assert [item["metadata"]["name"] for item in store.owned("Job", "o1")] == ["a"]
    store.retain("Job", None, set(), list_version=20)
    assert not store.put(make("a", 20, owner="o1"))
    assert store.put(make("a", 21, owner="o1"))


def test_a_former_owner_hears_that_a_child_left_it() -> None:
    store, heard = ObjectStore(), []
    store.put(make("a", 1, owner="o1"))
    store.listener = lambda obj: heard.append(owner_of(obj))
    store.put(make("a", 2))
    assert heard == [None, Key("FineTuneJob", "ns", "o")]


def test_the_late_deletion_of_a_predecessor_leaves_the_successor() -> None:
    store = ObjectStore()
    store.put(make("a", 5, uid="first", owner="o1"))
    store.put(make("a", 8, uid="second", owner="o2"))
    assert not store.remove(make("a", 7, uid="first"))
    assert store.get("Job", "ns", "a") is not None
    assert store.owned("Job", "o1") == []
    assert [item["metadata"]["uid"] for item in store.owned("Job", "o2")] == ["second"]


def test_children_by_owner_and_name() -> None:
    store = ObjectStore()
    for name in ("b", "a"):
        store.put(make(name, 1, owner="o1"))
    store.put(make("c", 1, owner="o2"))
    store.put(make("p", 1, kind="Pod", owner="o1"))
    assert [item["metadata"]["name"] for item in store.owned("Job", "o1")] == ["a", "b"]
    store.put(make("a", 2, owner=""))  # Its labels were taken away.
    assert [item["metadata"]["name"] for item in store.owned("Job", "o1")] == ["b"]
    store.remove(make("b", 3))
    assert store.owned("Job", "o1") == []


def test_a_list_takes_out_what_it_does_not_hold_but_nothing_newer() -> None:
    store = ObjectStore()
    store.put(make("kept", 1))
    store.put(make("gone", 2))
    store.put(make("new", 30))
    store.put(make("elsewhere", 2, namespace="other"))
    store.retain("Job", "ns", {"kept-uid"}, list_version=20)
    assert sorted(key.name for key in store.keys("Job")) == ["elsewhere", "kept", "new"]
    store.retain("Job", None, {"kept-uid", "new-uid"}, list_version=40)
    assert sorted(key.name for key in store.keys("Job")) == ["kept", "new"]


def test_the_listener_hears_of_changes_only() -> None:
    store = ObjectStore()
    heard: list[str] = []
    store.listener = lambda obj: heard.append(obj["metadata"]["resourceVersion"])
    store.put(make("a", 1))
    store.put(make("a", 1))
    store.put(make("a", 3))
    store.put(make("a", 2))
    store.remove(make("a", 4))
    store.remove(make("a", 4))
    assert heard == ["1", "3", "3"]


def test_what_nobody_reads_is_dropped() -> None:
    store, obj = ObjectStore(), make("a", 1)
    obj["metadata"] |= {"managedFields": [1], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x"}}
    store.put(obj)
    held = store.get("Job", "ns", "a")
    assert held is not None
    assert "managedFields" not in held["metadata"]
    assert "annotations" not in held["metadata"]


def test_the_owner_by_labels() -> None:
    assert owner_of(make("a", 1, owner="o1")) == Key("FineTuneJob", "ns", "o")
    assert owner_of(make("a", 1)) is None
    stranger = make("a", 1, owner="o1")
    stranger["metadata"]["labels"][OWNER_KIND] = "Deployment"
    assert owner_of(stranger) is None


def test_phases() -> None:
    store = ObjectStore()
    for name, phase in (("a", "Training"), ("b", "Training"), ("c", None)):
        store.put({**make(name, 1, kind="FineTuneJob"), "status": {"phase": phase} if phase else {}})
    assert list(store.phases()) == [("FineTuneJob", "New", 1), ("FineTuneJob", "Training", 2)]


def test_children_that_are_not_in_use_are_packed_and_come_back_as_they_were() -> None:
    store = ObjectStore(CompressedCache(size=3))
    made = [{**make(f"job-{number}", number + 1, owner="o1"), "spec": {"x": number}} for number in range(10)]
    for obj in made:
        store.put(obj)
    store.put(make("o", 50, kind="FineTuneJob"))
    # An object that was packed comes back as an equal copy.
    same = [n for n in reversed(range(10)) if store.get("Job", "ns", f"job-{n}") is made[n]]
    assert same == [9, 8, 7]
    assert store.owned("Job", "o1") == made
    assert store.get("Job", "ns", "job-0") == made[0]
    assert not store.put(make("job-1", 2, owner="o1"))
    assert store.put({**make("job-1", 60, owner="o1"), "spec": {"x": 99}})
    assert [obj["spec"]["x"] for obj in store.all("Job", "ns")] == [0, 2, 3, 4, 5, 6, 7, 8, 9, 99]
    heard = []
    store.listener = lambda obj: heard.append(obj["metadata"]["name"])
    store.retain("Job", None, set(), 100)
    assert sorted(heard) == [f"job-{number}" for number in range(10)]
    assert store.owned("Job", "o1") == []
    assert store.all("Job", "ns") == []


def test_what_stands_in_for_a_new_object_gives_way_to_it_at_the_same_version() -> None:
    heard: list[Object] = []
    store = ObjectStore()
    store.listener = heard.append
    asked, whole = {**make("a", 5), "spec": {}}, {**make("a", 5), "spec": {"suspend": False}}
    assert store.put(asked, is_whole=False)
    assert not store.put(asked, is_whole=False)
    assert store.put(whole)
    assert store.get("Job", "ns", "a") == whole
    assert heard == [asked, whole]
    assert not store.put({**make("a", 5), "spec": {}}, is_whole=False)
    assert not store.put(make("a", 4))
    assert store.get("Job", "ns", "a") == whole
