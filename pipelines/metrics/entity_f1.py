"""Entity F1 of tagged sentences, as seqeval counts: the conlleval way, or strict IOB2."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from pipelines.errors import UserError
from pipelines.metrics.base import Metric

Tags = Sequence[str]
Entity = tuple[str, int, int]  # type, first word, last word


class EntityF1(Metric):
    """Micro-averaged F1 over entities: correct only when type, first and last word are all correct.

    Predictions and references are lists of tags of equal length, such as `["B-PER", "I-PER", "O"]`.

    Args:
        strict: count by the rules of IOB2 alone: an entity begins with `B-`. The default counts like
            conlleval, as published CoNLL numbers do: an entity may begin with `I-`.
    """

    columns = ("true_positives", "predicted", "gold")

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.name = "f1_strict" if strict else "f1"

    @property
    def signature(self) -> str:
        mode = "mode:strict|scheme:IOB2" if self.strict else "mode:conlleval"
        return f"seqeval|version:{version('seqeval')}|average:micro|{mode}"

    def statistics(self, prediction: Tags, reference: Tags) -> np.ndarray:
        predicted, gold = self._entities(prediction, reference)
        return np.array([len(predicted & gold), len(predicted), len(gold)], dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        right, predicted, gold = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
        # The order of operations of seqeval, so that equal counts give equal bits; 0/0 counts as 0.
        precision = right / np.where(predicted == 0, 1, predicted)
        recall = right / np.where(gold == 0, 1, gold)
        both = precision + recall
        return 100 * (2 * precision * recall / np.where(both == 0, 1, both))

    def library_score(self, predictions: Sequence[Tags], references: Sequence[Tags]) -> float:
        from seqeval.metrics import f1_score
        from seqeval.scheme import IOB2

        how = {"mode": "strict", "scheme": IOB2} if self.strict else {}
        gold, predicted = [list(tags) for tags in references], [list(tags) for tags in predictions]
        if not gold:
            return 0.0
        with warnings.catch_warnings():  # seqeval warns of sentences without entities, which are normal
            warnings.simplefilter("ignore")
            return 100 * float(f1_score(gold, predicted, average="micro", zero_division=0, **how))

    def per_type(
        self, predictions: Sequence[Tags], references: Sequence[Tags]
    ) -> dict[str, dict[str, float]]:
        """Return score and counts of each entity type: `{"PER": {"score": 81.2, "predicted": 40, ...}}`."""
        sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
        for prediction, reference in zip(predictions, references, strict=True):
            predicted, gold = self._entities(prediction, reference)
            for column, found in enumerate((predicted & gold, predicted, gold)):
                for entity in found:
                    sums[entity[0]][column] += 1
        return {
            kind: {"score": float(self.score(counts)), **dict(zip(self.columns, counts.tolist()))}
            for kind, counts in sorted(sums.items())
        }

    def _entities(self, prediction: Tags, reference: Tags) -> tuple[set[Entity], set[Entity]]:
        if len(prediction) != len(reference):
            raise ValueError(f"{len(prediction)} predicted tags for {len(reference)} words")
        find = strict_entities if self.strict else conlleval_entities
        return find(prediction), find(reference)


def conlleval_entities(tags: Tags) -> set[Entity]:
    """Return the entities as conlleval finds them: `B-`, a change of type, and `I-` after `O` begin one."""
    from seqeval.metrics.sequence_labeling import get_entities

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return set(get_entities(list(tags)))


def strict_entities(tags: Tags) -> set[Entity]:
    """Return the entities of IOB2 alone: `B-X` begins one, `I-X` of the same type right after continues it.

    Raises:
        UserError: a tag that is not in IOB2, such as `E-PER`.
    """
    found: set[Entity] = set()
    kind, first = None, 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if prefix not in ("O", "B", "I"):
            raise UserError("metric f1_strict", "a tag is not IOB2", tag, "only O, B-X and I-X are")
        if prefix == "I" and kind == (name or "_"):
            continue
        if kind is not None:
            found.add((kind, first, place - 1))
        kind, first = (name or "_", place) if prefix == "B" else (None, 0)
    return found
