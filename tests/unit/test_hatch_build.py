"""The README as a package index shows it: its links and pictures lead into the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling builds the package; only the newest Airflow's environment has it")

import hatch_build

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://git.test/somebody/provider"


def test_each_link_and_picture_of_the_readme_is_absolute_and_leads_to_a_file() -> None:
    page = hatch_build.absolute((ROOT / "README.md").read_text(), REPOSITORY, "v1.2.3")
    targets = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", page)
    assert not [target for _, target in targets if not target.startswith("https://")]
    inside = [(mark, target) for mark, target in targets if target.startswith(REPOSITORY)]
    assert len(inside) > 10
    for mark, target in inside:
        kind = "raw" if mark else "blob"
        path = target.removeprefix(f"{REPOSITORY}/{kind}/v1.2.3/").partition("#")[0]
        assert (ROOT / path).is_file(), target


def test_links_elsewhere_and_within_the_page_stay() -> None:
    page = "[a](https://docs.zilliz.com) [b](#install) [c](docs/hook.md#x)"
    assert hatch_build.absolute(page, REPOSITORY, "main") == (
        f"[a](https://docs.zilliz.com) [b](#install) [c]({REPOSITORY}/blob/main/docs/hook.md#x)"
    )


@pytest.mark.parametrize("known", [True, False])
def test_urls_are_set_where_the_repository_is_known(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("SERVER_URL", "https://git.test"),
        ("REPOSITORY", "somebody/provider"),
        ("REF_NAME", "v1.2.3"),
    ):
        if known:
            monkeypatch.setenv(f"GITHUB_{name}", value)
        else:
            monkeypatch.delenv(f"GITHUB_{name}", raising=False)
    fields: dict[str, object] = {}
    hatch_build.ReadmeHook(str(ROOT), {}).update(fields)
    assert ("urls" in fields) == known
    assert (REPOSITORY in str(fields["readme"])) == known
