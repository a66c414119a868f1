"""Published methods that follow a teacher, random labels, or what a retrained model would answer.

Each has its authors' numbers for the data and network that its source names.
"""

from __future__ import annotations

from dataclasses import replace

from expunge.core.method import Method
from expunge.core.schedules import SGD, Adam, Steps
from expunge.core.term import Pooled
from expunge.engine.training import OneOptimiser, Repeat, Train
from expunge.methods.losses.answers import CE, KL, MSE
from expunge.methods.losses.classes import AnyClass, Relabel
from expunge.methods.losses.teachers import Predicted, Reference, Without
from expunge.methods.selectors.judged import Salient
from expunge.methods.steps.classes import Strata
from expunge.methods.steps.watched import Lotus, Rewind

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


neggrad_plus = Method(
    "neggrad_plus",
    (
        Train(
            0.95 * CE("retain") - 0.05 * CE("forget"),
            epochs=10,
            lr=0.01,
            batch=32,
            optimiser=SGD(momentum=0.0),
            over="retain",
        ),
    ),
    "NegGrad+, Kurmanji et al., arXiv 2302.09880; meghdadk/SCRUB@98ffb11, "
    "small_scale_unlearning.ipynb (ResNet and All-CNN, CIFAR-5 and Lacuna-5), which also keeps "
    "normalisation layers in evaluation mode",
)


_slow = Adam(weight_decay=0.1)


_scrub_retain = Train(
    0.99 * CE("retain") + 0.001 * KL("retain", temperature=4.0),
    lr=0.0005,
    batch=128,
    optimiser=_sgd,
)
_scrub_turns = Repeat(
    (Train(-KL("forget", temperature=4.0), lr=0.0005, batch=32, optimiser=_sgd), _scrub_retain),
    times=2,
)


scrub = Method(
    "scrub",
    (OneOptimiser((_scrub_turns, _scrub_retain)),),
    "SCRUB, Kurmanji et al., arXiv 2302.09880, algorithm 1; meghdadk/SCRUB@98ffb11, "
    "large_scale_unlearning.ipynb (All-CNN, CIFAR-10)",
)


_small_retain = Train(
    CE("retain") + 0.5 * KL("retain", temperature=2.0), lr=0.0005, batch=32, optimiser=_slow
)
_small_turns = Repeat(
    (Train(-KL("forget", temperature=2.0), lr=0.0005, batch=64, optimiser=_slow), _small_retain),
    times=3,
)
# of 10 epochs, those after the 5th, 8th and 9th are ten times slower each
_small_slower = replace(_small_retain, epochs=7, lr=Steps(0.0005, (2 / 7, 5 / 7, 6 / 7)))


scrub_small = Method(
    "scrub_small",
    (OneOptimiser((_small_turns, _small_slower)),),
    "SCRUB, Kurmanji et al., arXiv 2302.09880, algorithm 1; meghdadk/SCRUB@98ffb11, "
    "small_scale_unlearning.ipynb (ResNet and All-CNN, CIFAR-5 and Lacuna-5)",
)


_rewound_retain = Train(
    CE("retain") + 0.5 * KL("retain", temperature=4.0), lr=0.0005, batch=32, optimiser=_sgd
)
_rewound_turns = Repeat(
    (Train(-KL("forget", temperature=4.0), lr=0.0005, batch=16, optimiser=_sgd), _rewound_retain),
    times=3,
)
_rewound_slower = Repeat((replace(_rewound_retain, lr=0.00005),), times=2)


scrub_r = Method(
    "scrub_r",
    (OneOptimiser((Rewind((_rewound_turns, _rewound_slower)),)),),
    "SCRUB+R, Kurmanji et al., arXiv 2302.09880; meghdadk/SCRUB@98ffb11, "
    "MIA_experiments.ipynb (ResNet and All-CNN, CIFAR-10)",
)


bad_teacher = Method(
    "bad_teacher",
    (
        Train(
            Pooled(KL("forget", teacher="random"), KL("retain"), share=0.3),
            epochs=0.3,
            lr=0.0001,
            batch=256,
            optimiser=Adam(),
            over="retain",
        ),
    ),
    "Chundawat et al., Can Bad Teaching Induce Forgetting, arXiv 2205.08096; "
    "vikram2000b/bad-teaching-unlearning@f1aa988 (ResNet-18, CIFAR-20)",
)


amnesiac = Method(
    "amnesiac",
    (
        Train(
            Pooled(Relabel("forget"), CE("retain")),
            epochs=3,
            lr=0.0001,
            batch=128,
            optimiser=Adam(),
            over="retain",
        ),
    ),
    "relabelling of Graves et al., Amnesiac Machine Learning, arXiv 2010.10981; "
    "if-loops/selective-synaptic-dampening@cdfdc0e (ResNet-18, CIFAR-10 and CIFAR-20)",
)


_relabel_turns = Repeat(
    (
        Train(AnyClass("forget"), lr=0.013, batch=256, optimiser=_sgd),
        Train(CE("retain"), lr=0.013, batch=256, optimiser=_sgd),
    ),
    times=10,
)


random_label_sequential = Method(
    "random_label_sequential",
    (OneOptimiser((_relabel_turns,)),),
    "RL of Golatkar et al., arXiv 1911.04933, as in OPTML-Group/Unlearn-Saliency@a6e89fd, RL.py: a "
    "pass over the forget set, then one over the retain set (ResNet-18, CIFAR-10)",
)


_salient_part = Salient("forget")
_salient_turns = Repeat(
    (
        Train(AnyClass("forget"), lr=0.013, batch=256, optimiser=_sgd, where=_salient_part),
        Train(CE("retain"), lr=0.013, batch=256, optimiser=_sgd, where=_salient_part),
    ),
    times=10,
)


salun = Method(
    "salun",
    (OneOptimiser((_salient_turns,)),),
    "Fan et al., SalUn, arXiv 2310.12508; OPTML-Group/Unlearn-Saliency@a6e89fd, "
    "README (ResNet-18, CIFAR-10, 10 % at random)",
)


delete = Method(
    "delete",
    (Train(Without("forget"), epochs=20, lr=0.0001, batch=128),),
    "Zhou et al., DELETE, arXiv 2503.23751; shaaaaron/DELETE@60018a1, "
    "cifar10_resnet18.yaml (ResNet-18, CIFAR-10, one class)",
)


lotus = Method(
    "lotus",
    (Lotus(),),
    "Spartalis et al., LoTUS, arXiv 2503.18314; cspartalis/LoTUS@35ae25e (ResNet-18, CIFAR-10, "
    "random forget set), which draws its 30 % of the retain set once",
)


regun = Method(
    "regun",
    (
        Train(
            0.5 * Reference("forget", "val") + 0.5 * CE("retain"),
            epochs=10,
            lr=0.01,
            batch=128,
            over="forget",
        ),
    ),
    "Mirlach et al., ReGUn, arXiv 2603.11210; jmirlach/ReGUn@088d6bf, regun.yaml (ResNet-18, "
    "CIFAR-10), whose default draws from the held-out set without looking at classes",
)


TEACHERS = (
    neggrad_plus,
    scrub,
    scrub_small,
    scrub_r,
    bad_teacher,
    amnesiac,
    random_label_sequential,
    salun,
    delete,
    lotus,
    regun,
)
