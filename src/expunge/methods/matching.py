"""Methods that match what a retrained model would answer, and one that unlearns in strata."""

from __future__ import annotations

from expunge.method import Method
from expunge.optimisers import SGD, Adam
from expunge.steps import Strata, Train
from expunge.terms import CE, MSE, Predicted

_sgd = SGD(weight_decay=0.0005)

# Minibatches of 512 with five retain examples to each forget example hold about 85 of the latter.
# Adam does not see the scale of the sum.
oracle_matching = Method(
    "oracle_matching",
    (
        Train(
            MSE("forget", teacher="oracle") + 5 * MSE("retain", teacher="oracle"),
            epochs=10,
            lr=0.001,
            batch=85,
            optimiser=Adam(),
            over="forget",
        ),
    ),
    "upper bound: it retrains a model of its own to match. Georgiev et al., Attribute-to-Delete, "
    "arXiv 2410.23232 (oracle matching); CIFAR-10, ResNet-9; best_params_OM of "
    "RoyRin/data-unlearning-bench@09aa166, unlearning/auditors/margin_distributions_over_time.py",
)
datamodel_matching = Method(
    "datamodel_matching",
    (
        Train(
            Predicted("forget", models=64) + 5 * MSE("retain"),
            epochs=10,
            lr=0.001,
            batch=85,
            optimiser=Adam(),
            over="forget",
        ),
    ),
    "Georgiev et al., Attribute-to-Delete, arXiv 2410.23232 (datamodel matching); "
    "CIFAR-10, ResNet-9; best_params_DM of RoyRin/data-unlearning-bench@09aa166, "
    "unlearning/auditors/margin_distributions_over_time.py; 64 models where the authors train "
    "thousands: for small problems",
)
rum = Method(
    "rum",
    (
        Strata(
            middle=(
                Train(
                    0.97 * CE("retain") - 0.03 * CE("forget"),
                    epochs=5,
                    lr=0.01,
                    batch=256,
                    optimiser=_sgd,
                ),
            ),
            high=(
                Train(
                    0.97 * CE("retain") - 0.03 * CE("forget"),
                    epochs=10,
                    lr=0.001,
                    batch=256,
                    optimiser=_sgd,
                ),
            ),
        ),
    ),
    "Zhao et al., What makes unlearning hard and what to do about it (RUM), arXiv 2406.01257, "
    "NegGrad+ on 3,000 examples of CIFAR-10, ResNet-18; kairanzhao/RUM@fe2df07, "
    "main_rum_proxy.py, with nothing done for the least memorised third",
)

MATCHING = (oracle_matching, datamodel_matching, rum)
