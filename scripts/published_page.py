"""Write docs/published.md, the published ideas that are variants: file, lines of code, where each is tested.

    .venv/bin/python -m scripts.published_page

tests/custom_attention/test_published_page.py fails as long as the committed page is not the one written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts import md_tables

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "published.md"
MAPS, SITES, POSITION = "test_published_maps.py", "test_published.py", "test_position.py"
TRANSFER = "test_transfer.py"


@dataclass(frozen=True)
class Idea:
    """A published idea, the variant that has it, and the test that holds it against the paper's formula."""

    paper: str
    equation: str
    variant: str  # its file
    options: str  # that give the paper's form; "" for the defaults
    oracle: str  # file::test, in tests/custom_attention
    not_there: str = ""  # what of the paper the variant leaves out

    @property
    def file(self) -> Path:
        return REPOSITORY / "custom_attention" / "variants" / f"{self.variant}.py"


IDEAS = (
    Idea(
        "Gated attention 2505.06708",
        "Y * sigmoid(W x)",
        "hidden_gate",
        "start: paper",
        f"{SITES}::test_gated_attention",
    ),
    Idea(
        "Value residual 2410.17897",
        "a v + b v_1",
        "value_residual",
        "start: paper",
        "test_earlier_sites.py::test_a_value_residual_is_the_mean_of_both_values_written_out",
    ),
    Idea(
        "Differential 2410.05258",
        "(P_1 - lambda P_2) v",
        "projected_differential",
        "start: paper",
        f"{MAPS}::test_projected_differential_attention",
        "the norm of each head; W_q2, W_k2 are not rotated in rotary models",
    ),
    Idea(
        "DEX 2505.16333",
        "o - lambda(t) f(o)",
        "dex",
        "",
        f"{MAPS}::test_dex_subtracts_a_map_whose_factor_follows_training",
        "the choice of heads",
    ),
    Idea(
        "DropHead 2004.13342",
        "whole heads dropped, on a schedule",
        "drop_head",
        "",
        f"{SITES}::test_drop_head_follows_its_schedule",
    ),
    Idea(
        "SSA 2411.12892",
        "temperatures of queries and values",
        "token_temperature",
        "",
        f"{MAPS}::test_token_temperature",
        "its term of the position",
    ),
    Idea(
        "Forgetting attention 2503.02130",
        "s + sum log f",
        "forgetting",
        "form: fixed",
        f"{SITES}::test_forgetting_attention",
    ),
    Idea(
        "Multi-token 2504.00927",
        "a convolution over scores",
        "multi_token",
        "",
        f"{MAPS}::test_multi_token_attention",
        "its mixing of heads and its norm",
    ),
    Idea(
        "Selective 2410.02703",
        "s - sum relu(s)",
        "selective",
        "form: fixed",
        f"{SITES}::test_selective_attention",
    ),
    Idea(
        "Sinkhorn 2110.11773",
        "rows, columns, rows normalised",
        "sinkhorn",
        "form: fixed",
        f"{MAPS}::test_sinkhorn_attention",
        "more than three normalisations",
    ),
    Idea(
        "Head gates 1905.09418",
        "hard-concrete gates, L0",
        "head_gates",
        "",
        f"{SITES}::test_head_gates_are_constants_in_evaluation",
    ),
    Idea(
        "Hedgehog 2402.04347",
        "phi(q) (phi(k)^T v)",
        "linear_attention",
        "form: replaced",
        f"{SITES}::test_linear_attention",
        "its speed; its transfer loss is that of LoLCATs",
    ),
    Idea(
        "T2R 2103.13076",
        "relu(W q + b) (relu(W k + b)^T v)",
        "t2r",
        "",
        f"{SITES}::test_t2r",
        "its speed",
    ),
    Idea(
        "LoLCATs 2410.10254",
        "phi(q) (phi(k)^T v), |y - softmax|^2",
        "lolcats",
        "",
        f"{TRANSFER}::test_the_transfer_loss_and_its_gradient_are_those_of_plain_torch",
        "its window of softmax; its speed; weights frozen in the first stage alone",
    ),
    Idea(
        "nGPT 2410.01131",
        "sqrt(d) (s q/|q|) (s k/|k|)",
        "ngpt",
        "",
        f"{SITES}::test_ngpt",
        "all outside attention: weights on the sphere, residual rates, no norms, the scale of the logits",
    ),
    Idea(
        "NoPE 2305.19466, RoPE 2104.09864, ALiBi 2108.12409",
        "the learned positions replaced",
        "position",
        "",
        f"{POSITION}::test_rope_is_that_of_transformers",
    ),
    Idea(
        "Windows (Longformer 2004.05150)",
        "keys outside are hidden",
        "sliding_window",
        "",
        f"{SITES}::test_a_sliding_window_with_global_tokens",
        "its speed",
    ),
    Idea(
        "ReZero 2003.04887, LayerScale 2103.17239",
        "a factor after W_o",
        "layer_scale",
        "per: layer, start: paper",
        f"{SITES}::test_layer_scale_is_a_factor_on_each_channel_after_the_projection",
    ),
    Idea("Off-by-one softmax", "exp(s) / (1 + sum exp(s))", "softmax_one", "", f"{SITES}::test_softmax_one"),
)

HEAD = """# Published ideas, one file each

Each idea is one class in one file of `custom_attention/variants/`; nothing else knows of it. The battery
tests each file on eight families ([write-a-variant.md](write-a-variant.md#test-it)), and a test of its own
holds it against the paper's formula, written out as loops in float64 on an encoder and on a decoder that is
padded on the left. By default a variant starts as stock attention, where it can; the options give the paper's
own form. Lines count the whole file. The page is written by `python -m scripts.published_page`.

| COLUMNS |
|---|---|---|--:|---|---|---|
"""
COLUMNS = (
    "paper (arXiv)",
    "formula",
    "file",
    "lines",
    "options for the paper's form",
    "left out",
    "test in `tests/custom_attention/`",
)


def page() -> str:
    """Return the page."""
    return HEAD.replace("COLUMNS", " | ".join(COLUMNS)) + "".join(map(_row, IDEAS))


def _row(idea: Idea) -> str:
    columns = (
        idea.paper,
        f"`{idea.equation}`",
        f"[`{idea.variant}.py`](../custom_attention/variants/{idea.variant}.py)",
        str(len(idea.file.read_text(encoding="utf-8").splitlines())),
        f"`{idea.options}`" if idea.options else "",
        idea.not_there,
        f"`{idea.oracle.replace('::', '` `')}`",
    )
    return f"{md_tables.row(columns)}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
