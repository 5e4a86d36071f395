"""Build hook: the package's long description and project URLs, which need the address of the repository.

GitHub's workflows set that address in the environment, so that a fork needs no change. Without it, links stay relative
and no URLs are set, as in an installation from a clone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def repository_of(environment: Mapping[str, str]) -> str | None:
    """Return the repository's address, None if the environment does not name it."""
    server, name = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    return f"{server}/{name}" if server and name else None


def absolute(markdown: str, repository: str, ref: str) -> str:
    """Return a page of the repository's root with absolute links and pictures, as a package index needs them.

    :param ref: the tag or branch that links point to
    """

    def link(found: re.Match[str]) -> str:
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}[{found[2]}]({repository}/{kind}/{ref}/{found[3]})"

    return _LINK.sub(link, markdown)


class ReadmeHook(MetadataHookInterface):
    """Sets the dynamic fields ``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the fields in place."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = repository_of(os.environ)
        if repository is not None:
            ref = os.environ.get("GITHUB_REF_NAME", "main")
            text = absolute(text, repository, ref)
            metadata["urls"] = {
                "Repository": repository,
                "Documentation": f"{repository}/tree/{ref}/docs",
                "Changelog": f"{repository}/blob/{ref}/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
