"""Colours of the arms and the style of every figure, light and dark.

Index 0 is the baseline. The hues maximize the smallest distance between two of them (OKLab) under normal
sight and simulated protanopia, deuteranopia and tritanopia, with a contrast of at least 3:1 to the page; a
test checks it.
"""

from __future__ import annotations

LIGHT = {
    "page": "#fdfdfb",
    "raised": "#ffffff",
    "ink": "#1d2127",
    "soft": "#5a616c",
    "hair": "#dcdfe3",
    "band": "#eceae3",
    "link": "#1a4fa3",
}
DARK = {
    "page": "#15181d",
    "raised": "#1b1f26",
    "ink": "#e8eaee",
    "soft": "#a2a9b5",
    "hair": "#363c46",
    "band": "#262b33",
    "link": "#8fb8f5",
}
LIGHT_ARMS = ("#454b54", "#014ac3", "#a30004", "#008a6a", "#df57a8", "#a8881a", "#0096e2", "#3d0077")
DARK_ARMS = ("#c3c9d2", "#4077ed", "#f28647", "#69fc9d", "#b8668e", "#f4c624", "#44b0c7", "#a38bff")

_FIGURES = """
svg { font: 13px/1.3 Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; fill: var(--ink) }
svg .soft { fill: var(--soft) }
svg .tiny { font-size: 11px }
svg .strong { font-weight: 600 }
svg .hair { stroke: var(--hair); stroke-width: 1; fill: none }
svg .axis { stroke: var(--soft); stroke-width: 1 }
svg .zero { stroke: var(--ink); stroke-width: 1 }
svg .band { fill: var(--band) }
svg .mark { fill: currentColor; stroke: currentColor; stroke-width: 1.6 }
svg .hollow { fill: var(--raised) }
svg .bar { stroke: currentColor; stroke-width: 2.2 }
svg .slim { stroke-width: 1.2; opacity: .8 }
svg .tip { fill: currentColor }
svg .mde { stroke: var(--soft); stroke-width: 1 }
svg .reach { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 1 3 }
svg .thin { fill: none; stroke: currentColor; stroke-width: 1; opacity: .38; stroke-linejoin: round }
svg .thick { fill: none; stroke: currentColor; stroke-width: 2.4; stroke-linejoin: round }
svg .dot { fill: currentColor; opacity: .6 }
svg a:hover .dot, svg a:focus .dot { opacity: 1; stroke: currentColor; stroke-width: 3 }
svg a { color: inherit }
svg .hill { fill: currentColor; fill-opacity: .22; stroke: currentColor; stroke-width: 1.2 }
svg .tile { fill: var(--ink) }
svg .more { fill: var(--arm-1) }
svg .less { fill: var(--arm-2) }
svg .share-seeds { fill: var(--ink) }
svg .share-examples { fill: var(--soft) }
svg .share-both { fill: var(--hair) }
"""


def variables(theme: dict[str, str], arms: tuple[str, ...]) -> str:
    """Return the CSS custom properties of one theme."""
    named = [f"--{name}: {value};" for name, value in theme.items()]
    return " ".join([*named, *(f"--arm-{place}: {value};" for place, value in enumerate(arms))])


def style() -> str:
    """Return the CSS of both themes and of every figure, shared by the page and by single pictures."""
    arms = " ".join(f".arm-{place} {{ color: var(--arm-{place}) }}" for place in range(len(LIGHT_ARMS)))
    dark = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(DARK, DARK_ARMS)} }} }}"
    return f":root {{ color-scheme: light dark; {variables(LIGHT, LIGHT_ARMS)} }}\n{dark}\n{arms}\n{_FIGURES}"


def standalone(drawn: str) -> str:
    """Return a picture as a file of its own, with style and background."""
    opening, rest = drawn.split(">", 1)
    backdrop = '<rect width="100%" height="100%" fill="var(--raised)"/>'
    return f"{opening}><style>{style()}</style>{backdrop}{rest}\n"
