"""For each exercise: its inputs, wrong answers that students give with their hints, and other right answers.

The right answer itself is the teacher's solution in the notebook. ``python tests/make_exercises.py`` turns all of
it into fingerprints; ``tests/test_exercises.py`` proves them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from more_answers import MORE


@dataclass(frozen=True)
class Exercise:
    probes: list[list]
    hint: str
    wrong: list[tuple[Callable, str]]
    alternatives: list[Callable]


def _padding_all_to_longest(lengths, batch_size):
    return 1 - lengths.mean() / lengths.max()


def _padding_mean_of_batches(lengths, batch_size):
    starts = range(0, len(lengths), batch_size)
    batches = [lengths[start : start + batch_size] for start in starts]
    return np.mean([1 - batch.mean() / batch.max() for batch in batches])


def _padding_over_real_tokens(lengths, batch_size):
    return _padding_computed(lengths, batch_size) / lengths.sum() - 1


def _padding_computed(lengths, batch_size):
    return sum(
        lengths[start : start + batch_size].max() * len(lengths[start : start + batch_size])
        for start in range(0, len(lengths), batch_size)
    )


def _softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def _gates_by_loop(scores, present):
    weights = [math.exp(s) if p else 0.0 for s, p in zip(scores, present, strict=True)]
    return [weight / sum(weights) for weight in weights]


def _latest_by_dict(user_ids, item_ids, timestamps):
    last = {}
    for row, pair in enumerate(zip(user_ids.tolist(), item_ids.tolist(), strict=True)):
        if pair not in last or timestamps[row] > timestamps[last[pair]]:
            last[pair] = row
    return sorted(last.values())


def _first_of_pair(user_ids, item_ids, timestamps):
    seen, rows = set(), []
    for row, pair in enumerate(zip(user_ids.tolist(), item_ids.tolist(), strict=True)):
        if pair not in seen:
            seen.add(pair)
            rows.append(row)
    return rows


def _last_in_file(user_ids, item_ids, timestamps):
    return sorted(
        {pair: row for row, pair in enumerate(zip(user_ids.tolist(), item_ids.tolist(), strict=True))}.values()
    )


def _latest_of_user(user_ids, item_ids, timestamps):
    return sorted(
        max(np.flatnonzero(user_ids == user), key=lambda row: timestamps[row]) for user in np.unique(user_ids)
    )


def _robots_by_loop(users, seconds, most):
    fast = set()
    for user in set(users.tolist()):
        own = sorted(seconds[users == user].tolist())
        if any(sum(first <= second < first + 60 for second in own) > most for first in own):
            fast.add(user)
    return sorted(fast)


def _robots_by_minute_of_clock(users, seconds, most):
    rows = {}
    for user, second in zip(users.tolist(), seconds.tolist(), strict=True):
        rows[user, second // 60] = rows.get((user, second // 60), 0) + 1
    return sorted({user for (user, _), count in rows.items() if count > most})


def _robots_by_total(users, seconds, most):
    return sorted({user for user in users.tolist() if (users == user).sum() > most})


def _robots_at_most(users, seconds, most):
    return _robots_by_loop(users, seconds, most - 1)


def _dcg(hits, k, shift=2):
    return sum(hit / math.log2(rank + shift) for rank, hit in enumerate(hits[:k]))


def _ndcg(hits, n_relevant, k, shift=2):
    return _dcg(hits, k, shift) / _dcg([1] * min(n_relevant, k), k, shift)


def _charged(items, clicked, bids, budgets, stop=min):
    left, rewards = np.array(budgets, float), []
    for k, click in zip(np.asarray(items, int), clicked, strict=True):
        rewards.append(stop(bids[k] * click, left[k]))
        left[k] -= rewards[-1]
    return np.array(rewards)


def _charged_at_once(items, clicked, bids, budgets):
    items = np.asarray(items, int)
    full = bids[items] * clicked
    before = np.array([full[:row][items[:row] == k].sum() for row, k in enumerate(items)])
    return np.clip(budgets[items] - before, 0, full)


def _charged_for_showing(items, clicked, bids, budgets):
    return _charged(items, np.ones(len(items)), bids, budgets)


def _charged_if_it_fits(items, clicked, bids, budgets):
    return _charged(items, clicked, bids, budgets, lambda price, left: price if price <= left else 0.0)


ANSWERS = {
    "00.1": Exercise(
        probes=[
            [[3, 1, 4, 15, 9], [4, 9, 2], 5],
            [[3, 1, 4, 15, 9], [4, 9, 2], 3],
            [[7, 8, 2, 1], [8, 2, 1, 7], 2],
            [[7, 8, 2, 1, 5], [6], 4],
        ],
        hint="count the liked items among the first k that were recommended, and divide by k",
        wrong=[
            (
                lambda recommended, liked, k: np.isin(recommended[:k], liked).sum() / len(liked),
                "you divide by the number of liked items: that is recall; precision divides by k",
            ),
            (
                lambda recommended, liked, k: np.isin(recommended, liked).mean(),
                "you use the whole list; only its first k items are shown",
            ),
            (
                lambda recommended, liked, k: np.isin(recommended[:k], liked).sum(),
                "that is how many are liked; divide by k",
            ),
        ],
        alternatives=[lambda recommended, liked, k: len(set(recommended[:k].tolist()) & set(liked.tolist())) / k],
    ),
    "01.1": Exercise(
        probes=[
            [["a", "a", "b", "a"], ["x", "x", "x", "y"], [5, 3, 1, 2]],
            [["a", "b", "a", "b", "a"], ["x", "y", "x", "y", "z"], [1, 9, 4, 2, 3]],
            [["c", "c", "c"], ["p", "q", "p"], [7, 8, 9]],
        ],
        hint="group the rows by user and item together, and keep the row with the largest timestamp of each group",
        wrong=[
            (
                _first_of_pair,
                "you keep the first of a repeated pair; the latest one says what the user thinks now",
            ),
            (_last_in_file, "you keep the last row in the file; the file need not be in the order of time"),
            (_latest_of_user, "you keep one row a user; keep one row for every user and item together"),
        ],
        alternatives=[_latest_by_dict],
    ),
    "01.2": Exercise(
        probes=[
            [list("aeaebfaeffbae"), [70, 100, 50, 200, 61, 10, 65, 300, 20, 30, 0, 55, 400], 3],
            [list("dccdedc"), [60, 59, 0, 0, 7, 30, 30], 2],
            [list("gfgfgfh"), [5, 120, 30, 60, 64, 0, 0], 1],
        ],
        hint="sort by time; a user is too fast if a row and the one `most` rows later are less than 60 seconds apart",
        wrong=[
            (_robots_by_minute_of_clock, "you count by the minute on the clock; a robot may work across its turn"),
            (_robots_by_total, "you count all rows of a user; a person has many rows too, but not within 60 seconds"),
            (_robots_at_most, "exactly `most` rows are allowed; a robot has more"),
        ],
        alternatives=[_robots_by_loop],
    ),
    "02.1": Exercise(
        probes=[
            [[10, 20, 30, 40, 50], 2],
            [[7, 7, 7, 100], 4],
            [[12, 90, 33, 41, 5, 64, 128], 3],
        ],
        hint="a batch computes its longest length times its number of texts; add these up and compare with real tokens",
        wrong=[
            (
                _padding_all_to_longest,
                "you pad every text to the longest of all; each batch has its own longest text",
            ),
            (
                _padding_mean_of_batches,
                "you average the shares of batches; batches differ in size, so add up tokens first",
            ),
            (
                _padding_over_real_tokens,
                "you divide the padding by the real tokens; divide it by all computed tokens",
            ),
        ],
        alternatives=[lambda lengths, batch_size: 1 - lengths.sum() / _padding_computed(lengths, batch_size)],
    ),
    "03.1": Exercise(
        probes=[
            [[2.0, 0.0, -1.0], [0.5, 0.0, 1.0], [[1.0, 2.0, 3.0], [2.0, 5.0, 1.0]]],
            [[1.0, 1.0], [0.0, 3.0], [[0.5, -1.0], [0.25, 2.0], [1.5, 0.5], [1.0, 1.0]]],
            [
                [4.0, -2.0, 0.3, 1.0],
                [1.0, 1.0, 0.1, 1.0],
                [[0.2, 0.4, -3.0, 2.0], [0.1, 0.9, 0.0, 1.0], [0.7, 0.3, 2.0, 4.0]],
            ],
        ],
        hint="average the gradients over the points on the line, then multiply by how far each input has moved",
        wrong=[
            (
                lambda x, baseline, gradients: gradients.mean(axis=0),
                "these are mean gradients; multiplied by how far each input has moved they add up to the output",
            ),
            (
                lambda x, baseline, gradients: x * gradients.mean(axis=0),
                "you multiply by the input itself; what counts is how far it is from the baseline",
            ),
            (
                lambda x, baseline, gradients: (baseline - x) * gradients.mean(axis=0),
                "your signs are turned round: the line leads from the baseline to the input",
            ),
            (
                lambda x, baseline, gradients: (x - baseline) * gradients.sum(axis=0),
                "you add the gradients up; the integral over a line of length one is their mean",
            ),
            (
                lambda x, baseline, gradients: (x - baseline) * gradients[-1],
                "you use the gradient at the end only; it says nothing of the way there: take the mean over all points",
            ),
        ],
        alternatives=[
            lambda x, baseline, gradients: [
                sum((a - b) * row[i] for row in gradients) / len(gradients)
                for i, (a, b) in enumerate(zip(x, baseline, strict=True))
            ]
        ],
    ),
    "04.1": Exercise(
        probes=[
            [[1.0, 2.0, 3.0], [True, True, False]],
            [[0.5, -1.0, 0.0, 2.0], [True, False, True, True]],
            [[0.0, 0.0], [False, True]],
        ],
        hint="take the softmax over the present modalities only, and give the absent ones a gate of 0",
        wrong=[
            (
                lambda scores, present: _softmax(scores) * present,
                "you mask after the softmax, so the gates of the present modalities no longer sum to 1",
            ),
            (
                lambda scores, present: _softmax(scores * present),
                "a score of 0 is not an absence: the exponential of 0 is 1; leave absent modalities out of the sum",
            ),
            (
                lambda scores, present: _softmax(scores),
                "you give absent modalities a gate; look at `present`",
            ),
        ],
        alternatives=[_gates_by_loop],
    ),
    "05.1": Exercise(
        probes=[
            [[2.0, 0.5, -1.0], [1.0, 0.5, 1.5]],
            [[0.0, 3.0], [0.25, -2.0]],
            [[-0.5], [-0.75]],
        ],
        hint="the loss of a pair is log(1 + exp(other - liked)); take the mean over the pairs",
        wrong=[
            (
                lambda liked, other: np.mean(np.log1p(np.exp(liked - other))),
                "your pairs are turned round: the loss has to fall when the liked item scores higher",
            ),
            (
                lambda liked, other: np.sum(np.log1p(np.exp(other - liked))),
                "you add the pairs up; take their mean, so that the size of a batch does not count",
            ),
            (
                lambda liked, other: -np.mean(1 / (1 + np.exp(other - liked))),
                "you leave the logarithm out: then a pair that is far wrong costs hardly more than one that is wrong",
            ),
            (
                lambda liked, other: np.mean(np.maximum(0, 1 - (liked - other))),
                "that is the hinge loss; this one takes the logarithm of the logistic function",
            ),
        ],
        alternatives=[
            lambda liked, other: (
                -sum(math.log(1 / (1 + math.exp(b - a))) for a, b in zip(liked, other, strict=True)) / len(liked)
            )
        ],
    ),
    "05.2": Exercise(
        probes=[
            [
                [
                    [0.0, 0.5, 0.1, 0.9, 0.0],
                    [0.4, 0.0, 0.2, 0.3, 0.7],
                    [0.1, 0.6, 0.0, 0.8, 0.5],
                    [0.25, 0.35, 0.15, 0.0, 0.05],
                    [0.2, 0.45, 0.55, -0.3, 0.0],
                ],
                [1, 2, 4],
                3,
                2,
            ],
            [
                [[0.0, -0.2, 0.3, 0.1], [0.6, 0.0, 0.2, 0.8], [0.4, 0.9, 0.0, 0.5], [0.7, 0.3, 0.1, 0.0]],
                [3, 1, 2],
                0,
                2,
            ],
        ],
        hint="look at weights[history, item], sort it from the largest down, and return the items, not their places",
        wrong=[
            (
                lambda weights, history, item, n: history[np.argsort(-weights[item, history])[:n]],
                "you read the weights the wrong way: weights[item, j] is what item adds to j, not j to item",
            ),
            (
                lambda weights, history, item, n: np.argsort(-weights[history, item])[:n],
                "these are places in the history; return the items that stand there",
            ),
            (
                lambda weights, history, item, n: history[np.argsort(weights[history, item])[:n]],
                "you begin with the smallest; the item that adds most comes first",
            ),
            (
                lambda weights, history, item, n: np.argsort(-weights[:, item])[:n],
                "only items of the history can be a reason: nothing else is in the sum",
            ),
        ],
        alternatives=[lambda weights, history, item, n: sorted(history.tolist(), key=lambda j: -weights[j, item])[:n]],
    ),
    "07.1": Exercise(
        probes=[
            [[0.25, 0.25, 0.5], [1.0, 2.0, 5.0], [0.3, 0.2, 0.1]],
            [[1.0, 0.0, 0.0], [1.0, 4.0, 2.0], [0.05, 0.4, 0.2]],
            [[0.1, 0.9], [3.0, 1.0], [0.5, 0.25]],
        ],
        hint="each option contributes its chance of being shown times its worth times its click rate",
        wrong=[
            (
                lambda policy, weights, rates: np.sum(weights * rates),
                "you add up all options as if each were shown every round; what is shown is decided by the policy",
            ),
            (
                lambda policy, weights, rates: np.max(weights * rates),
                "that is the best any policy could earn; this policy also shows other options",
            ),
            (
                lambda policy, weights, rates: np.sum(policy * rates),
                "that is the click rate; a click is worth its weight",
            ),
        ],
        alternatives=[lambda policy, weights, rates: float(policy @ (weights * rates))],
    ),
    "09.1": Exercise(
        probes=[
            [[0.5, 0.1, 0.2, 0.05], [0.25, 0.25, 0.1, 0.4], [1, 0, 1, 0]],
            [[0.9, 0.0, 0.3], [0.5, 0.2, 0.3], [0, 1, 1]],
            [[0.02, 0.4, 0.4, 0.1, 0.0], [0.1, 0.1, 0.5, 0.2, 0.9], [2.0, 0.0, 1.5, 1.0, 3.0]],
        ],
        hint="weigh each row by its new chance over its old one, and divide by the sum of the weights",
        wrong=[
            (
                lambda chances, propensities, rewards: np.mean(chances / propensities * rewards),
                "that is IPS; the self-normalised estimate divides by the sum of the weights, not by the count of rows",
            ),
            (
                lambda chances, propensities, rewards: np.average(rewards, weights=propensities / chances.clip(1e-9)),
                "your weights are upside down: the new policy's chance is divided by the old one's",
            ),
            (
                lambda chances, propensities, rewards: np.average(rewards, weights=chances),
                "your weights leave out the propensity: what the old policy showed often would count too much",
            ),
            (
                lambda chances, propensities, rewards: np.mean(rewards),
                "that is what the old policy earned; rows that the new one would show more often have to count more",
            ),
        ],
        alternatives=[
            lambda chances, propensities, rewards: float(np.average(rewards, weights=chances / propensities)),
        ],
    ),
    "09.2": Exercise(
        probes=[
            [[3.0, 1.0, 4.0, 1.0, 5.0], [2.0, 1.0, 3.0, 0.0, 6.0]],
            [[0.0, 2.0, 2.0, 7.0], [1.0, 1.0, 5.0, 3.0]],
            [[10.0, 8.0, 9.0, 4.0, 2.0, 6.0], [1.0, 2.0, 2.0, 5.0, 9.0, 3.0]],
        ],
        hint="subtract from y the slope of y on x times the distance of x from its mean",
        wrong=[
            (
                lambda y, x: y - np.cov(y, x)[0, 1] / np.var(x, ddof=1) * x,
                "you subtract x without its centre, so the mean of the outcomes moves; subtract the mean of x first",
            ),
            (
                lambda y, x: y - np.corrcoef(y, x)[0, 1] * (x - x.mean()),
                "your slope is the correlation; it has to be the covariance over the variance of x",
            ),
            (
                lambda y, x: y - np.cov(y, x)[0, 1] / np.var(y, ddof=1) * (x - x.mean()),
                "you divide the covariance by the variance of y; the slope of y on x divides it by that of x",
            ),
            (
                lambda y, x: y - x,
                "you subtract x itself: that is right only where the slope is 1, and it moves the mean",
            ),
            (
                lambda y, x: y + np.cov(y, x)[0, 1] / np.var(x, ddof=1) * (x - x.mean()),
                "you add what x explains; take it away",
            ),
        ],
        alternatives=[lambda y, x: y - np.polyfit(x, y, 1)[0] * (x - x.mean())],
    ),
    "10.1": Exercise(
        probes=[
            [[1, 0, 1, 0, 0], 2, 5],
            [[0, 1, 1, 0, 1], 12, 5],
            [[0, 0, 1, 1, 0, 1], 3, 4],
            [[0, 0, 0, 1], 1, 4],
        ],
        hint="divide a hit at rank r (from 1) by log2(r + 1), and the sum by that of the best possible list of k",
        wrong=[
            (
                lambda hits, n_relevant, k: _dcg(hits, k, 3) / _dcg([1] * min(n_relevant, k), k, 3),
                "your discount is off by one: the first rank is divided by log2(2), which is 1",
            ),
            (
                lambda hits, n_relevant, k: _dcg(hits, k) / _dcg([1] * n_relevant, n_relevant),
                "the ideal list also has only k places: min(n_relevant, k) hits",
            ),
            (
                lambda hits, n_relevant, k: _ndcg(hits, n_relevant, len(hits)),
                "only the first k ranks count",
            ),
            (lambda hits, n_relevant, k: _dcg(hits, k), "that is DCG; divide by the DCG of the ideal list"),
        ],
        alternatives=[_ndcg],
    ),
    "11.1": Exercise(
        probes=[
            [[2.0, 1.5, 3.0], [1.0, 2.5, 3.0]],
            [[0.5, -0.25], [-1.5, 0.75]],
            [[4.0, 0.0, -1.0, 2.0], [0.0, 4.0, 3.0, 2.5]],
        ],
        hint="when B stands first, log-odds for the first one speak against A: turn their sign, then take the mean",
        wrong=[
            (
                lambda first_ab, first_ba: (first_ab + first_ba) / 2,
                "that is the bias of the place itself; in the second row a large number speaks against A",
            ),
            (lambda first_ab, first_ba: first_ab - first_ba, "that is the sum of two replies; take their mean"),
            (lambda first_ab, first_ba: (first_ba - first_ab) / 2, "that is how much the judge prefers B"),
            (lambda first_ab, first_ba: first_ab, "the place is still in it; use the swapped duel too"),
            (
                lambda first_ab, first_ba: first_ab - first_ab.mean(),
                "the mean over duels holds what the judge truly prefers as well; only the swap tells the two apart",
            ),
        ],
        alternatives=[lambda first_ab, first_ba: first_ab - (first_ab + first_ba) / 2],
    ),
    "16.1": Exercise(
        probes=[
            [[0, 1, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1], [2.0, 3.0], [5.0, 10.0]],
            [[2, 0, 2, 2, 1], [1, 0, 1, 1, 1], [1.5, 0.5, 4.0], [1.0, 0.25, 9.0]],
            [[0, 0, 0, 1], [0, 1, 1, 1], [1.0, 2.0], [1.0, 100.0]],
        ],
        hint="keep what is left of each budget; a row brings the smaller of the bid of its click and what is left",
        wrong=[
            (
                lambda items, clicked, bids, budgets: bids[np.asarray(items, int)] * clicked,
                "that charges beyond the budget; once it is spent, a click brings nothing",
            ),
            (_charged_for_showing, "a showing without a click costs the owner nothing"),
            (_charged_if_it_fits, "the last click may bring the rest of the budget, even if that is less than the bid"),
            (
                lambda items, clicked, bids, budgets: np.minimum(
                    bids[np.asarray(items, int)] * clicked, budgets[np.asarray(items, int)]
                ),
                "you compare each row with the whole budget; subtract what earlier rows have taken",
            ),
        ],
        alternatives=[_charged_at_once],
    ),
    "16.2": Exercise(
        probes=[[[0.5, 0.7, 0.8, 0.6]], [[0.5, 0.6, 0.65]], [[0.9, 0.4, 0.5, 0.55]]],
        hint="the best value of all days but the last, less the value of the last day",
        wrong=[
            (lambda curve: curve[0] - curve[-1], "you start from the first day; start from the best one"),
            (lambda curve: max(curve) - curve[-1], "leave the last day out of the best, so that it can be negative"),
            (lambda curve: curve[-1] - max(curve[:-1]), "the sign: what was lost is positive"),
            (lambda curve: max(curve) - min(curve), "that is the range; the end counts, not the lowest day"),
        ],
        alternatives=[lambda curve: sorted(curve[:-1])[-1] - curve[-1]],
    ),
    "16.3": Exercise(
        probes=[
            [[0, 0, 1, 1, 1, 1, 2, 2], 2],
            [[3, 1, 1, 2, 3, 2, 3, 3, 2, 2], 2],
            [[0, 0, 1, 1], 2],
            [[0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2], 3],
        ],
        hint="count the rows of each day, and compare with how many there should be",
        wrong=[
            (
                lambda days, rows: np.unique(days)[np.unique(days, return_counts=True)[1] != rows],
                "a day with too few rows was cut short, not logged twice",
            ),
            (
                lambda days, rows: np.unique(days)[np.unique(days, return_counts=True)[1] > 1],
                "a day has many rows; compare with how many there should be",
            ),
            (
                lambda days, rows: len(np.unique(days)[np.unique(days, return_counts=True)[1] > rows]),
                "that is how many days; say which",
            ),
            (
                lambda days, rows: np.unique(days)[np.unique(days, return_counts=True)[1] >= rows],
                "a day with exactly as many rows as it should have is right",
            ),
        ],
        alternatives=[lambda days, rows: sorted({day for day in days if sum(np.asarray(days) == day) > rows})],
    ),
}

ANSWERS = dict(sorted((ANSWERS | {name: Exercise(**more) for name, more in MORE.items()}).items()))
