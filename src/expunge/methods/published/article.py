"""The nine ways to forget that the article lists, as sentences, with the numbers of their authors.

The numbers are for ResNet-18 on 32x32 images. Smaller models need others: the experiment files in
`expunge.problems` hold sentences tuned for theirs.
"""

from __future__ import annotations

from expunge.core.method import Method
from expunge.core.schedules import SGD, Cosine, Linear
from expunge.core.selector import Everything
from expunge.engine.training import Repeat, Reset, Train
from expunge.methods.losses.answers import CE, KL, L1, Repel, Uniform
from expunge.methods.losses.classes import Relabel
from expunge.methods.selectors.judged import Similar, Smallest
from expunge.methods.selectors.places import Convs, First, Last
from expunge.methods.steps.edits import Noise, Zero

_sgd = SGD(weight_decay=0.0005)


ascent = Method(
    "ascent",
    (Train(-CE("forget"), epochs=5, lr=0.0001, batch=256, optimiser=_sgd),),
    "article, item 1; NegGrad, Golatkar et al., arXiv 1911.04933",
)


finetune = Method(
    "finetune",
    (Train(CE("retain"), epochs=1, lr=Cosine(0.001), optimiser=_sgd),),
    "article, item 2; baseline of the NeurIPS 2023 challenge",
)


random_labels = Method(
    "random_labels",
    (Train(Relabel("forget") + CE("retain"), epochs=10, lr=0.01, batch=256, optimiser=_sgd),),
    "article, item 3; Graves et al., Amnesiac Machine Learning, arXiv 2010.10981",
)


kl_retain = Method(
    "kl_retain",
    (Train(KL("retain") - 0.05 * CE("forget"), epochs=5, lr=0.005, optimiser=_sgd),),
    "article, item 4; Kurmanji et al., SCRUB, arXiv 2302.09880, without its cross-entropy",
)


noise = Method(
    "noise",
    (Noise(0.6, Convs()), Train(CE("retain"), epochs=4, lr=Cosine(0.0007), optimiser=_sgd)),
    "article, item 5; first stage of the third prize of the challenge (Seif)",
)


reset_similar = Method(
    "reset_similar",
    (
        Reset(Similar("retain", "forget", share=0.3) & Convs()),
        Train(CE("retain"), epochs=5, lr=Linear(0.001), optimiser=_sgd),
    ),
    "article, item 6; second prize of the challenge (Kookmin Y), without its slowed kept weights",
)


prune = Method(
    "prune",
    (
        Zero(Smallest(0.9)),
        Train(CE("retain"), epochs=5, lr=Cosine(0.01), batch=256, optimiser=_sgd),
    ),
    "article, item 7; Jia et al., arXiv 2304.04934: prune first, then unlearn",
)


l1_sparse = Method(
    "l1_sparse",
    (Train(CE("retain") + Linear(0.0005) * L1(), epochs=10, lr=0.01, batch=256, optimiser=_sgd),),
    "article, item 7, as a penalty; Jia et al., arXiv 2304.04934, with alpha (1 - t/T)",
)


reset_last = Method(
    "reset_last",
    (Reset(Last(2)), Train(CE("retain"), epochs=5, lr=Cosine(0.01), batch=256, optimiser=_sgd)),
    "article, item 8; EU-k, Goel et al., arXiv 2201.06640, with all layers trained",
)


reset_first = Method(
    "reset_first",
    (Reset(First(1)), Train(CE("retain"), epochs=5, lr=Cosine(0.01), batch=256, optimiser=_sgd)),
    "article, item 8, from the other end",
)


winner = Method(
    "winner",
    (
        Train(Uniform("forget"), epochs=1, lr=0.005),
        Repeat(
            (
                Train(
                    Repel("forget", "retain"), lr=Cosine(0.0003, 0.000001), batch=256, over="forget"
                ),
                Train(CE("retain"), lr=0.001, batch=256, optimiser=SGD(weight_decay=0.01)),
            ),
            times=8,
        ),
    ),
    "article, item 9; first prize of the NeurIPS 2023 challenge (fanchuan)",
)


ours = Method(
    "ours",
    (
        Reset(Last(1)),
        Noise(0.02, Everything()),
        Train(CE("retain") + 0.5 * KL("retain"), epochs=4, lr=Cosine(0.01), optimiser=_sgd),
    ),
    "article, item 9: a combination of one's own",
)


ARTICLE = (
    ascent,
    finetune,
    random_labels,
    kl_retain,
    noise,
    reset_similar,
    prune,
    l1_sparse,
    reset_last,
    reset_first,
    winner,
    ours,
)


nothing = Method("nothing", (), "control: the untouched original, which must fail")


sham = Method(
    "sham",
    (Train(0.2 * Relabel("forget") + CE("retain"), epochs=1, lr=0.01, where=Last(1)),),
    "control: hides the answer in the last layer, forgets nothing beneath it, and must be caught",
)


CONTROLS = (nothing, sham)
