"""What transformers itself reads, learns and writes from a checkpoint, one example at a time.

Nothing of attnlab is used here: the tokenizer makes the batch (`text_target=`, `is_split_into_words=True`,
offsets), the model computes its own loss, and `generate` writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.zoo.families import HEADS, LANGUAGE_HEADS, WRITING, Family

IGNORED = -100
MAX_NEW_TOKENS = 12
MAX_ANSWER_LEN = 30
# What a greedy search is told by the checkpoint: with which tokens a text begins and ends, and never has.
STRUCTURE = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "bad_words_ids")
STRUCTURE += ("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens")


@dataclass(frozen=True)
class Reading:
    """One example as transformers has it.

    Attributes:
        ids, types: what the model reads; `types` are zeros where the tokenizer gives none.
        labels: what it learns.
        loss: summed over the targets.
        num_targets: number of them.
        prediction: in attnlab's form.
    """

    ids: list[int]
    types: list[int]
    labels: list[int]
    loss: float
    num_targets: int
    prediction: Any


class Oracle:
    """A checkpoint, loaded as the documentation of transformers says."""

    def __init__(self, family: Family, task: str, folder: Path) -> None:
        options: dict[str, Any] = {}
        if family.languages:
            options = dict(zip(("src_lang", "tgt_lang"), family.languages))
        if task == "ner" and _glues_words(transformers.AutoTokenizer.from_pretrained(folder)):
            options["add_prefix_space"] = True  # as run_ner.py does: words are cut as in a text
        self.family, self.task = family, task
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        head = HEADS.get(task) or LANGUAGE_HEADS[family.reads]
        self.model = getattr(transformers, head).from_pretrained(folder, dtype=torch.float32).eval()
        if task == "text_classification" and self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = self.tokenizer.eos_token_id

    @torch.no_grad()
    def read(self, row: Mapping[str, Any]) -> Reading:
        """Return what the checkpoint makes of a row."""
        kind = "writing" if self.task in WRITING else self.task
        return READERS[kind, self.family.reads == "decoder"](self, row)

    # ---- tasks that read
    def ner(self, row: Mapping[str, Any]) -> Reading:
        # Where no option of the tokenizer keeps words apart (ModernBERT, Gemma), the space before them does.
        space = " " if _glues_words(self.tokenizer) else ""
        batch = self._batch([space + word for word in row["tokens"]], is_split_into_words=True)
        labels, before = [], None
        for word in batch.word_ids(0):
            is_first = word is not None and word != before
            labels.append(self._number(row["ner_tags"][word]) if is_first else IGNORED)
            before = word
        output = self._forward(batch, labels=torch.tensor([labels]))
        chosen = output.logits[0].argmax(-1).tolist()
        tags = [self.model.config.id2label[tag] for tag, label in zip(chosen, labels) if label != IGNORED]
        return self._reading(batch, labels, output.loss, sum(label != IGNORED for label in labels), tags)

    def text_classification(self, row: Mapping[str, Any]) -> Reading:
        batch = self._batch(row["text"], row["text_pair"])
        label = self._number(row["label"])
        output = self._forward(batch, labels=torch.tensor([label]))
        name = self.model.config.id2label[int(output.logits[0].argmax())]
        return self._reading(batch, [label], output.loss, 1, name)

    def question_answering(self, row: Mapping[str, Any]) -> Reading:
        batch = self._batch(row["question"], row["context"], return_offsets_mapping=True)
        offsets = batch.pop("offset_mapping")[0].tolist()
        [text], [start] = row["answers"]["text"], row["answers"]["answer_start"]
        is_context = [part == 1 for part in batch.sequence_ids(0)]
        if is_context[-1]:  # GPT-2 ends with the context; "no answer" needs a token of its own
            end = torch.tensor([[self.tokenizer.eos_token_id]])
            batch = {"input_ids": torch.cat([batch["input_ids"], end], dim=1)}
            offsets, is_context = [*offsets, [0, 0]], [*is_context, False]
        inside = [
            token
            for token, (begin, end) in enumerate(offsets)
            if is_context[token] and begin < start + len(text) and end > start
        ]
        first, last = inside[0], inside[-1]
        output = self._forward(
            batch, start_positions=torch.tensor([first]), end_positions=torch.tensor([last])
        )
        places = [token for token, is_its in enumerate(is_context) if is_its]
        answer = self._best_text(output, row["context"], offsets, places)
        return self._reading(batch, [first, last], output.loss, 2, answer)

    @staticmethod
    def _best_text(output: Any, context: str, offsets: list[list[int]], places: list[int]) -> str:
        """Return the best text, from any token to any other, as run_qa.py; blanks alone answer nothing."""
        start, end = output.start_logits[0].tolist(), output.end_logits[0].tolist()
        spans = [(a, b) for a in places for b in places if a <= b < a + MAX_ANSWER_LEN]
        spans.sort(key=lambda span: start[span[0]] + end[span[1]], reverse=True)
        texts = (context[offsets[first][0] : offsets[last][1]].strip() for first, last in spans)
        return next(text for text in texts if text)

    # ---- tasks that write
    def write(self, row: Mapping[str, Any]) -> Reading:
        source, target = texts_of(self.task, row)
        batch = self._batch(source)
        labels = self.tokenizer(text_target=target)["input_ids"]
        if self.tokenizer.eos_token_id not in (None, *labels):
            labels = [*labels, self.tokenizer.eos_token_id]  # Gemma gives none, and texts must end
        output = self._forward(batch, labels=torch.tensor([labels]))
        written = self._generate(batch)
        return self._reading(batch, labels, output.loss, len(labels), self._decode(written))

    def go_on(self, row: Mapping[str, Any]) -> Reading:
        """Read source, separator and target as one running text, and learn the target and the end token."""
        source, target = texts_of(self.task, row)
        separator = {"translation": "=>", "summarization": "TL;DR:"}.get(self.task, "answer:")
        ids = self.tokenizer(f"{source} {separator}")["input_ids"]
        text = self.tokenizer(f"{source} {separator} {target}")["input_ids"]
        learned = [*text[len(ids) :], self.tokenizer.eos_token_id]
        whole = {"input_ids": torch.tensor([[*ids, *learned]])}
        labels = [IGNORED] * len(ids) + learned
        output = self.model(**whole, labels=torch.tensor([labels]))
        prompt = {
            "input_ids": torch.tensor([ids]),
            "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        }
        written = self._generate(prompt)[len(ids) :]
        return self._reading(whole, labels, output.loss, len(learned), self._decode(written))

    def _generate(self, batch: Mapping[str, torch.Tensor]) -> list[int]:
        theirs = self.model.generation_config
        kept = {name: getattr(theirs, name, None) for name in STRUCTURE}
        if self.family.languages:
            kept["forced_bos_token_id"] = self.tokenizer.convert_tokens_to_ids(self._target_code())
        if kept["pad_token_id"] is None:
            kept["pad_token_id"] = kept["eos_token_id"]
        plain = transformers.GenerationConfig(
            num_beams=1, do_sample=False, max_new_tokens=MAX_NEW_TOKENS, **kept
        )
        self.model.generation_config = plain
        try:
            [row] = self.model.generate(**batch, generation_config=plain).tolist()
        finally:
            self.model.generation_config = theirs
        return row

    def _target_code(self) -> str:
        assert self.family.languages
        code = self.family.languages[1]
        return f"__{code}__" if hasattr(self.tokenizer, "lang_code_to_token") else code

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    # ---- language modelling: what is hidden is drawn by attnlab, so that only the texts are read here
    def next_tokens(self, row: Mapping[str, Any]) -> Reading:
        """Read the text after a start token, and learn every token and the end token."""
        ids = self.tokenizer(row["text"])["input_ids"]
        plain, end = self._plain(row["text"]), self.tokenizer.eos_token_id
        if ids == plain:
            start = self.tokenizer.bos_token_id
            ids = [end if start is None else start, *ids]
        ids = [*ids, end]
        whole = {"input_ids": torch.tensor([ids])}
        output = self.model(**whole, labels=torch.tensor([ids]))
        num_targets = len(ids) - 1
        return self._reading(whole, [IGNORED, *ids[1:]], output.loss, num_targets, None)

    def hidden_tokens(self, row: Mapping[str, Any]) -> Reading:
        """Read a whole text; the loss is that of a batch which `hidden_loss` gets."""
        batch = self._batch(row["text"])
        return self._reading(batch, batch["input_ids"][0].tolist(), torch.zeros(()), 0, None)

    @torch.no_grad()
    def hidden_loss(self, ids: list[int], labels: list[int]) -> float:
        """Return the summed loss of a text in which tokens or spans are hidden."""
        output = self.model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]))
        return float(output.loss) * sum(label != IGNORED for label in labels)

    # ---- shared
    def _batch(self, *texts: Any, **options: Any) -> Any:
        batch = self.tokenizer(*texts, return_tensors="pt", **options)
        takes_types = "token_type_ids" in inspect.signature(self.model.forward).parameters
        has_no_types = getattr(self.model.config, "type_vocab_size", 2) < 2
        if "token_type_ids" in batch and (has_no_types or not takes_types):
            del batch["token_type_ids"]  # as KLUE's and DistilBERT's own code do
        return batch

    def _forward(self, batch: Mapping[str, torch.Tensor], **labels: torch.Tensor) -> Any:
        names = ("input_ids", "attention_mask", "token_type_ids")
        return self.model(**{name: batch[name] for name in names if name in batch}, **labels)

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _number(self, name: str) -> int:
        number: int = self.model.config.label2id[name]
        return number

    def _reading(
        self, batch: Any, labels: list[int], mean: torch.Tensor, num_targets: int, prediction: Any
    ) -> Reading:
        ids = batch["input_ids"][0].tolist()
        types = batch["token_type_ids"][0].tolist() if "token_type_ids" in batch else [0] * len(ids)
        return Reading(ids, types, labels, float(mean) * num_targets, num_targets, prediction)


def texts_of(task: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the source and the target of a row of a task that writes."""
    if task == "generative_question_answering":
        return f"question: {row['question']} context: {row['context']}", row["answers"]["text"][0]
    return row["source"], row["target"]


def _glues_words(tokenizer: Any) -> bool:
    """Return whether words of a list are cut as if no space were between them."""
    plain = {"add_special_tokens": False}
    words = tokenizer(["one", "one"], is_split_into_words=True, **plain)["input_ids"]
    return bool(words == tokenizer("oneone", **plain)["input_ids"])


READERS: Mapping[tuple[str, bool], Callable[[Oracle, Mapping[str, Any]], Reading]] = {
    **{("ner", decoder): Oracle.ner for decoder in (False, True)},
    **{("text_classification", decoder): Oracle.text_classification for decoder in (False, True)},
    **{("question_answering", decoder): Oracle.question_answering for decoder in (False, True)},
    ("writing", False): Oracle.write,
    ("writing", True): Oracle.go_on,
    ("language_modelling", False): Oracle.hidden_tokens,
    ("language_modelling", True): Oracle.next_tokens,
}
