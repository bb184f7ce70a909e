"""The characters of an answer are those of transformers' run_qa.py, whatever the tokenizer makes of blanks.

A sentence-piece tokenizer cuts a word that it does not know into a lone "▁" and letters. Of this token some
give the blank (DeBERTa), some the first letter (XLM-R), and byte-level ones nothing (RoBERTa).
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import transformers
from tokenizers import processors
from tokenizers.pre_tokenizers import ByteLevel

from pipelines.tasks.question_answering import QuestionAnswering

CONTEXT = "On  Skye a grey seal sang, twice: at dusk\tand near Uig (so Una said)."
QUESTION = "Who sang near Uig?"
LETTERS = sorted({letter for letter in CONTEXT + QUESTION if not letter.isspace()})
PIECES = [("▁", -1.0), *((letter, -2.0) for letter in LETTERS), ("▁a", -1.5), ("▁s", -2.5), ("ea", -2.5)]
FAIRSEQ = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
MOST = 9  # tokens of an answer


def deberta():
    specials = [(name, 0.0) for name in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    tokenizer = transformers.DebertaV2Tokenizer(vocab=[*specials, *PIECES, ("[MASK]", 0.0)])
    around = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around
    )
    return tokenizer


def xlm_roberta():
    return transformers.XLMRobertaTokenizer(vocab=[*FAIRSEQ, *PIECES, ("<mask>", 0.0)])


def albert():
    specials = [(name, 0.0) for name in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")]
    lower = [(piece, score) for piece, score in PIECES if piece == piece.lower()]
    return transformers.AlbertTokenizer(vocab=[*specials, *lower])


def t5():
    return transformers.T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *PIECES])


def llama():
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS]
    return transformers.LlamaTokenizer(vocab={name: n for n, name in enumerate(names)}, merges=[])


def roberta():
    names = [*(name for name, _ in FAIRSEQ), *sorted(ByteLevel.alphabet()), "<mask>"]
    return transformers.RobertaTokenizer(vocab={name: n for n, name in enumerate(names)}, merges=[])


TOKENIZERS = {
    make.__name__: (make(), family)
    for make, family in (
        (deberta, "encoder"),
        (xlm_roberta, "encoder"),
        (albert, "encoder"),
        (t5, "encoder_decoder"),
        (llama, "decoder"),
        (roberta, "encoder"),
    )
}


def run_qa(tokenizer, start: list[float], end: list[float]) -> list[str]:
    """Return the texts as `postprocess_qa_predictions` of run_qa.py ranks them, trying every pair."""
    batch = tokenizer(QUESTION, CONTEXT, return_offsets_mapping=True)
    parts = batch.sequence_ids(0)
    offsets = [place if part == 1 else None for place, part in zip(batch["offset_mapping"], parts)]
    found = []
    for first, begin in enumerate(offsets):
        for last, stop in enumerate(offsets):
            if begin is None or stop is None or last < first or last - first + 1 > MOST:
                continue
            found.append((start[first] + end[last], CONTEXT[begin[0] : stop[1]].strip()))
    return [text for _, text in sorted(found, reverse=True) if text]


def ours(name: str, start: torch.Tensor, end: torch.Tensor) -> dict:
    tokenizer, family = TOKENIZERS[name]
    task = QuestionAnswering(max_len=len(start[0]), overlap=0, max_answer_len=MOST)
    task.bind(tokenizer, family)
    example = {"id": "a", "question": QUESTION, "context": CONTEXT}
    [feature] = task.prepare([example])
    scores = SimpleNamespace(
        start_logits=start[:, : len(feature["input_ids"])], end_logits=end[:, : len(feature["input_ids"])]
    )
    return task.answer(example, task.predict(lambda **_: scores, task.collate([feature])))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_best_answer_is_the_one_of_run_qa(name):
    blank_ends = 0
    for seed in range(60):
        start, end = 4 * torch.randn(2, 1, 400, generator=torch.Generator().manual_seed(seed))
        right = run_qa(TOKENIZERS[name][0], start[0].tolist(), end[0].tolist())[0]
        said = ours(name, start, end)["answer"]
        assert said["text"] == right
        assert CONTEXT[said["start"] : said["end"]] == right
        blank_ends += CONTEXT[said["end"] : said["end"] + 1].isspace()
    assert blank_ends  # answers that end before a blank are among them


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_blank_alone_is_no_answer(name):
    tokenizer, _ = TOKENIZERS[name]
    batch = tokenizer(QUESTION, CONTEXT, return_offsets_mapping=True)
    for at, (begin, stop) in enumerate(batch["offset_mapping"]):
        if batch.sequence_ids(0)[at] != 1 or CONTEXT[begin:stop].strip():
            continue
        scores = torch.nn.functional.one_hot(torch.tensor([at]), 400) * 30.0
        for one in ours(name, scores, scores)["n_best"]:
            assert one["text"] == one["text"].strip() != ""
