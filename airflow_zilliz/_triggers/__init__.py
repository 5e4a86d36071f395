"""Triggers that `airflow_zilliz.triggers` exports, and what all triggers share."""
