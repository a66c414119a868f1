"""Published methods for forgetting whole classes: boundaries, centroids, learned noise.

Each has its authors' numbers for the data and network that its source names.
"""

from __future__ import annotations

from expunge.core.method import Method
from expunge.core.optimisers import Adam
from expunge.core.schedules import Cosine
from expunge.engine.training import Train
from expunge.methods.losses import CE, Centroid, Nearest, OneClass, Tempered
from expunge.methods.steps import Expand, Impair, Until

boundary_shrink = Method(
    "boundary_shrink",
    (Train(Nearest("forget"), epochs=10, lr=0.00001),),
    "Chen et al., Boundary Unlearning, arXiv 2303.11570, Boundary Shrink; "
    "TY-LEE-KR/Boundary-Unlearning-Code@19f9f23 (All-CNN, CIFAR-10, one class)",
)


boundary_expand = Method(
    "boundary_expand",
    (Expand(Train(OneClass("forget"), epochs=10, lr=0.00001)),),
    "Chen et al., Boundary Unlearning, arXiv 2303.11570, Boundary Expanding; "
    "TY-LEE-KR/Boundary-Unlearning-Code@19f9f23 (All-CNN, CIFAR-10, one class)",
)


duck = Method(
    "duck",
    (
        # a turn shows each of 5 forget minibatches with 40 retain minibatches: 5 passes over retain
        Until(
            (
                Train(
                    Centroid("forget") + 1.4 * Tempered("retain"),
                    epochs=5,
                    lr=0.001,
                    batch=1024,
                    optimiser=Adam(),
                    over="retain",
                ),
            ),
            times=10,
            against="val",
            margin=0.0,
        ),
        Train(
            0.1 * Centroid("forget") + Tempered("retain"),
            epochs=2.3,
            lr=Cosine(0.0001),
            batch=512,
            optimiser=Adam(),
            over="retain",
        ),
    ),
    "Cotogni et al., DUCK, arXiv 2312.02052; OcraM17/DUCK@0961e3a, README and "
    "Unlearning_methods.py (ResNet-18, CIFAR-10, 10 % at random), without its augmentation",
)


unsir = Method(
    "unsir",
    (
        Impair(),
        # the authors repair on 1,000 examples of each retained class: a fifth of CIFAR-10's
        Train(CE("retain"), epochs=0.2, lr=0.01, batch=256, optimiser=Adam()),
    ),
    "Tarun et al., UNSIR, arXiv 2111.08947; vikram2000b/Fast-Machine-Unlearning@252bc92 "
    "(ResNet-18, CIFAR-10, one or two classes)",
)


CLASSES = (boundary_shrink, boundary_expand, duck, unsir)
