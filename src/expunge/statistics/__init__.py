"""The statistics that audits rest on: arrays in, frozen results out; NumPy and SciPy only."""

from __future__ import annotations

from expunge.statistics.baseline import BlindBaseline, blind_baseline, blind_baseline_on_features
from expunge.statistics.counts import (
    Band,
    clopper_pearson,
    compare_distributions,
    dkw_band,
    lower_limit,
    negatives_needed,
    tpr_at,
    upper_limit,
)
from expunge.statistics.decision import Decision, Family, decide, holm
from expunge.statistics.epsilon import (
    EpsilonBound,
    Errors,
    epsilon_lower,
    epsilon_of,
    epsilon_upper,
    most_provable,
    split_epsilon,
    split_epsilons,
)
from expunge.statistics.paired import Facts, groups_needed
from expunge.statistics.power import (
    detectable_auc,
    detectable_mean,
    excludable_auc,
    excludable_mean,
    larger_family,
    units_to_exclude_auc,
)
from expunge.statistics.rank import RankAgreement, rank_agreement, smallest_rank_p
from expunge.statistics.recovered import (
    Groups,
    compare_groups,
    compare_recovered,
    excludable_recovered,
    gap_p_value,
)
from expunge.statistics.resample import mean_over_both, over_models
from expunge.statistics.result import Effect, Interval
from expunge.statistics.roc_area import auc, compare_auc

__all__ = [
    "Band",
    "BlindBaseline",
    "Decision",
    "Effect",
    "EpsilonBound",
    "Errors",
    "Facts",
    "Family",
    "Groups",
    "Interval",
    "RankAgreement",
    "auc",
    "blind_baseline",
    "blind_baseline_on_features",
    "clopper_pearson",
    "compare_auc",
    "compare_distributions",
    "compare_groups",
    "compare_recovered",
    "decide",
    "detectable_auc",
    "detectable_mean",
    "dkw_band",
    "epsilon_lower",
    "epsilon_of",
    "epsilon_upper",
    "excludable_auc",
    "excludable_mean",
    "excludable_recovered",
    "gap_p_value",
    "groups_needed",
    "holm",
    "larger_family",
    "lower_limit",
    "mean_over_both",
    "most_provable",
    "negatives_needed",
    "over_models",
    "rank_agreement",
    "smallest_rank_p",
    "split_epsilon",
    "split_epsilons",
    "tpr_at",
    "units_to_exclude_auc",
    "upper_limit",
]
