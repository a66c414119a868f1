"""Write docs/methods.md: every published method, its sentence, source, needs, cost and promise.

Usage: python tools/methods_page.py      (after a method was added or changed)
"""

from __future__ import annotations

from pathlib import Path

from expunge.cli.explain import HEADS, families, row
from expunge.core.method import Method
from expunge.engine.check import needs
from expunge.experiments.experiment import load
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
HEAD = """# Published methods

Written by `python tools/methods_page.py` from the code; do not edit. `expunge methods` lists the
same on a terminal, and `expunge methods NAME` explains one step by step.

- **needs**: the sets that a method reads, "(no labels)" where the images are enough, and the fixed
  models (teachers) that it compares with. "Whole classes": it works on such forget sets alone.
- **epochs**: what it costs on the experiment `digits` ({retain:,} retain and {forget:,} forget
  examples; retraining takes 10), in passes over the retain set. An answer without a backward pass
  counts as a third. "<=": it may stop earlier; "-": it is for language models. The sentences hold
  the authors' numbers, which are
  for larger data and networks: on `digits` most of them cost more than they need.
- **guarantee**: "exact" is retraining: fresh weights that see the retain set alone. "None" means
  that whether it forgets must be measured.
- **draws**: whether two seeds give two models.
"""


def page(plan: Plan) -> str:
    """The whole page."""
    sizes = {name: len(plan.problem.sets[name]) for name in ("retain", "forget")}
    parts = [HEAD.format(**sizes).rstrip()]
    for title, methods in families(plan.retrain).items():
        parts += [f"\n## {title.removesuffix('.')}\n", *table(methods, plan)]
        for method in methods:
            parts.append(f"\n### {method.name}\n\n```python\n{method.sentence}\n```")
    return "\n".join(parts) + "\n"


def table(methods: list[Method], plan: Plan) -> list[str]:
    """The methods of one family as a table."""
    lines = [f"| {' | '.join((*HEADS[:4], 'draws', HEADS[4]))} |", "|---|---|--:|---|---|---|"]
    for method in methods:
        name, needed, epochs, guarantee, source = row(method, plan.problem)
        link = f"[{name}](#{name})"
        draws = "no" if needs(method).deterministic else "yes"
        cells = (link, needed, epochs, guarantee, draws, source)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(plan_for(load("digits"))), "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
