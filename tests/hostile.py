"""Texts that are code, control a terminal or hide what follows: for tests of what shows texts of users."""

from __future__ import annotations

import re
import unicodedata

TEXTS = {
    "script": "<script>document.title='owned'</script>",
    "closing tags": "</td></table></details></svg><img src=x onerror=\"document.title='owned'\">",
    "attribute": "\" onmouseover=\"document.title='owned'\" x='",
    "template": "{{ facts }}{% raw %}<< names >>",
    "entity": "&lt;b&gt; &#60;i&#62;",
    "markdown": "[a](javascript:alert(1)) ![b](x) | **c** `d` ~~e~~ $f$ # g",
    "fence": "a\n```\n<script>document.title='owned'</script>\n````\nb",
    "latex": r"\input{/etc/passwd} \end{tabular} $x_1^2$ % & # ~ {",
    "latex line": "a\n\n\\\\[b] \\end{document}",
    "colours": "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "eight bits": "\x9b31m\x90q\x9c",
    "cursor": "one\rtwo\x08\x08\x00",
    "right to left": "abc\u202egnp.exe\u2066x\u2069",
    "unseen": "zero\u200bwidth\u2060\ufeff\u2028line\U000e0041",
    "markup of rich": "[red]x[/red] [/] [link=file:///etc/passwd]y[/link]",
    "wide": "一二三四五六七八九十" * 12,
    "long": "pneumono" * 100,
    "yaml": "--- {a: b}\n...\n!!python/object:os.system",
}

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def unseen(text: str) -> set[str]:
    """Return the characters of a text that move a cursor, reorder or hide; colours of rich are left out."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    return {one for one in plain if one not in "\n\t" and unicodedata.category(one) in _UNSEEN}
