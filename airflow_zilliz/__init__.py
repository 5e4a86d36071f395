"""Airflow provider for the bulk imports of Zilliz Cloud and Milvus."""

__version__ = "0.1.0"
