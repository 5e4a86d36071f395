"""Where a job lives."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from airflow_zilliz.exceptions import ZillizConfigError


@dataclass(frozen=True, slots=True)
class Target:
    """Where a job lives: a Zilliz Cloud cluster, a project database (project and region), or neither on Milvus.

    :raises ZillizConfigError: for a cluster together with a project or region, or only one of these two
    """

    cluster_id: str | None = None
    project_id: str | None = None
    region_id: str | None = None
    db_name: str | None = None

    def __post_init__(self) -> None:
        if self.cluster_id and (self.project_id or self.region_id):
            other = "project_id" if self.project_id else "region_id"
            raise ZillizConfigError(
                f"cluster_id {self.cluster_id!r} and {other} {getattr(self, other)!r} were both given: name "
                "a cluster by cluster_id alone, or a project database by project_id and region_id"
            )
        if bool(self.project_id) != bool(self.region_id):
            given, missing = ("project_id", "region_id") if self.project_id else ("region_id", "project_id")
            raise ZillizConfigError(f"{given} was given without {missing}: a project database needs both")

    def merged(self, default: Target) -> Target:
        """Return this target with the database of ``default``, and its place too where this one names none."""
        if default == _ANYWHERE:
            return self
        db_name = self.db_name or default.db_name
        place = self if self.cluster_id or self.project_id else default
        return Target(place.cluster_id, place.project_id, place.region_id, db_name)

    def ids(self) -> dict[str, str]:
        """Return the body fields that name the place; what is not set is left out, as REST wants it."""
        pairs = {"clusterId": self.cluster_id, "projectId": self.project_id, "regionId": self.region_id}
        return {name: value for name, value in pairs.items() if value}

    def __str__(self) -> str:
        pairs = (("cluster", self.cluster_id), ("project", self.project_id), ("database", self.db_name))
        return ", ".join([f"{name} {value}" for name, value in pairs if value])


_ANYWHERE = Target()


def target_arguments(owner: object) -> dict[str, Any]:
    """Return the arguments that say where a job lives, as a task or a trigger has them and the hook takes them."""
    return {part.name: getattr(owner, part.name) for part in fields(Target)}


def database_header(target: Target) -> dict[str, str]:
    """Return the header that names the database, which Milvus needs for its privilege check (wire 1.5)."""
    return {"DB-Name": target.db_name} if target.db_name else {}
