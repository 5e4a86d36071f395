"""The column types of a Parquet file as Milvus sees them, which is by Arrow's Go library, version 17."""

from __future__ import annotations

from typing import Any


def column_types(file: Any) -> dict[str, Any]:
    """Return the Arrow type of each column, by name.

    The file's own Arrow schema, which pyarrow restores as a whole, counts for Go in part: it keeps ``large_string``,
    dictionaries of text and fixed sizes of lists, and takes anything else for what Parquet alone says that it is.

    :param file: a ``pyarrow.parquet.ParquetFile``
    """
    import pyarrow as pa

    columns = (file.schema.column(index) for index in range(len(file.schema)))
    json_columns = {column.path for column in columns if column.logical_type.type == "JSON"}
    return {
        field.name: pa.binary() if field.name in json_columns else _restored(field.type) for field in file.schema_arrow
    }


def _restored(arrow: Any) -> Any:
    """Return a type as Go restores it."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_fixed_size_list(arrow):
        return pa.list_(_restored(arrow.value_type), arrow.list_size)
    if types.is_list(arrow):
        return pa.list_(_restored(arrow.value_type))
    if types.is_struct(arrow):
        return pa.struct([(field.name, _restored(field.type)) for field in arrow])
    if types.is_large_string(arrow) or (types.is_dictionary(arrow) and _is_text(arrow.value_type)):
        return arrow
    return _of_parquet(arrow)


def _of_parquet(arrow: Any) -> Any:
    """Return what Parquet alone says of a column that was written with a type."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(arrow):
        return _of_parquet(arrow.value_type)
    if isinstance(arrow, pa.BaseExtensionType):
        return _restored(arrow.storage_type)
    if _is_text(arrow):
        return pa.string()
    if types.is_list(arrow) or types.is_large_list(arrow) or types.is_fixed_size_list(arrow):
        return pa.list_(_of_parquet(arrow.value_type))
    return arrow


def _is_text(arrow: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(arrow) or types.is_large_string(arrow) or types.is_string_view(arrow))
