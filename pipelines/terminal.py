"""The terminal: what is printed through it shows no secret, and control characters as their escapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from pipelines.shown import printable


class Terminal(Console):
    """A console of rich on which no text is markup, and none controls the terminal, wherever it comes from.

    Args:
        errors: print to standard error.
        file: print there instead.
        width: columns; None: those of the terminal.
        colours: as on a terminal, also where `file` is none.
    """

    def __init__(
        self,
        *,
        errors: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
        colours: bool | None = None,
    ) -> None:
        super().__init__(
            stderr=errors,
            file=file,
            width=width,
            force_terminal=colours,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def say(self, sentence: str) -> None:
        """Print a sentence, which a terminal breaks and a log does not."""
        self.print(printable(sentence), soft_wrap=True)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments of anything; a text in it, at any depth, is shown with its escapes."""
        if isinstance(renderable, Text):
            shown = printable(renderable.plain)
            if shown != renderable.plain:
                renderable = Text(shown, style=renderable.style, no_wrap=renderable.no_wrap)
        return super().render(renderable, options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as rich styles it, with its escapes."""
        return super().render_str(printable(text), **options)
