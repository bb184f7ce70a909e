"""A model class that has its variants from the start, so that `from_pretrained` loads their weights too.

Needs only the files of this folder: an exported model carries a copy of them and of this one.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from custom_attention.runtime.adapter import Adapter, put_on
from custom_attention.runtime.dispatch import ATTRIBUTE, NAMES, Stack, put
from custom_attention.runtime.forward import ForwardState
from custom_attention.runtime.kernel import Kernel
from custom_attention.site import Site
from custom_attention.variant import Variant

KEY = "attnlab"  # in config.json: which variants are attached to which sites


class Restored(PreTrainedModel):
    """A first base class beside a stock one: builds the stock model and attaches what its config records.

    Raises:
        ValueError: the config records no attention, another kernel is asked for, or the weights of a folder
            do not fit; no weight is left at random.
    """

    variant_classes: ClassVar[dict[str, type[Variant]]] = {}
    auto_map: ClassVar[dict[str, str]] = {}  # where an Auto class finds its class
    adapters: ClassVar[tuple[type[Adapter], ...]] = ()

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
        record = getattr(config, KEY, None)
        if record is None:
            raise ValueError(f"{type(self).__name__}: this config does not record which attention it is for.")
        kernel, asked = record["kernel"], config._attn_implementation
        if asked not in (None, kernel, NAMES[kernel]):
            raise ValueError(f"{type(self).__name__} runs on the {kernel} kernel only (asked for: {asked}).")
        config._attn_implementation = kernel
        super().__init__(config, *args, **kwargs)
        self._attach(record)
        if record["dtype"] == "float32":  # the variants' parameters, also where the model is in 16 bits
            self._keep_in_fp32_modules_strict = {*(self._keep_in_fp32_modules_strict or ()), ATTRIBUTE}

    def _attach(self, record: dict[str, Any]) -> None:
        put_on(self, self.adapters)
        state = ForwardState()
        state.progress = record.get("progress", 0.0)
        for facts in record["sites"]:
            facts = dict(facts)
            recipe = record["variants"] if facts.pop("attached") else []
            site = Site(**facts)
            module = self.get_submodule(site.name)
            members = [self.variant_classes[name](site, **options) for name, options in recipe]
            stack = Stack(members, kernel_function(module, record["kernel"]), record["kernel"], site, state)
            stack.recipe = [tuple(pair) for pair in recipe]
            put(self, module, stack)
        self._share_parameters()
        for module in self.modules():
            config = getattr(module, "config", None)
            if config is not None and hasattr(config, "_attn_implementation_internal"):
                config._attn_implementation_internal = NAMES[record["kernel"]]
                config.attn_implementation = NAMES[record["kernel"]]  # unknown to stock classes, which raise

    def _share_parameters(self) -> None:
        stacks = [module for module in self.modules() if isinstance(module, Stack) and len(module)]
        for stack in stacks[1:]:
            for owner, variant in zip(stacks[0].variants, stack.variants):
                for name in owner.shared():
                    setattr(variant, name, getattr(owner, name))

    def tie_weights(self, *args: Any, **kwargs: Any) -> Any:
        result = super().tie_weights(*args, **kwargs)
        self._share_parameters()  # loading gives each site its own copy
        return result

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        wrong = sorted(map(str, [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]))
        if wrong:
            raise ValueError(f"{cls.__name__}: the weights do not fit this model: {', '.join(wrong[:3])}.")
        return (model, info) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Save as transformers does, with the code beside the weights, so that the new folder loads too."""
        state = state_dict or self.state_dict()
        # A parameter that sites share is written for each: transformers refuses ties it does not know.
        state = {n: v.clone() if f".{ATTRIBUTE}." in f".{n}" else v for n, v in state.items()}
        super().save_pretrained(save_directory, is_main_process, state, *args, **kwargs)
        path = Path(save_directory) / "config.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        module = f"modeling_{values['model_type'].replace('-', '_')}"
        values["auto_map"] = self.auto_map
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (path.parent / f"{module}.py").write_text(self.modeling_source(), encoding="utf-8")

    @classmethod
    def modeling_source(cls) -> str:
        """Return the text of the one file that defines this class."""
        return inspect.getsource(sys.modules[cls.__module__])


def kernel_function(module: nn.Module, name: str) -> Kernel:
    """Return the function that `module` calls under the stock kernel `name`.

    Raises:
        ValueError: its modeling file has no eager function.
    """
    modeling = sys.modules[type(module).__module__]
    eager = getattr(modeling, "eager_attention_forward", None)
    if name == "eager":
        if eager is None:
            raise ValueError(f"{type(module).__name__}: its eager attention function was not found.")
        return eager
    return modeling.ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)
