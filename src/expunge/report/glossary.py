"""What the columns mean, in the field's words."""

from __future__ import annotations

GLOSSARY = (
    (
        "Retrained, oracle",
        "Trained from scratch on the retain set alone: what exact unlearning would give. The row "
        "retrain holds other such models, held out and judged like a method: the ceiling.",
    ),
    ("Original", "Trained on all examples and left as it was: the row nothing, the floor."),
    (
        "Sham",
        "A control that changes answers on the forget set and forgets nothing. What it reaches, "
        "a method can reach without forgetting.",
    ),
    (
        "Epsilon",
        "For one forget example: how well the best attack found tells unlearned from retrained "
        "models by their signal. 0: not at all; 50: always (the cap).",
    ),
    (
        "Signal",
        "Logit-scaled confidence, log p(right class) − log p(any other). Above 0 the model gives "
        "the right class more than half.",
    ),
    (
        "Quality F",
        "Forgetting quality of the NeurIPS 2023 challenge: the mean over forget examples of "
        "2 to the power −b, where b is the bin of width 0.5 that holds epsilon. Perfect "
        "unlearning does not score 1; read it between floor and ceiling.",
    ),
    (
        "Of the way",
        "(F − floor) / (ceiling − floor): 0 % as the original, 100 % as retrained. The interval is "
        "that of the method's F alone; the ceiling's own is the band.",
    ),
    (
        "Score",
        "The challenge's final score: F × retain accuracy / retrained's × test accuracy / "
        "retrained's.",
    ),
    (
        "Retain, forget, test",
        "Accuracy in percent, mean over models; below it the gap to the retrained models in "
        "points. A gap beyond noise is marked.",
    ),
    (
        "ToW",
        "Tug of war: the product over retain, forget and test of 1 − |accuracy gap to retrained|. "
        "1 is perfect.",
    ),
    (
        "JS",
        "Jensen-Shannon divergence in nats between the answers of unlearned and retrained models, "
        "in pairs. Two retrained models differ too: compare with the row retrain.",
    ),
    (
        "Attacks",
        "Whether attacks tell unlearned from retrained models. Found: they do, after correction "
        "for their number. Excluded: no attack that was tried can by more than the margin. "
        "Inconclusive: too few models to say. Below it the mean area under the ROC curve of an "
        "attacker with a rule for each forget example; 0.5 is a guess.",
    ),
    (
        "Weak attack",
        "One threshold for all examples, as on the loss. Weak: it overstates protection, and a "
        "value near retrained's is no evidence of forgetting.",
    ),
    (
        "Area, AUC",
        "The area under the ROC curve: the chance that an unlearned model scores above a retrained "
        "one. 0.5 is a guess; far below 0.5 tells as much as far above.",
    ),
    (
        "Cost",
        "Measured time as a share of retraining's: processor time, or the wall clock's where an "
        "accelerator works. Above 20 % is marked: there retraining is near.",
    ),
    (
        "Verdict",
        "The first rule that fits, from “changed nothing” to “partly forgotten”; noise is that "
        "of both 95 % intervals, or of single retrained models for accuracies.",
    ),
)
