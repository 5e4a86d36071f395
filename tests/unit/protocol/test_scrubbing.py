from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_zilliz._protocol.scrubbing import PATTERNS_ONLY, Scrubber, mask_patterns, signing_values

SECRET = 'k/3y&<0>"1\\2 3+4=='
AMZ = "X-Amz-Credential=AKIA0123456789ABCDEF%2Fus&X-Amz-Date=20240101&X-Amz-Signature=5196"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(json.dumps(SECRET))[3:-3],
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        json.dumps(SECRET)[1:-1].replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003E"),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        quote(SECRET),
    ],
)
def test_a_secret_in_any_form(form: str) -> None:
    assert Scrubber((SECRET,))(f"cannot read with {form}, said it") == "cannot read with ***, said it"


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=8).filter(str.strip))
def test_whatever_it_is_made_of(secret: str) -> None:
    for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)):
        assert form not in Scrubber((secret,))(f"<{form}>")


def test_a_password_is_a_secret_without_its_login_and_in_a_header() -> None:
    scrub = Scrubber(("analyst:correct-horse",))
    text = f"analyst:correct-horse, correct-horse, {base64.b64encode(b'analyst:correct-horse').decode()}, analyst"
    assert scrub(text) == "***, ***, ***, analyst"
    assert Scrubber(("root:Milvus",))("Milvus says root:Milvus") == "Milvus says ***", "a short one is a word"


def test_the_begin_of_another_secret() -> None:
    assert Scrubber(("secret-key", "secret-key-2"))("secret-key-2 secret-key") == "*** ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://b.s3.aws.com/day/a.parquet?{AMZ}: gone", "https://b.s3.aws.com/day/a.parquet: gone"),
        (f"[s3://b/a.parquet?{AMZ} s3://b/b.npy?{AMZ}]", "[s3://b/a.parquet s3://b/b.npy]"),
        (f'{{"u":"https:\\/\\/h\\/a?{AMZ}"}}'.replace("&", "\\u0026"), '{"u":"https:\\/\\/h\\/a"}'),
        ("https://h/a?sv=2024&sig=ab%2Bc%3D, next", "https://h/a, next"),
        ("https://h/a#sig=abc", "https://h/a"),
        ("https:\\/\\/h\\/a?sig=abc", "https:\\/\\/h\\/a"),
        ("security-token=abc GoogleAccessId=me@x", "security-token=*** GoogleAccessId=***"),
        ("s3://b/a#1.parquet", "s3://b/a#1.parquet"),
        ("https://user:pw@h/a", "https://user:***@h/a"),
        ("key AKIA0123456789ABCDEF is bad", "key *** is bad"),
        ("my file.parquet?X-Amz-Signature=5196&x=1", "my file.parquet?X-Amz-Signature=***&x=1"),
        ("a%3FX-Amz-Signature%3D5196%26x%3D1", "a%3FX-Amz-Signature%3D***%26x%3D1"),
        ("aws_secret_access_key=abc/def, region=x", "aws_secret_access_key=***, region=x"),
        ("AccountName=a;AccountKey=abc==;Endpoint=x", "AccountName=a;AccountKey=***;Endpoint=x"),
        ('{"secretKey":"a b\\"c", "x": 1}', '{"secretKey":"***", "x": 1}'),
        ('{\\"accessKey\\": \\"abc\\", x', '{\\"accessKey\\": \\"***\\", x'),
        ("Authorization: Bearer abc.def-0123", "Authorization: Bearer ***"),
        ("the signature: it does not match, password expired", "the signature: it does not match, password expired"),
        ("is a.parquet there? http://h:1/x", "is a.parquet there? http://h:1/x"),
    ],
)
def test_what_looks_like_a_secret_is_masked_and_nothing_else(text: str, shown: str) -> None:
    assert mask_patterns(text) == shown
    assert PATTERNS_ONLY(text) == shown


def test_what_signs_a_url() -> None:
    query, decoded, *values = signing_values(f"https://h/a?{AMZ}")
    assert (query, decoded) == (AMZ, AMZ.replace("%2F", "/"))
    assert values == ["AKIA0123456789ABCDEF/us", "5196"]
    assert signing_values("https://h/a?versionId=5") == ()
    assert signing_values("day/a.parquet") == ()
    assert signing_values("day/a.parquet?sig=1") == ()
    assert signing_values("https://h/a?sig=1#sig=2") == ("sig=1#sig=2", "sig=1#sig=2", "1")


def test_no_secret_in_its_own_text() -> None:
    scrub = Scrubber((SECRET,)).also(["another-secret"])
    assert "secret" not in repr(scrub).partition("(")[2].replace("secrets", "")
    assert scrub(f"{SECRET} another-secret") == "*** ***"


def test_a_secret_of_eight_characters_is_one_and_a_shorter_one_a_word() -> None:
    assert Scrubber(("12345678", "1234567", "u:abcdefg"))("12345678 1234567 abcdefg") == "*** 1234567 abcdefg"


def test_characters_of_several_bytes() -> None:
    assert Scrubber(("schlüssel-é",))(f"{quote('schlüssel-é')} {json.dumps('schlüssel-é')}") == '*** "***"'


@pytest.mark.timeout(30)
def test_a_text_of_backslashes_does_not_take_a_minute() -> None:
    """With the square of its length it would; with its length it is a tenth of a second."""
    text = "x" + "\\" * 300_000 + "y"
    assert Scrubber(("@/abc@def%ghi", "p@ss word/1"))(text) == text
