"""Sigmoid instead of softmax: the weight of a key does not depend on other keys."""

from torch import Tensor

from custom_attention.variant import Call, Variant


class Sigmoid(Variant):
    """sigmoid(s - log n_i) v, where n_i is the number of keys that query i sees.

    Source: Ramapuram et al. 2024 (arXiv 2409.04431). Weights do not sum to 1, so no start equals stock
    attention: for training from scratch. It takes the explicit path.
    """

    starts_as_stock = False

    def normalize(self, scores: Tensor, call: Call) -> Tensor:
        return (scores - call.visible_counts().log()).sigmoid()
