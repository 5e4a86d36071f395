"""The package's metadata for Airflow, with the only description of the connection form."""

from __future__ import annotations

from typing import Any

from airflow_zilliz import __version__
from airflow_zilliz._transport.connection_fields import CONN_FIELDS, CONN_TYPE, HOOK_NAME, UI_FIELD_BEHAVIOUR


def get_provider_info() -> dict[str, Any]:
    """Return the package's entry for Airflow's provider manager (entry point ``apache_airflow_provider``)."""
    integration = "Zilliz"
    return {
        "package-name": "airflow-provider-zilliz",
        "name": "Zilliz",
        "description": "Starts bulk imports into Zilliz Cloud and Milvus, and waits for them without holding a worker.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://docs.zilliz.com/docs/import-data",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": integration, "python-modules": ["airflow_zilliz.hooks"]}],
        "operators": [{"integration-name": integration, "python-modules": ["airflow_zilliz.operators"]}],
        "sensors": [{"integration-name": integration, "python-modules": ["airflow_zilliz.sensors"]}],
        "triggers": [{"integration-name": integration, "python-modules": ["airflow_zilliz.triggers"]}],
        "extra-links": ["airflow_zilliz.links.ZillizConsoleLink", "airflow_zilliz.links.ZillizProgressLink"],
        "config": {
            "zilliz": {
                "description": "Options of the Zilliz provider.",
                "options": {
                    "progress_xcom": {
                        "description": (
                            "Keep the progress of imports in XCom ``zilliz_progress`` while their tasks wait, for the "
                            "page *Import progress*."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    }
                },
            }
        },
        "connection-types": [
            {
                "connection-type": CONN_TYPE,
                "hook-class-name": "airflow_zilliz.hooks.ZillizHook",
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONN_FIELDS,
            }
        ],
    }
