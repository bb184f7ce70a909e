"""Extracted answers: the span of the context that answers a question, or none (SQuAD)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch.nn import Module, functional

from pipelines.errors import UserError
from pipelines.metrics.squad import Squad
from pipelines.registry.option_types import Count, OnlyWith, Range
from pipelines.tasks.base import Batch, Column, Example, Feature, Processor, Raw
from pipelines.tasks.shared.answer_spans import best_spans, best_threshold
from pipelines.tasks.shared.pair_encoder import PairEncoder, Tokens
from pipelines.tasks.shared.question_rows import IMPOSSIBLE, QuestionTask, as_list
from pipelines.tasks.shared.room import require_room
from pipelines.tasks.shared.windows import cut

IGNORED = -100  # what cross entropy skips
UNITS = (("bytes", "utf-8", 1), ("UTF-16 units", "utf-16-le", 2))  # in which other tools count; bytes of one


class QuestionAnswering(QuestionTask):
    """Find the answer to a question in its context, by the scores of its first and its last token.

    A context that does not fit beside its question is cut into overlapping windows (as by the official
    script, which calls `overlap` doc_stride); the best span over all windows is the answer. The target of a
    window is the answer if the window holds all of it, else the null position ("no answer"): the first
    special token of the input, or the last token where attention is causal, since only that one attends to
    the whole input. Every window has two targets, the first and the last token, so that the mean loss equals
    that of transformers.

    A question takes at most half of `max_len`; the rest of a longer one is cut and counted in `counts`.

    Args:
        max_len: tokens of a window, with the question and the special tokens.
        overlap: tokens of context that neighbouring windows share.
        max_answer_len: tokens of the longest predicted answer.
        n_best: answers that `attnlab predict` prints for each question.
        unanswerable: whether questions may have no answer (an empty list; scored as in SQuAD 2.0).
        null_threshold: "no answer" is predicted where the null score exceeds that of the best span by more
            than this; None: the value with the best F1 on the validation split, and 0 before the first one.
    """

    head: ClassVar[str] = "question_answering"
    columns: Mapping[str, Column] = {
        "question": Column("question", "the question, a text"),
        "context": Column("context", "the text that contains the answer"),
        "answers": Column(
            "answers.text",
            "texts of the answers, any of which is correct",
            is_target=True,
            may_be_null=True,
        ),
        "answer_starts": Column(
            "answers.answer_start",
            "for each answer its first character in the context",
            is_target=True,
            may_be_null=True,
        ),
        "is_impossible": IMPOSSIBLE,
        "title": Column(
            "title", "the source of the context; questions with one title share a cluster", False
        ),
    }

    def __init__(
        self,
        max_len: Count = 384,
        overlap: Annotated[int, Range(at_least=0, below="max_len")] = 128,
        max_answer_len: Count = 30,
        n_best: Count = 5,
        unanswerable: bool = False,
        null_threshold: Annotated[float | None, OnlyWith(option="unanswerable", values=(True,))] = None,
    ) -> None:
        self.max_len, self.overlap = max_len, overlap
        self.max_answer_len, self.n_best = max_answer_len, n_best
        self.unanswerable, self.null_threshold = unanswerable, null_threshold
        self._threshold = null_threshold or 0.0
        self.counts: Counter[str] = Counter()

    # ---- rows
    def check_answers(self, example: Example) -> str | None:
        texts, starts = as_list(example["answers"]), as_list(example["answer_starts"])
        if len(texts) != len(starts):
            return f"has {len(texts)} answers and {len(starts)} answer starts"
        reasons = (_check_answer(example["context"], text, start) for text, start in zip(texts, starts))
        return next((reason for reason in reasons if reason), None)

    def state(self) -> dict[str, Any]:
        return {"null_threshold": self._threshold} if self.unanswerable else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._threshold = state.get("null_threshold", self._threshold)

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        previous = None
        for example in examples:
            yield example["question"]
            if example["context"] != previous:  # rows about one text follow each other: yield it once
                yield example["context"]
            previous = example["context"]

    # ---- features and batches
    def bind(self, processor: Processor, family: str) -> None:
        super().bind(processor, family)
        self._encoder = PairEncoder(processor)
        self._is_causal = family == "decoder"
        if not self._encoder.after_second and processor.eos_token_id is not None:
            # GPT-2 puts no special token around a text, and the null position must be one.
            self._encoder.after_second = [processor.eos_token_id]
        least = self._encoder.num_special + 2
        require_room(self.max_len, most=self._encoder.max_len, least=least, what="a question and a context")
        room = self.max_len - self._encoder.num_special
        self._question_room = room // 2
        if not 0 <= self.overlap < room - self._question_room:
            what = "must be less than the context of a window, which may be half of max_len"
            raise UserError("task.overlap", what, self.overlap, f"0 to {room - self._question_room - 1}")

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Return the windows of every example: ids, the characters of each context token, and the targets.

        `begins[i]:ends[i]` are the characters of token `context_at + i`; `first` and `last` are the
        positions in `input_ids` of the answer's first and last token (-100 where there is no target).
        """
        questions = self._encoder([example["question"].strip() for example in examples])
        distinct = list(dict.fromkeys(example["context"] for example in examples))
        contexts = dict(zip(distinct, self._encoder(distinct)))
        return [
            feature
            for example, question in zip(examples, questions)
            for feature in self._windows(example, question, contexts[example["context"]])
        ]

    def _windows(self, example: Example, question: Tokens, context: Tokens) -> Iterator[Feature]:
        question_ids = question.ids[: self._question_room]
        capacity = self.max_len - self._encoder.num_special - len(question_ids)
        windows = cut([1] * len(context.ids), capacity, self.overlap)
        answer = self._answer_tokens(example, context)
        has_answer = [answer is not None and w.begin <= answer[0] and answer[1] < w.end for w in windows]
        has_targets = example.get("answers") is not None and (
            not as_list(example["answers"]) or any(has_answer)
        )
        self.counts["examples"] += 1
        self.counts["questions_cut"] += len(question.ids) > len(question_ids)
        self.counts["examples_in_windows"] += len(windows) > 1
        # An answer without tokens, or longer than a window, is no target, and neither is "no answer".
        self.counts["answers_not_taught"] += not has_targets and example.get("answers") is not None
        for window, holds_answer in zip(windows, has_answer):
            ids, second = self._encoder.join(question_ids, context.ids[window.begin : window.end])
            null = 0 if self._encoder.before_first and not self._is_causal else len(ids) - 1
            labels = [null, null] if has_targets else [IGNORED, IGNORED]
            if holds_answer and answer is not None:
                labels = [second + token - window.begin for token in answer]
            yield {
                "example_id": example["id"],
                "input_ids": ids,
                "context_at": second,
                "begins": context.begins[window.begin : window.end],
                "ends": context.ends[window.begin : window.end],
                "null": null,
                "first": labels[0],
                "last": labels[1],
                "num_targets": 2 * has_targets,
            }

    def _answer_tokens(self, example: Example, context: Tokens) -> tuple[int, int] | None:
        """Return the first and the last token of the first answer in the context; None if it has none."""
        texts = as_list(example.get("answers"))
        if not texts:
            return None
        start = as_list(example["answer_starts"])[0]
        begin, end = start + len(texts[0]) - len(texts[0].lstrip()), start + len(texts[0].rstrip())
        inside = [
            token
            for token, (b, e) in enumerate(zip(context.begins, context.ends))
            if b < e and e > begin and b < end
        ]
        return (inside[0], inside[-1]) if inside else None

    def collate(self, features: Sequence[Feature]) -> Batch:
        """Return the batch, padded on the right.

        Tensors (batch, len): input_ids, attention_mask, token_type_ids where the model has them, and
        may_answer (tokens at which an answer may begin or end: those of the context, as in transformers'
        `run_qa.py`), is_seen (those that are not white space alone). Tensors (batch,): null, first, last.
        `places` keeps the characters of the context's tokens, as lists.
        """
        shape = (len(features), max(len(feature["input_ids"]) for feature in features))
        batch: Batch = {
            "input_ids": torch.full(shape, self.processor.pad_token_id or 0),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "may_answer": torch.zeros(shape, dtype=torch.bool),
            "is_seen": torch.zeros(shape, dtype=torch.bool),
            **{name: torch.tensor([f[name] for f in features]) for name in ("null", "first", "last")},
            "places": [(f["context_at"], f["begins"], f["ends"]) for f in features],
        }
        if self._encoder.has_segments:
            batch["token_type_ids"] = torch.zeros(shape, dtype=torch.long)
        for row, feature in enumerate(features):
            length, second = len(feature["input_ids"]), feature["context_at"]
            batch["input_ids"][row, :length] = torch.tensor(feature["input_ids"])
            batch["attention_mask"][row, :length] = 1
            is_seen = [begin < end for begin, end in zip(feature["begins"], feature["ends"])]
            context = slice(second, second + len(is_seen))
            batch["may_answer"][row, context] = True
            batch["is_seen"][row, context] = torch.tensor(is_seen, dtype=torch.bool)
            if self._encoder.has_segments:
                batch["token_type_ids"][row, second:length] = 1
        return batch

    # ---- learning and predicting
    def loss(self, model: Module, batch: Batch) -> torch.Tensor:
        return self._losses(*self._scores(model, batch), batch).sum()

    def predict(self, model: Module, batch: Batch) -> list[Raw]:
        """Return for each window its best `spans` as [score, first character, end].

        Beside them `total`, the log of the summed exp of all spans' scores, and `null`, the score of "no
        answer".
        """
        start, end = self._scores(model, batch)
        losses = self._losses(start, end, batch).tolist()
        rows = torch.arange(len(start), device=start.device)
        nulls = (start[rows, batch["null"]] + end[rows, batch["null"]]).tolist()
        allowed, is_seen = batch["may_answer"], batch["is_seen"]
        found, totals = best_spans(start, end, allowed, is_seen, self.max_answer_len, self.n_best)
        return [
            {"spans": _in_characters(spans, *place), "total": total, "null": null, "loss": loss}
            for spans, place, total, null, loss in zip(found, batch["places"], totals, nulls, losses)
        ]

    @staticmethod
    def _scores(model: Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of each token as first and as last of the answer, (batch, len) each, float32.

        Padding is masked: the loss of transformers has it in the softmax and so depends on the batch.
        """
        names = ("input_ids", "attention_mask", "token_type_ids")
        output = model(**{name: batch[name] for name in names if name in batch})
        padding = batch["attention_mask"] == 0
        least = torch.finfo(torch.float32).min
        start, end = output.start_logits.float(), output.end_logits.float()
        return start.masked_fill(padding, least), end.masked_fill(padding, least)

    @staticmethod
    def _losses(start: torch.Tensor, end: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the cross entropy of both ends of each feature, 0 where it has no target: (batch,)."""
        first, last = (
            functional.cross_entropy(scores, batch[name], ignore_index=IGNORED, reduction="none")
            for scores, name in ((start, "first"), (end, "last"))
        )
        return first + last

    def assemble(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """Return the best span over all windows, or "no answer".

        `text` are the characters `start:end` of the context; `score` is the share of exp(score) among all
        spans of all windows (and "no answer", where that is allowed). "No answer" is the text "" with
        `start` and `end` null.
        """
        ranked = self._ranked(example, raws)
        if not ranked or (self.unanswerable and self._margin(raws) > self._threshold):
            return {"text": "", "start": None, "end": None, "score": self._share(self._null(raws), raws)}
        return ranked[0]

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        best = {"answer": self.assemble(example, raws), "n_best": self._ranked(example, raws)[: self.n_best]}
        return best | ({"null_margin": self._margin(raws)} if self.unanswerable else {})

    def _ranked(self, example: Example, raws: Sequence[Raw]) -> list[dict[str, Any]]:
        """Return the distinct spans, best first; a span of several windows has the best of its scores."""
        scores: dict[tuple[int, int], float] = {}
        for raw in raws:
            for score, begin, end in raw["spans"]:
                scores[begin, end] = max(score, scores.get((begin, end), -math.inf))
        return [
            {
                "text": example["context"][begin:end],
                "start": begin,
                "end": end,
                "score": self._share(score, raws),
            }
            for (begin, end), score in sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        ]

    def _share(self, score: float, raws: Sequence[Raw]) -> float:
        totals = [raw["total"] for raw in raws] + ([self._null(raws)] if self.unanswerable else [])
        return math.exp(min(0.0, score - float(np.logaddexp.reduce(totals)))) if totals else 0.0

    @staticmethod
    def _null(raws: Sequence[Raw]) -> float:
        """Return the score of "no answer": the lowest over all windows."""
        return min(raw["null"] for raw in raws)

    def _margin(self, raws: Sequence[Raw]) -> float:
        """Return by how much "no answer" scores above the best span."""
        best = max((span[0] for raw in raws for span in raw["spans"]), default=-math.inf)
        return self._null(raws) - best

    def tune(self, examples: Sequence[Example], raws: Sequence[Sequence[Raw]]) -> None:
        """Set the threshold of "no answer" to the one with the best F1 on these rows."""
        if not self.unanswerable or self.null_threshold is not None:
            return
        f1 = Squad("f1", version="2.0")
        margins, gains = [], []  # by how much an answer scores above "no answer"
        for example, group in zip(examples, raws):
            ranked, reference = self._ranked(example, group), self.reference(example)
            margins.append(self._margin(group))
            answered = f1.statistics(ranked[0]["text"] if ranked else "", reference)[0]
            gains.append(answered - f1.statistics("", reference)[0])
        self._threshold = best_threshold(margins, gains)

    def show(self, feature: Feature) -> str:
        decode, ids = self.decoded, feature["input_ids"]
        if feature["first"] == IGNORED:
            return f"{decode(ids)}\n  -> no target"
        answer = decode(ids[feature["first"] : feature["last"] + 1])
        return f"{decode(ids)}\n  -> {'no answer here' if feature['first'] == feature['null'] else answer}"


def _in_characters(
    spans: Sequence[tuple[float, int, int]], context_at: int, begins: Sequence[int], ends: Sequence[int]
) -> list[list[float]]:
    """Return spans of tokens as spans of characters of the context, without white space around.

    A lone "▁" or "Ġ" at either end is no character of the answer: its blank belongs to no word.
    """
    found = []
    for score, first, last in spans:
        seen = [at for at in range(first - context_at, last - context_at + 1) if begins[at] < ends[at]]
        found.append([score, begins[seen[0]], ends[seen[-1]]])
    return found


def _check_answer(context: str, text: object, start: object) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return f"has an answer that is not text: {text!r}"
    if not isinstance(start, int) or isinstance(start, bool):
        return f"has an answer start that is not a whole number: {start!r}"
    found = context[start : start + len(text)] if start >= 0 else ""
    if found == text:
        return None
    for unit, encoding, size in UNITS:
        whole, sought = (value.encode(encoding, "surrogatepass") for value in (context, text))
        if start > 0 and whole.startswith(sought, start * size):
            place = len(whole[: start * size].decode(encoding, "surrogatepass"))
            return f"has an answer start in {unit}, not in characters: {text!r} at {start}, which is {place}"
    place = context.find(text)
    hint = f"it is at {place}" if place >= 0 else "it is nowhere in the context"
    where = f"{text!r} at character {start}, where the context has {found!r} ({hint})"
    return f"has an answer that does not stand at its start: {where}"
