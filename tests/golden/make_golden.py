"""Golden values of popularity, item-kNN, user-kNN, EASE and ALS on ML-100K, made without reclab.

Environment (its libraries pin an older pandas, so it is one of its own)::

    python3.11 -m venv golden-env
    golden-env/bin/python -m pip install lenskit==2025.8.1 "pandas<3" implicit==0.7.3 cornac==3.0.1 \\
        ranx==0.3.21
    golden-env/bin/python tests/golden/make_golden.py PATH/TO/ml-100k.inter

``reclab data fetch movielens-100k`` puts the file into the cache and says where. Only sums over all users are
written, since ML-100K may not be passed on.

Who computes what, all in double precision:

- Popularity: LensKit's ``PopScorer(score="count")`` (its float32 counts are whole numbers, so exact).
- Item-kNN: the cosine similarities of implicit's ``CosineRecommender`` with every item as neighbour. Which of
  two equally near neighbours implicit keeps is not documented, so the cut to k is made here, by the rule that
  reclab documents: similarities rounded to 12 decimals, the lower index first (``Series.nlargest``).
  LensKit's ``ItemKNNScorer`` is not used: it computes in float32, and it cuts to the k nearest among a user's
  own items instead of the k nearest of all. No shrinkage, and sums are not normalised.
- User-kNN: the same similarities of implicit's, of the users; a neighbour with the very same items is left out,
  as reclab documents.
- ALS: implicit's ``AlternatingLeastSquares``, solved exactly, from the same item vectors to begin with; the users'
  vectors are computed from the final items (``recalculate_user``).
- EASE: Cornac's ``EASE``. LensKit's ``EASEScorer`` computes in float32; how closely it agrees is written too.
- NDCG@10 and recall@10 of these, and five metrics on generated lists: ranx.

Split: a user's last rating >= 4 by time is the test item (equal times: the later line of the file), if the
user has another one; the other ratings >= 4 are the training positives. The whole catalogue is ranked, less
all else that the user rated. Scores are rounded to 9 decimals before ranking, so that items that tie in exact
arithmetic tie in every library, and ties go to the lower item index.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from cornac.data import Dataset as CornacDataset
from cornac.models import EASE
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from lenskit.basic import PopScorer
from lenskit.data import from_interactions_df
from lenskit.knn.ease import EASEScorer
from ranx import Qrels, Run, evaluate
from scipy import sparse

K, NEIGHBOURS, L2 = 10, 50, 100.0
FACTORS, ALS_L2, WEIGHT, EPOCHS = 16, 20.0, 5.0, 6


def split(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boolean (users, items): training positives, test items, and all that was rated but the test item."""
    table = pd.read_csv(path, sep="\t", names=["user", "item", "rating", "time"], skiprows=1)
    users, items = sorted(table["user"].unique()), sorted(table["item"].unique())
    train, test, rated = (np.zeros((len(users), len(items)), dtype=bool) for _ in range(3))
    for row, user in enumerate(users):
        own = table[table["user"] == user]
        columns = np.searchsorted(items, own["item"])
        liked = np.flatnonzero(own["rating"] >= 4)
        liked = liked[np.argsort(own["time"].to_numpy()[liked], kind="stable")]
        rated[row, columns] = True
        train[row, columns[liked]] = True
        if len(liked) > 1:
            last = columns[liked[-1]]
            rated[row, last], train[row, last], test[row, last] = False, False, True
    return train, test, rated


def popularity(train: np.ndarray) -> np.ndarray:
    model = PopScorer(score="count")
    model.train(_lenskit(train))
    counts = np.zeros(train.shape[1])
    counts[model.items_.ids().astype(int)] = model.item_scores_
    return np.tile(counts, (len(train), 1))


def item_knn(train: np.ndarray) -> np.ndarray:
    model = CosineRecommender(K=train.shape[1], num_threads=1)
    model.fit(sparse.csr_matrix(train.astype(float)), show_progress=False)
    scores = np.empty(train.shape)
    for item, row in enumerate(model.similarity.toarray()):
        others = pd.Series(row).drop(item).round(12)
        nearest = others.nlargest(NEIGHBOURS, keep="first").index
        scores[:, item] = train[:, nearest] @ row[nearest]
    return scores


def user_knn(train: np.ndarray) -> np.ndarray:
    model = CosineRecommender(K=len(train), num_threads=1)
    model.fit(sparse.csr_matrix(train.T.astype(float)), show_progress=False)
    scores = np.empty(train.shape)
    for user, row in enumerate(model.similarity.toarray()):
        others = pd.Series(row)[(train != train[user]).any(axis=1)].round(12)
        nearest = others.nlargest(NEIGHBOURS, keep="first").index
        scores[user] = row[nearest] @ train[nearest]
    return scores


def als(train: np.ndarray) -> np.ndarray:
    likes = sparse.csr_matrix(train.astype(float))
    options = {"factors": FACTORS, "regularization": ALS_L2, "alpha": WEIGHT, "iterations": EPOCHS}
    model = AlternatingLeastSquares(**options, dtype=np.float64, use_cg=False, num_threads=1)
    start = np.random.default_rng(0).standard_normal((train.shape[1], FACTORS))
    model.item_factors = 0.1 * start / np.sqrt(FACTORS)
    model.user_factors = np.zeros((len(train), FACTORS))
    model.fit(likes, show_progress=False)
    return model.recalculate_user(np.arange(len(train)), likes) @ model.item_factors.T


def ease(train: np.ndarray) -> np.ndarray:
    users, columns = np.nonzero(train)
    names = zip(users.tolist(), columns.tolist(), np.ones(len(users)), strict=True)
    data = CornacDataset.from_uir(names, seed=0)
    model = EASE(lamb=L2, posB=False, verbose=False).fit(data)
    scores = np.zeros(train.shape)
    order = np.array([data.iid_map[item] for item in np.flatnonzero(train.any(axis=0))])
    for user, index in data.uid_map.items():
        scores[user, train.any(axis=0)] = np.ravel(model.score(index))[order]
    return scores


def lenskit_ease(train: np.ndarray) -> np.ndarray:
    model = EASEScorer(regularization=L2)
    model.train(_lenskit(train))
    scores = np.zeros(train.shape)
    columns = model.items.ids().astype(int)
    scores[:, columns] = train[:, columns].astype(float) @ model.weights
    return scores


def _lenskit(train: np.ndarray):
    users, items = np.nonzero(train)
    return from_interactions_df(pd.DataFrame({"user_id": users, "item_id": items}))


def measure(scores: np.ndarray, test: np.ndarray, rated: np.ndarray) -> dict[str, float]:
    qrels, run = {}, {}
    ranked = np.where(rated, -np.inf, scores.round(9))
    for user in np.flatnonzero(test.any(axis=1)):
        best = np.lexsort((np.arange(test.shape[1]), -ranked[user]))[:K]
        run[f"u{user}"] = {f"i{item}": float(K - place) for place, item in enumerate(best)}
        qrels[f"u{user}"] = {f"i{item}": 1 for item in np.flatnonzero(test[user])}
    found = evaluate(Qrels(qrels), Run(run), [f"ndcg@{K}", f"recall@{K}"])
    return {"ndcg_at_10": float(found[f"ndcg@{K}"]), "recall_at_10": float(found[f"recall@{K}"])}


def generated(n_users: int = 200, n_items: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Random lists of 10, a tenth of the places at their ends empty (-1), and a few relevant items a user."""
    rng = np.random.default_rng(7)
    lists = rng.random((n_users, n_items)).argsort(axis=1)[:, :K]
    lists[np.arange(K) >= K - (rng.random((n_users, 1)) * 3).astype(int)] = -1
    relevant = rng.random((n_users, n_items)) < rng.random((n_users, 1)) * 0.3
    relevant[:, 0] |= ~relevant.any(axis=1)
    return lists, relevant


def ranx_metrics() -> dict[str, float]:
    lists, relevant = generated()
    run, qrels = {}, {}
    for user, (row, wanted) in enumerate(zip(lists, relevant, strict=True)):
        run[f"u{user}"] = {f"i{item}": float(K - place) for place, item in enumerate(row) if item >= 0}
        qrels[f"u{user}"] = {f"i{item}": 1 for item in np.flatnonzero(wanted)}
    names = ["ndcg", "recall", "precision", "mrr", "hit_rate"]
    found = evaluate(Qrels(qrels), Run(run), [f"{name}@{K}" for name in names])
    return {name: float(found[f"{name}@{K}"]) for name in names}


def checksums(scores: np.ndarray) -> dict:
    """Sums over the whole matrix; the weights are positive, so that nothing cancels by chance."""
    rng = np.random.default_rng(2024)
    projections = [float(rng.random(scores.shape[0]) @ scores @ rng.random(scores.shape[1])) for _ in range(4)]
    return {
        "sum": float(scores.sum()),
        "sum_of_squares": float((scores**2).sum()),
        "projections": projections,
    }


def main(path: Path) -> None:
    train, test, rated = split(path)
    systems = {"popularity": popularity(train), "item_knn": item_knn(train), "user_knn": user_knn(train)}
    systems |= {"ease": ease(train), "als": als(train)}
    difference = np.abs(systems["ease"] - lenskit_ease(train)).max()
    golden = {
        "settings": {"k": K, "neighbours": NEIGHBOURS, "l2": L2},
        "als": {"factors": FACTORS, "l2": ALS_L2, "weight": WEIGHT, "epochs": EPOCHS},
        "data": {"users": len(train), "items": train.shape[1], "test_users": int(test.any(axis=1).sum())},
        "versions": {name: version(name) for name in ("lenskit", "implicit", "cornac", "ranx", "numpy", "scipy")},
        "generated_lists": ranx_metrics(),
        "lenskit_ease_float32_max_difference": float(difference),
        "systems": {name: measure(s, test, rated) | checksums(s) for name, s in systems.items()},
    }
    target = Path(__file__).with_name("golden.json")
    target.write_text(json.dumps(golden, indent=2) + "\n", encoding="utf-8")
    print(target.read_text("utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
