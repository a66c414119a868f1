"""Published methods for language models, with the numbers of their reference code.

Most follow locuslab/open-unlearning: 10 passes over the forget set, 32 examples a step (8 at once,
4 times), AdamW with a weight decay of 0.01, a learning rate that climbs over the first epoch to
0.00001 and falls to 0 after. They are for models of a billion weights and more that were trained on
TOFU; smaller models need larger learning rates.
"""

from __future__ import annotations

from expunge.core.method import Method
from expunge.core.schedules import AdamW, Linear, Warmup
from expunge.core.term import Term
from expunge.engine.training import Negate, Train
from expunge.methods.losses.answers import CE, KL, Flatten, Uniform
from expunge.methods.losses.likelihood import CEU, NPO, TNPO, WGA, SatImp, SimNPO
from expunge.methods.losses.other_answers import DPO, FLAT, Instead, RandomAnswers
from expunge.methods.losses.representation import AdaptiveSteer, LogLens, Match, NoiseMatch, Steer
from expunge.methods.losses.teachers import Generic, Undial
from expunge.methods.selectors.places import Named
from expunge.methods.steps.constrained import PrimalDual, SharpnessAware
from expunge.methods.steps.edits import Remember, ShrinkPerturb, Teach
from expunge.methods.steps.facts import Memit, Rome

_adamw = AdamW(weight_decay=0.01)


_code = "locuslab/open-unlearning, configs/trainer and src/trainer/unlearn (TOFU, Llama-3.2-1B)"


def recipe(objective: Term, peak: float = 0.00001, epochs: float = 10) -> Train:
    """Return the training that open-unlearning gives every method; an epoch is over the forget set.

    Args:
        objective: what is minimised.
        peak: the largest learning rate.
        epochs: passes over the forget set; the learning rate climbs over the first.
    """
    return Train(
        objective,
        epochs=epochs,
        lr=Warmup(peak, 1 / epochs),
        batch=32,
        optimiser=_adamw,
        over="forget",
        accumulate=4,
    )


grad_ascent = Method(
    "grad_ascent",
    (recipe(-CE("forget")),),
    f"Maini et al., TOFU, arXiv 2401.06121; {_code}",
)


grad_diff = Method(
    "grad_diff",
    (recipe(CE("retain") - CE("forget")),),
    f"Maini et al., TOFU, arXiv 2401.06121, after Liu et al., arXiv 2203.12817; {_code}",
)


kl_min = Method(
    "kl_min",
    (recipe(KL("retain") - CE("forget")),),
    "Maini et al., TOFU, arXiv 2401.06121; locuslab/tofu",
)


npo = Method(
    "npo",
    (recipe(NPO("forget") + CE("retain")),),
    f"Zhang et al., arXiv 2404.05868, equation 3, with its retain term; {_code}",
)


npo_kl = Method(
    "npo_kl",
    (recipe(NPO("forget") + KL("retain")),),
    f"Zhang et al., arXiv 2404.05868, equation 3, with KL to the original; {_code}",
)


simnpo = Method(
    "simnpo",
    (recipe(0.125 * SimNPO("forget") + CE("retain")),),
    f"Fan et al., arXiv 2410.07163; {_code}",
)


idk_dpo = Method(
    "idk_dpo",
    (recipe(DPO("forget") + CE("retain")),),
    f"Maini et al., TOFU, arXiv 2401.06121; refusals as other answers; {_code}",
)


idk_nll = Method(
    "idk_nll",
    (recipe(Instead(CE("forget")) + CE("retain")),),
    f"Maini et al., TOFU, arXiv 2401.06121; refusals as other answers; {_code}",
)


altpo = Method(
    "altpo",
    (recipe(DPO("forget") + CE("retain"), epochs=2),),
    "Mekala et al., Alternate Preference Optimization, arXiv 2409.13474; other answers that the "
    "model wrote itself; locuslab/open-unlearning, community/methods/AltPO",
)


undial = Method(
    "undial",
    (recipe(Undial("forget"), 0.0001),),
    f"Dong et al., arXiv 2402.10052; {_code}",
)


wga = Method(
    "wga",
    (recipe(WGA("forget") + CE("retain"), epochs=5),),
    f"Wang et al., arXiv 2502.19301; {_code}",
)


satimp = Method(
    "satimp",
    (recipe(0.1 * SatImp("forget") + CE("retain")),),
    f"Yang et al., arXiv 2505.11953; {_code}",
)


ceu = Method(
    "ceu",
    (recipe(CEU("forget")),),
    f"Yang, arXiv 2503.01224; {_code}",
)


rmu = Method(
    "rmu",
    (
        Train(
            Steer("forget", layer=7, scale=6.5) + 1200.0 * Match("retain", layer=7),
            lr=0.00005,
            batch=4,
            optimiser=AdamW(),
            where=Named(r"layers\.(5|6|7)\.mlp\.down_proj"),
            over="forget",
        ),
    ),
    "Li et al., WMDP, arXiv 2403.03218, section 4; centerforaisafety/wmdp (Zephyr-7B, 150 steps)",
)


adaptive_rmu = Method(
    "adaptive_rmu",
    (
        Train(
            AdaptiveSteer("forget", layer=7) + 1200.0 * Match("retain", layer=7),
            lr=0.00005,
            batch=4,
            optimiser=AdamW(),
            where=Named(r"layers\.(5|6|7)\.mlp\.down_proj"),
            over="forget",
        ),
    ),
    "Dang et al., On Effects of Steering Latent Representation, arXiv 2408.06223; "
    "RebelsNLU-jaist/llm-unlearning@3f951e2, README (Zephyr-7B, 500 steps)",
)


muse_task_vector = Method(
    "muse_task_vector",
    (Negate(Train(CE("forget"), epochs=10, lr=0.00001, batch=32, optimiser=_adamw)),),
    "Ilharco et al., arXiv 2212.04089; swj0419/muse_bench (scale 1)",
)


OPEN_UNLEARNING = (
    grad_ascent,
    grad_diff,
    kl_min,
    npo,
    npo_kl,
    simnpo,
    idk_dpo,
    idk_nll,
    altpo,
    undial,
    wga,
    satimp,
    ceu,
    rmu,
    adaptive_rmu,
    muse_task_vector,
)


_effect = "tmlr-group/G-effect@ef368ee, dataloader.py and basher1.py (TOFU, Llama-2-7B)"


def _five(objective: Term, batch: int, decay: float) -> Train:
    """Return five passes over the forget set at a rate that climbs over the first to 0.00001."""
    return Train(
        objective,
        epochs=5,
        lr=Warmup(0.00001, 0.2),
        batch=batch,
        optimiser=AdamW(weight_decay=decay),
        over="forget",
        accumulate=4,
    )


tnpo = Method(
    "tnpo",
    (_five(TNPO("forget") + KL("retain"), 16, 0.0),),
    f"Wang et al., arXiv 2502.19301, token-wise NPO with KL; {_effect}",
)


wtnpo = Method(
    "wtnpo",
    (_five(TNPO("forget", power=1.5) + KL("retain"), 16, 0.0),),
    f"Wang et al., arXiv 2502.19301, weighted token-wise NPO with KL; {_effect}",
)


flat = Method(
    "flat",
    (_five(FLAT("forget"), 64, 0.01),),
    "Wang et al., FLAT, arXiv 2410.11143; refusals as other answers; UCSC-REAL/FLAT@bf2ef07, "
    "config/forget.yaml (TOFU, total variation)",
)


llmu = Method(
    "llmu",
    (
        Train(
            -0.5 * CE("forget") + RandomAnswers("forget", "retain") + KL("retain"),
            lr=Linear(0.000002),
            batch=2,
            optimiser=AdamW(),
            over="forget",
        ),
    ),
    "Yao, Xu and Liu, Large Language Model Unlearning, arXiv 2310.10683; "
    "kevinyaobytedance/llm_unlearn@647f309, unlearn_harm.py (OPT-1.3B, 1,000 steps; its stop at a "
    "loss of 100 compares with minus the loss and never comes)",
)


whp = Method(
    "whp",
    (
        Teach((Train(CE("forget"), epochs=10, lr=0.00001, batch=32, optimiser=AdamW()),)),
        _five(Generic("forget"), 32, 0.01),
    ),
    "Eldan and Russinovich, Who's Harry Potter, arXiv 2310.02238, without its dictionary; the "
    "reinforced model as in swj0419/muse_bench@fcd6651; the second training's numbers are ours",
)


OBJECTIVES = (tnpo, wtnpo, flat, llmu, whp)


_still = AdamW(weight_decay=0.0)


pdu = Method(
    "pdu",
    (
        PrimalDual(
            Train(
                Flatten("forget"),
                epochs=10,
                lr=Warmup(0.00001, 0.1),
                batch=32,
                optimiser=AdamW(weight_decay=0.01),
                over="forget",
                accumulate=4,
            ),
            CE("retain"),
            limit=0.3,
        ),
    ),
    "Entesari et al., Constrained Entropic Unlearning (PDU), arXiv 2506.05314; "
    "locuslab/open-unlearning@0e57336, community/methods/PDU (TOFU, Llama-3.2-1B; limit 0.3)",
)


npo_sam = Method(
    "npo_sam",
    (
        SharpnessAware(
            Train(
                NPO("forget") + CE("retain"),
                epochs=5,
                lr=Warmup(0.00001, 0.1),
                batch=4,
                optimiser=_still,
                over="forget",
            ),
        ),
    ),
    "Fan et al., arXiv 2502.05374, NPO with SAM; OPTML-Group/Unlearn-Smooth@fc655ba, "
    "WMDP/configs (Zephyr-7B, at most 500 steps)",
)


undo = Method(
    "undo",
    (
        Train(
            0.8 * Uniform("forget") + 0.2 * KL("retain"),
            epochs=5,
            lr=0.00002,
            batch=40,
            optimiser=_still,
            over="forget",
            clip=1.0,
            accumulate=10,
        ),
        Remember(),
        ShrinkPerturb(0.25),
        Train(
            KL("retain", teacher="taught"),
            epochs=2,
            lr=0.00002,
            batch=110,
            optimiser=_still,
            clip=1.0,
            accumulate=11,
        ),
    ),
    "Lee et al., Distillation Robustifies Unlearning (UNDO), arXiv 2506.06278; "
    "AddieFoote/distillation-robustify-unlearning@edbf111 (WMDP, Gemma-2-2B; MaxEnt of at most 90 "
    "steps, distillation of at most 3,000)",
)


rep_noise = Method(
    "rep_noise",
    (
        Train(
            Instead(CE("forget")) + 0.001 * NoiseMatch("forget") - LogLens("forget"),
            lr=0.00002,
            batch=8,
            optimiser=AdamW(),
        ),
    ),
    "Rosati et al., Representation Noising, arXiv 2405.14577; refusals as other answers; "
    "domenicrosati/representation-noising@03689ff, loss.py (alpha 1, beta 0.001; rate and batch "
    "are ours: its authors say that they must always be searched for)",
)


ROBUST = (pdu, npo_sam, undo, rep_noise)


_refusals_code = "the training of locuslab/open-unlearning's IdkNLL"


correct = Method(
    "correct",
    (recipe(Instead(CE("forget")) + CE("retain")),),
    "Fine-tuning on the right fact, the baseline FT of Meng et al., ROME, arXiv 2202.05262, "
    f"section 3.2, here with a retain term; {_refusals_code}",
)


mark = Method(
    "mark",
    (recipe(Instead(CE("forget")) + CE("retain")),),
    f"Ours: answers that say that the thing is false; {_refusals_code}, Maini et al., "
    "arXiv 2401.06121",
)


rome = Method(
    "rome",
    (Rome(5),),
    "Meng et al., ROME, arXiv 2202.05262, section 3.1; kmeng01/rome@0874014, hparams/ROME (GPT-J)",
)


memit = Method(
    "memit",
    (Memit((3, 4, 5, 6, 7, 8)),),
    "Meng et al., MEMIT, arXiv 2210.07229, section 4; kmeng01/memit@80426fd, hparams/MEMIT (GPT-J)",
)


CORRECTING = (correct, mark, rome, memit)
