"""Answers that stand in a text: the span of the context that answers a question, or none (SQuAD)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from pipelines.errors import UserError
from pipelines.metrics.base import Metric
from pipelines.metrics.squad import Squad
from pipelines.tasks.base import Column, Example, Feature, Raw, Task, Trivial
from pipelines.tasks.shared.answer_spans import best_spans, best_threshold
from pipelines.tasks.shared.pair_encoder import PairEncoder, Tokens
from pipelines.tasks.shared.question_rows import (
    as_list,
    asked_amiss,
    cluster_of,
    least_answers,
    squad_metrics,
)
from pipelines.tasks.shared.windows import cut

IGNORED = -100  # what cross entropy skips


class QuestionAnswering(Task):
    """Find the answer to a question in its context, by the scores of its first and its last token.

    A context longer than the room beside its question is cut into overlapping windows (as by the official
    script, whose doc_stride is our `overlap`); the best span over all windows answers. A window is taught the
    answer when it shows all of it, and "no answer" otherwise: the null position, which is the first special
    token of the input, or the last one where attention is causal and only the last token has seen it all.
    Every window is two targets, the first and the last token, so that the mean loss is that of transformers.

    A question takes half of `max_len` at most; the rest of a longer one is cut off and counted in `counts`.

    Args:
        max_len: tokens of a window, with the question and the special tokens.
        overlap: tokens of context that neighbouring windows share.
        max_answer_len: tokens of the longest answer that is given.
        n_best: answers that `attnlab predict` gives for each question.
        unanswerable: whether questions may have no answer (an empty list; SQuAD 2.0 and its scorer).
        null_threshold: no answer is given where the null score exceeds that of the best span by more; None:
            the value with the best F1 on the validation split, 0 before there is one.
    """

    head: ClassVar[str] = "question_answering"
    primary: ClassVar[str] = "f1"
    metric_names: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    columns: ClassVar[Mapping[str, Column]] = {
        "question": Column("question", "the question, a text"),
        "context": Column("context", "the text in which the answer stands"),
        "answers": Column("answers.text", "texts of the answers, any of which is right", is_target=True),
        "answer_starts": Column(
            "answers.answer_start", "for each answer its first character in the context", is_target=True
        ),
        "title": Column("title", "where the context is from; questions with one title err alike", False),
    }

    def __init__(
        self,
        max_len: int = 384,
        overlap: int = 128,
        max_answer_len: int = 30,
        n_best: int = 5,
        unanswerable: bool = False,
        null_threshold: float | None = None,
    ) -> None:
        for name, value in (("max_answer_len", max_answer_len), ("n_best", n_best)):
            if value < 1:
                raise UserError(f"task.{name}", "must be at least 1", value)
        if null_threshold is not None and not unanswerable:
            fix = "set task.unanswerable: true, or leave the threshold out"
            raise UserError("task.null_threshold", "every question has an answer", null_threshold, fix)
        self.max_len, self.overlap = max_len, overlap
        self.max_answer_len, self.n_best = max_answer_len, n_best
        self.unanswerable, self.null_threshold = unanswerable, null_threshold
        self._threshold = null_threshold or 0.0
        self.counts: Counter[str] = Counter()

    # ---- rows
    def check(self, example: Example) -> str | None:
        amiss = asked_amiss(example)
        if amiss or example.get("answers") is None:
            return amiss
        texts, starts = as_list(example["answers"]), as_list(example["answer_starts"])
        if len(texts) != len(starts):
            return f"has {len(texts)} answers and {len(starts)} answer starts"
        if not texts and not self.unanswerable:
            return "has no answer (set task.unanswerable: true where that is meant)"
        reasons = (_check_answer(example["context"], text, start) for text, start in zip(texts, starts))
        return next((reason for reason in reasons if reason), None)

    def cluster(self, example: Example) -> str:
        return cluster_of(example)

    def state(self) -> dict[str, Any]:
        return {"null_threshold": self._threshold} if self.unanswerable else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._threshold = state.get("null_threshold", self._threshold)

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        before = None
        for example in examples:
            yield example["question"]
            if example["context"] != before:  # rows about one text stand together
                yield example["context"]
            before = example["context"]

    # ---- features and batches
    def bind(self, processor: Any, family: str) -> None:
        super().bind(processor, family)
        self._encoder = PairEncoder(processor)
        self._is_causal = family == "decoder"
        if not self._encoder.after_second and processor.eos_token_id is not None:
            self._encoder.after_second = [processor.eos_token_id]  # GPT-2 has no token to say "none" at
        if self.max_len > self._encoder.max_len:
            most = f"at most {self._encoder.max_len}, which is all the model has positions for"
            raise UserError("task.max_len", "is longer than the model's inputs", self.max_len, most)
        room = self.max_len - self._encoder.num_special
        self._question_room = room // 2
        if self._question_room < 1:
            least = f"at least {self._encoder.num_special + 2}"
            raise UserError("task.max_len", "has no room for a question and a context", self.max_len, least)
        if not 0 <= self.overlap < room - self._question_room:
            what = "must be less than the context of a window, which may be half of max_len"
            raise UserError("task.overlap", what, self.overlap, f"0 to {room - self._question_room - 1}")

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Windows of every example: ids, the characters of the context's tokens, and the answer's place.

        `begins[i]:ends[i]` are the characters of token `context_at + i`; `first` and `last` are the
        positions in `input_ids` of the answer's first and last token (-100 where nothing is taught).
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
        asked = question.ids[: self._question_room]
        capacity = self.max_len - self._encoder.num_special - len(asked)
        windows = cut([1] * len(context.ids), capacity, self.overlap)
        answer = self._answer_tokens(example, context)
        shown = [answer is not None and w.begin <= answer[0] and answer[1] < w.end for w in windows]
        is_taught = example.get("answers") is not None and (not as_list(example["answers"]) or any(shown))
        self.counts["examples"] += 1
        self.counts["questions_cut"] += len(question.ids) > len(asked)
        self.counts["examples_in_windows"] += len(windows) > 1
        # an answer without tokens, or longer than any window shows: not taught, and not called "no answer"
        self.counts["answers_not_taught"] += not is_taught and example.get("answers") is not None
        for window, has_answer in zip(windows, shown):
            ids, second = self._encoder.join(asked, context.ids[window.begin : window.end])
            null = 0 if self._encoder.before_first and not self._is_causal else len(ids) - 1
            labels = [null, null] if is_taught else [IGNORED, IGNORED]
            if has_answer:
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
                "num_targets": 2 * is_taught,
            }

    def _answer_tokens(self, example: Example, context: Tokens) -> tuple[int, int] | None:
        """First and last token of the first answer, in the whole context; None where it has none."""
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

    def collate(self, features: Sequence[Feature]) -> dict[str, Any]:
        """Tensors (batch, len): input_ids, attention_mask, token_type_ids where the model has them, and
        may_answer (tokens at which an answer may begin or end); (batch,): null, first, last.

        `places` keeps the characters of the context's tokens, as lists. Padding stands right.
        """
        shape = (len(features), max(len(feature["input_ids"]) for feature in features))
        batch: dict[str, Any] = {
            "input_ids": torch.full(shape, self.processor.pad_token_id or 0),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "may_answer": torch.zeros(shape, dtype=torch.bool),
            **{name: torch.tensor([f[name] for f in features]) for name in ("null", "first", "last")},
            "places": [(f["context_at"], f["begins"], f["ends"]) for f in features],
        }
        if self._encoder.has_segments:
            batch["token_type_ids"] = torch.zeros(shape, dtype=torch.long)
        for row, feature in enumerate(features):
            length, second = len(feature["input_ids"]), feature["context_at"]
            batch["input_ids"][row, :length] = torch.tensor(feature["input_ids"])
            batch["attention_mask"][row, :length] = 1
            has_characters = [begin < end for begin, end in zip(feature["begins"], feature["ends"])]
            batch["may_answer"][row, second : second + len(has_characters)] = torch.tensor(
                has_characters, dtype=torch.bool
            )
            if self._encoder.has_segments:
                batch["token_type_ids"][row, second:length] = 1
        return batch

    # ---- learning and predicting
    def loss(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        return self._losses(*self._scores(model, batch), batch).sum()

    def predict(self, model: Any, batch: dict[str, Any]) -> list[Raw]:
        """The best spans of every window as [score, first character, end], with what they are weighed by:
        `total` (log of the summed exp of all spans' scores) and `null` (the score of no answer)."""
        start, end = self._scores(model, batch)
        losses = self._losses(start, end, batch).tolist()
        rows = torch.arange(len(start), device=start.device)
        nulls = (start[rows, batch["null"]] + end[rows, batch["null"]]).tolist()
        found, totals = best_spans(start, end, batch["may_answer"], self.max_answer_len, self.n_best)
        return [
            {"spans": _in_characters(spans, *place), "total": total, "null": null, "loss": loss}
            for spans, place, total, null, loss in zip(found, batch["places"], totals, nulls, losses)
        ]

    @staticmethod
    def _scores(model: Any, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of each token as the first and as the last of the answer, (batch, len); padding has none.

        Transformers' own loss lets padding into the softmax, so that it depends on the batch; ours does not.
        """
        names = ("input_ids", "attention_mask", "token_type_ids")
        output = model(**{name: batch[name] for name in names if name in batch})
        padding = batch["attention_mask"] == 0
        least = torch.finfo(torch.float32).min
        return tuple(
            logits.float().masked_fill(padding, least) for logits in (output.start_logits, output.end_logits)
        )

    @staticmethod
    def _losses(start: torch.Tensor, end: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Cross entropy of both ends of each feature, 0 where it has no target: (batch,)."""
        return sum(
            functional.cross_entropy(scores, batch[name], ignore_index=IGNORED, reduction="none")
            for scores, name in ((start, "first"), (end, "last"))
        )

    def assemble(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """The best span over all windows: `text`, its characters `start:end` in the context, and `score`,
        its share of exp(score) among all spans of all windows (and no answer, where that is allowed).

        No answer is the text "" with `start` and `end` null.
        """
        ranked = self._ranked(example, raws)
        if not ranked or (self.unanswerable and self._margin(raws) > self._threshold):
            return {"text": "", "start": None, "end": None, "score": self._share(self._null(raws), raws)}
        return ranked[0]

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        said = {"answer": self.assemble(example, raws), "n_best": self._ranked(example, raws)[: self.n_best]}
        return said | ({"null_margin": self._margin(raws)} if self.unanswerable else {})

    def _ranked(self, example: Example, raws: Sequence[Raw]) -> list[dict[str, Any]]:
        """Distinct spans, best first; a span that several windows show counts as in the best of them."""
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
        """The score of no answer: as low as in the window that is surest of one."""
        return min(raw["null"] for raw in raws)

    def _margin(self, raws: Sequence[Raw]) -> float:
        """By how much no answer scores above the best span."""
        best = max((span[0] for raw in raws for span in raw["spans"]), default=-math.inf)
        return self._null(raws) - best

    def tune(self, examples: Sequence[Example], raws: Sequence[Sequence[Raw]]) -> None:
        """Set the threshold of no answer to the one with the best F1 on these rows."""
        if not self.unanswerable or self.null_threshold is not None:
            return
        f1 = Squad("f1", version="2.0")
        margins, gains = [], []  # what answering gains over saying nothing
        for example, group in zip(examples, raws):
            ranked, reference = self._ranked(example, group), self.reference(example)
            margins.append(self._margin(group))
            answered = f1.statistics(ranked[0]["text"] if ranked else "", reference)[0]
            gains.append(answered - f1.statistics("", reference)[0])
        self._threshold = best_threshold(margins, gains)

    def show(self, feature: Feature) -> str:
        decode, ids = self.processor.decode, feature["input_ids"]
        if feature["first"] == IGNORED:
            return f"{decode(ids)}\n  -> not taught"
        answer = decode(ids[feature["first"] : feature["last"] + 1])
        return f"{decode(ids)}\n  -> {'no answer here' if feature['first'] == feature['null'] else answer}"

    # ---- scoring
    @property
    def metrics(self) -> Mapping[str, Metric]:
        return squad_metrics(self.unanswerable)

    def trivial(self, train: Sequence[Example]) -> Mapping[str, Trivial]:
        return least_answers(self.unanswerable)

    def reference(self, example: Example) -> list[str]:
        return as_list(example["answers"])


def _in_characters(
    spans: Sequence[tuple[float, int, int]], context_at: int, begins: Sequence[int], ends: Sequence[int]
) -> list[list[float]]:
    return [[score, begins[first - context_at], ends[last - context_at]] for score, first, last in spans]


def _check_answer(context: str, text: Any, start: Any) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return f"has an answer that is no text: {text!r}"
    if not isinstance(start, int) or isinstance(start, bool):
        return f"has an answer start that is no whole number: {start!r}"
    found = context[start : start + len(text)] if start >= 0 else ""
    if found == text:
        return None
    place = context.find(text)
    hint = f"it stands at {place}" if place >= 0 else "it stands nowhere in the context"
    return f"has the answer {text!r} at character {start}, where the context has {found!r} ({hint})"
