"""Tell whose code an error comes from: a variant of the user is no fault of attnlab."""

from __future__ import annotations

import traceback


def variant_failure(error: BaseException) -> str | None:
    """Return the sentence for an error of a user's own variant; None: it comes from elsewhere."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        cls = type(frame.f_locals.get("self"))
        is_variant = any(
            (b.__module__, b.__name__) == ("custom_attention.variant", "Variant") for b in cls.__mro__
        )
        if is_variant and not cls.__module__.startswith("custom_attention."):
            from custom_attention.user_code import told  # a variant is there, so torch is too

            where = f"{cls.__module__}:{cls.__qualname__}"
            return f"{where}: its {frame.f_code.co_name} raised {told(error)}; correct it and start again."
    return None
