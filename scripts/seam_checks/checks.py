"""Checks of a swap on one small model: each cell is pass, fail or n/a, with the reason."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, NoReturn

import torch
import transformers as hf

from custom_attention import VariantError, attach, attached, detach, prove, variant_parameters
from custom_attention.dummy_inputs import made_up_example
from custom_attention.proof import largest_difference, outputs
from scripts.seam_checks.own_place import WITNESS, NotComparable, misplaced

ON_THE_KERNEL, ON_THE_SCORES = ["temperature", "gate"], ["sink"]
TEXT_LEN, SHORT, PAD, SEEN = 9, 5, 0, 4
Cell = str  # "pass", "fail: reason" or "n/a: reason"


class Inapplicable(Exception):
    """A check does not apply to this model; the message says why."""


class Subject:
    """A model with variants at non-neutral values, which can be compared with the stock model."""

    def __init__(self, model: hf.PreTrainedModel) -> None:
        self.model = model
        self.example = made_up_example(model)
        self.accepted = inspect.signature(model.forward).parameters
        self.takes_more = any(p.kind is p.VAR_KEYWORD for p in self.accepted.values())

    @property
    def is_text(self) -> bool:
        return "input_ids" in self.example

    @property
    def own_ids(self) -> str:
        """The name of the input ids of the decoder, or of the only stack."""
        name = "decoder_input_ids" if "decoder_input_ids" in self.example else "input_ids"
        if name not in self.example:
            raise Inapplicable("no token ids")
        return name

    def blame_stock(self, run: Callable, error: Exception) -> NoReturn:
        """Raise the error of a forward with variants, unless the stock model fails, too."""
        detach(self.model)
        try:
            run()
        except Exception:
            raise Inapplicable(
                f"the stock model stops itself with {type(error).__name__}: {error}"
            ) from error
        raise error

    def compared(self, difference: Callable[[], tuple[float, float]]) -> Cell:
        """Return the cell of a difference that should be zero; n/a where the stock model shows it, too."""
        with torch.no_grad():
            try:
                ours, size = difference()
            except Inapplicable:
                raise
            except Exception as error:
                self.blame_stock(difference, error)
            detach(self.model)
            theirs, _ = difference()
        bound = max(2e-4 * size, 3 * theirs) if theirs <= 1e-3 * size else None
        if bound is None:
            return "n/a: the stock model shows the difference itself"
        return "pass" if ours <= bound else f"fail: differs by {ours:.2g}, stock by {theirs:.2g}"


def nudge(model: hf.PreTrainedModel) -> None:
    """Move the parameters of the variants away from neutral."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in variant_parameters(model).values():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))


def swap(subject: Subject) -> Cell:
    """Check that the model with a neutral temperature and gate equals the stock model, bit for bit."""
    proof = prove(subject.model, subject.example)
    if proof.passed and proof.exact:
        return "pass"
    return f"fail: {proof.sentence}"


def causality(subject: Subject) -> Cell:
    """Check that later positions do not change earlier ones."""
    if not any(stack.site.is_causal for _, stack in attached(subject.model)):
        raise Inapplicable("no causal attention")
    name = subject.own_ids
    batch = dict(subject.example)
    changed = batch | {name: batch[name].clone()}
    changed[name][:, -2:] = (batch[name][:, -2:] + 7) % 60 + 5
    kept = batch[name].shape[1] - 2

    def difference() -> tuple[float, float]:
        one, two = _sequence(subject, batch, name), _sequence(subject, changed, name)
        if torch.equal(one[:, kept:], two[:, kept:]):
            raise Inapplicable("later positions do not reach the output")
        return _gap(one[:, :kept], two[:, :kept])

    return subject.compared(difference)


def padding(subject: Subject) -> Cell:
    """Check that a padded example gives the same output as alone."""
    if not subject.is_text or "attention_mask" not in subject.accepted:
        raise Inapplicable("its inputs have no attention mask" if subject.is_text else "no token ids")
    others = set(subject.example) - {"input_ids", "decoder_input_ids", "use_cache"}
    if others:
        raise Inapplicable(f"made up for token ids, not for {', '.join(sorted(others))}")
    is_pair = "decoder_input_ids" in subject.example
    causal = not is_pair and any(stack.site.is_causal for _, stack in attached(subject.model))
    ids = subject.example["input_ids"][:1]
    ids = torch.cat([ids, ids], 1)[:, :TEXT_LEN]
    pad = ids.new_full((1, TEXT_LEN - SHORT), PAD)
    short = ids[:, :SHORT]
    padded = torch.cat([pad, short] if causal else [short, pad], 1)
    mask = torch.ones(2, TEXT_LEN, dtype=torch.long)
    mask[1] = padded[0].new_ones(TEXT_LEN)
    mask[1, : TEXT_LEN - SHORT] = 0
    mask[1] = mask[1] if causal else mask[1].flip(0)
    batch = {"input_ids": torch.cat([ids, padded]), "attention_mask": mask}
    alone = {"input_ids": short, "attention_mask": torch.ones_like(short)}
    if causal and (
        subject.takes_more or "position_ids" in subject.accepted
    ):  # rotated queries tell positions
        batch["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        alone["position_ids"] = torch.arange(SHORT)[None]
    real = slice(-SHORT, None) if causal else slice(0, SHORT)
    if is_pair:
        target = subject.example["decoder_input_ids"]
        batch["decoder_input_ids"], alone["decoder_input_ids"], real = target, target[1:], slice(None)
    name = subject.own_ids

    def difference() -> tuple[float, float]:
        together, single = _sequence(subject, batch, name), _sequence(subject, alone, name)
        return _gap(together[1:, real], single)

    return subject.compared(difference)


def cache(subject: Subject) -> Cell:
    """Check that decoding from a cache gives the same output as the whole sequence."""
    if "past_key_values" not in subject.accepted or "use_cache" not in subject.accepted:
        raise Inapplicable("no cache")
    if not any(stack.site.is_causal for _, stack in attached(subject.model)):
        raise Inapplicable("no causal attention")
    name = subject.own_ids
    ids = subject.example[name]
    rest = {k: v for k, v in subject.example.items() if k not in (name, "use_cache")}
    extra = (
        {}
        if name == "decoder_input_ids" or "attention_mask" not in subject.accepted
        else {"attention_mask": torch.ones_like(ids)}
    )

    def difference() -> tuple[float, float]:
        whole = _sequence(subject, {**rest, **extra, name: ids, "use_cache": False}, name)
        begun = {k: v[:, :SEEN] for k, v in extra.items()}
        first = subject.model(**rest, **begun, **{name: ids[:, :SEEN]}, use_cache=True)
        past = getattr(first, "past_key_values", None)
        if past is None:
            raise Inapplicable("returns no cache")
        steps = []
        for at in range(SEEN, ids.shape[1]):
            seen = {k: v[:, : at + 1] for k, v in extra.items()}
            step = {**rest, **seen, name: ids[:, at : at + 1]}
            output = subject.model(**step, past_key_values=past, use_cache=True)
            past = output.past_key_values
            steps.append(_sequence_of(output, 1))
        return _gap(torch.cat(steps, 1), whole[:, SEEN:])

    return subject.compared(difference)


def own_place(subject: Subject) -> Cell:
    """Check that a moved hidden state moves the own value of its query and no other, from a cache too."""
    detach(subject.model)
    attach(subject.model, WITNESS, example=subject.example)
    runs = [(lambda: None, lambda: subject.model(**subject.example))]
    with contextlib.suppress(Inapplicable):  # no cache
        runs.append(_steps(subject))
    found = []
    for before, last_step in runs:
        try:
            found.append(misplaced(subject.model, before, last_step))
        except NotComparable as reason:
            raise Inapplicable(str(reason)) from reason
    wrong = next((one for one in found if one), None)
    return f"fail: {wrong}" if wrong else "pass"


def _steps(subject: Subject) -> tuple[Callable, Callable]:
    """Return the start of a cache, and one step from it."""
    if "past_key_values" not in subject.accepted or "use_cache" not in subject.accepted:
        raise Inapplicable("no cache")
    if not any(stack.site.is_causal for _, stack in attached(subject.model)):
        raise Inapplicable("no causal attention")
    name = subject.own_ids
    ids = subject.example[name][:, : SEEN + 1]
    rest = {k: v for k, v in subject.example.items() if k not in (name, "use_cache")}
    past: list[Any] = []

    def start() -> None:
        output = subject.model(**rest, **{name: ids[:, :SEEN]}, use_cache=True)
        past[:] = [getattr(output, "past_key_values", None)]

    def step() -> None:
        subject.model(**rest, **{name: ids[:, SEEN:]}, past_key_values=past[0], use_cache=True)

    with torch.no_grad():
        start()
    if past == [None]:
        raise Inapplicable("returns no cache")
    return start, step


def cross_attention(subject: Subject) -> Cell:
    """Check that variants at cross-attention alone are reached, and change the output."""
    cross = [stack for _, stack in attached(subject.model) if stack.site.is_cross]
    if not cross:
        raise Inapplicable("no cross-attention")
    detach(subject.model)
    attach(subject.model, ON_THE_KERNEL, where={"kind": "cross"}, example=subject.example)
    proof = prove(subject.model, subject.example)
    if not (proof.passed and proof.exact and proof.expected == len(cross)):
        return f"fail: {proof.sentence}"
    before = _all(subject)
    nudge(subject.model)
    moved, _ = largest_difference(_all(subject), before)
    return "pass" if moved > 0 else "fail: the variants there do not move the output"


def gradient(subject: Subject) -> Cell:
    """Check that every parameter of every site gets a gradient that is finite and not zero."""
    found, alone = _with_modules_of_one_position(subject)
    if not found:
        raise Inapplicable("its outputs carry no gradient")
    generator = torch.Generator().manual_seed(5)
    weighted = [(o * torch.randn(o.shape, generator=generator)).sum() for o in found]
    torch.stack(weighted).sum().backward()
    for name, parameter in variant_parameters(subject.model).items():
        if parameter.grad is None or not parameter.grad.isfinite().all():
            return f"fail: {name} has no finite gradient"
        if not parameter.grad.any():
            if name.startswith(alone):
                raise Inapplicable("made up for one position, whose only key has the weight 1")
            return f"fail: the gradient of {name} is zero"
    return "pass"


def _with_modules_of_one_position(subject: Subject) -> tuple[list[torch.Tensor], tuple[str, ...]]:
    """Return the outputs that carry a gradient, and the attention modules that read one position."""
    names = {module: f"{name}." for name, module in subject.model.named_modules()}
    alone = []

    def note(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        states = args[0] if args else kwargs.get("hidden_states")
        if states is not None and states.shape[1] == 1:
            alone.append(names[module])

    handles = [m.register_forward_pre_hook(note, with_kwargs=True) for m, _ in attached(subject.model)]
    try:
        found = [o for o in _floats(subject.model(**subject.example)) if o.requires_grad]
    finally:
        for handle in handles:
            handle.remove()
    return found, tuple(alone)


def explicit(subject: Subject) -> Cell:
    """Check that a neutral variant on the explicit path equals the stock model, up to rounding."""
    detach(subject.model)
    try:
        attach(subject.model, ON_THE_SCORES, example=subject.example)
    except VariantError as refusal:
        raise Inapplicable(f"refused, {refusal.what}") from refusal
    proof = prove(subject.model, subject.example)
    return "pass" if proof.passed else f"fail: {proof.sentence}"


CHECKS = {
    "swap exact": swap,
    "causality": causality,
    "padding": padding,
    "cache": cache,
    "own place": own_place,
    "cross-attention": cross_attention,
    "gradient": gradient,
    "explicit path": explicit,
}


def measured(model: hf.PreTrainedModel) -> dict[str, Cell]:
    """Return all cells of one model.

    Raises:
        VariantError: nothing can be attached to the model.
    """
    subject = Subject(model)
    cells: dict[str, Cell] = {}
    for name, check in CHECKS.items():
        detach(model)
        attach(model, ON_THE_KERNEL, example=subject.example)
        if check is not swap:
            nudge(model)
        try:
            cells[name] = check(subject)
        except Inapplicable as reason:
            cells[name] = f"n/a: {reason}"
        except (
            VariantError,
            ValueError,
            RuntimeError,
            TypeError,
            IndexError,
            AttributeError,
            KeyError,
        ) as error:
            cells[name] = f"fail: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    detach(model)
    return cells


def _floats(value: object) -> list[torch.Tensor]:
    if torch.is_tensor(value):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [t for part in value for t in _floats(part)] if isinstance(value, (list, tuple)) else []


def _all(subject: Subject) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return outputs(subject.model, subject.example)


def _sequence(subject: Subject, batch: dict, name: str) -> torch.Tensor:
    return _sequence_of(subject.model(**batch), batch[name].shape[1])


def _sequence_of(output: hf.utils.ModelOutput, length: int) -> torch.Tensor:
    """Return the output with one row per position of the input."""
    for name in ("logits", "last_hidden_state", "prediction_logits", "seq_relationship_logits"):
        value = getattr(output, name, None)
        if torch.is_tensor(value) and value.dim() == 3 and value.shape[1] == length:
            return value
    raise Inapplicable("no output per position")


def _gap(one: torch.Tensor, two: torch.Tensor) -> tuple[float, float]:
    return (one - two).abs().max().item(), two.abs().max().item()
