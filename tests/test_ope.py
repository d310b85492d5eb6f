"""Off-policy estimators against golden values, brute force and simulated truths; the checks against planted faults."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reclab import data, ope
from reclab.errors import ReclabError, SchemaError
from reclab.metrics import Interval
from reclab.ope import Case, Log, read_log

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden" / "ope.json").read_text("utf-8"))
# Golden values (tests/golden/make_ope_golden.py makes them without reclab)


@pytest.fixture(scope="module")
def random_log() -> Log:
    log = data.open_bandit("all", "random")
    return read_log(log.interactions, log.items["item_id"])


@pytest.fixture(scope="module")
def frozen() -> np.ndarray:
    """The production policy, (80, 3)."""
    return np.array(GOLDEN["open_bandit"]["draws"]) / GOLDEN["settings"]["draws"]


def smoothed_rates(log: Log) -> np.ndarray:
    cells = pd.DataFrame({"arm": log.arms, "position": log.positions, "click": log.rewards})
    clicks = cells.pivot_table("click", "arm", "position", aggfunc=["sum", "count"], fill_value=0)
    return ((clicks["sum"] + 1) / (clicks["count"] + 200)).to_numpy()


def generated(n: int = 2_000, n_arms: int = 7, n_positions: int = 3) -> tuple[Log, np.ndarray, np.ndarray]:
    """The log, policy and model, both (n, n_arms, n_positions), that make_ope_golden.py gave to obp."""
    rng = np.random.default_rng(11)
    logging = rng.dirichlet(np.ones(n_arms), size=n)
    arms = (logging.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    policy = rng.dirichlet(np.full(n_arms, 0.5), size=(n, n_positions)).transpose(0, 2, 1)
    rewards = (rng.random(n) < 0.1 + 0.1 * arms).astype(int)
    positions = rng.integers(n_positions, size=n)
    return Log(arms, rewards, logging[np.arange(n), arms], n_arms, positions), policy, rng.random(policy.shape)


def generated_case() -> Case:
    log, *tables = generated()
    return Case(log, *(table[np.arange(len(log)), :, log.positions] for table in tables))


def assert_golden(case: Case, expected: dict[str, float]) -> None:
    chosen = GOLDEN["settings"]
    found = ope.estimate_all(case) | {"Switch-DR": ope.switch_dr(case, chosen["tau"])}
    found["DRos"] = ope.dros(case, chosen["shrinkage"])
    assert {name: found[name].value for name in expected} == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_open_bandits_estimates_are_those_of_obp(random_log, frozen):
    case = Case(random_log, frozen, smoothed_rates(random_log))
    assert_golden(case, GOLDEN["open_bandit"]["estimates"])
    assert ope.ips(case).value == pytest.approx(GOLDEN["open_bandit"]["value"], rel=1e-12)


def test_estimates_with_a_policy_for_each_row_are_those_of_obp():
    assert_golden(generated_case(), GOLDEN["generated"])


def fixed_policy(n_arms: int, *arms: int) -> np.ndarray:
    """A policy without chance: one arm for each position."""
    return np.eye(n_arms)[list(arms)].T


def test_replay_is_that_of_obp():
    log = generated()[0]
    log.propensities[:] = 1 / 7
    found = ope.replay(Case(log, fixed_policy(7, 6, 2, 4)))
    assert found.value == pytest.approx(GOLDEN["replay"], rel=1e-12)


# Each estimator at its limits


def test_estimators_meet_at_their_limits():
    case = generated_case()
    assert case.weights.max() > 10, "nothing would be cut"
    cut = np.mean([min(w, 10) * r for w, r in zip(case.weights, case.log.rewards, strict=True)])
    assert ope.clipped_ips(case).value == pytest.approx(cut, rel=1e-12)
    assert ope.clipped_ips(case, np.inf).value == ope.ips(case).value
    assert ope.switch_dr(case, np.inf).value == ope.dr(case).value
    assert ope.switch_dr(case, 0).value == ope.dm(case).value
    assert ope.dros(case, 1e-15).value == pytest.approx(ope.dm(case).value, rel=1e-9)
    assert ope.dros(case, 1e15).value == pytest.approx(ope.dr(case).value, rel=1e-9)
    blank = Case(case.log, case.policy, np.zeros(7))
    assert ope.dr(blank).value == ope.ips(blank).value and ope.sndr(blank).value == ope.snips(blank).value


def test_without_weights_of_its_own_a_policy_gets_the_mean_reward(random_log):
    case = Case(random_log, np.full(80, 1 / 80))
    for estimate in ope.estimate_all(case).values():
        assert estimate.value == pytest.approx(random_log.rewards.mean())


def test_a_policy_has_the_same_value_in_each_of_its_shapes():
    log = generated()[0]
    policy, model = np.arange(1, 8) / 28, np.arange(7) / 10
    shapes = [lambda x: x, lambda x: np.tile(x[:, None], (1, 3)), lambda x: np.tile(x, (len(log), 1))]
    found = [
        {name: e.value for name, e in ope.estimate_all(Case(log, one(policy), other(model))).items()}
        for one in shapes
        for other in shapes
    ]
    assert all(values == pytest.approx(found[0], rel=1e-12) for values in found)


def test_positions_and_rows_are_told_apart():
    log, policy, model = generated()
    by_position = Case(log, policy[0], model[0])
    by_row = Case(log, policy[0].T[log.positions], model[0].T[log.positions])
    assert (by_position.weights == policy[0][log.arms, log.positions] / log.propensities).all()
    assert (by_row.weights == by_position.weights).all() and (by_row.errors == by_position.errors).all()
    assert by_row.expected == pytest.approx((policy[0] * model[0]).sum(axis=0)[log.positions])


# Simulated worlds of known truth

RATES = np.array([0.30, 0.20, 0.10, 0.05, 0.02])
LOGGING, VALUED = np.array([0.1, 0.2, 0.3, 0.2, 0.2]), np.array([0.5, 0.2, 0.1, 0.1, 0.1])
TRUTH = float(VALUED @ RATES)


def simulated(n: int, seed: int, logging=LOGGING) -> Log:
    rng = np.random.default_rng(seed)
    arms = rng.choice(len(logging), size=n, p=logging)
    return Log(arms, rng.random(n) < RATES[arms], logging[arms], len(logging))


def z_score(estimates) -> float:
    values = np.array(list(estimates))
    return (values.mean() - TRUTH) / (values.std(ddof=1) / np.sqrt(len(values)))


@pytest.fixture(scope="module")
def worlds() -> list[Case]:
    wrong = np.full(5, 0.5)
    return [Case(simulated(2_000, seed), VALUED, wrong) for seed in range(400)]


def test_ips_and_dr_are_unbiased_even_with_a_wrong_model(worlds):
    for estimator in (ope.ips, ope.dr):
        assert abs(z_score(estimator(case).value for case in worlds)) < 4


def test_dm_is_as_wrong_as_its_model_and_dr_needs_only_one_of_the_two(worlds):
    assert ope.dm(worlds[0]).value == pytest.approx(0.5)
    shifted = [Log(c.log.arms, c.log.rewards, np.full(len(c.log), 0.2), 5) for c in worlds]
    assert abs(z_score(ope.dr(Case(log, VALUED, RATES)).value for log in shifted)) < 4
    assert abs(z_score(ope.dr(Case(log, VALUED, np.full(5, 0.5))).value for log in shifted)) > 10


def test_replay_is_right_on_an_even_log_and_wrong_on_any_other(worlds):
    greedy = np.eye(5)[0]
    even = [Case(simulated(2_000, seed, np.full(5, 0.2)), greedy) for seed in range(200)]
    values = np.array([ope.replay(case).value for case in even])
    assert abs(values.mean() - RATES[0]) < 4 * values.std() / np.sqrt(200)
    with pytest.raises(ReclabError, match=r"showed all arms alike, got propensities 0\.1 to 0\.3"):
        ope.replay(Case(worlds[0].log, greedy))
    with pytest.raises(ReclabError, match="a policy without chance"):
        ope.replay(Case(even[0].log, VALUED))


@pytest.mark.parametrize("name", ["IPS", "SNIPS", "DR", "SNDR"])
def test_normal_intervals_cover_the_truth_where_there_are_rows_enough(worlds, name):
    found = [ope.estimate_all(case)[name].normal() for case in worlds]
    covered = np.mean([low <= TRUTH <= high for _, low, high in found])
    assert stats.binomtest(round(covered * 400), 400, 0.95).pvalue > 1e-3


def test_the_bootstrap_agrees_with_the_normal_interval_in_large_samples():
    estimates = ope.estimate_all(Case(simulated(20_000, 3), VALUED, np.linspace(0.1, 0.5, 5)))
    for name, drawn in ope.bootstrap(estimates, 2_000).items():
        normal = estimates[name].normal()
        assert drawn.value == normal.value
        # without contexts, the value of DM does not move with the rows
        assert drawn.high - drawn.low == pytest.approx(normal.high - normal.low, rel=0.1, abs=1e-12), name


def test_the_bootstrap_forms_each_estimate_anew_in_each_draw():
    case, drawn = generated_case(), []
    for draw in np.random.default_rng(5).integers(2_000, size=(300, 2_000)):
        log = Log(*(part[draw] for part in (case.log.arms, case.log.rewards, case.log.propensities)), 7)
        drawn.append({k: e.value for k, e in ope.estimate_all(Case(log, case.policy[draw], case.model[draw])).items()})
    found = ope.bootstrap(ope.estimate_all(case), 300, seed=5)
    narrow = ope.bootstrap(ope.estimate_all(case), 300, seed=5, level=0.5)
    for name, column in pd.DataFrame(drawn).items():
        assert found[name][1:] == pytest.approx(np.quantile(column, [0.025, 0.975]), rel=1e-9)
        assert narrow[name][1:] == pytest.approx(np.quantile(column, [0.25, 0.75]), rel=1e-9)


# Clicks, weights, propensities, support


@pytest.mark.parametrize(("clicks", "shown"), [(0, 10), (1, 10), (5, 10), (10, 10), (38, 10_000)])
def test_clopper_pearson_inverts_the_binomial_tails(clicks, shown):
    value, low, high = ope.clopper_pearson(clicks, shown, level=0.9)
    assert value == clicks / shown
    assert low == 0 if clicks == 0 else stats.binom.sf(clicks - 1, shown, low) == pytest.approx(0.05)
    assert high == 1 if clicks == shown else stats.binom.cdf(clicks, shown, high) == pytest.approx(0.05)


def test_effective_sample_size():
    assert ope.effective_sample_size(np.full(50, 0.3)) == pytest.approx(50)
    assert ope.effective_sample_size(np.eye(50)[7]) == 1
    assert ope.effective_sample_size([1, 1, 2]) == pytest.approx(16 / 6)


def test_propensities_of_real_logs_add_up(random_log):
    found = ope.check_propensities(random_log)
    assert (found.smallest, found.largest) == (1 / 80, 1 / 80)
    assert found.mean_inverse[0] == pytest.approx(80) and found.sums == pytest.approx([1, 1, 1])
    assert found.alarms == []
    log = data.open_bandit("women", "bts")
    found = ope.check_propensities(read_log(log.interactions, log.items["item_id"]))
    assert found.smallest == 1e-6 and found.alarms == []
    assert found.mean_inverse.low < 46 < found.mean_inverse.high


def test_wrong_propensities_and_missing_rows_raise_an_alarm():
    log = simulated(50_000, 0)
    assert ope.check_propensities(log).alarms == []
    assert ope.check_propensities(log).sums == pytest.approx([1], abs=0.01)
    spoilt = Log(log.arms, log.rewards, np.minimum(1, 1.2 * log.propensities), 5)
    (alarm,) = ope.check_propensities(spoilt).alarms
    assert "not the number of arms, 5" in alarm

    rest = log.arms != 2
    found = ope.check_propensities(Log(log.arms[rest], log.rewards[rest], log.propensities[rest], 5))
    assert found.sums == pytest.approx([1 - LOGGING[2]]) and found.alarms


def test_what_the_policy_plays_and_the_log_never_shows_is_counted():
    log, policy, _ = generated()
    keep = (log.arms != 3) | (log.positions != 1)
    parts = [part[keep] for part in (log.arms, log.rewards, log.propensities)]
    cut = Log(*parts, 7, log.positions[keep])
    by_hand = np.where(cut.positions == 1, policy[0, 3, 1], 0).mean()
    assert by_hand > 0
    assert ope.check_overlap(Case(cut, policy[0])).unseen == pytest.approx(by_hand)
    rows = np.flatnonzero(keep)
    by_row = policy[rows, :, cut.positions]
    expected = np.where(cut.positions == 1, by_row[:, 3], 0).mean()
    assert ope.check_overlap(Case(cut, by_row)).unseen == pytest.approx(expected)


def test_overlap_of_a_sound_case_has_no_alarm(worlds):
    found = ope.check_overlap(worlds[0])
    assert found.alarms == [] and found.unseen == 0 and (found.rows, found.used) == (2_000, 2_000)
    assert found.effective == pytest.approx(2_000 / (VALUED**2 / LOGGING).sum(), rel=0.1)
    assert found.largest == 5 and "effective sample size" in str(found)


def test_overlap_sees_each_planted_fault():
    log = simulated(2_000, 1)
    cases = {
        "the mean weight is": Case(Log(log.arms, log.rewards, LOGGING[log.arms] / 2, 5), VALUED),
        "is never shown": Case(simulated(2_000, 1, np.array([0.0, 0.25, 0.25, 0.25, 0.25])), VALUED),
        "say as much as": Case(simulated(50, 1), VALUED),
    }
    for words, case in cases.items():
        assert any(words in alarm for alarm in ope.check_overlap(case).alarms), words


def test_impossible_estimates_raise_an_alarm():
    log = Log([0, 1, 1, 1], [0, 0, 0, 0], [0.1, 0.9, 0.9, 0.9], 2)
    negative = ope.dr(Case(log, [0.9, 0.1], [0.2, 0.1]))
    found = ope.impossible({"DR": negative.normal(), "sound": Interval(0.5, 0.1, 0.9)})
    assert negative.value < 0 and len(found) == 1 and found[0].startswith("DR: -0.")
    assert "is impossible" in found[0]
    reaching = ope.impossible({"a": Interval(0.1, -0.1, 0.3), "b": Interval(2, 1, 4)}, high=3)
    assert [alarm[0] for alarm in reaching] == ["a", "b"] and all("reaches out" in alarm for alarm in reaching)
    assert ope.impossible({"nan": Interval(float("nan"), 0, 1)})


# Bad input

ARMS, CLICKS, CHANCES = [0, 1, 1], [0, 1, 0], [0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([], [], [], 2), "the log is empty"),
        (([0, 2, 1], CLICKS, CHANCES, 2), r"row 1 of the log: arm 2; arms are 0\.\.1"),
        (([0, -1, 1], CLICKS, CHANCES, 2), "row 1 of the log: arm -1"),
        (([0.0, 1.0, 1.0], CLICKS, CHANCES, 2), "arms must be whole numbers"),
        ((ARMS, [0, np.nan, 1], CHANCES, 2), "row 1 of the log: reward nan"),
        *[((ARMS, CLICKS, [0.5, p, 0.5], 2), f"row 1 of the log: propensity {p}; ") for p in (0.0, np.nan, 1.5, -0.1)],
        ((ARMS, CLICKS, [0.5, 0.5], 2), "one number a row in each column"),
        ((ARMS, CLICKS, CHANCES, 2, [0, -1, 0]), "row 1 of the log: position -1"),
        ((ARMS, CLICKS, CHANCES, 2, [0.5, 1, 0]), "positions must be whole numbers"),
        (([ARMS], [CLICKS], [CHANCES], 2), "one number a row in each column"),
    ],
)
def test_a_bad_log_is_refused_by_row(parts, message):
    with pytest.raises(SchemaError, match=message):
        Log(*parts)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([1.5, -0.5], r"probabilities in \[0, 1\], got -0\.5 to 1\.5"),  # though the sum is right
        ([0.5, 0.4], r"must sum to 1 over the arms, at position 0 they sum to 0\.9"),
        ([[0.5, 0.5], [0.5, 0.5], [0.6, 0.3]], r"at row 2 they sum to 0\.9"),
        ([0.5, np.nan], "policy has a value that is missing"),
        ([0.3, 0.3, 0.4], r"policy must be \(2,\)"),
        (0.5, r"policy must be \(2,\)"),
    ],
)
def test_a_bad_policy_is_refused(policy, message):
    with pytest.raises(SchemaError, match=message):
        Case(Log(ARMS, CLICKS, CHANCES, 2), policy)


def test_a_policy_or_a_model_that_does_not_fit_the_log_is_refused():
    with pytest.raises(SchemaError, match=r"n_positions >= 3.*got \(2, 1\)"):
        Case(Log(ARMS, CLICKS, CHANCES, 2, [0, 1, 2]), [[0.5], [0.5]])
    with pytest.raises(ReclabError, match="says nothing of this policy"):
        Case(Log([0, 0], [1, 0], [0.5, 0.5], 2), [0.0, 1.0])
    log = Log(ARMS, CLICKS, CHANCES, 2)
    with pytest.raises(SchemaError, match="model has a value"):
        Case(log, [0.5, 0.5], [0.1, np.inf])
    with pytest.raises(SchemaError, match="model must be"):
        Case(log, [0.5, 0.5], [0.1] * 4)


@pytest.mark.parametrize("estimator", [ope.dm, ope.dr, ope.sndr, ope.switch_dr, ope.dros])
def test_an_estimator_that_needs_a_model_says_so(estimator):
    case = Case(Log(ARMS, CLICKS, CHANCES, 2), [0.5, 0.5])
    with pytest.raises(ReclabError, match="needs a reward model"):
        estimator(case)
    assert set(ope.estimate_all(case)) == {"IPS", "clipped IPS", "SNIPS"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda case: ope.clipped_ips(case, 0), "most, the largest weight kept, must be above 0"),
        (lambda case: ope.clipped_ips(case, np.nan), "got nan"),
        (lambda case: ope.switch_dr(case, -1), "tau, the largest weight to trust"),
        (lambda case: ope.dros(case, -1), "shrinkage must be a finite number"),
        (lambda case: ope.dros(case, np.inf), "or use dr"),
        (lambda case: ope.ips(case).normal(1.0), "level must lie between 0 and 1"),
        (lambda case: ope.bootstrap({}), "needs estimates of one log, got 0"),
        (lambda case: ope.effective_sample_size([0.0, 0.0]), "not all of them 0"),
        (lambda case: ope.effective_sample_size([1.0, -1.0]), "at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    case = Case(Log(ARMS, CLICKS, CHANCES, 2), [0.5, 0.5], [0.1, 0.2])
    with pytest.raises(ReclabError, match=message):
        call(case)


def test_estimates_of_two_logs_are_not_redrawn_together():
    short, long = (ope.ips(Case(simulated(n, 0), VALUED)) for n in (10, 20))
    with pytest.raises(SchemaError, match=r"got 2 of \[10, 20\] rows"):
        ope.bootstrap({"a": short, "b": long})


def test_a_table_becomes_a_log():
    table = pd.DataFrame({"item_id": ["b", "a", "b"], "positive": [True, False, False], "propensity": [0.5] * 3})
    log = read_log(table, ["a", "b", "c"])
    assert (log.arms.tolist(), log.rewards.tolist(), log.n_arms) == ([1, 0, 1], [1, 0, 0], 3)
    assert log.positions.tolist() == [0, 0, 0]
    log = read_log(table.assign(reward=[5.0, 0, 2], position=[1, 2, 3]), ["a", "b", "c"])
    assert (log.rewards.tolist(), log.positions.tolist()) == ([5, 0, 2], [0, 1, 2])


def test_a_table_that_is_no_log_is_refused():
    table = pd.DataFrame({"item_id": ["b", "a"], "positive": [True, False], "propensity": [0.5, 0.5]})
    with pytest.raises(SchemaError, match="row 0: item 'b' is not among the 1 arms"):
        read_log(table, ["a"])
    with pytest.raises(SchemaError, match="no column propensity"):
        read_log(table.drop(columns="propensity"), ["a", "b"])
    with pytest.raises(SchemaError, match="the log is empty"):
        read_log(table[:0], ["a", "b"])
    with pytest.raises(SchemaError, match="row 1 of the log: propensity nan"):
        read_log(table.assign(propensity=[0.5, None]), ["a", "b"])
