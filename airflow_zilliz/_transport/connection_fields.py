"""The connection type and the fields of its form, described once for Airflow and for the code that reads them."""

from __future__ import annotations

from typing import Any

CONN_TYPE = "zilliz"
HOOK_NAME = "Zilliz Cloud / Milvus"

# A type without "null" makes a field mandatory in Airflow's form; defaults live in endpoint.py, since the
# form stores every default that it shows and would freeze it into the connection.
CONN_FIELDS: dict[str, dict[str, Any]] = {
    "cluster_id": {
        "label": "Cluster ID",
        "description": "Zilliz Cloud cluster, e.g. in01-0123456789abcde. Not together with Project ID and Region ID.",
        "schema": {"type": ["string", "null"]},
    },
    "project_id": {
        "label": "Project ID",
        "description": "Zilliz Cloud project (proj-...) of a project database, together with Region ID.",
        "schema": {"type": ["string", "null"]},
    },
    "region_id": {
        "label": "Region ID",
        "description": "Region of the project database, e.g. aws-us-west-2, together with Project ID.",
        "schema": {"type": ["string", "null"]},
    },
    "db_name": {
        "label": "Database",
        "description": "Name of the database inside the cluster. Empty: the server's default.",
        "schema": {"type": ["string", "null"]},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true, false, or the path of a CA bundle. Empty: true.",
        "schema": {"type": ["string", "null"]},
    },
    "request_timeout": {
        "label": "Request timeout",
        "description": "Seconds that one request may take. Empty: 20.",
        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
    },
    "max_requests_per_second": {
        "label": "Requests per second",
        "description": (
            "The most that one process sends to one endpoint path. Empty: 10. Zilliz Cloud allows 20 per user."
        ),
        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
    },
    "console_url": {
        "label": "Console URL",
        "description": "The address that a task's console button opens.",
        "schema": {"type": ["string", "null"]},
    },
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": [],
    "relabeling": {
        "host": "Endpoint",
        "login": "Milvus user",
        "password": "API key or Milvus password",
        "schema": "Scheme",
    },
    "placeholders": {
        "host": "https://api.cloud.zilliz.com; for Milvus http://localhost",
        "port": "443 for Zilliz Cloud, 19530 for Milvus; may be in the endpoint",
        "login": "self-hosted Milvus only",
        "password": "Zilliz Cloud API key, or the Milvus user's password",
        "schema": "http, for a Milvus without TLS; https when empty",
    },
}
