"""Golden values of off-policy estimators on the open bandit log and on generated logs, made without reclab.

Environment (obp pins nothing, but nobody else needs it, so it is one of its own)::

    python3.11 -m venv golden-obp
    golden-obp/bin/python -m pip install obp==0.4.1
    golden-obp/bin/python tests/golden/make_ope_golden.py

The log of the open bandit lies in obp's wheel. obp 0.4.1 cannot encode its features with pandas 2 and later; they
are not used here, so that step is replaced by one that does nothing.

- Anchors: the quick start of obp's own repository values the production policy (its frozen prior, 100,000 draws of
  Thompson sampling, seed 12345) on the log of the random policy, campaign "all". How often each item was drawn at each
  position is written too, so that others need not draw.
- Open bandit: the same, with every estimator of obp. The reward model is the smoothed click rate of each item and
  position, ``(clicks + 1) / (shown + 200)``.
- Generated: a policy and a reward model that differ in each row (see `generated`).
- Replay: the generated log and a policy without chance (obp's replay does not look at propensities).
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from obp.dataset import OpenBanditDataset
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    DoublyRobustWithShrinkage,
    InverseProbabilityWeighting,
    OffPolicyEvaluation,
    ReplayMethod,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SwitchDoublyRobust,
)
from obp.policy import BernoulliTS

DRAWS, SEED, TAU, SHRINKAGE = 100_000, 12_345, 2.0, 10.0


class Log(OpenBanditDataset):
    """The log without the encoding of features."""

    def pre_process(self):
        self.context, self.action_context = np.zeros((len(self.data), 1)), np.zeros((self.n_actions, 1))


def estimators() -> list:
    return [
        InverseProbabilityWeighting(estimator_name="IPS"),
        SelfNormalizedInverseProbabilityWeighting(estimator_name="SNIPS"),
        DirectMethod(estimator_name="DM"),
        DoublyRobust(estimator_name="DR"),
        SelfNormalizedDoublyRobust(estimator_name="SNDR"),
        SwitchDoublyRobust(tau=TAU, estimator_name="Switch-DR"),
        DoublyRobustWithShrinkage(lambda_=SHRINKAGE, estimator_name="DRos"),
    ]


def smoothed_rates(feedback: dict) -> np.ndarray:
    """Click rate of each item and position, (n_actions, 3), drawn towards one in two hundred."""
    cells = feedback["action"], feedback["position"]
    clicks, shown = np.zeros((feedback["n_actions"], 3)), np.zeros((feedback["n_actions"], 3))
    np.add.at(clicks, cells, feedback["reward"])
    np.add.at(shown, cells, 1)
    return (clicks + 1) / (shown + 200)


def generated(n: int = 2_000, n_arms: int = 7, n_positions: int = 3) -> dict[str, np.ndarray]:
    """A log whose logging policy, valued policy and reward model differ in each row and position.

    ``policy`` and ``model`` have the shape (n, n_arms, n_positions).
    """
    rng = np.random.default_rng(11)
    logging = rng.dirichlet(np.ones(n_arms), size=n)
    arms = (logging.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    policy = rng.dirichlet(np.full(n_arms, 0.5), size=(n, n_positions)).transpose(0, 2, 1)
    return {
        "arms": arms,
        "rewards": (rng.random(n) < 0.1 + 0.1 * arms).astype(int),
        "propensities": logging[np.arange(n), arms],
        "positions": rng.integers(n_positions, size=n),
        "policy": policy,
        "model": rng.random((n, n_arms, n_positions)),
    }


def values(found: dict) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}


def estimate(feedback: dict, policy: np.ndarray, model: np.ndarray) -> dict[str, float]:
    evaluation = OffPolicyEvaluation(bandit_feedback=feedback, ope_estimators=estimators())
    inputs = {"action_dist": policy, "estimated_rewards_by_reg_model": model}
    return values(evaluation.estimate_policy_values(**inputs))


def open_bandit() -> dict:
    log = Log(behavior_policy="random", campaign="all")
    feedback = log.obtain_batch_bandit_feedback()
    shape = {"n_actions": log.n_actions, "len_list": log.len_list}
    frozen = BernoulliTS(**shape, random_state=SEED, is_zozotown_prior=True, campaign="all")
    policy = frozen.compute_batch_action_dist(n_sim=DRAWS, n_rounds=feedback["n_rounds"])
    truth = OpenBanditDataset.calc_on_policy_policy_value_estimate.__func__(Log, behavior_policy="bts", campaign="all")
    evaluation = OffPolicyEvaluation(bandit_feedback=feedback, ope_estimators=estimators()[:1])
    summary, intervals = evaluation.summarize_off_policy_estimates(
        action_dist=policy, n_bootstrap_samples=10_000, random_state=SEED
    )
    errors = evaluation.evaluate_performance_of_estimators(ground_truth_policy_value=float(truth), action_dist=policy)
    model = np.broadcast_to(smoothed_rates(feedback), policy.shape)
    return {
        "draws": (policy[0] * DRAWS).round().astype(int).tolist(),
        "value": float(summary.loc["IPS", "estimated_policy_value"]),
        "relative": float(summary.loc["IPS", "relative_estimated_policy_value"]),
        "interval": intervals.loc["IPS"].iloc[1:].tolist(),
        "relative_error": float(errors["IPS"]),
        "estimates": estimate(feedback, policy, model),
    }


def generated_estimates() -> dict[str, float]:
    made = generated()
    feedback = {"action": made["arms"], "reward": made["rewards"], "pscore": made["propensities"]}
    feedback |= {"position": made["positions"], "context": np.zeros((len(made["arms"]), 1)), "n_actions": 7}
    return estimate(feedback, made["policy"], made["model"])


def replayed() -> float:
    made = generated()
    policy = np.zeros((len(made["arms"]), 7, 3))
    policy[:, 6, 0] = policy[:, 2, 1] = policy[:, 4, 2] = 1
    inputs = {"reward": made["rewards"], "action": made["arms"], "position": made["positions"]}
    return float(ReplayMethod().estimate_policy_value(action_dist=policy, **inputs))


def main() -> None:
    golden = {
        "settings": {"draws": DRAWS, "tau": TAU, "shrinkage": SHRINKAGE},
        "versions": {name: version(name) for name in ("obp", "numpy", "pandas", "scipy", "scikit-learn")},
        "open_bandit": open_bandit(),
        "generated": generated_estimates(),
        "replay": replayed(),
    }
    target = Path(__file__).with_name("ope.json")
    target.write_text(json.dumps(golden) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
