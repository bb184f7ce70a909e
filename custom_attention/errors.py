"""The error for a swap, fold, save or load that cannot work."""

from __future__ import annotations


class VariantError(ValueError):
    """A swap that cannot work: where, what is wrong, what came, and what is accepted.

    Args:
        where: the class, option or folder to look at, such as "BloomForCausalLM" or "temperature.per".
        what: what is wrong, as a clause without a full stop.
        came: the value that came; None leaves it out.
        accepted: what is accepted, or what to do, as a clause without a full stop.
    """

    def __init__(self, where: str, what: str, came: object = None, accepted: str | None = None) -> None:
        self.where, self.what, self.came, self.accepted = where, what, came, accepted
        text = f"{where}: {what}"
        if came is not None:
            text += f" (got {came if isinstance(came, str) else repr(came)})"
        super().__init__(f"{text}; {accepted}." if accepted else f"{text}.")

    def __reduce__(self) -> tuple[type[VariantError], tuple[str, str, object, str | None]]:
        # By default pickle would pass the one sentence to `__init__`, which takes four fields.
        return type(self), (self.where, self.what, self.came, self.accepted)
