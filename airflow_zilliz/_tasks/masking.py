"""Makes Airflow mask the signatures of signed URLs, which it would store and show with a task's rendered fields."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from airflow_zilliz._protocol.scrubbing import signing_values

#: Where Airflow 3.1, 3.0 and 2.11 have it.
_MASKERS = ("airflow.sdk.log", "airflow.sdk.execution_time.secrets_masker", "airflow.utils.log.secrets_masker")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")


def mask_signed_urls(value: object) -> None:
    """Register the signatures of URLs in a value, however nested, with Airflow's secrets masker."""
    secrets = dict.fromkeys(secret for text in _texts(value) for url in _URL.findall(text) for secret in _secrets(url))
    if secrets:
        mask = _mask_secret()
        for secret in secrets:
            mask(secret)


def _secrets(url: str) -> tuple[str, ...]:
    # a JSON text may have its ampersands escaped
    return signing_values(url.replace("\\u0026", "&")) + signing_values(url)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        for part in value:
            yield from _texts(part)
    elif hasattr(value, "protocol"):  # an ObjectStoragePath
        yield str(value)


def _mask_secret() -> Callable[[str], None]:
    for module in _MASKERS:
        try:
            mask: Callable[[str], None] = importlib.import_module(module).mask_secret
        except (ImportError, AttributeError):
            continue
        return mask
    raise ImportError("This Airflow has no mask_secret")
