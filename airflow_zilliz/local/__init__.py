"""A local import server: the REST import API of Zilliz Cloud and Milvus over an embedded Milvus Lite.

Run it with ``python -m airflow_zilliz.local``. It needs the extra ``local``, except for scripted jobs.
"""
