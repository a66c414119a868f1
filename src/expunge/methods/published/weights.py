"""Published methods by importance and geometry of weights, and those for whole classes.

Each has its authors' numbers for the data and network that its source names.
"""

from __future__ import annotations

from expunge.core.method import Method
from expunge.core.schedules import SGD, Adam, AdamW, Cosine
from expunge.engine.training import Negate, OneOptimiser, Repeat, Reset, Train
from expunge.methods.losses.answers import CE, AdaptiveCE, Tempered
from expunge.methods.losses.classes import Centroid, Nearest, OneClass, Relabel
from expunge.methods.losses.noise import Lipschitz
from expunge.methods.selectors.judged import FisherRatio, Salient
from expunge.methods.selectors.places import Last
from expunge.methods.steps.classes import Expand, Impair
from expunge.methods.steps.constrained import Rectify
from expunge.methods.steps.dampening import AdaptiveDampen, Dampen, FisherNoise
from expunge.methods.steps.influence import WoodFisher
from expunge.methods.steps.watched import Until

ssd = Method(
    "ssd",
    (Dampen(alpha=10.0, strength=1.0),),
    "Foster et al., Selective Synaptic Dampening, arXiv 2308.07707; alpha and lambda "
    "of ResNet-18 on CIFAR-20 and CIFAR-100, whole classes; "
    "if-loops/selective-synaptic-dampening@77161cc, with gradients of single examples",
)


lf_ssd = Method(
    "lf_ssd",
    (Dampen(alpha=10.0, strength=1.0, importance="output"),),
    "Foster et al., Loss-Free Machine Unlearning, arXiv 2402.19308; CIFAR, ResNet-18; "
    "pedroandreou/supreme-unlearning@91cd1d6, lfssd_det.py",
)


assd = Method(
    "assd",
    (AdaptiveDampen(strength=1.0),),
    "Schoepf et al., Adaptive Selective Synaptic Dampening, arXiv 2402.10098; CIFAR, "
    "ResNet-18; pedroandreou/supreme-unlearning@71877ad, assd.py",
)


influence = Method(
    "influence",
    (WoodFisher(alpha=0.2, examples=1000),),
    "IU in Jia et al., arXiv 2304.04934; CIFAR-10, ResNet-18; "
    "OPTML-Group/Unlearn-Sparse@16a2dbc, unlearn/Wfisher.py, with the inverse solved for",
)


fisher_forgetting = Method(
    "fisher_forgetting",
    (FisherNoise(alpha=0.000001),),
    "Golatkar et al., arXiv 1911.04933; alpha for CIFAR, ResNet-18, in "
    "jwf40/Information-Theoretic-Unlearning@f207655; users of other code needed about 1e-9",
)


CURVATURE = (ssd, lf_ssd, assd, influence, fisher_forgetting)


_sgd = SGD(weight_decay=0.0005)


# So small a share of an epoch is one minibatch, another each turn.
_ONE = 0.000001


# The authors' last block of a ResNet-18 and its head are Last(6); 2 is the least that trains more
# than the head, and exists in every model.
cf_k = Method(
    "cf_k",
    (Train(CE("retain"), epochs=10, lr=0.01, batch=256, optimiser=_sgd, where=Last(2)),),
    "Goel et al., Towards Adversarial Evaluations for Inexact Unlearning, arXiv 2201.06640, CF-k; "
    "numbers of meghdadk/SCRUB and xcadet/deepunlearn",
)


eu_k = Method(
    "eu_k",
    (
        Reset(Last(2)),
        Train(CE("retain"), epochs=10, lr=0.01, batch=256, optimiser=_sgd, where=Last(2)),
    ),
    "Goel et al., arXiv 2201.06640, EU-k; numbers of meghdadk/SCRUB and xcadet/deepunlearn",
)


_forgetting = Train(
    Cosine(-25.0) * AdaptiveCE("forget", power=0.5),
    epochs=_ONE,
    lr=Cosine(0.01),
    batch=128,
    optimiser=_sgd,
    where=FisherRatio("forget", "retain", 1.0),
    clip=7.0,
)
_repairing = Train(CE("retain"), epochs=_ONE, lr=Cosine(0.01), batch=128, optimiser=_sgd)


sfron = Method(
    "sfron",
    (OneOptimiser((Repeat((_forgetting, Repeat((_repairing,), times=5)), times=300),)),),
    "Huang et al., Unified Gradient-Based Machine Unlearning (SFR-on), arXiv 2409.19732; "
    "10 % of CIFAR-10; K1nght/Unified-Unlearning-w-Remain-Geometry@1837bf6, sfron.py, "
    "whose momentum and weight decay also move weights outside the mask",
)


gdr_gma = Method(
    "gdr_gma",
    (Rectify(-CE("forget"), CE("retain"), epochs=10, lr=0.0001, batch=256),),
    "Lin et al., GDR-GMA, ACM MM 2024 (openreview 52NGERGnlz); 20 % of "
    "CIFAR-10; RUIYUN-ML/GDR-GMA@34ba079, unlearn.py, without its memory bank",
)


# The authors fix 0.01 for SGD on retain and search AdamW's rate on forget; 0.0001 is what they fix
# for AdamW where it trains on retain.
dual_optim = Method(
    "dual_optim",
    (
        Repeat(
            (
                Train(
                    Relabel("forget"),
                    lr=0.0001,
                    batch=256,
                    optimiser=AdamW(weight_decay=0.05),
                    where=Salient("forget", 0.5),
                ),
                Train(
                    CE("retain"), lr=0.01, batch=256, optimiser=_sgd, where=Salient("forget", 0.5)
                ),
            ),
            times=10,
        ),
    ),
    "Zhong et al., DualOptim, arXiv 2504.15827, on SalUn; 10 % of CIFAR-10; "
    "CityU-MLO/DualOptim@0e2737f, unlearn/RL.py and impl.py",
)


# The authors sum over a minibatch of 128 where a term takes the mean: 128 times 0.0003.
jit = Method(
    "jit",
    (
        Train(
            Lipschitz("forget", std=0.5, samples=25),
            epochs=1,
            lr=0.0384,
            batch=128,
            optimiser=SGD(momentum=0.0),
        ),
    ),
    "Foster et al., An Information Theoretic Approach to Machine Unlearning (JiT), arXiv "
    "2402.01401; VGG-11 on CIFAR-100, whole classes; "
    "jwf40/Information-Theoretic-Unlearning@f207655, forget_full_class_main.py",
)


# 2,000 minibatches of 128 are 56 epochs of 4,500 examples; their 200 of warm-up are left out.
task_vector = Method(
    "task_vector",
    (
        Negate(
            Train(
                CE("forget"),
                epochs=56,
                lr=Cosine(0.00001),
                batch=128,
                optimiser=AdamW(weight_decay=0.1),
            ),
            scale=1.0,
        ),
    ),
    "Ilharco et al., Editing Models with Task Arithmetic, arXiv 2212.04089, forgetting by "
    "negation; CLIP ViT, scale searched on validation examples",
)


GEOMETRY = (cf_k, eu_k, sfron, gdr_gma, dual_optim, jit, task_vector)


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
