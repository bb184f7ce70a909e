"""`attnlab show`: draw the attention of one input by layer and head, beside stock attention."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import custom_attention
from custom_attention import Site
from custom_attention.maps import AttentionMap, attention_maps
from pipelines.actions.predict import LINE, answers, input_examples, one_input
from pipelines.config.describe import attention as in_words
from pipelines.data.table import BadRow, Row
from pipelines.distributed.transfer import to_device
from pipelines.errors import UserError
from pipelines.report import attention_page
from pipelines.report.figures.attention import SiteMaps, scale
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.shown import printable
from pipelines.storage import atomic
from pipelines.storage.paths import require_writable
from pipelines.tasks.base import Feature

WRITING = ("text_to_text", "language_modelling")  # heads whose labels are what the decoder reads


def show_command(run: str, line: str, out: str) -> None:
    """Write `out`.html and `out`.svg: the weights of every head on one input, with the variants and without.

    Stock attention is that of the same trained weights with the variants taken off.

    Raises:
        UserError: there is no finished run, the line or file is not one input of its task, or the weights
            cannot be had.
    """
    for suffix in (".html", ".svg"):
        require_writable("--out", f"{out}{suffix}")
    finished = load_run_model(run)
    task = finished.task
    table = one_input(line, task, finished.config.data)
    [example] = input_examples(table, task, finished.config.data.columns)
    [row] = table.take(table.columns)
    [answer, *_] = answers(finished, [example])
    feature, *others = task.prepare([example])
    feature = _with_written(finished, feature)
    batch = task.collate([feature])
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    inputs = to_device(inputs, finished.accelerator.device)
    words = in_words(finished.config.to_dict()["attention"])
    maps = {words: _maps(finished, inputs)}
    if finished.config.attention:
        custom_attention.detach(finished.model)
        maps["stock"] = _maps(finished, inputs)
    sites = _sites(finished, inputs, maps)
    cut = f" The input is cut into {len(others) + 1} parts; this is the first." if others else ""
    below = " Below it, stock attention with the same trained weights." if len(maps) > 1 else ""
    introduction = (
        "Each square is a head: a row for each token that reads, a column for each that is read, blue is "
        f"weight (red below 0), shaded by its square root, full at {scale(sites):.2g}.{below}{cut}"
    )
    prediction = json.dumps({key: value for key, value in answer.items() if key != "id"}, ensure_ascii=False)
    title = f"{finished.config.task.name} with {words} attention"
    texts = attention_page.render(title, introduction, _written(row), prediction, sites)
    for suffix, text in texts.items():
        atomic.write_bytes(Path(f"{out}{suffix}"), text.encode())
        print(printable(f"{out}{suffix}"))


def _written(row: Row | BadRow) -> str:
    """Return an input as it was written: a line, or the object of a row."""
    assert not isinstance(row, BadRow), "a row without values is refused"
    return str(row[LINE]) if LINE in row else json.dumps(row, ensure_ascii=False, default=str)


@torch.no_grad()
def _with_written(finished: LoadedRun, feature: Feature) -> Feature:
    """Return a feature with the text that the model writes as its target, where it writes one."""
    batch = to_device(finished.task.collate([feature]), finished.accelerator.device)
    [raw] = finished.task.predict(finished.model, batch)
    if "tokens" not in raw:
        return feature
    return {**feature, "labels": raw["tokens"], "num_targets": len(raw["tokens"])}


def _maps(finished: LoadedRun, inputs: Mapping[str, torch.Tensor]) -> list[AttentionMap]:
    try:
        return attention_maps(finished.model, inputs)
    except custom_attention.VariantError as error:
        raise UserError(error.where, error.what, accepted="this model's attention cannot be drawn") from error


def _sites(
    finished: LoadedRun,
    inputs: Mapping[str, torch.Tensor],
    maps: Mapping[str, Sequence[AttentionMap]],
) -> list[SiteMaps]:
    """Return the maps of every site with the tokens of both its sides."""
    first = next(iter(maps.values()))
    by_site = {name: {one.site.name: one for one in found} for name, found in maps.items()}
    sites = []
    for one in first:
        site, (_, queries, keys) = one.site, one.weights.shape
        sites.append(
            SiteMaps(
                f"{site.stack} {site.layer}, {site.kind}",
                _tokens(finished, inputs, queries, site.stack),
                _tokens_of_keys(finished, inputs, queries, keys, site),
                {name: found[site.name].weights.numpy() for name, found in by_site.items()},
            )
        )
    return sites


def _tokens_of_keys(
    finished: LoadedRun, inputs: Mapping[str, torch.Tensor], queries: int, keys: int, site: Site
) -> list[str]:
    if site.kind == "merged":
        own = _tokens(finished, inputs, queries, site.stack)
        return [*own, *_tokens(finished, inputs, keys - queries, "encoder")]
    return _tokens(finished, inputs, keys, "encoder" if site.is_cross else site.stack)


def _tokens(finished: LoadedRun, inputs: Mapping[str, torch.Tensor], count: int, stack: str) -> list[str]:
    """Return the tokens on one side of a map; numbers where the inputs are no tokens."""
    tokenizer: Any = finished.task.processor
    ids = inputs["input_ids"][0].tolist() if "input_ids" in inputs else []
    if stack == "decoder" and finished.model.config.is_encoder_decoder:
        written = inputs["labels"][0].tolist() if finished.task.head in WRITING else []
        ids = [finished.model.config.decoder_start_token_id, *written][:count]
    if len(ids) != count or not hasattr(tokenizer, "convert_ids_to_tokens"):
        return [str(number) for number in range(count)]
    return [printable(str(token), keep="") for token in tokenizer.convert_ids_to_tokens(ids)]
