"""Named entities: one IOB2 tag for every word."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import regex
import torch
from torch.nn import Module

from pipelines.errors import UserError
from pipelines.metrics.base import Metric
from pipelines.metrics.entity_f1 import EntityF1, conlleval_entities
from pipelines.registry.option_types import Count, Items, Range
from pipelines.tasks.base import Baseline, Batch, Column, Example, Feature, Processor, Raw
from pipelines.tasks.shared.labels import Labelled
from pipelines.tasks.shared.room import require_room
from pipelines.tasks.shared.target_loss import IGNORED, PLAIN
from pipelines.tasks.shared.windows import Window, cut
from pipelines.tasks.shared.word_encoder import WordEncoder

OUTSIDE = "O"
# Letters and digits with their accents, joined by apostrophes, dots, hyphens and invisible joiners; else one
# visible sign: a grapheme, so that an emoji of several characters is one word.
WORD = regex.compile(r"\w+(?:['’.\-\u2010\u2011\u00ad\u200c\u200d\u2060]\w+)*|(?![\s\p{Cc}\p{DI}])\X")


Tags = Annotated[
    list[str] | None,
    Items(
        pattern="(?s)O|[BI]-.+",
        including=("O",),
        called="distinct labels of IOB2 with O among them, such as [O, B-PER, I-PER]",
    ),
]


class Ner(Labelled):
    """Label words as parts of entities (persons, places ...), through token classification.

    A word is labelled at its first sub-word. An input longer than `max_len` is cut into overlapping
    windows; each word is a target, and is predicted, in exactly one of them, the one with most of its
    context, so that no word counts twice in the loss and none is lost. A word without any sub-word is
    predicted "O" and counted in `counts`; a word longer than a window is cut at its end.

    Args:
        max_len: tokens of a window, with the special tokens around it.
        overlap: tokens that neighbouring windows share, as context.
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
    """

    head: ClassVar[str] = "token_classification"
    primary: ClassVar[str] = "f1"
    metric_names: ClassVar[tuple[str, ...]] = ("f1", "f1_strict")
    loss_settings: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")
    columns: Mapping[str, Column] = {
        "tokens": Column("tokens", "the words of a sentence, a list of texts"),
        "tags": Column(
            "ner_tags", "one IOB2 label per word, such as B-PER, I-PER, O", is_target=True, is_iob=True
        ),
    }

    def __init__(
        self,
        max_len: Count = 128,
        overlap: Annotated[int, Range(at_least=0, below="max_len")] = 16,
        labels: Tags = None,
    ) -> None:
        super().__init__(labels)
        self.max_len, self.overlap = max_len, overlap

    # ---- rows
    def check(self, example: Example) -> str | None:
        tokens, tags = example["tokens"], example.get("tags")
        given = {"tokens": tokens} if tags is None else {"tokens": tokens, "tags": tags}
        for name, value in given.items():
            if not isinstance(value, list):
                return f"has {name} that are not a list but {type(value).__name__} (in CSV write a JSON list)"
        if not tokens:
            return "has no words"
        if tags is not None and len(tokens) != len(tags):
            return f"has {len(tokens)} tokens and {len(tags)} tags"
        wrong = [token for token in tokens if not isinstance(token, str)]
        if wrong:
            return f"has a token that is not text: {wrong[0]!r}"
        if tags and set(map(type, tags)) == {str}:
            tags = dict.fromkeys(tags)  # each once
        return next((reason for reason in map(self._check_tag, tags or ()) if reason), None)

    def _check_tag(self, tag: object) -> str | None:
        if isinstance(tag, int) and not isinstance(tag, bool):
            if self._given is None:
                fix = "give them in order, as task.labels: [O, B-PER, ...]"
                return f"has numbers as tags, without names ({fix})"
            if not 0 <= tag < len(self._given):
                return f"has the tag {tag}, and task.labels names {len(self._given)}"
            return None
        if not isinstance(tag, str) or not _is_iob(tag):
            return f"has the tag {tag!r}, where IOB2 has O, B-TYPE and I-TYPE"
        if self._labels and tag not in self._labels:
            place = "task.labels does not list" if self._given else "no row of train has"
            return f"has the tag {tag!r}, which {place}"
        return None

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        if not self._given:
            found = {tag for example in splits["train"] for tag in example["tags"]}
            self._set_labels(sorted(found | {OUTSIDE}, key=_label_order))

    def check_labels(self, labels: Sequence[str]) -> None:
        wrong = [label for label in labels if not isinstance(label, str) or not _is_iob(label)]
        if wrong or len(set(labels)) != len(labels) or OUTSIDE not in labels:
            what = "labels must be distinct, in IOB2 and with O among them"
            raise UserError("task.labels", what, labels, "for example [O, B-PER, I-PER]")

    def stratum(self, example: Example) -> frozenset[str]:
        return frozenset(tag[2:] for tag in self.reference(example) if tag != OUTSIDE)

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        return (" ".join(example["tokens"]) for example in examples)

    def from_text(self, text: str) -> Example:
        """Split a text into words (letters and digits, joined by apostrophes, dots, hyphens) and signs."""
        return {"tokens": WORD.findall(text), "text": text}

    # ---- features and batches
    def bind(self, processor: Processor, family: str) -> None:
        super().bind(processor, family)
        self._encoder = WordEncoder(processor)
        least = self._encoder.num_special + 1
        require_room(self.max_len, most=self._encoder.max_len, least=least, what="a word")
        self._capacity = self.max_len - self._encoder.num_special
        if not 0 <= self.overlap < self._capacity:
            accepted = f"0 to {self._capacity - 1}"
            raise UserError("task.overlap", "must be less than a window", self.overlap, accepted)

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Return the windows of every example: ids, and where each word that belongs to a window begins.

        `positions[i]` is the token at which word `words[i]` of the example is labelled `labels[i]`
        (-100 where the example has no tags).
        """
        encoded = self._encoder([example["tokens"] for example in examples])
        return [
            feature
            for example, pieces in zip(examples, encoded)
            for feature in self._windows(example, pieces)
        ]

    def _windows(self, example: Example, pieces: Sequence[Sequence[int]]) -> Iterator[Feature]:
        words = [word for word, ids in enumerate(pieces) if ids]
        ids = [pieces[word][: self._capacity] for word in words]
        windows = cut([len(part) for part in ids], self._capacity, self.overlap)
        self.counts["examples"] += 1
        self.counts["words"] += len(pieces)
        self.counts["words_without_tokens"] += len(pieces) - len(words)
        self.counts["words_cut"] += sum(len(pieces[word]) > self._capacity for word in words)
        self.counts["examples_in_windows"] += len(windows) > 1
        labels = self._label_numbers(example)
        for window in windows:
            yield self._feature(example, window, words, ids, labels)

    def _feature(
        self,
        example: Example,
        window: Window,
        words: Sequence[int],
        ids: Sequence[Sequence[int]],
        labels: Sequence[int],
    ) -> Feature:
        input_ids = list(self._encoder.prefix)
        positions = []
        for unit in range(window.begin, window.end):
            if window.first <= unit < window.last:
                positions.append(len(input_ids))
            input_ids += ids[unit]
        input_ids += self._encoder.suffix
        owned = list(words[window.first : window.last])
        targets = [labels[word] for word in owned]
        return {
            "example_id": example["id"],
            "input_ids": input_ids or [0],  # where no word has a sub-word and there are no special tokens
            "positions": positions,
            "words": owned,
            "labels": targets,
            "num_targets": sum(target != IGNORED for target in targets),
        }

    def _label_numbers(self, example: Example) -> list[int]:
        if example.get("tags") is None:
            return [IGNORED] * len(example["tokens"])
        return [self._number[tag] for tag in self.reference(example)]

    def collate(self, features: Sequence[Feature]) -> Batch:
        """Return tensors (batch, len): input_ids, attention_mask, labels; words: the word that begins, or -1.

        Padding is on the right and masked, so its id does not matter and no pad token is needed.
        """
        shape = (len(features), max(len(feature["input_ids"]) for feature in features))
        batch = {
            "input_ids": torch.full(shape, getattr(self.processor, "pad_token_id", None) or 0),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "labels": torch.full(shape, IGNORED),
            "words": torch.full(shape, -1),
        }
        for row, feature in enumerate(features):
            length = len(feature["input_ids"])
            batch["input_ids"][row, :length] = torch.tensor(feature["input_ids"])
            batch["attention_mask"][row, :length] = 1
            positions = torch.tensor(feature["positions"], dtype=torch.long)
            batch["labels"][row, positions] = torch.tensor(feature["labels"], dtype=torch.long)
            batch["words"][row, positions] = torch.tensor(feature["words"], dtype=torch.long)
        return batch

    # ---- learning and predicting
    def loss(self, model: Module, batch: Batch) -> torch.Tensor:
        return self.target_loss(self._logits(model, batch).transpose(1, 2), batch["labels"]).sum()

    def predict(self, model: Module, batch: Batch) -> list[Raw]:
        logits = self._logits(model, batch)
        losses = PLAIN(logits.transpose(1, 2), batch["labels"]).sum(dim=1).tolist()
        raws: list[Raw] = []
        for words, chosen, loss in zip(batch["words"].cpu(), logits.argmax(dim=-1).cpu(), losses):
            here = words >= 0
            raws.append({"words": words[here].tolist(), "labels": chosen[here].tolist(), "loss": loss})
        return raws

    @staticmethod
    def _logits(model: Module, batch: Batch) -> torch.Tensor:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return logits.float()  # (batch, len, labels)

    def assemble(self, example: Example, raws: Sequence[Raw]) -> list[str]:
        """Return one label per word; "O" for words without a sub-word."""
        prediction = [OUTSIDE] * len(example["tokens"])
        for raw in raws:
            for word, label in zip(raw["words"], raw["labels"]):
                prediction[word] = self._labels[label]
        return prediction

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """Return the tags and the entities, with the characters `start:end` of each entity in `text`.

        `text` is the line as it came, or the words of a list joined by single spaces.
        """
        tags = self.assemble(example, raws)
        text = example.get("text", " ".join(example["tokens"]))
        places = _places(text, example["tokens"], gap=int("text" not in example))
        entities = []
        for kind, first, last in sorted(conlleval_entities(tags), key=lambda entity: entity[1:]):
            begin, end = places[first][0], places[last][1]
            entities.append({"type": kind, "text": text[begin:end], "start": begin, "end": end})
        return {"text": text, "entities": entities, "tokens": list(example["tokens"]), "tags": tags}

    def show(self, feature: Feature) -> str:
        names = {at: self._labels[n] for at, n in zip(feature["positions"], feature["labels"]) if n >= 0}
        tokens = self.processor.convert_ids_to_tokens(feature["input_ids"])
        return " ".join(f"{token}/{names[at]}" if at in names else token for at, token in enumerate(tokens))

    # ---- scoring
    def metric(self, name: str) -> Metric:
        return EntityF1(strict=name == "f1_strict")

    def read_prediction(self, written: Any) -> list[str]:
        """Return the tags of a list, or of a line with blanks between them."""
        tags = written.split() if isinstance(written, str) else [] if written is None else written
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise LookupError(f"is no list of tags: {written!r}")
        return tags

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for example in train:
            for token, tag in zip(example["tokens"], self.reference(example)):
                counts[token][tag] += 1
        best = {token: found.most_common(1)[0][0] for token, found in counts.items()}
        return {
            "most frequent tag of each word": lambda example: [
                best.get(token, OUTSIDE) for token in example["tokens"]
            ],
            # What a model that learned nothing falls to: this, and not what a list of words gives.
            "no entity": lambda example: [OUTSIDE] * len(example["tokens"]),
        }

    def reference(self, example: Example) -> list[str]:
        return [self.named(tag) for tag in example["tags"]]


def _places(text: str, words: Sequence[str], gap: int) -> list[tuple[int, int]]:
    """Return the characters (begin, end) of each word in the text in which they follow each other.

    Args:
        gap: characters that are at least between two words.
    """
    places, end = [], -gap
    for word in words:
        begin = text.index(word, end + gap)
        end = begin + len(word)
        places.append((begin, end))
    return places


def _is_iob(tag: str) -> bool:
    return tag == OUTSIDE or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def _label_order(label: str) -> tuple[bool, str, str]:
    """Return the sort key of a label: O first, then by type, B- before I-."""
    return (label != OUTSIDE, label[2:], label[:2])
