"""A model is tried on the first tokens of long inputs, and a variant that acts beyond them is not refused."""

import pytest
import torch
import transformers as hf

from pipelines.errors import UserError
from pipelines.models import trial_inputs
from pipelines.models.attention import attach_and_prove
from pipelines.models.trial_inputs import shortened, tensors_of
from tests.custom_attention.models import EOS, tiny
from tests.pipelines.train.harness import config

LENGTHS = (23, 11)
IGNORED = -100


def batch(**more):
    ids = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.arange(3, 3 + length)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "names": ["one", "two"], **more}


@pytest.fixture(autouse=True)
def room_for_seven_columns(monkeypatch):
    monkeypatch.setattr(trial_inputs, "MOST_TOKENS", 15)


def test_long_texts_are_cut_at_the_same_column_and_lose_their_targets():
    given = tensors_of(batch(labels=torch.full((2, 23), IGNORED), start_positions=torch.tensor([20, 3])))
    cut = shortened(tiny("gpt2"), given)
    assert {name: tuple(tensor.shape) for name, tensor in cut.items()} == {
        "input_ids": (2, 7),
        "attention_mask": (2, 7),
    }
    assert torch.equal(cut["input_ids"], given["input_ids"][:, :7])


def test_an_encoder_decoder_keeps_the_targets_that_it_reads():
    cut = shortened(tiny("t5"), tensors_of(batch(labels=torch.full((2, 9), 4))))
    assert cut["labels"].shape == (2, 7)


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": torch.ones(3, 5, dtype=torch.long), "labels": torch.ones(3, dtype=torch.long)},
        {"input_values": torch.randn(2, 900), "attention_mask": torch.ones(2, 900, dtype=torch.long)},
        {"pixel_values": torch.randn(2, 3, 16, 16)},
    ],
    ids=["short", "sound", "image"],
)
def test_short_texts_and_what_is_no_text_stay_whole(inputs):
    assert shortened(tiny("bert"), inputs) is inputs


def test_the_proof_says_how_much_of_the_inputs_it_has_seen():
    _, proof = attach_and_prove(
        config("gpt2", attention=["gate"]), tiny("gpt2"), batch(labels=torch.full((2, 23), IGNORED))
    )
    assert proof.passed
    assert proof.sentence.endswith("attention sites reached, on the first 7 of 23 tokens.")


def window(size):
    return config("gpt2", attention=[{"sliding_window": {"window": size}}])


def test_a_variant_that_acts_on_far_tokens_only_is_not_refused():
    """Seven columns hold no key that is 12 tokens away; a window of 30 hides nothing of 23 either."""
    attach_and_prove(window(12), tiny("gpt2"), batch())
    with pytest.raises(UserError, match="change no bit of a batch"):
        attach_and_prove(window(30), tiny("gpt2"), batch())


CLASSIFIERS = {
    "bart": hf.BartForSequenceClassification,
    "t5": hf.T5ForSequenceClassification,
    "gpt2": hf.GPT2ForSequenceClassification,
}


def ended(*ends):
    """Texts that end at `ends` and at their last token, after which there is padding of the same id."""
    made = batch()
    ids = made["input_ids"].clamp(min=EOS + 2) * made["attention_mask"] + EOS * (1 - made["attention_mask"])
    for row, length in enumerate(LENGTHS):
        ids[row, [end for end in (*ends, length - 1) if end < length]] = EOS
    return made | {"input_ids": ids}


@pytest.mark.parametrize("family", CLASSIFIERS)
@pytest.mark.parametrize("ends", [(), (8, 9)], ids=["one text", "a pair"])
def test_models_that_read_the_end_of_a_text_are_tried_on_it(family, ends):
    """Those of BART and T5 stop where a text has no end, or texts have not as many."""
    sizes = tiny(family).config
    sizes.eos_token_id = sizes.pad_token_id = EOS
    model = CLASSIFIERS[family](sizes).eval()
    given = ended(*ends)
    cut = shortened(model, tensors_of(given))
    assert ((cut["input_ids"] == EOS) & cut["attention_mask"].bool()).sum(1).tolist() == [len(ends) + 1] * 2
    num_others = 7 - len(ends) - 1
    for row, whole in zip(cut["input_ids"], given["input_ids"]):
        assert row[row != EOS].tolist() == whole[whole != EOS][:num_others].tolist()
    _, proof = attach_and_prove(config(family, attention=["gate"]), model, given)
    assert proof.passed
