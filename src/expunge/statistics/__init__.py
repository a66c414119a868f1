"""The statistics that audits rest on: arrays in, frozen results out; NumPy and SciPy only."""

from __future__ import annotations

from expunge.statistics.baseline import Blind, blind, blind_features
from expunge.statistics.compare import compare_auc, compare_means, compare_pairs, compare_rates
from expunge.statistics.counts import (
    clopper_pearson,
    lower_limit,
    negatives_needed,
    tpr_at,
    upper_limit,
)
from expunge.statistics.decision import Decision, Family, decide, holm
from expunge.statistics.distance import Band, compare_distributions, dkw_band
from expunge.statistics.epsilon import (
    Errors,
    detectable_epsilon,
    epsilon_lower,
    epsilon_of,
    epsilon_power,
    epsilon_upper,
    most_provable,
)
from expunge.statistics.levels import Component, Decomposition, Seeds, decompose
from expunge.statistics.paired import Facts, groups_needed
from expunge.statistics.permute import Permuted, permute_groups, permute_pairs, smallest_p
from expunge.statistics.power import (
    detectable_auc,
    detectable_mean,
    excludable_auc,
    excludable_mean,
    simulated_power,
    units_to_exclude_auc,
)
from expunge.statistics.rank import Agreement, rank_agreement, smallest_rank_p
from expunge.statistics.recovered import (
    Groups,
    compare_apart,
    compare_recovered,
    excludable_recovered,
    told_apart,
)
from expunge.statistics.resample import mean_over_both, over_both, over_examples, over_models
from expunge.statistics.result import Effect, Interval
from expunge.statistics.split import (
    EpsilonBound,
    band_epsilon,
    epsilon_effect,
    split_epsilon,
    split_epsilons,
    threshold_epsilon,
)

__all__ = [
    "Agreement",
    "Band",
    "Blind",
    "Component",
    "Decision",
    "Decomposition",
    "Effect",
    "EpsilonBound",
    "Errors",
    "Facts",
    "Family",
    "Groups",
    "Interval",
    "Permuted",
    "Seeds",
    "band_epsilon",
    "blind",
    "blind_features",
    "clopper_pearson",
    "compare_apart",
    "compare_auc",
    "compare_distributions",
    "compare_means",
    "compare_pairs",
    "compare_rates",
    "compare_recovered",
    "decide",
    "decompose",
    "detectable_auc",
    "detectable_epsilon",
    "detectable_mean",
    "dkw_band",
    "epsilon_effect",
    "epsilon_lower",
    "epsilon_of",
    "epsilon_power",
    "epsilon_upper",
    "excludable_auc",
    "excludable_mean",
    "excludable_recovered",
    "groups_needed",
    "holm",
    "lower_limit",
    "mean_over_both",
    "most_provable",
    "negatives_needed",
    "over_both",
    "over_examples",
    "over_models",
    "permute_groups",
    "permute_pairs",
    "rank_agreement",
    "simulated_power",
    "smallest_p",
    "smallest_rank_p",
    "split_epsilon",
    "split_epsilons",
    "threshold_epsilon",
    "told_apart",
    "tpr_at",
    "units_to_exclude_auc",
    "upper_limit",
]
