"""Steps on partitioned Parquet give the same however the work is shared out, and a queue takes as long as it is."""

import os
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reclab import data, scale
from reclab.errors import ReclabError


def interactions(n_users=40, n_items=30, seed=0):
    rng = np.random.default_rng(seed)
    rows = [(f"u{user}", f"i{item}") for user in range(n_users) for item in rng.permutation(n_items)[:12]]
    log = pd.DataFrame(rows, columns=["user_id", "item_id"])
    seconds = rng.integers(5, size=len(log))  # so few that many interactions share theirs
    return log.assign(timestamp=pd.to_datetime(seconds, unit="s", utc=True), positive=rng.random(len(log)) < 0.6)


def write_vectors(folder, n_items=30):
    folder.mkdir()
    vectors = np.random.default_rng(1).normal(size=(n_items, 8)).astype(np.float32)
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(n_items)], "vector": list(vectors)})
    items.iloc[::2].to_parquet(folder / "part-000.parquet")
    items.iloc[1::2].to_parquet(folder / "part-001.parquet")
    return dict(zip(items["item_id"], vectors, strict=True))


def run(folder, log, parts, k=5):
    kept = data.to_parquet([log], folder / "raw", parts=parts)
    made = [scale.construct(part, folder / "log") for part in kept.parts]
    scored = [scale.score(part, folder.parent / "vectors", folder / "lists", k) for part in (folder / "log").glob("*")]
    lists = pd.read_parquet(folder / "lists").set_index("user_id")["items"].map(list).sort_index()
    return pd.DataFrame(made).sum().to_dict(), pd.DataFrame(scored).sum().to_dict(), lists


def test_parts_do_not_change_what_comes_out(tmp_path):
    write_vectors(tmp_path / "vectors")
    log = interactions()
    one, many = run(tmp_path / "one", log, 1), run(tmp_path / "many", log.sample(frac=1, random_state=1), 7)
    assert one[0] == many[0] == {"rows": 480, "users": 40, "held_out": 40}
    assert one[1] == many[1]
    assert one[2].equals(many[2])


def test_one_interaction_of_each_user_is_held_out_and_it_is_a_latest_one(tmp_path):
    log = interactions()
    once = log.head(1).assign(user_id="once")
    log = pd.concat([log, once])
    (part,) = data.to_parquet([log], tmp_path / "raw", parts=1).parts
    assert scale.construct(part, tmp_path / "log") == {"rows": 481, "users": 41, "held_out": 40}
    kept = pd.read_parquet(tmp_path / "log" / part.name)
    latest = kept.groupby("user_id")["timestamp"].transform("max")
    assert (kept["timestamp"] == latest)[kept["held_out"]].all()
    assert kept.groupby("user_id")["held_out"].sum().drop("once").eq(1).all()
    assert not kept.loc[kept["user_id"] == "once", "held_out"].any()


def test_scores_are_products_with_the_mean_of_what_was_liked(tmp_path):
    vectors, log = write_vectors(tmp_path / "vectors"), interactions(n_users=15)
    made, scored, lists = run(tmp_path / "run", log, 3)
    kept = pd.read_parquet(tmp_path / "run" / "log")
    hits = 0
    for user, found in lists.items():
        mine = kept[kept["user_id"] == user]
        known, (wanted,) = mine[~mine["held_out"]], mine.loc[mine["held_out"], "item_id"]
        taste = np.mean([vectors[item] for item in known.loc[known["positive"], "item_id"]], axis=0)
        new = [item for item in vectors if item not in set(known["item_id"])]
        expected = sorted(new, key=lambda item: -float(vectors[item] @ taste))[:5]
        assert found == expected
        hits += wanted in expected
    assert scored == {"users": len(lists), "hits": hits} and hits > 0
    assert made["users"] == 15


def test_places_without_an_item_have_no_name(tmp_path):
    write_vectors(tmp_path / "vectors", n_items=13)
    *_, lists = run(tmp_path / "run", interactions(n_users=4, n_items=13), 1)  # of 13 items 11 are known, two are new
    assert {tuple(item is None for item in found) for found in lists} == {(False, False, True, True, True)}


def test_a_step_that_is_stopped_leaves_no_part(tmp_path, monkeypatch):
    (part,) = data.to_parquet([interactions()], tmp_path / "raw", parts=1).parts

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_bytes", full)
        with pytest.raises(ReclabError, match="disk is full"):
            scale.construct(part, tmp_path / "log")
    assert not list((tmp_path / "log").glob("*.parquet"))
    scale.construct(part, tmp_path / "log")
    assert [path.name for path in (tmp_path / "log").glob("*.parquet")] == [part.name]


def test_encoding_in_parts_is_encoding_at_once(tmp_path, monkeypatch):
    from reclab import text

    monkeypatch.setattr(text, "encode", lambda texts, model: np.array([[len(t), t.count("a")] for t in texts], float))
    items = pd.DataFrame({"item_id": list("xyz"), "text": ["a cat", "", "banana"]})
    items.to_parquet(tmp_path / "part-000.parquet")
    assert scale.encode(tmp_path / "part-000.parquet", tmp_path / "out") == 3
    kept = pd.read_parquet(tmp_path / "out" / "part-000.parquet")
    assert kept["item_id"].tolist() == list("xyz")
    assert np.stack(kept["vector"]).tolist() == [[5, 2], [0, 0], [6, 3]]


def die_once(number, grave):
    if number == 2 and not os.path.exists(grave):
        open(grave, "w").close()
        os._exit(1)
    return number**2, os.environ["WHO"]


def test_a_worker_that_dies_loses_nothing(tmp_path, capfd):
    before = dict(os.environ)
    with scale.workers(3, WHO="me") as client:  # however many processors there are
        grave = str(tmp_path / "grave")
        assert len(set(client.run(os.getpid).values()) - {os.getpid()}) == 3
        found = client.gather(client.map(die_once, range(5), grave=grave))
        assert os.path.exists(grave)
        assert found == [(n**2, "me") for n in range(5)]
        with scale.workers(address=client.scheduler.address) as again:
            assert again.submit(die_once, 3, grave).result() == (9, "me")
        assert client.submit(die_once, 4, grave).result() == (16, "me")  # the guest closed its own client only
        with warnings.catch_warnings(action="error"), scale.workers(1) as other:  # a second cluster beside it
            assert other.submit(abs, -1).result() == 1
    assert capfd.readouterr().err == ""
    assert dict(os.environ) == before  # else whatever is started later would have one thread, and another allocator


def test_latency_is_the_length_of_the_queue():
    """By a clock that counts answers, so that it is the same on a busy machine."""
    answered = []

    def answer(request):
        time.sleep(0.02)  # whoever was answered asks again in the meantime
        answered.append(request)

    alone = scale.latencies(answer, ["x"] * 8, clock=lambda: len(answered))
    queued = scale.latencies(answer, ["x"] * 24, clients=4, clock=lambda: len(answered))
    assert alone.tolist() == [1] * 8
    assert queued.shape == (24,) and np.median(queued) == 4


def test_requests_are_answered_one_at_a_time_and_all_of_them():
    running, most, asked = 0, 0, []
    lock = threading.Lock()

    def answer(request):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            asked.append(request)
        time.sleep(0.001)
        with lock:
            running -= 1

    scale.latencies(answer, [str(n) for n in range(20)], clients=5)
    assert most == 1 and sorted(asked, key=int) == [str(n) for n in range(20)]


def test_more_clients_than_requests_are_refused():
    for clients in (0, 3):
        with pytest.raises(ValueError, match=r"clients must be in 1\.\.2"):
            scale.latencies(len, ["a", "b"], clients)
