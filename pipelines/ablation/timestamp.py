"""A time stamp by RFC 3161: an authority signs the digest of a registration together with the time.

Its answer is kept as `anchor.tsr`, which `openssl ts -reply -in anchor.tsr -text` shows. The authority learns
the hash of the digest, nothing else.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from typing import Any

from pipelines.errors import RunFailed, UserError

QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"
SECONDS = 30.0  # until an authority is given up
MOST_BYTES = 1 << 20  # of an answer
OF_CHAIN = "certificate verify error"  # says OpenSSL before it looks at a signature
INSTALL = "pip install 'attnlab[timestamp]'"


def is_installed() -> bool:
    """Return whether the library is there that reads time stamps."""
    try:
        import rfc3161_client  # noqa: F401
    except ImportError:
        return False
    return True


def require_installed(url: str) -> None:
    """Refuse a time stamp that could not be checked.

    Raises:
        UserError: the library is not installed.
    """
    if not is_installed():
        raise UserError(
            f"anchor: {url}", "time stamps need rfc3161-client, which is not installed", accepted=INSTALL
        )


def request(url: str, text: str) -> tuple[bytes, str]:
    """Have an authority stamp a text; return its answer, checked, and the time that it states.

    Raises:
        RunFailed: the authority cannot be reached, refuses, or answers anything but a stamp of this text.
    """
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    query = TimestampRequestBuilder().data(text.encode()).hash_algorithm(HashAlgorithm.SHA256).build()
    answer = _post(url, query.as_bytes())
    try:
        stamp = read(answer)
    except ValueError as error:
        raise RunFailed(f"{url}: {error}; nothing was trained") from None
    wrong = checked(stamp, text).wrong if stamp.tst_info.nonce == query.nonce else "answers another request"
    if wrong:
        raise RunFailed(f"{url}: its time stamp {wrong}; nothing was trained")
    return answer, time_of(stamp)


def read(answer: bytes) -> Any:
    """Return a granted stamp.

    Raises:
        ValueError: it is none; the message is a clause.
    """
    from rfc3161_client import decode_timestamp_response

    try:
        stamp = decode_timestamp_response(answer)
        status = int(stamp.status)
    except (ValueError, TypeError) as error:
        raise ValueError(f"the answer is no time stamp by RFC 3161 in DER ({error})") from None
    if status:
        said = "; ".join(stamp.status_string) or f"status {status}"
        raise ValueError(f"the authority gave no time stamp ({said})")
    return stamp


def time_of(stamp: Any) -> str:
    """Return the time that a stamp states."""
    return str(stamp.tst_info.gen_time.isoformat(timespec="seconds"))


@dataclass(frozen=True)
class Stamp:
    """What came of a look at a time stamp, as clauses; empty where nothing is to be said."""

    wrong: str  # it is no stamp of this text
    unvouched: str  # no authority that this machine knows vouches for it, so its signature was not checked


def checked(stamp: Any, text: str) -> Stamp:
    """Hold a stamp against a text, and its signature against the authorities that this machine knows."""
    if stamp.tst_info.message_imprint.message != hashlib.sha256(text.encode()).digest():
        return Stamp("is of another digest", "")
    problem = _problem(stamp, text)
    if OF_CHAIN not in problem:
        return Stamp(f"is not signed as it says ({problem})" if problem else "", "")
    names = "; ".join(sorted({one.issuer.rfc4514_string() for one in _certificates(stamp)}))
    return Stamp(
        "",
        f"no authority that this machine knows vouches for the time stamp (issued by {names or 'nobody'}; "
        "SSL_CERT_FILE names a file of others)",
    )


def _problem(stamp: Any, text: str) -> str:
    """Return why the signature of a stamp of a text does not hold; empty where it does."""
    from rfc3161_client import VerificationError, VerifierBuilder

    builder = VerifierBuilder()
    for root in _known():
        builder = builder.add_root_certificate(root)
    try:
        builder.build().verify_message(stamp, text.encode())
    except VerificationError as error:
        found = re.search(r'reason: "([^"]+)"', str(error))
        return found[1] if found else str(error).rstrip(".")
    return ""


def _certificates(stamp: Any) -> list[Any]:
    """Return the certificates that a stamp carries."""
    from cryptography.x509 import load_der_x509_certificate

    return [load_der_x509_certificate(one) for one in stamp.signed_data.certificates]


def _known() -> list[Any]:
    """Return the authorities that this machine knows: those of SSL_CERT_FILE, else those of certifi."""
    import certifi
    from cryptography.x509 import load_pem_x509_certificates

    path = os.environ.get("SSL_CERT_FILE") or certifi.where()
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a serial number that a later version will refuse
            return list(dict.fromkeys(load_pem_x509_certificates(file.read())))
    except (OSError, ValueError) as error:
        raise UserError(path, f"holds no certificates in PEM ({error})") from None


def _post(url: str, query: bytes) -> bytes:
    """Return what an authority answers.

    Raises:
        RunFailed: it cannot be reached, or refuses.
    """
    asked = urllib.request.Request(url, data=query, headers={"Content-Type": QUERY, "Accept": REPLY})
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
            return bytes(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        reason = f"it answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error))
    raise RunFailed(f"{url}: the time stamp cannot be had ({reason}); nothing was trained")
