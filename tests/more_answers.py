"""Inputs, wrong answers with their hints, and other right answers of the exercises that close each notebook.

In each "break it" lab the first wrong answer is the broken code that the notebook shows.
"""

import math

import numpy as np
import pandas as pd

# --- 01


def _pairs(users, items):
    return list(zip(users.tolist(), items.tolist(), strict=True))


def _rates_by_loop(items, liked, is_test):
    train = [(i, y) for i, y, test in zip(items.tolist(), liked.tolist(), is_test.tolist(), strict=True) if not test]
    overall = sum(y for _, y in train) / len(train)
    own = {item: [y for i, y in train if i == item] for item in items.tolist()}
    return [sum(own[item]) / len(own[item]) if own[item] else overall for item in items.tolist()]


def _rates(items, liked, rows, fill):
    table = pd.DataFrame({"item": items, "liked": liked})[rows]
    return pd.Series(items).map(table.groupby("item")["liked"].mean()).fillna(fill).to_numpy()


# --- 02


def _own_tokens_by_loop(vectors, mask):
    return [
        sum(v for v, own in zip(text, row, strict=True) if own) / sum(row)
        for text, row in zip(vectors, mask, strict=True)
    ]


def _kept(scores, patience, beats=np.greater):
    """The look whose checkpoint is kept, by these scores."""
    best = 0
    for look in range(1, len(scores)):
        best = look if beats(scores[look], scores[best]) else best
        if look - best == patience:
            break
    return best


def _last_look(scores, patience):
    return min(_kept(scores, patience) + patience, len(scores) - 1)


def _reported_by_prefix(validation, test, patience):
    for looks in range(1, len(validation) + 1):
        if looks - 1 - validation[:looks].argmax() == patience:
            return test[validation[:looks].argmax()]
    return test[validation.argmax()]


# --- 05


def _rate_so_far(users, liked, first=0.5, own=0):
    seen, rates = {}, []
    for user, like in zip(users.tolist(), liked.tolist(), strict=True):
        before = seen.setdefault(user, [])
        known = before + [like] * own
        rates.append(sum(known) / len(known) if known else first)
        before.append(like)
    return rates


def _rate_of_all_earlier(users, liked):
    return [0.5 if n == 0 else float(liked[:n].mean()) for n in range(len(liked))]


# --- 10


def _holm_by_loop(p_values):
    m, largest, out = len(p_values), 0.0, [0.0] * len(p_values)
    for rank, n in enumerate(sorted(range(m), key=lambda n: p_values[n])):
        largest = max(largest, (m - rank) * p_values[n])
        out[n] = min(largest, 1.0)
    return out


def _holm_in_order(p_values):
    ordered = np.sort(p_values)
    return np.minimum(np.maximum.accumulate(ordered * np.arange(len(p_values), 0, -1)), 1)


def _holm_that_falls(p_values):
    ranks = p_values.argsort().argsort()
    return np.minimum(p_values * (len(p_values) - ranks), 1)


# --- 11


def _best_cut(scores, labels):
    cuts = np.unique(scores)
    return cuts[int(np.argmax([np.mean((scores >= cut) == labels) for cut in cuts]))]


def _accuracy(scores, labels, chosen, reported):
    return np.mean((scores[reported] >= _best_cut(scores[chosen], labels[chosen])) == labels[reported])


def _kappa_by_table(judge, human):
    n = len(judge)
    table = [[sum(1 for a, b in zip(judge, human, strict=True) if (a, b) == (i, j)) for j in (0, 1)] for i in (0, 1)]
    agreed = (table[0][0] + table[1][1]) / n
    chance = sum(sum(table[k]) * (table[0][k] + table[1][k]) for k in (0, 1)) / n**2
    return (agreed - chance) / (1 - chance)


# --- 12


def _group_means(values, groups):
    return [values[groups == group].mean() for group in np.unique(groups)]


def _pairs_won(a, b):
    return np.mean((a[:, None] < b) + 0.5 * (a[:, None] == b))


def _best_of_guesses(member_loss, other_loss):
    cut = np.median(np.concatenate([member_loss, other_loss]))
    right = max(np.mean(member_loss < cut), 1 - np.mean(member_loss < cut))
    return max(right, np.mean(other_loss >= cut))


# --- 03, 04


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _standard(x, axis):
    return (x - x.mean(axis=axis, keepdims=True)) / x.std(axis=axis, keepdims=True)


def _words_by_loop(pieces, values):
    words = []
    for piece, value in zip(pieces.tolist(), values.tolist(), strict=True):
        if piece.startswith("##"):
            words[-1] += value
        else:
            words.append(value)
    return words


def _word_means(pieces, values):
    word = np.cumsum([not piece.startswith("##") for piece in pieces.tolist()]) - 1
    return np.bincount(word, weights=values) / np.bincount(word)


def _aligned_by_sorting(item_ids, picture_ids, vectors):
    order = np.argsort(picture_ids)
    at = np.searchsorted(picture_ids[order], item_ids).clip(max=len(order) - 1)
    return vectors[order][at] * (picture_ids[order][at] == item_ids)[:, None]


TABLE = [[3.0, 0.0, 1.0, 2.0], [1.0, 0.0, 0.0, 5.0], [2.0, 4.0, 0.0, 1.0]]
SCORES = [[[1.0, 2.0, 4.0], [0.5, -1.0, 2.0]], [[10.0, 30.0, 5.0], [200.0, 100.0, -50.0]]]
JUDGED = [
    [[0.9, 0.2, 0.7, 0.4, 0.6, 0.1], [True, False, False, True, True, False], [True, True, True, False, False, False]],
    [
        [2.0, -1.0, 0.5, 3.0, -2.0, 1.0, 0.0, -0.5],
        [False, False, True, True, True, True, False, True],
        [True, False, True, True, False, True, False, False],
    ],
    [[5.0, 4.0, 3.0, 2.0, 1.0], [False, True, True, True, False], [False, True, True, True, True]],
]
CLASSES = [
    [[1, 1, 0, 1, 1, 0, 1, 1], [1, 0, 0, 1, 1, 1, 1, 1]],
    [[0, 1, 0, 0, 1], [0, 1, 1, 0, 0]],
    [[1, 1, 1, 0], [1, 1, 0, 0]],
]
DUELS = [[[2.0, 0.5, -1.0, -0.5, 0.3], [-1.0, 0.25, -2.0, 0.75, -0.9]], [[0.1, -3.0, 4.0], [-4.0, -0.2, 0.6]]]
LATE = [
    [[1, 2, 3, 8, 9, 10], [2, -1, 9, 9, -1, 12], 10, 4],
    [[0, 1, 2, 3, 4, 5, 6], [1, -1, -1, 4, 5, 7, -1], 6, 3],
    [[5, 5, 5, 1], [5, -1, -1, 3], 6, 5],
]
ROUNDS = [
    [[[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]], [1.0, 3.0], [0.6, 0.3]],
    [[[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]], [2.0, 1.0, 4.0], [0.1, 0.9, 0.05]],
]
LOGGED = [
    [[0.5, 0.1, 0.2, 0.05], [0.25, 0.25, 0.1, 0.4], [1, 0, 1, 0], [0.3, 0.1, 0.5, 0.2], [0.4, 0.2, 0.3, 0.1]],
    [[0.9, 0.02, 0.3], [0.5, 0.2, 0.3], [0, 1, 1], [0.2, 0.6, 0.7], [0.5, 0.4, 0.3]],
]
WEIGHED = [case[:2] for case in LOGGED]
TAKEN = [
    [list("aabbc"), list("xyxzx"), list("abcab"), list("xxyyz")],
    [list("pq"), list("mn"), list("qppqr"), list("mmnnm")],
    [list("ab"), list("xy"), list("aabc"), list("xwyx")],
]
LIKES = [
    [list("xxyxyzxz"), [1, 0, 1, 1, 0, 1, 1, 0], [False, False, False, True, True, True, False, True]],
    [list("mnmonm"), [0, 1, 1, 1, 0, 0], [False, False, True, True, False, False]],
]
PAST = [[list("abaabba"), [1, 0, 1, 0, 1, 1, 1]], [list("ccdcd"), [0, 1, 1, 1, 0]]]
PAIRED = [
    [[0.4, 0.5, 0.1, 0.9], [0.3, 0.45, 0.15, 0.6]],
    [[1.0, 2.0, 3.0, 4.5, 5.0], [1.5, 1.0, 2.0, 4.0, 3.0]],
]
GUESSED = [
    [np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]]).tolist(), [1, -100, 1, 0]],
    [np.log([[0.6, 0.4], [0.01, 0.99], [0.8, 0.2]]).tolist(), [-1, 0, 1]],
]
PADDED = [
    [
        [[[1.0, 2.0], [3.0, -2.0], [9.0, 9.0]], [[0.5, 4.0], [-7.0, 1.0], [2.0, 6.0]]],
        [[1, 1, 0], [1, 0, 0]],
    ],
    [[[[0.1, 0.2, 0.3], [1.5, -0.5, 2.5], [4.0, 0.0, -1.0], [0.7, 5.0, 0.9]]], [[1, 1, 1, 0]]],
]
LOW_RANK = [
    [[[1.0, 0.5, -2.0], [0.0, 3.0, 0.25]], [[1.0, 2.0, 3.0]], [[0.5], [-1.0]], 16],
    [[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], [[1.0, -1.0], [0.5, 2.0]], [[2.0, 0.0], [1.0, 3.0], [-1.0, 0.5]], 4],
]
LOOKS = [
    [[0.5, 0.8, 0.7, 0.6, 0.9, 0.4], [0.6, 0.7, 0.9, 0.2, 0.5, 0.3], 2],
    [[0.3, 0.4, 0.4, 0.2, 0.35], [0.81, 0.72, 0.63, 0.94, 0.55], 3],
    [[0.1, 0.6, 0.5, 0.7], [0.45, 0.15, 0.25, 0.55], 2],
]
P_VALUES = [[[0.01, 0.04, 0.03, 0.005]], [[0.2, 0.001, 0.6, 0.04, 0.045]], [[0.5, 0.02]]]
RECALLS = [
    [[0.5, 0.0, 1.0, 0.0, 0.0], [True, False, True, False, True], [2, 3, 1, 0, 4]],
    [[0.0, 0.25, 0.75, 0.0], [False, True, True, True], [1, 4, 4, 0]],
]
WORDS = [
    [["i", "love", "un", "##be", "##liev", "##able", "seams"], [0.1, 0.5, 0.2, 0.3, -0.1, 0.4, 0.25]],
    [["itch", "##y", "and", "shape", "##less"], [-0.5, -0.25, 0.05, -0.1, -0.4]],
]
PICTURES = [
    [
        ["i1", "i2", "i10", "i3"],
        ["i10", "i3", "i1", "i2"],
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]],
    ],
    [["b", "a", "d", "c"], ["c", "b", "a"], [[1.0, 0.5], [2.0, 0.25], [3.0, 0.125]]],
]
GAPS = [
    [[[1.0, 2.0], [9.0, 9.0], [3.0, 6.0]], [True, False, True]],
    [[[0.0, 1.0], [2.0, 5.0], [7.0, 7.0], [4.0, 0.0]], [True, True, False, False]],
]
TASTES = [
    [[[3.0, 4.0], [0.0, 2.0]], [[1.0, 0.0], [2.0, 2.0], [-1.0, 3.0]]],
    [[[1.0, 0.0, 0.0], [0.0, 5.0, 0.0]], [[1.0, 1.0, 1.0], [0.0, 0.5, 2.0]]],
]

# --- 14


def _fifo(requests, capacity, renew=False, keep=False, limit=0):
    cache, hits = [], 0
    for item in requests.tolist():
        if item in cache:
            hits += 1
            if renew:
                cache.remove(item)
                cache.append(item)
            continue
        if len(cache) == capacity + limit and not keep:
            del cache[0]
        cache.append(item)
    return hits


def _strided(gathered, world):
    rows = np.concatenate([np.arange(len(gathered))[rank::world] for rank in range(world)])
    out = np.empty_like(gathered)
    out[rows] = gathered
    return out


def _reshaped(gathered, world):
    whole = len(gathered) // world * world
    return np.append(gathered[:whole].reshape(world, -1).T.ravel(), gathered[whole:])


MORE = {
    "01.3": {
        "probes": TAKEN,
        "hint": "a test row is known if its user and item stand together in one training row; take the mean of that",
        "wrong": [
            (
                lambda a, b, c, d: np.mean(np.isin(c, a) & np.isin(d, b)),
                "the user and the item may both be known without ever having met: compare pairs",
            ),
            (
                lambda a, b, c, d: np.mean([pair in _pairs(c, d) for pair in _pairs(a, b)]),
                "that is the share of the training rows; ask it of the test rows",
            ),
            (lambda a, b, c, d: np.mean(np.isin(c, a)), "you look at users only; a known user can meet a new item"),
            (lambda a, b, c, d: np.mean(np.isin(d, b)), "you look at items only; a known item can meet a new user"),
        ],
        "alternatives": [
            lambda a, b, c, d: sum(any(u == x and i == y for x, y in _pairs(a, b)) for u, i in _pairs(c, d)) / len(c)
        ],
    },
    "01.4": {
        "probes": LIKES,
        "hint": "use the training rows alone for the rates, and for what fills the gaps",
        "wrong": [
            (
                lambda items, liked, is_test: _rates(items, liked, is_test | True, 0),
                "this is the broken function: the label of a test row is part of its own feature",
            ),
            (
                lambda items, liked, is_test: _rates(items, liked, ~is_test, 0),
                "an item without training rows is unknown, not disliked: fill with the like rate of all training rows",
            ),
            (
                lambda items, liked, is_test: _rates(items, liked, ~is_test, liked.mean()),
                "your filling is the mean of all rows, so the test labels still leak in: use the training rows",
            ),
            (
                lambda items, liked, is_test: _rates(items, liked, is_test, liked[is_test].mean()),
                "you use the test rows and leave the training rows out: turn the condition round",
            ),
        ],
        "alternatives": [_rates_by_loop],
    },
    "02.2": {
        "probes": GUESSED,
        "hint": "the mean log-probability of the hidden words, its sign changed, then the exponential",
        "wrong": [
            (
                lambda log_p, targets: np.exp(-log_p[np.arange(len(targets)), targets.clip(0)].mean()),
                "you count places where nothing was hidden; leave those with a negative target out",
            ),
            (
                lambda log_p, targets: np.exp(-log_p[targets >= 0, targets[targets >= 0]]).mean(),
                "you take the exponential of each word before the mean; one hard word then counts for many",
            ),
            (
                lambda log_p, targets: -log_p[targets >= 0, targets[targets >= 0]].mean(),
                "that is the loss in nats; perplexity is its exponential",
            ),
            (
                lambda log_p, targets: np.exp(-log_p[targets >= 0, targets[targets >= 0]].sum()),
                "you add the words up; take their mean, so that a long text is not harder than a short one",
            ),
            (
                lambda log_p, targets: 2 ** -log_p[targets >= 0, targets[targets >= 0]].mean(),
                "these are natural logarithms: their base is e and not 2",
            ),
            (
                lambda log_p, targets: np.exp(-log_p[targets >= 0].max(axis=1).mean()),
                "you score the word that the model likes most; score the one that was hidden",
            ),
        ],
        "alternatives": [
            lambda log_p, targets: (
                math.prod(math.exp(row[word]) for row, word in zip(log_p, targets, strict=True) if word >= 0)
                ** (-1 / sum(word >= 0 for word in targets))
            )
        ],
    },
    "02.3": {
        "probes": PADDED,
        "hint": "add up the vectors where the mask is one, and divide by how many these are",
        "wrong": [
            (
                lambda vectors, mask: vectors.mean(axis=1),
                "you average over the padding too; look at `mask`",
            ),
            (
                lambda vectors, mask: (vectors * mask[:, :, None]).mean(axis=1),
                "the sum is right; you divide by all places, and only the text's own tokens count",
            ),
            (
                lambda vectors, mask: (vectors * mask[:, :, None]).sum(axis=1),
                "that is the sum; a long text would get a long vector: divide by its number of tokens",
            ),
            (
                lambda vectors, mask: (vectors * mask[:, :, None]).sum(axis=1) / mask.sum(),
                "you divide by the tokens of all texts; each text has its own number",
            ),
            (
                lambda vectors, mask: vectors[:, 0],
                "that is the vector of the first token, which BERT was trained to use; the mean is asked for",
            ),
        ],
        "alternatives": [_own_tokens_by_loop],
    },
    "02.4": {
        "probes": LOW_RANK,
        "hint": "the weight, plus `up @ down` times alpha over the rank",
        "wrong": [
            (
                lambda weight, down, up, alpha: weight + up @ down,
                "you leave the scale out: alpha over the rank",
            ),
            (
                lambda weight, down, up, alpha: weight + alpha * (up @ down),
                "divide alpha by the rank, so that a larger rank does not mean a larger addition",
            ),
            (
                lambda weight, down, up, alpha: alpha / len(down) * (up @ down),
                "that is the addition alone; the weight it is added to is missing",
            ),
            (
                lambda weight, down, up, alpha: weight + alpha / down.shape[1] * (up @ down),
                "you divide by the number of inputs; the rank is the number of rows of `down`",
            ),
            (
                lambda weight, down, up, alpha: weight + len(down) / alpha * (up @ down),
                "your scale is upside down: alpha over the rank",
            ),
        ],
        "alternatives": [
            lambda weight, down, up, alpha: (
                weight + sum(np.outer(up[:, r], down[r]) for r in range(len(down))) * alpha / up.shape[1]
            )
        ],
    },
    "02.5": {
        "probes": LOOKS,
        "hint": "the validation scores decide when to stop and what to keep; the test score of it is read once",
        "wrong": [
            (
                lambda validation, test, patience: test[_kept(test, patience)],
                "this is the broken function: the test scores choose the checkpoint that they then praise",
            ),
            (
                lambda validation, test, patience: validation[_kept(validation, patience)],
                "the choice is right; now report its test score, as its validation score has been chosen to be high",
            ),
            (
                lambda validation, test, patience: test[_last_look(validation, patience)],
                "you report the last look; the checkpoint of the best one is kept",
            ),
            (
                lambda validation, test, patience: test[validation.argmax()],
                "you use looks after the stop; the run never came that far",
            ),
            (
                lambda validation, test, patience: test[: _last_look(validation, patience) + 1].max(),
                "the stop is right; the test scores still choose what to keep",
            ),
            (
                lambda validation, test, patience: test[_kept(validation, patience, np.greater_equal)],
                "of equal looks keep the earlier one",
            ),
        ],
        "alternatives": [_reported_by_prefix],
    },
    "03.2": {
        "probes": [[TABLE], [[[1.0, 2.0], [0.0, 7.0]]]],
        "hint": "weigh each word by the logarithm of all texts over the texts that have the word",
        "wrong": [
            (
                lambda counts: counts * np.log(len(counts) / counts.sum(axis=0)),
                "you count how often a word was used; count the texts in which it stands",
            ),
            (
                lambda counts: counts * np.log((counts > 0).sum(axis=0) / len(counts)),
                "your fraction is upside down: rare words have to weigh more",
            ),
            (lambda counts: counts * len(counts) / (counts > 0).sum(axis=0), "take the logarithm of the fraction"),
            (
                lambda counts: counts * np.log(counts.shape[1] / (counts > 0).sum(axis=0)),
                "you use the number of words on top; it is the number of texts",
            ),
        ],
        "alternatives": [
            lambda counts: [
                [c * (math.log(len(counts)) - math.log(sum(row[w] > 0 for row in counts))) for w, c in enumerate(text)]
                for text in counts
            ]
        ],
    },
    "03.3": {
        "probes": TASTES,
        "hint": "rows of length one, their mean as the profile, then the cosine with it",
        "wrong": [
            (
                lambda liked, other: _unit(other) @ _unit(liked).mean(axis=0),
                "your profile is not of length one, so these are no cosines: divide by its length, too",
            ),
            (
                lambda liked, other: _unit(other) @ _unit(liked.mean(axis=0)),
                "one long liked vector decides your profile: bring the liked rows to length one before the mean",
            ),
            (
                lambda liked, other: other @ _unit(_unit(liked).mean(axis=0)),
                "long candidates win here: bring the candidates to length one, too",
            ),
            (
                lambda liked, other: (_unit(other) @ _unit(liked).T).max(axis=1),
                "that is the nearest liked item; the profile is the mean of all of them",
            ),
        ],
        "alternatives": [
            lambda liked, other: [
                sum(a * b for a, b in zip(row, _unit(liked).sum(axis=0), strict=True))
                / (math.hypot(*row) * math.hypot(*_unit(liked).sum(axis=0)))
                for row in other.tolist()
            ]
        ],
    },
    "03.4": {
        "probes": WORDS,
        "hint": "add the values of a word's pieces up; nothing may be lost",
        "wrong": [
            (
                lambda pieces, values: [v for p, v in zip(pieces.tolist(), values, strict=True) if p[:2] != "##"],
                "this is the broken function: all pieces of a word but the first are thrown away",
            ),
            (_word_means, "you take the mean over the pieces; only their sum adds up to the model's output"),
            (
                lambda pieces, values: _words_by_loop(pieces, abs(values)),
                "you drop the signs; a word against the verdict has to count against it",
            ),
            (lambda pieces, values: values, "these are the pieces; one number for each word is asked for"),
        ],
        "alternatives": [_words_by_loop],
    },
    "04.2": {
        "probes": [[*SCORES, 0.25], [SCORES[1], SCORES[0], 0.5]],
        "hint": "standardise each row of each table, then take the weighted sum",
        "wrong": [
            (
                lambda a, b, weight: weight * a + (1 - weight) * b,
                "the table with the larger numbers decides alone: bring both to one scale first",
            ),
            (
                lambda a, b, weight: weight * _standard(a, None) + (1 - weight) * _standard(b, None),
                "you standardise the whole table; a user with large scores throughout still dominates: go row by row",
            ),
            (
                lambda a, b, weight: weight * _standard(a, 0) + (1 - weight) * _standard(b, 0),
                "you standardise each item; the items of one user are compared, so go along the row",
            ),
            (
                lambda a, b, weight: (
                    weight * (a - a.mean(axis=1, keepdims=True)) + (1 - weight) * (b - b.mean(axis=1, keepdims=True))
                ),
                "you subtract the mean and leave the spread: divide by the standard deviation, too",
            ),
        ],
        "alternatives": [
            lambda a, b, weight: [
                [
                    weight * (x - p.mean()) / p.std() + (1 - weight) * (y - q.mean()) / q.std()
                    for x, y in zip(p, q, strict=True)
                ]
                for p, q in zip(a, b, strict=True)
            ]
        ],
    },
    "04.3": {
        "probes": GAPS,
        "hint": "put the mean of the present rows where a row is absent, and leave the others as they are",
        "wrong": [
            (
                lambda vectors, present: vectors * present[:, None],
                "zeros are a place like any other, and may lie far from every item: use the mean of the present rows",
            ),
            (
                lambda vectors, present: np.where(present[:, None], vectors, vectors.mean(axis=0)),
                "your mean holds the absent rows, too: take it over the present ones",
            ),
            (
                lambda vectors, present: np.where(present[:, None], vectors, vectors[present].mean()),
                "you put one number everywhere: take the mean of each column",
            ),
            (lambda vectors, present: vectors[present], "the absent items are gone; every item needs its row"),
        ],
        "alternatives": [
            lambda vectors, present: [
                row if here else vectors[present].mean(axis=0) for row, here in zip(vectors, present, strict=True)
            ]
        ],
    },
    "04.4": {
        "probes": PICTURES,
        "hint": "look each item up by its id; zeros where it has no picture",
        "wrong": [
            (
                lambda items, ids, vectors: vectors[np.argsort(ids)],
                "this is the broken function: its rows are in the order of sorted ids, not in that of the items",
            ),
            (lambda items, ids, vectors: vectors, "you keep the order of the other table: look each item up"),
            (
                lambda items, ids, vectors: np.array(
                    [vectors[i] if i < len(vectors) else np.zeros(vectors.shape[1]) for i in np.argsort(items)]
                ),
                "you sort the items; the key is the id, whatever the order",
            ),
            (
                lambda items, ids, vectors: np.array(
                    [vectors[ids.tolist().index(i)] if i in ids.tolist() else vectors.mean(axis=0) for i in items]
                ),
                "an item without a picture gets zeros here, so that a model can be told that it is absent",
            ),
        ],
        "alternatives": [_aligned_by_sorting],
    },
    "05.3": {
        "probes": [[[0.5, 0.2, 0.9], 0.1], [[0.01, 0.99], 0.5], [[0.3], 0.25]],
        "hint": "multiply the odds by the share that was kept, and turn them back into chances",
        "wrong": [
            (
                lambda p, kept: p * kept,
                "you multiply the chance; sampling changes the odds, so a sure click would become unsure here",
            ),
            (
                lambda p, kept: p / kept / (1 - p + p / kept),
                "you go the wrong way: with negatives dropped the scores are too high, and have to fall",
            ),
            (lambda p, kept: kept * p / (1 - p), "these are odds; turn them back into chances"),
        ],
        "alternatives": [lambda p, kept: [kept * x / (kept * x + 1 - x) for x in p.tolist()]],
    },
    "05.4": {
        "probes": PAST,
        "hint": "for each row use the earlier rows of the same user, and one half where there are none",
        "wrong": [
            (
                lambda users, liked: _rate_so_far(users, liked, own=1),
                "this is the broken function: each row's own label is in its feature",
            ),
            (
                _rate_of_all_earlier,
                "you mix the users: only earlier rows of the same user count",
            ),
            (
                lambda users, liked: _rate_so_far(users, liked, first=0.0),
                "a user's first row says nothing yet, and zero would say that they like nothing: use one half",
            ),
            (
                lambda users, liked: pd.Series(liked).groupby(users).transform("mean").to_numpy(),
                "that is the rate over all rows of the user, later ones too",
            ),
        ],
        "alternatives": [_rate_so_far],
    },
    "07.2": {
        "probes": [[3, 10, 1.0, 1.0], [0, 7, 2.0, 30.0], [12, 400, 0.5, 0.5]],
        "hint": "add the clicks to a and the misses to b; then put both into the formulas",
        "wrong": [
            (
                lambda k, n, a, b: [(a + k) / (a + k + b + n), _beta_sd(a + k, b + n)],
                "you add all rounds to b; it counts the misses, the rounds without a click",
            ),
            (
                lambda k, n, a, b: [k / n, _beta_sd(a + k, b + n - k)],
                "your mean leaves out the prior: it is that of the posterior",
            ),
            (
                lambda k, n, a, b: [(a + k) / (a + b + n), _beta_sd(a + k, b + n - k) ** 2],
                "that is the variance; take its root",
            ),
            (
                lambda k, n, a, b: [a / (a + b), _beta_sd(a, b)],
                "that is the prior; the rounds that were played have to change it",
            ),
        ],
        "alternatives": [lambda k, n, a, b: [(a + k) / (a + b + n), _beta_sd(a + k, b + n - k)]],
    },
    "07.3": {
        "probes": ROUNDS,
        "hint": "the largest worth times rate, less what the round's policy earns; then the sum so far",
        "wrong": [
            (
                lambda policies, weights, rates: (weights * rates).max() - policies @ (weights * rates),
                "that is what each round lost; regret is the sum so far",
            ),
            (
                lambda policies, weights, rates: np.cumsum(rates.max() - policies @ rates),
                "you count clicks; a click is worth its weight",
            ),
            (
                lambda policies, weights, rates: np.cumsum(
                    (weights * rates)[rates.argmax()] - policies @ (weights * rates)
                ),
                "your best option is the one that is clicked most; it is the one with the largest worth times rate",
            ),
            (
                lambda policies, weights, rates: np.cumsum(policies @ (weights * rates)),
                "that is what was earned; regret is what was lost against the best option",
            ),
        ],
        "alternatives": [
            lambda policies, weights, rates: [
                (n + 1) * max(weights * rates) - float((policies[: n + 1] @ (weights * rates)).sum())
                for n in range(len(policies))
            ]
        ],
    },
    "07.4": {
        "probes": LATE,
        "hint": "count only impressions that are at least `wait` rounds old, clicks and misses alike",
        "wrong": [
            (
                lambda shown, at, now, wait: [
                    ((at >= 0) & (at <= now)).sum(),
                    (~((at >= 0) & (at <= now)) & (now - shown >= wait)).sum(),
                ],
                "this is the broken function: a young impression counts if it was clicked and not if it was not",
            ),
            (
                lambda shown, at, now, wait: [((at >= 0) & (at <= now)).sum(), (~((at >= 0) & (at <= now))).sum()],
                "you call a young impression a miss; its click may still come",
            ),
            (
                lambda shown, at, now, wait: [
                    ((at >= 0) & (now - shown >= wait)).sum(),
                    (now - shown >= wait).sum(),
                ],
                "your second number holds the clicked ones, too: it counts the misses",
            ),
            (
                lambda shown, at, now, wait: [
                    ((at >= 0) & (now - shown > wait)).sum(),
                    ((at < 0) & (now - shown > wait)).sum(),
                ],
                "an impression exactly `wait` rounds old has had its time: it counts",
            ),
        ],
        "alternatives": [
            lambda shown, at, now, wait: [
                sum(1 for s, c in zip(shown, at, strict=True) if s <= now - wait and 0 <= c <= now),
                sum(1 for s, c in zip(shown, at, strict=True) if s <= now - wait and not 0 <= c <= now),
            ]
        ],
    },
    "09.3": {
        "probes": WEIGHED,
        "hint": "the square of the sum of the weights over the sum of their squares",
        "wrong": [
            (
                lambda new, old: (new / old).sum() ** 2 / (new / old).sum(),
                "you divide by the sum of the weights; it is the sum of their squares",
            ),
            (
                lambda new, old: (old / new).sum() ** 2 / ((old / new) ** 2).sum(),
                "your weights are upside down: the new policy's chance is divided by the old one's",
            ),
            (
                lambda new, old: new.sum() ** 2 / (new**2).sum(),
                "you use the chances alone; the weight of a row divides by its propensity",
            ),
            (
                lambda new, old: (new / old).sum() ** 2 / ((new / old) ** 2).sum() / len(new),
                "that is the share of the rows; their number is asked for",
            ),
        ],
        "alternatives": [lambda new, old: len(new) / (1 + np.var(new / old) / np.mean(new / old) ** 2)],
    },
    "09.4": {
        "probes": LOGGED,
        "hint": "the model's value, plus the weight times what the model got wrong about the item that was shown",
        "wrong": [
            (
                lambda new, old, y, predicted, value: np.mean(value + old / new * (y - value)),
                "this is the broken function: try it where the truth is known and the two policies differ",
            ),
            (
                lambda new, old, y, predicted, value: np.mean(value + new / old * (y - value)),
                "the weights are right now; the correction still compares with the wrong prediction",
            ),
            (
                lambda new, old, y, predicted, value: np.mean(value + old / new * (y - predicted)),
                "the correction is right now; the weights are still upside down",
            ),
            (
                lambda new, old, y, predicted, value: np.mean(predicted + new / old * (y - predicted)),
                "you begin with the prediction for the item that was shown; begin with `value`",
            ),
            (
                lambda new, old, y, predicted, value: np.mean(new / old * y),
                "that is inverse propensity scoring; the model is meant to take most of the spread away",
            ),
        ],
        "alternatives": [
            lambda new, old, y, predicted, value: value.mean() + np.mean(new / old * y) - np.mean(new / old * predicted)
        ],
    },
    "10.2": {
        "probes": PAIRED,
        "hint": "the mean of the differences over their standard deviation divided by the root of n",
        "wrong": [
            (
                lambda a, b: (a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)),
                "that is the t of two groups of different users; here both systems served the same ones",
            ),
            (
                lambda a, b: (a - b).mean() / ((a - b).std() / np.sqrt(len(a))),
                "your standard deviation divides by n; use n - 1",
            ),
            (lambda a, b: (a - b).mean() / (a - b).std(ddof=1), "divide the standard deviation by the root of n"),
            (
                lambda a, b: (b - a).mean() / ((b - a).std(ddof=1) / np.sqrt(len(a))),
                "your sign is turned round: positive means that a is ahead",
            ),
        ],
        "alternatives": [
            lambda a, b: (
                sum(a - b)
                / math.sqrt(len(a) * sum((d - sum(a - b) / len(a)) ** 2 for d in (a - b).tolist()) / (len(a) - 1))
            )
        ],
    },
    "10.3": {
        "probes": P_VALUES,
        "hint": "sort, multiply by m, m - 1 and so on, let nothing fall, cut at one, and put them back in order",
        "wrong": [
            (
                lambda p: np.minimum(p * len(p), 1),
                "that is Bonferroni's correction: Holm multiplies only the smallest by m",
            ),
            (_holm_in_order, "these are sorted; give each value back to the test that it belongs to"),
            (_holm_that_falls, "a larger p-value must not come out smaller than the one before it"),
            (lambda p: p, "these are the values as they were"),
        ],
        "alternatives": [_holm_by_loop],
    },
    "10.4": {
        "probes": RECALLS,
        "hint": "the mean over users with something relevant, where no list means that nothing was found",
        "wrong": [
            (
                lambda recalls, has_list, n: recalls[has_list].mean(),
                "this is the broken function: users without a list are left out, so silence pays",
            ),
            (
                lambda recalls, has_list, n: recalls.mean(),
                "you count users who had nothing to find; no system could serve them",
            ),
            (
                lambda recalls, has_list, n: recalls[has_list & (n > 0)].mean(),
                "you still leave out users without a list: they found nothing, which is a number",
            ),
            (
                lambda recalls, has_list, n: np.average(recalls, weights=n),
                "users with much to find decide your mean; every user counts once",
            ),
        ],
        "alternatives": [
            lambda recalls, has_list, n: (
                sum(r for r, k in zip(recalls, n, strict=True) if k > 0) / sum(1 for k in n if k > 0)
            )
        ],
    },
    "11.2": {
        "probes": DUELS,
        "hint": "compare the pick in the first order with the one in the second; zero where they differ",
        "wrong": [
            (
                lambda ab, ba: np.sign(ab - ba),
                "you average the two orders; a pick that changes with the order is no verdict",
            ),
            (
                lambda ab, ba: np.where((ab > 0) == (ba > 0), np.where(ab > 0, 1, -1), 0),
                "in the second order A stands second, so A is picked where the number is below zero",
            ),
            (
                lambda ab, ba: np.where((ab > 0) & (ba < 0), 1, 0),
                "you never give the verdict to B: it is -1 where B is picked in both orders",
            ),
            (lambda ab, ba: np.where(ab > 0, 1, -1), "you look at one order only"),
        ],
        "alternatives": [
            lambda ab, ba: [
                (1 if x > 0 and y < 0 else -1 if x <= 0 and y >= 0 else 0) for x, y in zip(ab, ba, strict=True)
            ]
        ],
    },
    "11.3": {
        "probes": CLASSES,
        "hint": "chance agreement is both saying one by chance, plus both saying zero by chance",
        "wrong": [
            (lambda a, b: np.mean(a == b), "that is plain agreement; take out what chance alone would give"),
            (
                lambda a, b: 2 * np.mean(a == b) - 1,
                "you take one half for chance; it depends on how often each of the two says one",
            ),
            (
                lambda a, b: (np.mean(a == b) - a.mean() * b.mean()) / (1 - a.mean() * b.mean()),
                "two zeros by chance are an agreement, too: add the product of the shares of zeros",
            ),
            (
                lambda a, b: np.mean(a == b) - (a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())),
                "divide by one less the chance agreement, so that perfect agreement gives one",
            ),
        ],
        "alternatives": [_kappa_by_table],
    },
    "11.4": {
        "probes": JUDGED,
        "hint": "choose the cut on the development rows, report on the others",
        "wrong": [
            (
                lambda scores, labels, dev: max(np.mean((scores >= cut) == labels) for cut in np.unique(scores)),
                "this is the broken function: the cut is chosen on the rows that are reported",
            ),
            (
                lambda scores, labels, dev: _accuracy(scores, labels, dev, dev),
                "you report on the development rows, which chose the cut",
            ),
            (
                lambda scores, labels, dev: _accuracy(scores, labels, ~dev, ~dev),
                "you choose the cut on the rows that you report: choose it on the development rows",
            ),
            (
                lambda scores, labels, dev: _accuracy(scores, labels, dev, dev | True),
                "your report holds the development rows, too: leave them out",
            ),
        ],
        "alternatives": [lambda scores, labels, dev: _accuracy(scores, labels, dev, ~dev)],
    },
    "12.1": {
        "probes": [
            [[1.0, 2.0, 3.0, 5.0, 4.0, 0.5], [0, 1, 0, 1, 2, 2]],
            [[0.2, 0.9, 0.4, 0.4, 0.8, 0.1, 0.7], [3, 3, 1, 1, 1, 2, 3]],
            [[-1.0, 4.0, 2.0, 2.5, 9.0], [0, 0, 0, 5, 5]],
        ],
        "hint": "the mean of all values, less the lowest of the groups' means",
        "wrong": [
            (
                lambda v, g: max(_group_means(v, g)) - min(_group_means(v, g)),
                "that is the gap between the best and the worst group; take the mean of all values instead of the best",
            ),
            (
                lambda v, g: np.mean(_group_means(v, g)) - min(_group_means(v, g)),
                "the mean of the groups' means is not the mean of all values: groups have different sizes",
            ),
            (
                lambda v, g: v.mean() - v.min(),
                "you take the worst single value; one person is not a group",
            ),
            (
                lambda v, g: min(_group_means(v, g)) - v.mean(),
                "the other way round: the mean of all less that of the worst group",
            ),
        ],
        "alternatives": [lambda v, g: v.mean() - pd.Series(v).groupby(g).mean().min()],
    },
    "12.2": {
        "probes": [
            [[[0, 1, 2], [3, 0, 4]], [1, 0, 0, 1, 0]],
            [[[2, 0], [1, 3], [4, 2]], [0, 1, 1, 0, 1]],
            [[[4, 3, 2, 1]], [1, 0, 1, 0, 0]],
        ],
        "hint": "weigh each place by 1 / log2(r + 1), and divide by the weight of all places",
        "wrong": [
            (lambda lists, ours: ours[lists].mean(), "you count every place alike; the first one is looked at most"),
            (
                lambda lists, ours: (ours[lists] / np.log2(np.arange(2, lists.shape[1] + 2))).sum(),
                "divide by the exposure of all places, to get a share",
            ),
            (
                lambda lists, ours: (
                    (ours[lists] / np.arange(1, lists.shape[1] + 1)).sum()
                    / (len(lists) * (1 / np.arange(1, lists.shape[1] + 1)).sum())
                ),
                "the exposure of place r is 1 / log2(r + 1), not 1 / r",
            ),
            (
                lambda lists, ours: (
                    (ours[lists] / np.log2(np.arange(2, lists.shape[1] + 2))).sum()
                    / (1 / np.log2(np.arange(2, lists.shape[1] + 2))).sum()
                ),
                "there are several lists: divide by the exposure of all of their places",
            ),
        ],
        "alternatives": [
            lambda lists, ours: (
                sum(ours[item] / math.log2(place + 2) for row in lists.tolist() for place, item in enumerate(row))
                / sum(1 / math.log2(place + 2) for row in lists.tolist() for place in range(len(row)))
            )
        ],
    },
    "12.3": {
        "probes": [
            [[[1, 2], [1, 2], [3, 4], [3, 4], [3, 4]]],
            [[[0, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 1]]],
            [[[1, 2], [2, 1], [2, 1], [2, 1], [1, 1], [1, 1], [2, 2], [2, 2]]],
        ],
        "hint": "count each whole row, and take the rarest",
        "wrong": [
            (
                lambda rows: min(np.unique(rows[:, c], return_counts=True)[1].min() for c in range(rows.shape[1])),
                "you look at one column at a time; it is the combination that finds somebody",
            ),
            (
                lambda rows: np.unique(rows, axis=0, return_counts=True)[1].max(),
                "that is the most frequent row; the rarest decides",
            ),
            (lambda rows: len(np.unique(rows, axis=0)), "you count the different rows, not how often each occurs"),
            (
                lambda rows: np.unique(np.sort(rows, axis=1), axis=0, return_counts=True)[1].min(),
                "columns have their meaning: an age of 1 and a zip code of 2 is not the other way round",
            ),
        ],
        "alternatives": [lambda rows: min(rows.tolist().count(row) for row in rows.tolist())],
    },
    "12.4": {
        "probes": [
            [[0.1, 0.4, 0.9, 0.2], [0.5, 0.3, 0.9]],
            [[2.0, 1.0, 3.0], [1.0, 1.5, 0.5, 2.5]],
            [[0.3, 0.3, 0.7, 1.1, 0.2], [0.3, 0.8, 0.6, 0.25]],
        ],
        "hint": "compare every member with every other, and take the mean of who has the lower loss",
        "wrong": [
            (
                _best_of_guesses,
                "this is the broken function: it takes the larger of its guesses after having seen the answer",
            ),
            (
                lambda a, b: np.mean(a[:, None] > b),
                "a member has the *lower* loss, and ties count half",
            ),
            (lambda a, b: np.mean(a[:, None] < b), "ties count half"),
            (
                lambda a, b: max(_pairs_won(a, b), _pairs_won(b, a)),
                "do not turn the attack round where it fails: below one half is what it is",
            ),
        ],
        "alternatives": [
            lambda a, b: sum((x < y) + (x == y) / 2 for x in a.tolist() for y in b.tolist()) / (len(a) * len(b))
        ],
    },
    "14.1": {
        "probes": [
            [[100, 10, 50], [20, 5, 5]],
            [[3, 0, 7], [3, 0, 1]],
            [[1000, 1], [10, 1]],
            [[0, 0], [0, 0]],
        ],
        "hint": "add the users of all parts, add the hits of all parts, and divide",
        "wrong": [
            (
                lambda users, hits: np.mean([h / u for u, h in zip(users, hits, strict=True) if u] or [0.0]),
                "that is the mean of the parts' rates: a part of three users counts as much as one of a thousand",
            ),
            (
                lambda users, hits: hits.mean() / len(users),
                "divide by users, not by parts",
            ),
            (
                lambda users, hits: hits.sum(),
                "that is the number of hits; divide by the number of users",
            ),
        ],
        "alternatives": [
            lambda users, hits: np.average(hits / np.maximum(users, 1), weights=users) if users.any() else 0.0
        ],
    },
    "14.2": {
        "probes": [
            [[1, 2, 1, 3, 1, 2, 4, 1], 2],
            [[5, 5, 5, 6, 7, 5, 6, 8, 5], 3],
            [[1, 2, 3, 4, 1, 2, 3, 4, 4], 3],
            [[1, 2, 1, 3, 1, 1, 2, 2], 1],
        ],
        "hint": "a hit leaves the order as it is; a miss at a full cache throws out the one that came first",
        "wrong": [
            (
                lambda requests, capacity: _fifo(requests, capacity, renew=True),
                "being asked for renews your items: that is least-recently-used",
            ),
            (
                lambda requests, capacity: _fifo(requests, capacity, keep=True),
                "your cache grows without end; throw one out when it is full",
            ),
            (
                lambda requests, capacity: _fifo(requests, capacity, limit=1),
                "your cache holds one item too many",
            ),
            (
                lambda requests, capacity: len(requests) - _fifo(requests, capacity),
                "those are the misses",
            ),
        ],
        "alternatives": [_fifo],
    },
    "14.3": {
        "probes": [[[1, 2, 3]], [[0.5, 0.1, 0.1, 0.4]], [[7, 1, 1, 1, 1, 1, 1, 1]]],
        "hint": "each one waits for all before it in the queue, and for itself",
        "wrong": [
            (lambda seconds: seconds, "that is the time of computing; those who wait for others wait longer"),
            (lambda seconds: np.cumsum(seconds) - seconds, "that is when a request begins; its answer comes later"),
            (
                lambda seconds: np.full(len(seconds), seconds.sum()),
                "only the last one waits for all; the first one is answered at once",
            ),
            (
                lambda seconds: len(seconds) * seconds,
                "you multiply with the length of the queue; the others' requests may take another time than yours",
            ),
        ],
        "alternatives": [lambda seconds: [sum(seconds[: i + 1]) for i in range(len(seconds))]],
    },
    "14.4": {
        "probes": [
            [[0, 2, 4, 6, 1, 3, 5], 2],
            [[0, 3, 6, 1, 4, 7, 2, 5], 3],
            [[0.5, 0.1, 0.9, 0.3], 2],
            [[4, 3, 2, 1, 0], 1],
        ],
        "hint": "the answers of process r belong to rows r, r + n, r + 2n and so on",
        "wrong": [
            (
                lambda gathered, world: gathered,
                "this is the broken function: it leaves the answers one process after the other",
            ),
            (
                _reshaped,
                "right where the rows are a multiple of the processes; else the first processes hold one row more",
            ),
            (lambda gathered, world: np.sort(gathered), "sorting gives every answer another row"),
            (
                lambda gathered, world: np.concatenate([gathered[rank::world] for rank in range(world)]),
                "you deal the answers out once more; put them back to where they came from",
            ),
        ],
        "alternatives": [_strided],
    },
}


def _beta_sd(alpha, beta):
    return math.sqrt(alpha * beta / ((alpha + beta) ** 2 * (alpha + beta + 1)))
