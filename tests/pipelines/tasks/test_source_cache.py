"""A source is projected once for loss and text; greedy and beams write what transformers writes."""

import gc

import pytest
import torch
import transformers as hf

import custom_attention
from custom_attention.kernels import one_query, visible
from custom_attention.kernels.visible import without_hidden_keys
from pipelines.tasks.shared import greedy, roomy_cache
from pipelines.tasks.shared.greedy import write_greedily
from pipelines.tasks.shared.writing_forms import Pair
from tests.custom_attention.models import ENCODER_DECODER, GENERATING, PAD, VOCAB, tiny

SOURCES, TARGETS = (9, 4, 7, 2, 6, 8, 3), (3, 5, 1, 6, 2, 4, 2)
SIZES = {
    "d_model": 28,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 31,
    "decoder_ffn_dim": 27,
    "max_position_embeddings": 40,
    "vocab_size": VOCAB,
    "pad_token_id": PAD,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
OTHERS = {
    "marian": lambda: hf.MarianMTModel(hf.MarianConfig(**SIZES)),
    "pegasus": lambda: hf.PegasusForConditionalGeneration(hf.PegasusConfig(**SIZES)),
    "mbart": lambda: hf.MBartForConditionalGeneration(hf.MBartConfig(**SIZES)),
    "m2m_100": lambda: hf.M2M100ForConditionalGeneration(hf.M2M100Config(**SIZES)),
}
PAIRS = (*ENCODER_DECODER, *OTHERS)
SEARCHES = [{}, {"num_beams": 3, "length_penalty": 0.6}, {"min_new_tokens": 4, "no_repeat_ngram_size": 2}]


@pytest.fixture(autouse=True)
def groups_and_room_are_small(monkeypatch):
    monkeypatch.setattr(visible, "CALL", 1)
    monkeypatch.setattr(roomy_cache, "ROOM", 3)


def model_of(family):
    if family not in OTHERS:
        return tiny(family)
    torch.manual_seed(4)
    made = OTHERS[family]().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.3 * parameter.shape[-1] ** -0.5)
    return made


def drawn(lengths, generator):
    return [torch.randint(5, VOCAB, (length,), generator=generator).tolist() for length in lengths]


class Vocabulary:
    pad, end = PAD, 1
    around_target = [], [1]


def batch_of():
    generator = torch.Generator().manual_seed(7)
    form = Pair(Vocabulary())
    return form, form.collate(drawn(SOURCES, generator), drawn(TARGETS, generator))


def stated(search):
    return {"do_sample": False, "max_new_tokens": 13, **search}


def library_s(model, batch, search):
    """The texts of transformers' own `generate` on the model as it came."""
    start = model.config.decoder_start_token_id
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    ends = {"decoder_start_token_id": start, "eos_token_id": 1, "pad_token_id": PAD}
    rows = model.generate(**inputs, **stated(search), **ends)[:, 1:].tolist()
    return [row[: row.index(1)] if 1 in row else row for row in rows]


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("family", PAIRS)
def test_texts_and_losses_are_those_of_the_library_s_own_reading(family, search):
    form, batch = batch_of()
    plain, model = model_of(family), custom_attention.attach(model_of(family), [])
    with torch.no_grad():
        wanted = library_s(plain, batch, search)
        apart = form.losses(plain, batch)
        with without_hidden_keys(model):
            losses, written = form.predict(model, batch, stated(search))
    assert written == wanted
    assert len({len(text) for text in written} | {text[0] for text in written if text}) > 1
    torch.testing.assert_close(losses, apart, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "search",
    [{"min_length": 9}, {"num_beams": 2, "length_penalty": 3.0}, {"encoder_no_repeat_ngram_size": 2}],
    ids=["greedy", "beams", "pairs"],
)
def test_padding_is_no_word_of_a_source(search):
    search = {"encoder_repetition_penalty": 3.0, **search}
    form, generator = Pair(Vocabulary()), torch.Generator().manual_seed(7)
    sources = [[*ids, Vocabulary.end] for ids in drawn(SOURCES, generator)]
    rows, batch = [torch.tensor([ids]) for ids in sources], form.collate(sources, drawn(TARGETS, generator))
    for family in ("t5", "bart"):
        plain, model = model_of(family), custom_attention.attach(model_of(family), [])
        with torch.no_grad(), without_hidden_keys(model):
            written = form.predict(model, batch, stated(search))[1]
        for text, ids in zip(written, rows, strict=True):
            alone = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            assert [text] == library_s(plain, alone, search)


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_nothing_of_a_batch_is_kept_after_it(family):
    form, batch = batch_of()
    model = custom_attention.attach(model_of(family), [])
    gc.collect()
    before = len(one_query._known)
    for search in ({}, {"num_beams": 2}):
        with torch.no_grad(), without_hidden_keys(model):
            form.predict(model, batch, stated(search))
    gc.collect()
    assert len(one_query._known) <= before


def cross_projections(model):
    """The layers that make keys of the source, by their site."""
    sites = [module for module, stack in custom_attention.attached(model) if stack.site.is_cross]
    names = ("k", "key", "k_proj")
    return [getattr(site, name) for site in sites for name in names if hasattr(site, name)]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", PAIRS)
def test_each_layer_projects_the_source_once(family, beams):
    form, batch = batch_of()
    model, calls = custom_attention.attach(model_of(family), []), []
    layers = cross_projections(model)
    assert len(layers) == 2
    for layer in layers:
        layer.register_forward_hook(lambda layer, *_: calls.append(layer))
    with torch.no_grad():
        form.predict(model, batch, stated({"num_beams": beams}))
    assert calls == layers


@pytest.mark.parametrize(
    "variants", [["gate", "value_residual"], ["forgetting"], ["token_temperature"]], ids=str
)
@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_variants_write_what_they_write_of_a_source_that_is_read_for_it(family, variants):
    form, batch = batch_of()
    model = custom_attention.attach(model_of(family), variants, where={"kind": "self"})
    with torch.no_grad():
        for parameter in custom_attention.variant_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
        losses, written = form.losses(model, batch), library_s(model, batch, {})
        with without_hidden_keys(model):
            came = form.predict(model, batch, stated({}))
    assert came[1] == written
    torch.testing.assert_close(came[0], losses, rtol=1e-5, atol=1e-5)


def test_a_model_without_a_cache_reads_all_again_and_writes_the_same():
    form, batch = batch_of()
    model = model_of("t5")
    model.generation_config.use_cache = False
    with torch.no_grad():
        assert form.predict(model, batch, stated({}))[1] == library_s(model_of("t5"), batch, {})


@pytest.mark.parametrize("family", GENERATING)
def test_greedy_search_without_hidden_keys_writes_what_the_library_writes(family, monkeypatch):
    monkeypatch.setattr(greedy, "MOST_KEPT", 1.0)
    generator = torch.Generator().manual_seed(3)
    left = family not in ENCODER_DECODER
    ids = torch.full((len(SOURCES), max(SOURCES)), PAD)
    for row, text in zip(ids, drawn(SOURCES, generator)):
        row[slice(-len(text), None) if left else slice(len(text))] = torch.tensor(text)
    asked = {"input_ids": ids, "attention_mask": (ids != PAD).long(), "pad_token_id": PAD}
    asked |= stated({"eos_token_id": list(range(1, VOCAB, 9))})
    wanted = model_of(family).generate(**asked)
    model = custom_attention.attach(model_of(family), [])
    with without_hidden_keys(model):
        assert torch.equal(model.generate(**asked, custom_generate=write_greedily), wanted)
