"""Published methods that look at weights: importance, curvature, gradients and layers.

Each has its authors' numbers for the data and network that its source names.
"""

from __future__ import annotations

from expunge.core.method import Method
from expunge.core.optimisers import SGD, AdamW
from expunge.core.schedules import Cosine
from expunge.engine.training import Negate, Repeat, Reset, Train
from expunge.methods.losses import CE, AdaptiveCE, Lipschitz, Relabel
from expunge.methods.selectors import FisherRatio, Last, Salient
from expunge.methods.steps import AdaptiveDampen, Dampen, FisherNoise, Rectify, WoodFisher

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


# One optimiser serves both objectives in the authors' code; here each keeps a momentum of its own.
sfron = Method(
    "sfron",
    (
        Repeat(
            (
                Train(
                    Cosine(-25.0) * AdaptiveCE("forget", power=0.5),
                    epochs=_ONE,
                    lr=Cosine(0.01),
                    batch=128,
                    optimiser=_sgd,
                    where=FisherRatio("forget", "retain", 1.0),
                    clip=7.0,
                ),
                Repeat(
                    (Train(CE("retain"), epochs=_ONE, lr=Cosine(0.01), batch=128, optimiser=_sgd),),
                    times=5,
                ),
            ),
            times=300,
        ),
    ),
    "Huang et al., Unified Gradient-Based Machine Unlearning (SFR-on), arXiv 2409.19732; "
    "10 % of CIFAR-10; K1nght/Unified-Unlearning-w-Remain-Geometry@1837bf6, sfron.py",
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
