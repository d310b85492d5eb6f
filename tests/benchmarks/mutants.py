"""Plant faults in the package or in a notebook, rerun the cells that are affected, and see which bands catch them.

    python tests/benchmarks/mutants.py [--check] [--only WORD] [--jobs 2]

A fault is a replacement of source text, in a copy: nothing here is changed. It is caught where a result lies outside
its band, or where `reclab.data.check_leakage`, which every notebook calls on its splits, stops the run. First the same
cells run without a fault, and every result has to lie within. Prints one JSON object a line, for each fault what
caught it, and the share that was caught at the end. With ``--check`` the exit status is 1 where the share is below nine
in ten, or where a band accuses cells without a fault.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # the kernels inherit it; two of them run side by side
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from measures import report, row
from slices import cells_for

from reclab import profiles, results
from reclab.run import kernel_environment, run_notebook

HERE = Path(__file__).resolve().parents[2]
CAUGHT = 0.9
NOTEBOOK = "the notebook"


@dataclass(frozen=True)
class Mutant:
    """A fault."""

    name: str  # what goes wrong
    notebook: str  # its number
    keys: tuple[str, ...]  # results that it should move; the cells that they rest on are run
    where: str  # file of the package, or `NOTEBOOK`
    old: str  # source text, which must be there exactly once
    new: str
    why: str = ""  # for one that no band can catch


MUTANTS = [
    Mutant(
        "labels are shuffled before the head is fitted",
        "00",
        ("00.auc_reviews_bert",),
        NOTEBOOK,
        'head.fit(encoded[: len(read)], read["positive"])',
        'head.fit(encoded[: len(read)], read["positive"].sample(frac=1, random_state=1).to_numpy())',
    ),
    Mutant(
        "greedy is sold as Thompson sampling",
        "00",
        ("00.regret_Thompson",),
        NOTEBOOK,
        'policies["Thompson"] = bandits.thompson()',
        'policies["Thompson"] = bandits.greedy()',
    ),
    Mutant(
        "the log says that all films were shown alike",
        "00",
        ("00.covered_IPS",),
        NOTEBOOK,
        "log.append((arm, clicked, chance[arm]))",
        "log.append((arm, clicked, np.full(batch, 1 / k)))",
    ),
    Mutant(
        "features are counted after the test begins",
        "01",
        ("01.leak_of_rate*", "01.leak_of_rated"),
        NOTEBOOK,
        'columns(test["timestamp"].min()), columns(',
        'columns(pd.Timestamp("2100-01-01", tz="UTC")), columns(',
    ),
    Mutant(
        "a row is joined to a state that has counted its own click",
        "01",
        ("01.leak_of_same_moment",),
        NOTEBOOK,
        '("before", False)',
        '("before", True)',
    ),
    Mutant(
        "a random split is sold as one by time",
        "01",
        ("01.auc_by_time",),
        NOTEBOOK,
        "rows = data.temporal(ratings, at=0.8), []",
        "rows = data.warm(ratings), []",
    ),
    Mutant(
        "titles keep their article at the end",
        "01",
        ("01.matched_*",),
        NOTEBOOK,
        'title = f"{article} {head}"',
        "title = title",
    ),
    Mutant(
        "films are joined without regard to the year",
        "01",
        ("01.matched_*", "01.genres_agree_joined"),
        NOTEBOOK,
        'pairs["apart"] <= 1]',
        'pairs["apart"] <= 99]',
    ),
    Mutant(
        "length groups hold texts of any length",
        "02",
        ("02.padding_length_groups",),
        "text.py",
        'rows = rows[np.argsort(rounded[rows], kind="stable")]',
        "rows = rows",
    ),
    Mutant(
        "the optimiser never steps",
        "02",
        ("02.perplexity_after",),
        "training.py",
        "        optimizer.step()\n",
        "",
    ),
    Mutant(
        "gradients are never cleared",
        "02",
        ("02.perplexity_after",),
        "training.py",
        "        optimizer.zero_grad()\n",
        "",
        why="clipped gradients that are kept act like momentum; one pass ends at the frequencies of words either way",
    ),
    Mutant(
        "praise and blame change places",
        "03",
        ("03.auc_zero_shot",),
        NOTEBOOK,
        "direction = unit(praise).mean(axis=0) - unit(blame).mean(axis=0)",
        "direction = unit(blame).mean(axis=0) - unit(praise).mean(axis=0)",
    ),
    Mutant(
        "departments are read off another review",
        "03",
        ("03.department_*",),
        NOTEBOOK,
        "right[name] = (guess == department).astype(float)",
        "right[name] = (guess == np.roll(department, 1)).astype(float)",
    ),
    Mutant(
        "the text modality is dropped",
        "04",
        ("04.ndcg_with_text", "04.gain_of_step_text"),
        NOTEBOOK,
        '"text": 5 * np.exp(4 * (alike(vectors) - 1)),',
        '"text": np.zeros((len(items), len(items))),',
    ),
    Mutant(
        "the facts of one film stand in the row of another",
        "04",
        ("04.gain_of_step_people", "04.wikidata_minus_shuffled"),
        "data/sources.py",
        'joined["matched"] = joined.pop("film_id").notna()',
        'joined["matched"] = joined.pop("film_id").notna()\n'
        "    joined[list(FACTS.values())] = joined[list(FACTS.values())].sample(frac=1, random_state=0).to_numpy()",
    ),
    Mutant(
        "a rating stands in its own statistics",
        "05",
        ("05.auc_warm_*", "05.log_loss_warm_*"),
        NOTEBOOK,
        "history(train[fold != f], train[fold == f])",
        "history(train, train[fold == f])",
    ),
    Mutant(
        "the film's content is dropped",
        "05",
        ("05.auc_cold_tower", "05.gain_cold_tower"),
        NOTEBOOK,
        '"content": content[i]}',
        '"content": np.zeros_like(content[i])}',
    ),
    Mutant(
        "worths are ignored",
        "07",
        ("07.earned_a_round_weighted",),
        "bandits.py",
        "return (weights * rng.beta(alpha + clicks, beta + misses)).argmax(1)",
        "return rng.beta(alpha + clicks, beta + misses).argmax(1)",
    ),
    Mutant(
        "places that nobody looked at count as refusals",
        "07",
        ("07.regret_places_known", "07.places_ignored_minus_known"),
        "bandits.py",
        "        looks[row, slate] += believed\n",
        "        looks[row, slate] += 1\n",
    ),
    Mutant(
        "regret is counted where no click came",
        "07",
        ("07.regret_unchanging_all", "07.regret_changing_all"),
        "bandits.py",
        "        regret += loss[row, arms]\n",
        "        regret += loss[row, arms] * ~clicked\n",
    ),
    Mutant(
        "propensities are inverted",
        "09",
        ("09.snips_over_click_rate_women", "09.effective_rows_women"),
        "ope.py",
        "self.weights = _of_shown(self.policy, log) / log.propensities",
        "self.weights = _of_shown(self.policy, log) * log.propensities",
    ),
    Mutant(
        "importance weights are ignored",
        "09",
        ("09.coverage_10000_IPS",),
        "ope.py",
        "return Estimate(case.zeros, case.weights * case.log.rewards, case.ones)",
        "return Estimate(case.zeros, case.log.rewards * 1.0, case.ones)",
    ),
    Mutant(
        "the covariate is measured after the treatment",
        "09",
        ("09.mean_effect_cuped", "09.sd_effect_cuped"),
        NOTEBOOK,
        "cuped(clicks, before)",
        "cuped(clicks, views)",
    ),
    Mutant(
        "an A/B test is read at every look",
        "09",
        ("09.false_alarms_one_look",),
        NOTEBOOK,
        "alarms[:, -1].mean(), SHARE",
        "alarms.any(axis=1).mean(), SHARE",
    ),
    Mutant(
        "NDCG discounts by one place too few",
        "10",
        ("10.ndcg_*", "10.temporal_ndcg_*"),  # without draws of ties, so the bands after the cut are narrow
        "metrics.py",
        "gain = 1 / np.log2(np.arange(k) + 2)",
        "gain = 1 / np.log2(np.maximum(np.arange(k) + 1, 2))",
    ),
    Mutant(
        "lists are drawn at random",
        "10",
        ("10.ndcg_*",),
        "rank.py",
        "    scores = np.asarray(scores)\n    if scores.ndim != 2:",
        "    scores = np.random.default_rng(0).random(np.shape(scores))\n    if scores.ndim != 2:",
    ),
    Mutant(
        "what users know already is recommended again",
        "10",
        ("10.ndcg_*",),
        NOTEBOOK,
        "lists = {name: rank.top_k(score, 10, exclude=rated) for name, score in scores.items()}",
        "lists = {name: rank.top_k(score, 10) for name, score in scores.items()}",
    ),
    Mutant(
        "test likes are leaked into training",
        "10",
        ("10.ndcg_*",),
        NOTEBOOK,
        "scores = score_all(X)",
        "scores = score_all(X + relevant)",
    ),
    Mutant(
        "EASE divides its rows, not its columns",
        "10",
        ("10.ndcg_EASE", "10.temporal_ndcg_EASE"),
        "rank.py",
        "        weights /= -np.diag(weights)\n",
        "        weights /= -np.diag(weights)[:, None]\n",
    ),
    Mutant(
        "the first like is held out, not the last",
        "10",
        ("10.ndcg_*",),
        "data/schema.py",
        '.sort_values("timestamp", kind="stable").groupby("user_id").tail(1)',
        '.sort_values("timestamp", kind="stable").groupby("user_id").head(1)',
    ),
    Mutant(
        "novelty is counted in nats",
        "10",
        ("10.novelty_*",),
        "metrics.py",
        "bits = -np.log2(",
        "bits = -np.log(",
    ),
    Mutant(
        "the judge's answers change places",
        "11",
        ("11.review_auc_few_shot",),
        "judge.py",
        "return self.log_p[:, 0] - np.logaddexp.reduce(self.log_p[:, 1:], axis=1)",
        "return np.logaddexp.reduce(self.log_p[:, 1:], axis=1) - self.log_p[:, 0]",
    ),
    Mutant(
        "the judge reads the film that was disliked as the liked one",
        "11",
        ("11.taste_auc_popularity", "11.taste_auc_genres"),
        NOTEBOOK,
        "for film, y in ((up[user][0], 1), (down[user][0], 0))",
        "for film, y in ((up[user][0], 0), (down[user][0], 1))",
    ),
    Mutant(
        "a re-ranked film is counted one place too high",
        "11",
        ("11.rerank_ndcg_EASE", "11.rerank_ndcg_chance"),
        NOTEBOOK,
        "return 1 / np.log2(ranks + 1)",
        "return 1 / np.log2(np.maximum(ranks, 1.5))",
    ),
    Mutant(
        "bids are ignored by what counts clicks",
        "16",
        ("16.ads_thompson", "16.ads_gain_over_random"),
        "systems.py",
        "lists = best(rates * self.worth, offered, len(self.looks))",
        "lists = best(rates, offered, len(self.looks))",
    ),
    Mutant(
        "a place that nobody looks at earns as much as the first",
        "16",
        ("16.ads_*",),
        "loop.py",
        'value * world.looks[log["place"]] * world.worth[item]',
        "value * world.worth[item]",
    ),
    Mutant(
        "the simulator has learnt from the ratings that it is tested on",
        "16",
        ("16.films_simulator_auc",),
        NOTEBOOK,
        "worlds.fit_likes(films, np.flatnonzero(~held_out), seed=profile.seed)",
        "worlds.fit_likes(films, np.arange(len(liked)), seed=profile.seed)",
    ),
    Mutant(
        "days that were kept are not learnt from after a restart",
        "16",
        ("16.resumed_is_the_same",),
        "loop.py",
        "        system.retrain(pd.concat(log, ignore_index=True))\n",
        "        if before is None:\n            system.retrain(pd.concat(log, ignore_index=True))\n",
    ),
    Mutant(
        "propensities are not inverted",
        "12",
        ("12.rate_weighted_minus_truth_planted_1",),
        NOTEBOOK,
        'return 1 / (shop.propensities > 0).sum(axis=1) / shop.interactions["propensity"].to_numpy()',
        'return (shop.propensities > 0).sum(axis=1) * shop.interactions["propensity"].to_numpy()',
    ),
    Mutant(
        "exposure is counted for the sellers that are not meant",
        "12",
        ("12.exposure_gap_even_record",),
        "stress.py",
        "(weights * favoured[lists])",
        "(weights * ~favoured[lists])",
    ),
    Mutant(
        "members are told from members",
        "12",
        ("12.membership_words_loose",),
        NOTEBOOK,
        "for rows in (inside, outside)]",
        "for rows in (inside, inside)]",
    ),
]


def replaced(source: str, mutant: Mutant) -> str:
    """The source with the fault."""
    if (times := source.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name!r}: its text stands {times} times in {mutant.where}, not once: {mutant.old!r}")
    return source.replace(mutant.old, mutant.new)


def notebook(number: str):
    return results.read_notebook(*results.find_notebooks([number], HERE / "notebooks"))


def planted(mutant: Mutant, node):
    """The cells that its results rest on, with the fault where it is one of the notebook."""
    node = cells_for(node, list(mutant.keys))
    if mutant.where == NOTEBOOK:
        holding = [cell for cell in node.cells if mutant.old in cell.source]
        if len(holding) != 1:
            raise ValueError(f"{mutant.name!r}: its text stands in {len(holding)} cells, not in one: {mutant.old!r}")
        holding[0].source = replaced(holding[0].source, mutant)
    return node


def outside(number: str, node, mutant: Mutant | None, folder: Path, derived: Path) -> list[str]:
    """Run some cells of a notebook with a copy of the package; the results outside their bands.

    Raises ValueError: they stopped with an error, so no band was tried.
    """
    shutil.copytree(HERE / "reclab", folder / "reclab", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").symlink_to(HERE / "notebooks", target_is_directory=True)
    if mutant and mutant.where != NOTEBOOK:
        path = folder / "reclab" / mutant.where
        path.write_text(replaced(path.read_text("utf-8"), mutant), "utf-8")
    env = kernel_environment(profiles.get_profile("laptop"), derived=derived, ledger=folder / "ledger")
    (path,) = results.find_notebooks([number], HERE / "notebooks")
    done = run_notebook(path, env=env | {"PYTHONPATH": str(folder)}, node=node)
    if done.error and "LeakageError" in done.error:  # the notebook's own guard, which comes before any band
        return ["check_leakage"]
    if done.error:
        raise ValueError(f"{mutant.name if mutant else 'without a fault'}, notebook {number}: {done.error}")
    return [key for key, result in done.results.items() if result.verdict == results.OUTSIDE]


def honest(number: str, mutants: list[Mutant], folder: Path) -> dict:
    """The cells of all faults of a notebook without any of them, and the bands that accuse them."""
    node = cells_for(notebook(number), [key for mutant in mutants for key in mutant.keys])
    bands = outside(number, node, None, folder / f"honest-{number}", folder / "derived")
    return row(f"{number} without a fault, results outside", len(bands), "results", most=0) | {"bands": bands}


def caught(mutant: Mutant, folder: Path, place: int) -> dict:
    """A fault, and the bands that caught it."""
    # what is kept was made of the texts and tables as they should be: a fault in them gets a cache of its own
    own = mutant.where.startswith(("data/", "text.py"))
    derived = folder / (f"derived-{place}" if own else "derived")
    node = planted(mutant, notebook(mutant.notebook))
    bands = outside(mutant.notebook, node, mutant, folder / f"fault-{place}", derived)
    line = row(f"{mutant.notebook}: {mutant.name}", len(bands), "bands") | {"bands": bands}
    return line | ({"why": mutant.why} if mutant.why else {})


def measure(mutants: list[Mutant], jobs: int) -> Iterator[dict]:
    """The cells without a fault, then each fault, then the share that was caught."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(jobs) as pool:
        folder, numbers = Path(name), sorted({mutant.notebook for mutant in mutants})
        groups = [[mutant for mutant in mutants if mutant.notebook == number] for number in numbers]
        yield from pool.map(honest, numbers, groups, [folder] * len(numbers))
        n_caught = 0
        for line in pool.map(caught, mutants, [folder] * len(mutants), range(len(mutants))):
            n_caught += line["value"] > 0
            yield line
    share = n_caught / len(mutants)
    yield row(f"share of {len(mutants)} faults that a band or check_leakage caught", share, "", least=CAUGHT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Plant faults and see which bands catch them.")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--only", default="", metavar="WORD", help="only faults with this word, or of this notebook")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks that run side by side")
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if args.only in m.name or args.only == m.notebook]
    sys.exit(report(measure(chosen, args.jobs), args.check))
