"""The state that the local server's routes work on."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_zilliz.local.clock import Clock
from airflow_zilliz.local.control import Control
from airflow_zilliz.local.engine import Engine
from airflow_zilliz.local.importing import Importer
from airflow_zilliz.local.jobs import Flavor, JobStore
from airflow_zilliz.local.limits import CLOUD_LIMITS, MILVUS_LIMITS, Limits
from airflow_zilliz.local.versions import NEWEST, MilvusVersion


@dataclass
class ServerState:
    """How the server was started, what it holds, and what its tests have changed since.

    :param started_as: the Milvus version
    :param started_with: the limits; None for those of the flavor
    :param api_key: the token that must follow ``Bearer``; None to accept any request
    """

    flavor: Flavor
    store: JobStore
    engine: Engine
    importer: Importer
    started_as: MilvusVersion = NEWEST
    started_with: Limits | None = None
    api_key: str | None = None
    control: Control = field(default_factory=Control)

    def __post_init__(self) -> None:
        self.store.retention = lambda: self.version.retention
        self.importer.limits = lambda: self.limits

    @property
    def clock(self) -> Clock:
        """The server's clock."""
        return self.store.clock

    @property
    def version(self) -> MilvusVersion:
        """The current Milvus version."""
        return self.control.settings.version(self.started_as)

    @property
    def limits(self) -> Limits:
        """The current limits."""
        own = CLOUD_LIMITS if self.flavor is Flavor.CLOUD else MILVUS_LIMITS
        return self.control.settings.limits(self.started_with or own)
