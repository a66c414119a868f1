"""Your own trained model, what to forget, what to retain: a model back, and what it cost."""

from __future__ import annotations

import torch

from expunge import unlearn
from expunge.core.problem import Problem
from expunge.problems.networks.classifiers import convnet

model = convnet(classes=10, channels=3, size=32)  # stands for a model that you have trained
images, labels = torch.rand(2000, 3, 32, 32), torch.randint(0, 10, (2000,))
forget, retain = (images[:200], labels[:200]), (images[200:], labels[200:])

problem = Problem.of(forget=forget, retain=retain)
unlearned = unlearn(model, "finetune", problem, seed=0)
print(unlearned.receipt)
