"""docs/zoo.md, written from the outcomes."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Mapping

from scripts import md_tables
from tests.zoo.cells import Outcome
from tests.zoo.families import FAMILIES, TASKS
from tests.zoo.quirks import QUIRKS

INTRO = """# Checkpoints against transformers

Written by `scripts/zoo`, with transformers {transformers} and torch {torch} on a CPU. For each family and
task a tiny checkpoint is built with the tokenizer class and the config entries of the published ones.
`attnlab train` takes one step from it that moves no weight, and what the run does is compared with what
transformers itself makes of the same rows, one at a time and without padding:

| compared | right is |
|---|---|
| ids, token types | `tokenizer(text, pair)`; of words, `is_split_into_words=True`, a space before each word |
| targets | `tokenizer(text_target=...)`; of an answer, its tokens by offsets; of a word, its first token |
| losses | `model(**batch, labels=...).loss`: summed, by the number of targets, within {tolerance:g} |
| predictions | the likeliest label, the best span, or `generate(num_beams=1, do_sample=False)` |
| score | seqeval, sacrebleu, rouge_score, SQuAD's count, exp(loss) |

A decoder reads source, separator and target as one running text. A target gets the end token where the
tokenizer gives none. What a language model hides is drawn, so there the texts are compared after it is put
back, and the loss on the same batch.

*equal*: all of this is the same. *refused*: attnlab says in one sentence, before training, why it does not
run. *WRONG*: neither. A number is the reason, below the table. An empty cell means that transformers has no
class for it, or that the family is not used for it.
"""
HEADINGS = (
    "NER",
    "extracted answers",
    "classification",
    "summarization",
    "translation",
    "written answers",
    "LM",
)


def markdown(cells: Mapping[tuple[str, str], Outcome], quirks: Mapping[str, Outcome]) -> str:
    """Return the page."""
    from tests.zoo.cells import TOLERANCE

    versions = {name: importlib.metadata.version(name) for name in ("transformers", "torch")}
    reasons: dict[str, int] = {}
    lines = [INTRO.format(**versions, tolerance=TOLERANCE), summary(cells), ""]
    lines += md_tables.head(["family", *HEADINGS])
    for family in FAMILIES:
        row = [_word(cells.get((family, task)), reasons) for task in TASKS]
        lines.append(md_tables.row([f"`{family}`", *row]))
    lines += ["", "## Unusual checkpoints", "", "Each is an ordinary one of the zoo, changed in one way.", ""]
    lines += md_tables.head(["checkpoint", "family", "task", "outcome"])
    for name, outcome in quirks.items():
        word = _word(outcome, reasons)
        lines.append(md_tables.row([name, QUIRKS[name].family, QUIRKS[name].task.replace("_", " "), word]))
    lines += ["", "Reasons:", "", *(f"{number}. {text}" for text, number in reasons.items())]
    return "\n".join(lines) + "\n"


def summary(cells: Mapping[tuple[str, str], Outcome]) -> str:
    """Return the counts in one sentence."""
    counts = Counter(outcome.word for outcome in cells.values())
    each = ", ".join(f"{counts[word]} {word}" for word in ("equal", "refused", "WRONG", "not run"))
    return f"**Of {len(cells)} cells: {each}.**"


def _word(outcome: Outcome | None, reasons: dict[str, int]) -> str:
    if outcome is None or not outcome.why:
        return outcome.word if outcome else ""
    return f"{outcome.word} ({reasons.setdefault(_general(outcome.why), len(reasons) + 1)})"


def _general(reason: str) -> str:
    """Return a refusal without the class that it names, so that one reason has one number."""
    about, mark, rest = reason.partition(": its attention does not go")
    reason = f"{about.partition(':')[0]}{mark}{rest}" if mark else reason
    return reason.replace("|", "/").replace("<", "&lt;")
