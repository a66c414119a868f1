"""Glossaries of the pages, and plain words for sets, metrics, attacks and controls."""

from __future__ import annotations

GLOSSARY = (
    (
        "Retrained, oracle",
        "Trained from scratch on the retain set alone: what exact unlearning would give. The row "
        "retrain holds other such models, held out and evaluated like a method: the ceiling.",
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
        "Gap closed",
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
        "one. 0.5 is a guess; far below 0.5 says as much as far above.",
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

# In the order of the page: first what is to be forgotten.
SETS = {
    "forget": "What was to be forgotten",
    "forget_paraphrase": "The same, in wordings that were never taught",
    "verbatim": "Passages to be forgotten, continued from their first half",
    "knowledge": "Names in what was to be forgotten",
    "retain": "What was to be kept",
    "retain_verbatim": "Passages to be kept, continued from their first half",
    "retain_knowledge": "Names in what was to be kept",
    "neighbours": "Kept, and close to what was to be forgotten",
    "world": "The world around, to be kept",
    "other": "Other subjects, which nobody taught here",
    "holdout": "What no model was taught",
}

METRICS = {
    "probability": "Probability",
    "rouge recall": "ROUGE-L recall",
    "exact memorisation": "Exact memorisation",
    "extraction strength": "Extraction strength",
    "truth ratio closer to 1": "Truth ratio, closer to 1",
    "truth ratio true better": "Truth ratio, true better",
    "right option": "Right option",
    "option probability": "Share of the right option",
}

MEANS = {
    "probability": "how likely the true answer is",
    "rouge recall": "how much of the true answer is said",
    "exact memorisation": "how many of its tokens are guessed first",
    "extraction strength": "how much of its end comes by itself",
    "truth ratio closer to 1": "true and wrong answers alike: 1",
    "truth ratio true better": "true above wrong answers: 1",
    "right option": "how often the right one of the options is likeliest",
    "option probability": "its probability, as a share of that of all options",
}

ATTACKS = {"loss": "Loss", "zlib": "Loss over zlib", "min-k": "Min-K%", "min-k++": "Min-K%++"}

REASONS = {
    "blanks": "blank space",
    "repetition": "one phrase again and again",
    "few distinct pairs": "few different word pairs",
    "unknown words": "gibberish (words that nobody was taught)",
}

CONTROLS = {
    "retrain": "other retrained models, evaluated like a method: nothing should come nearer",
    "nothing": "the original, left as it was: it must fail",
    "filter": "suppression: the original behind a keyword filter, which forgets nothing",
    "gibberish": "ascent until nothing is left: the report must call it collapsed",
}

# The first words of a verdict, and the class of the mark beside it.
TONES = {
    "as retraining": "good",
    "as near as retraining": "good",
    "unlike retrained": "part",
    "still remembers": "part",
    "no nearer": "none",
    "the original": "none",
    "refuses": "none",
    "loses": "bad",
    "overshoots": "bad",
    "collapsed": "bad",
}

LANGUAGE_GLOSSARY = (
    (
        "Retrained, oracle",
        "Trained by the same recipe without the forget set: what exact unlearning would give. The "
        "row retrain holds other such models, evaluated like a method: the ceiling.",
    ),
    ("Original", "Trained on everything and left as it was: the row nothing, the floor."),
    (
        "Distance",
        "How far a row is from retrained models: 0 as retrained, 1 as the original on the forget "
        "side. √(forget² + retain²), for each model, then the mean over models.",
    ),
    (
        "Forget side",
        "Mean gap to retrained models on what was to be forgotten, in units of the original's gap. "
        "A gap below counts like one above: to be silent where a retrained model guesses is "
        "conspicuous.",
    ),
    (
        "Retain side",
        "Mean gap to retrained models on what was to be kept, in units of what being taught "
        "changes. 1 knows as little as of things it was never taught.",
    ),
    (
        "Broken, collapse",
        "A generation that is blank, repeats itself or is gibberish beyond what 99 % of the "
        "oracles' are. Other retrained models may exceed that more often: compare with theirs. A "
        "method has collapsed when surely more than half are broken. Refusals are counted apart.",
    ),
    ("Probability", "That of the true answer, per token (geometric mean), on the question."),
    (
        "ROUGE-L recall",
        "The share of the true answer's words that the model writes, in order, as its likeliest "
        "answer.",
    ),
    (
        "Exact memorisation",
        "The share of the true answer's tokens that are the model's first guess, given the right "
        "ones before.",
    ),
    (
        "Extraction strength",
        "How much of the true answer's end the model writes by itself once the beginning is given.",
    ),
    (
        "Truth ratio",
        "How likely wrong answers are beside a rightly put paraphrase of the true one. It asks "
        "what a model believes, whatever it says.",
    ),
    (
        "Forget quality, D",
        "TOFU's test as a distance: the largest gap between the distributions of unlearned and "
        "retrained truth ratios. 0 is best. Its p-value shrinks with the number of questions alone "
        "and is here for comparison with other papers.",
    ),
    (
        "Utility",
        "Harmonic mean of probability, ROUGE-L recall and truth ratio over all that was to be "
        "kept; below it the gap to retrained models.",
    ),
    (
        "Attack, area",
        "Membership inference: the chance that a question to be forgotten looks more like training "
        "data than one that no model saw. Read the gap to retrained models, not to 0.5.",
    ),
    (
        "PrivLeak",
        "MUSE's measure: the relative change of 1 − area against retrained models, in percent. 0 "
        "is best; far below 0 is under-, far above 0 over-forgotten.",
    ),
    (
        "Suppression",
        "Hiding an answer without removing it. The control filter does nothing else; what it "
        "reaches, a method can reach without forgetting.",
    ),
    (
        "Cost",
        "Measured time as a share of retraining's: processor time, or the wall clock's where an "
        "accelerator works. Above 20 % is marked.",
    ),
)


def set_title(name: str) -> str:
    """Return the name of an evaluation set in plain words."""
    return SETS.get(name, name)


def tone(verdict: str) -> str:
    """Return the class of the mark beside a verdict."""
    return next((found for words, found in TONES.items() if verdict.startswith(words)), "unknown")
