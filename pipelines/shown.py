"""Text of users and data as a terminal shows it: secrets masked, control characters escaped."""

from __future__ import annotations

import json
import re
import unicodedata

# Services give their tokens a fixed form so that scanners find them.
TOKENS = (
    r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"  # GitHub
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    r"|(?<![A-Za-z0-9])sk-(?:ant-|proj-)?[A-Za-z0-9][A-Za-z0-9_-]{31,}"  # OpenAI, Anthropic
    r"|xox[abprs]-[A-Za-z0-9-]{20,}"  # Slack
)
SECRET = re.compile(
    rf"{TOKENS}"
    r"|(?<=hf_)(?:(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{6,}|[a-z]{20,})"  # Hugging Face; hf_datasets is a word
    r"|(?<=://)[^/\s@]+(?=@)"  # https://user:password@host
    r"|(?<![\w/:.-])(?!hub:)[\w.+-]+:[^\s/@:]+(?=@[\w-])"  # user:password@host; hub:name@commit is none
    r"|(?i:(?<=token=)|(?<=api_key=)|(?<=password=)|(?<=secret=))[^\s&;,)]{3,}[^\s&;,):.]"
)
MASK = "***"
KEPT = "\n\t"


def printable(text: str, keep: str = KEPT) -> str:
    r"""Return a text with every secret as `***` and every control character as its escape, such as `\x1b`.

    Args:
        keep: control characters that stay as they are.
    """
    masked = SECRET.sub(MASK, text)
    if masked.isprintable():
        return masked
    return "".join(one if one in keep or _is_seen(one) else _code_of(one) for one in masked)


def plural(n: int, noun: str) -> str:
    """Return a count with its noun: "1 cell", "2,000 cells", "2 batches"."""
    ending = "" if n == 1 else "es" if noun.endswith("ch") else "s"
    return f"{n:,} {noun}{ending}"


def json_line(value: object) -> str:
    r"""Return a value as one line of JSON, in which what no terminal shows is an escape, such as `\u001b`."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(one if _is_seen(one) else json.dumps(one)[1:-1] for one in text)


def _is_seen(character: str) -> bool:
    # Cc: terminal escapes. Cf: characters that reorder or hide others; the joiners are letters of words.
    is_joiner = character in "\u200c\u200d\u00ad"
    return is_joiner or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _code_of(character: str) -> str:
    return character.encode("unicode_escape", errors="surrogatepass").decode("ascii")


def cut(text: str, most: int) -> str:
    """Return the first `most` characters of a text, with an ellipsis if there are more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def with_point(value: object) -> str:
    """Return what to write for a number with a decimal comma, as a remark; "" for any other value."""
    found = re.fullmatch(r"\s*([+-]?\d+),(\d+)\s*", value) if isinstance(value, str) else None
    return f" (write {found[1]}.{found[2]})" if found else ""
