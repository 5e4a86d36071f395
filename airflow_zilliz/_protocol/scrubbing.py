"""Masks secrets, and the signatures of URLs, in text that is shown; never in data that is read. No I/O."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

MASK = "***"
#: A shorter secret may be an ordinary word, and no server echoes half a secret.
SHORTEST_SECRET = 8

#: JSON in JSON in JSON, five deep; without a bound, the time for many backslashes grows with their square.
_BACKSLASHES = r"\\{1,31}"
_EQUALS = rf"(?:=|%3D|{_BACKSLASHES}u003d)"
_SIGNING_NAMES = (
    r"X-(?:Amz|Goog|Oss|Cos|Obs)-(?:Signature|Credential|Security-Token)|Signature|sig|AWSAccessKeyId|OSSAccessKeyId"
    r"|GoogleAccessId|AccessKeyId|security-token"
)
_KEY_NAMES = (
    r"aws_access_key_id|aws_secret_access_key|aws_session_token|secret_?access_?key|secret_?key|access_?key(?:_?id)?"
    r"|session_?token|account_?key|shared_?access_?signature|sas_?token|api_?key|password"
)
# a URL up to its query; inside JSON its slashes may be escaped
_URL_QUERY = re.compile(
    rf"([a-z][a-z0-9+.-]*:(?://|{_BACKSLASHES}/{_BACKSLASHES}/)[^\s\"'<>?#]*)"
    rf"\?((?:[^\s\"'<>\\]|{_BACKSLASHES}u[0-9a-f]{{4}}|{_BACKSLASHES}/)*)",
    re.IGNORECASE,
)
_SIGNED_FRAGMENT = re.compile(
    rf"([a-z][a-z0-9+.-]*://[^\s\"'<>?#]*)#[^\s\"'<>]*(?:{_SIGNING_NAMES})=[^\s\"'<>]*", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"([a-z][a-z0-9+.-]*://[^\s\"'<>/?#:@]*):[^\s\"'<>/?#@]+@", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"(?<![a-z0-9])((?:{_SIGNING_NAMES}|{_KEY_NAMES}){_EQUALS}[\"']?)"
    rf"(?:[^\s\"'&,;<>\\%\])}}]|%(?!26)[0-9a-f]{{2}}|{_BACKSLASHES}/|{_BACKSLASHES}u(?!0026)[0-9a-f]{{4}})+",
    re.IGNORECASE,
)
_IN_JSON = re.compile(
    rf"((?<!\\)(\\*[\"'])(?:{_SIGNING_NAMES}|{_KEY_NAMES})\2\s*:\s*\2)(?:(?!\2)(?:\\.|.))+", re.IGNORECASE | re.DOTALL
)
_KEY_IDS = re.compile(r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{12,}|GOOG[A-Z0-9]{20,}|LTAI[A-Za-z0-9]{12,})\b")
_KEY_BEGINNINGS = ("AKIA", "ASIA", "GOOG", "LTAI")
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/=._~:-]{8,}")
_CLOSING = ".,;:)]}"


def mask_patterns(text: str) -> str:
    """Return a text without anything that looks like a secret: queries of URLs, signatures, values named as keys."""
    if "/" in text:
        text = _URL_QUERY.sub(_without_query, text)
        text = _SIGNED_FRAGMENT.sub(r"\1", text)
        text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    # thousands of waits may end together, nearly all with texts that have none of this
    if "=" in text or "%3" in text or "003" in text:
        text = _ASSIGNED.sub(rf"\1{MASK}", text)
    if '"' in text or "'" in text:
        text = _IN_JSON.sub(rf"\1{MASK}", text)
    if any(beginning in text for beginning in _KEY_BEGINNINGS):
        text = _KEY_IDS.sub(MASK, text)
    return _BEARER.sub(rf"\1 {MASK}", text) if "Bearer" in text or "Basic" in text else text


def _without_query(found: re.Match[str]) -> str:
    query = found[2]
    return found[1] + query[len(query.rstrip(_CLOSING)) :]


@dataclass(frozen=True)
class Scrubber:
    """Masks secrets in texts that are shown, as they are and with the escapes of JSON, URLs and HTTP headers.

    :param secrets: keys, tokens and passwords; of ``login:password``, the password is masked as well
    """

    secrets: tuple[str, ...] = field(default=(), repr=False)

    def __call__(self, text: str) -> str:
        """Return the text without them, and without what `mask_patterns` masks."""
        pattern = _pattern_of(self.secrets)
        return mask_patterns(text if pattern is None else pattern.sub(MASK, text))

    def also(self, secrets: Iterable[str]) -> Scrubber:
        """Return a scrubber of these secrets as well."""
        return Scrubber((*self.secrets, *secrets))


PATTERNS_ONLY = Scrubber()


def signing_values(url: str) -> tuple[str, ...]:
    """Return the parts of a signed URL that must not be shown: its query, and the values that sign it."""
    _, _, query = url.partition("?")
    pairs = parse_qsl(query.partition("#")[0])
    signing = [value for name, value in pairs if re.fullmatch(_SIGNING_NAMES, name, re.IGNORECASE)]
    return (query, unquote(query), *signing) if "://" in url and signing else ()


@functools.lru_cache(maxsize=256)
def _pattern_of(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    forms: set[str] = set()
    for secret in secrets:
        parts = [secret, secret.partition(":")[2]]
        if ":" in secret:  # as HTTP's Basic authentication has it
            parts.append(base64.b64encode(secret.encode()).decode().rstrip("="))
        forms.update(part for part in parts if len(part) >= SHORTEST_SECRET)
    if not forms:
        return None
    # the longest first, since one may be the beginning of another
    return re.compile("|".join("".join(map(_forms_of, form)) for form in sorted(forms, key=len, reverse=True)))


@functools.lru_cache(maxsize=512)
def _forms_of(character: str) -> str:
    """Return a pattern of all ways to write a character: itself, and its escapes in JSON and in URLs."""
    if character.isalnum() and character.isascii():
        return character
    escaped = [
        re.escape(character),
        *(rf"{_BACKSLASHES}u(?i:{unit})" for unit in [f"{ord(character):04x}"] if len(unit) == 4),
    ]
    escaped.append("".join(f"%(?i:{byte:02x})" for byte in character.encode("utf-8", "surrogatepass")))
    if character in '/"\\':
        escaped.insert(0, _BACKSLASHES + re.escape(character))
    if character == " ":
        escaped.append(r"\+")
    return f"(?:{'|'.join(escaped)})"
