"""What each format's reader takes and refuses; R numbers are those of docs/milvus-readers.md."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the local server's readers come with the extra `local`")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from airflow_zilliz.local.file_readers import read_rows  # noqa: E402 - without the extra they are skipped above
from airflow_zilliz.local.file_readers.go_text import csv_records, parse_bool, parse_float, parse_int, separator  # noqa: E402 - without the extra they are skipped above
from airflow_zilliz.local.import_errors import BadValue, ImportFileError  # noqa: E402 - without the extra they are skipped above
from airflow_zilliz.local.row_validation import Field, Schema, checked_float, checked_int  # noqa: E402 - without the extra they are skipped above
from airflow_zilliz.local.versions import VERSIONS  # noqa: E402 - without the extra they are skipped above

KEY = Field("id", "INT64")
GO = json.loads((Path(__file__).parent / "go_text.json").read_text())


def schema_of(*fields: Field, dynamic: bool = False) -> Schema:
    return Schema("books", (KEY, *fields), dynamic, "id")


def one(kind: str, **options: Any) -> Schema:
    return schema_of(Field("x", kind, **options))


def read(path: Path, schema: Schema, milvus: str = "3.0", **options: str) -> list[dict[str, Any]]:
    return list(read_rows([path], schema, options, VERSIONS[milvus]))


class Writer:
    """Writes a file of one row with an ``id`` and perhaps more, in any format, and reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def text(self, name: str, content: str | bytes, schema: Schema, milvus: str = "3.0", **options: str) -> Any:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path, schema, milvus, **options)

    def json(self, row: dict[str, Any], schema: Schema, milvus: str = "3.0") -> Any:
        return self.text("a.json", json.dumps([{"id": 1, **row}]), schema, milvus)[0]

    def raw(self, value: str, schema: Schema) -> Any:
        return self.text("a.json", f'[{{"id": 1, "x": {value}}}]', schema)[0]["x"]

    def csv(self, cell: str, schema: Schema, **options: str) -> Any:
        quoted = '"' + cell.replace('"', '""') + '"'
        return self.text("a.csv", f"id,x\n1,{quoted}\n", schema, **options)[0]["x"]

    def parquet(self, array: Any, schema: Schema, name: str = "x") -> Any:
        path = self.folder / "a.parquet"
        pq.write_table(pa.table({"id": pa.array(range(len(array)), pa.int64()), name: array}), path)
        return [row.get("x") for row in read(path, schema)]

    def numpy(self, array: Any, schema: Schema, name: str = "x") -> Any:
        paths = [self.folder / "id.npy", self.folder / f"{name}.npy"]
        np.save(paths[0], np.arange(len(array)))
        np.save(paths[1], array)
        return list(read_rows(paths, schema, {}))


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


# -- Fields -------------------------------------------------------------------------------------------------------

DYNAMIC = schema_of(dynamic=True)


@pytest.mark.parametrize("meta", [{"a": 1}, '{"a": 1}'])
def test_meta_holds_an_object_or_its_text_and_is_merged_with_the_other_unknown_keys(writer: Writer, meta: Any) -> None:
    """R33."""
    assert writer.json({"$meta": meta, "b": 2}, DYNAMIC) == {"id": 1, "a": 1, "b": 2}
    assert writer.json({"$meta": {}}, DYNAMIC) == {"id": 1}


@pytest.mark.parametrize("meta", [{"b": 1}, {"id": 1}, "[1]", "1", "no", [1], 1, None, '{"a": NaN}'])
def test_the_same_key_in_both_or_no_object_fails(writer: Writer, meta: Any) -> None:
    """R34, R35."""
    with pytest.raises(ImportFileError, match=r"row 1: (field|key) '"):
        writer.json({"$meta": meta, "b": 2}, DYNAMIC)


def test_an_unknown_field_without_a_dynamic_field(writer: Writer) -> None:
    """R37, R38, R39, R99."""
    plain = schema_of()
    for milvus in ("2.6", "3.0"):
        assert writer.json({"x": 1}, plain, milvus) == {"id": 1}
        assert writer.text("a.csv", "id,x\n1,2\n", plain, milvus) == [{"id": 1}]
    for milvus in ("2.4", "2.5"):
        with pytest.raises(ImportFileError, match="field 'x' is not in the schema"):
            writer.json({"x": 1}, plain, milvus)
        with pytest.raises(ImportFileError, match="field 'x' is not in the schema"):
            writer.text("a.csv", "id,x\n1,2\n", plain, milvus)
    assert writer.parquet(pa.array([5]), plain, "__index_level_0__") == [None]
    assert writer.numpy(np.array([5]), plain) == [{"id": 0}]


def test_in_a_dynamic_collection_json_and_csv_keep_it(writer: Writer) -> None:
    """R40, R41, R81."""
    assert writer.json({"x": 1.5}, DYNAMIC) == {"id": 1, "x": 1.5}
    assert writer.text("a.csv", "id,x\n1,1.5\n", DYNAMIC) == [{"id": 1, "x": "1.5"}]
    assert writer.parquet(pa.array([1.5]), DYNAMIC) == [None]
    path = writer.folder / "meta.parquet"
    pq.write_table(pa.table({"id": [1], "$meta": ['{"x": 2}'], "y": [3]}), path)
    assert read(path, DYNAMIC) == [{"id": 1, "x": 2}]


def test_optional_fields_may_be_missing_null_or_the_null_word(writer: Writer) -> None:
    """R43."""
    schema = one("INT64", optional=True)
    assert writer.json({}, schema) == {"id": 1}
    assert writer.json({"x": None}, schema) == {"id": 1, "x": None}
    assert writer.csv("", schema) is None
    assert writer.csv("NIL", schema, nullkey="NIL") is None
    assert writer.text("a.csv", "id\n1\n", schema) == [{"id": 1}]
    assert writer.parquet(pa.array([None, 3], pa.int64()), schema) == [None, 3]


def test_others_may_not(writer: Writer) -> None:
    """R44."""
    schema = one("INT64")
    for row in ({}, {"x": None}):
        with pytest.raises(ImportFileError, match="value of field 'x' is missing"):
            writer.json(row, schema)
    with pytest.raises(ImportFileError, match="field 'x' must be an INT64"):
        writer.csv("", schema)
    with pytest.raises(ImportFileError, match="value of field 'x' is missing"):
        writer.text("a.csv", "id\n1\n", schema)
    with pytest.raises(ImportFileError, match="row 2: value of field 'x' is missing"):
        writer.parquet(pa.array([3, None], pa.int64()), schema)


def test_a_value_for_an_auto_id_fails(writer: Writer) -> None:
    """R45."""
    schema = Schema("books", (Field("id", "INT64", generated=True), Field("x", "INT64")))
    with pytest.raises(ImportFileError, match="field 'id' is generated"):
        writer.json({"x": 1}, schema)
    with pytest.raises(ImportFileError, match="field 'id' is generated"):
        writer.csv("1", schema)
    with pytest.raises(ImportFileError, match="field 'id' is generated"):
        writer.parquet(pa.array([1]), schema)
    with pytest.raises(ImportFileError, match="field 'id' is generated"):
        writer.numpy(np.array([1]), schema)


def test_max_length_counts_bytes_also_of_elements(writer: Writer) -> None:
    """R46."""
    text, array = one("VARCHAR", max_length=3), one("ARRAY", element="VARCHAR", max_length=3, max_capacity=2)
    assert writer.json({"x": "äa"}, text)["x"] == "äa"
    assert writer.json({"x": ["äa", ""]}, array)["x"] == ["äa", ""]
    for read_it in (
        lambda: writer.json({"x": "ää"}, text),
        lambda: writer.csv("ää", text),
        lambda: writer.parquet(pa.array(["ää"], pa.string()), text),
        lambda: writer.numpy(np.array(["ää"]), text),
        lambda: writer.json({"x": ["ää"]}, array),
        lambda: writer.csv('["ää"]', array),
        lambda: writer.parquet(pa.array([["ää"]], pa.list_(pa.string())), array),
    ):
        with pytest.raises(ImportFileError, match="row 1: field 'x' has 4 bytes, its max_length is 3"):
            read_it()


def test_arrays_have_a_capacity_and_no_null_elements(writer: Writer) -> None:
    """R47, R48."""
    schema = one("ARRAY", element="INT64", max_capacity=2)
    with pytest.raises(ImportFileError, match="field 'x' has 3 elements, its max_capacity is 2"):
        writer.json({"x": [1, 2, 3]}, schema)
    for read_it in (
        lambda: writer.json({"x": [1, None]}, schema),
        lambda: writer.csv("[1, null]", schema),
        lambda: writer.parquet(pa.array([[1, None]], pa.list_(pa.int64())), schema),
    ):
        with pytest.raises(ImportFileError, match="field 'x' holds a null"):
            read_it()


# -- JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        ("a.json", '[{"id": 1}, {"id": 2}]', 2),
        ("a.json", '{"rows": [{"id": 1}]}', 1),
        ("a.json", '{"ROWS": [{"id": 1}]}', 1),
        ("a.json", "[]", 0),
        ("a.json", '{"rows": []}', 0),
        ("a.json", '{"rows": [{"id": 1}]', 1),
        ("a.json", '{"rows": [{"id": 1}]} {"rows": [{"id": 2}]}', 1),
        ("a.jsonl", '{"id": 1}\n\n{"id": 2}', 2),
        ("a.ndjson", '{"id": 1}\n{"id": 2}\n', 2),
    ],
)
def test_rows_are_a_list_an_object_or_lines(writer: Writer, name: str, content: str, count: int) -> None:
    """R51, R52, R53, R56, R106."""
    assert len(writer.text(name, content, schema_of())) == count


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", ""),
        ("a.jsonl", ""),
        ("a.jsonl", '{"id": 1},\n{"id": 2}'),
        ("a.json", '{"data": [{"id": 1}]}'),
        ("a.json", '{"rows": {"id": 1}}'),
        ("a.json", '[{"id": 1} {"id": 2}]'),
        ("a.json", '[{"id": 1},]'),
        ("a.json", '[{"id": 1}'),
        ("a.json", "[1]"),
        ("a.json", '[{"id": 1}]\n[{"id": 2}]'),
        ("a.json", '[{"id": 1}] {"id": 2}'),
        ("a.json", '[{"id": 1}], '),
        ("a.json", '{"rows": [{"id": 1}], "more": [{"id": 2}]}'),
        ("a.json", '\ufeff[{"id": 1}]'),
        ("a.json", '[{"id": 1, "y": ' + "[" * 100_000 + "]" * 100_000 + "}]"),
        ("a.json", '[{"id": ' + "9" * 5000 + "}]"),
        ("a.json", '[{"id": 1, "y": "never ended}]'),
    ],
)
def test_what_is_no_such_json_fails(writer: Writer, name: str, content: str) -> None:
    """R54, R55, R106."""
    with pytest.raises(ImportFileError, match=r"^a\."):
        writer.text(name, content, schema_of())


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", '\ufeff[{"id": 1}]', "a.json must be JSON in UTF-8, without a byte order mark"),
        ("a.jsonl", '{"id": 1}'.encode("utf-16"), "a.jsonl must be JSON in UTF-8, without a byte order mark"),
        ("a.json", '{"id": 1}\n{"id": 2}', "one row a line needs the extension .jsonl"),
        ("a.csv", "id;x\n1;a\n", "a.csv header ['id;x']: value of field 'id' is missing"),
        ("a.csv", "\ufeffid,x\n1,a\n", r"a.csv header ['\ufeffid', 'x']: value of field 'id' is missing"),
    ],
)
def test_the_reason_says_what_the_writer_did(writer: Writer, name: str, content: str | bytes, reason: str) -> None:
    with pytest.raises(ImportFileError, match=re.escape(reason)):
        writer.text(name, content, schema_of())


ARRAY = {"element": "INT64", "max_capacity": 4}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[("INT64", value) for value in ('"5"', "5.0", "true", "9223372036854775808", "1e3")],
        *[("INT8", value) for value in ("128", "-129")],
        *[("BOOL", value) for value in ('"true"', "1", "0")],
        *[("FLOAT", value) for value in ('"1.5"', "1e300", "true", "NaN", "Infinity", "-Infinity")],
        *[("DOUBLE", value) for value in ("1e400", "9" * 400)],
        *[("VARCHAR", value) for value in ("5", "true", "[]")],
        *[("FLOAT_VECTOR", value) for value in ('"[1,2]"', "[1]", "[1, true]", "[1, null]", "[1, 1e39]", "{}")],
        *[("ARRAY", value) for value in ('"[1,2]"', "{}", "[1.0]", '["1"]')],
        *[("JSON", v) for v in ("[1]", "1", '"free text"', '"[1]"', "NaN", '{"a": Infinity}', '{"a": 1e999}')],
        *[("SPARSE_FLOAT_VECTOR", v) for v in ('{"a": 1}', '{"-1": 1}', '{"1": "2"}', '{"1": -2}', "[1]", "{}")],
        ("SPARSE_FLOAT_VECTOR", '{"indices": [1], "values": [1, 2]}'),
        ("SPARSE_FLOAT_VECTOR", '{"4294967295": 1}'),
        ("SPARSE_FLOAT_VECTOR", '{"indices": [1, 1], "values": [1, 2]}'),
        ("SPARSE_FLOAT_VECTOR", '{"1": 1, "01": 2}'),
    ],
)
def test_no_json_value_is_converted(writer: Writer, kind: str, value: str) -> None:
    """R57, R58, R59, R60, R63, R64, R113."""
    with pytest.raises(ImportFileError, match=r"a\.json row 1"):
        writer.raw(value, one(kind, dim=2, **(ARRAY if kind == "ARRAY" else {})))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("INT64", "-9223372036854775808", -(2**63)),
        ("FLOAT", "3", 3.0),
        ("FLOAT_VECTOR", "[1, 2.5]", [1.0, 2.5]),
        ("ARRAY", "[]", []),
        ("JSON", '{"a": [1]}', '{"a": [1]}'),
        ("JSON", '"{\\"a\\": 1}"', '{"a": 1}'),
        ("SPARSE_FLOAT_VECTOR", '{"1": 0.5, "3": 2}', {1: 0.5, 3: 2.0}),
        ("SPARSE_FLOAT_VECTOR", '{"indices": [1, 3], "values": [0.5, 2]}', {1: 0.5, 3: 2.0}),
        ("VARCHAR", '"a\\ud800b\\ud83d\\ude00"', "a\ufffdb\U0001f600"),
    ],
)
def test_json_values(writer: Writer, kind: str, value: str, expected: Any) -> None:
    """R61, R62, R65, R66."""
    assert writer.raw(value, one(kind, dim=2, **(ARRAY if kind == "ARRAY" else {}))) == expected


def test_a_row_longer_than_what_is_read_at_once(writer: Writer) -> None:
    rows = [{"id": number, "x": '\\"ü' * 300_000} for number in range(3)]
    assert writer.text("a.json", json.dumps(rows, ensure_ascii=False), one("VARCHAR")) == rows


# -- CSV ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("comma", "text", "records", "error"), GO["csv"])
def test_csv_is_what_go_reads(comma: str, text: str, records: list[list[str]], error: str) -> None:
    """R67, R68, R69: the records and errors are those of Go 1.19's encoding/csv."""
    found = []
    failed = False
    try:
        found = [cells for _, cells in csv_records(io.StringIO(text, newline="\n"), separator(comma))]
    except BadValue:
        failed = True
    assert failed == bool(error)
    assert failed or found == records


@pytest.mark.parametrize("text", GO["numbers"])
def test_numbers_and_truth_values_are_what_go_parses(text: str) -> None:
    """R75, R77, R78, R79: the values are those of Go 1.19's strconv."""
    for kind, expected in GO["numbers"][text].items():
        try:
            if kind == "bool":
                found: Any = parse_bool(text)
            elif kind.startswith("int"):
                found = None if (whole := parse_int(text)) is None else checked_int(kind.upper(), whole)
            else:
                number = parse_float(text)
                found = None if number is None else checked_float("FLOAT" if kind == "float32" else "DOUBLE", number)
        except BadValue:
            found = None
        assert (found is None) == (expected is None), kind
        if kind != "float32" and kind != "bool" and expected is not None:
            assert found == (float(expected) if kind == "float64" else int(expected))
        if kind == "bool" and expected is not None:
            assert found == (expected == "true")


def test_sep_is_its_first_character(writer: Writer) -> None:
    """R71."""
    assert writer.text("a.csv", "id;x\n1;2\n", one("INT64"), sep=";,") == [{"id": 1, "x": 2}]


def test_a_cell_has_no_length_limit(writer: Writer) -> None:
    """R70."""
    assert len(writer.csv("x" * 300_000, one("VARCHAR"))) == 300_000


def test_a_byte_order_mark_is_part_of_the_first_name(writer: Writer) -> None:
    """R69."""
    with pytest.raises(ImportFileError, match="value of field 'id' is missing"):
        writer.text("a.csv", "\ufeffid\n1\n", schema_of())


def test_the_null_word_counts_for_nullable_and_default_fields_only(writer: Writer) -> None:
    """R73, R74."""
    assert writer.csv("", one("VARCHAR")) == ""
    assert writer.csv("NIL", one("VARCHAR"), nullkey="NIL") == "NIL"
    assert writer.csv("", one("VARCHAR", optional=True), nullkey="NIL") == ""


@pytest.mark.parametrize(
    ("kind", "cell", "expected"),
    [
        ("FLOAT_VECTOR", "[1, 2.5]", [1.0, 2.5]),
        ("ARRAY", "[1, 2]", [1, 2]),
        ("JSON", "[1]", "[1]"),
        ("SPARSE_FLOAT_VECTOR", '{"1": 2}', {1: 2.0}),
        ("BOOL", "True", True),
    ],
)
def test_vectors_arrays_and_json_are_json_text_in_the_cell(writer: Writer, kind: str, cell: str, expected: Any) -> None:
    """R80."""
    assert writer.csv(cell, one(kind, dim=2, **(ARRAY if kind == "ARRAY" else {}))) == expected


@pytest.mark.parametrize(
    ("kind", "cell"),
    [("INT64", " 1"), ("INT64", "5.0"), ("JSON", "x"), ("FLOAT_VECTOR", "1 2"), ("BOOL", "yes"), ("FLOAT", "1e39")],
)
def test_other_cells_fail(writer: Writer, kind: str, cell: str) -> None:
    """R77, R79."""
    with pytest.raises(ImportFileError, match=r"a\.csv row 1: field 'x' "):
        writer.csv(cell, one(kind, dim=2))


def test_the_truth_values_that_pandas_writes(writer: Writer) -> None:
    """R76; those of BulkWriter are in tests/contract/test_bulk_writer.py."""
    import pandas as pd

    written = pd.DataFrame({"id": [1, 2], "x": [True, False]}).to_csv(index=False)
    assert written == "id,x\n1,True\n2,False\n"
    assert [row["x"] for row in writer.text("a.csv", written, one("BOOL"))] == [True, False]


def test_text_that_is_no_utf8_fails_in_csv(writer: Writer) -> None:
    with pytest.raises(ImportFileError, match="field 'x' holds invalid UTF-8"):
        writer.text("a.csv", b"id,x\n1,\xe4\n", one("VARCHAR"))


# -- Parquet ------------------------------------------------------------------------------------------------------

LIST = pa.list_
TAKEN: list[tuple[str, Any]] = [
    *[("INT64", kind()) for kind in (pa.int8, pa.int16, pa.int32, pa.int64)],
    ("INT16", pa.int8()),
    ("BOOL", pa.bool_()),
    *[(kind, arrow()) for kind in ("FLOAT", "DOUBLE") for arrow in (pa.int8, pa.int64, pa.float32, pa.float64)],
    *[("FLOAT_VECTOR", LIST(kind())) for kind in (pa.float32, pa.float64, pa.int8, pa.int64)],
    ("FLOAT_VECTOR", LIST(pa.float32(), 2)),
    ("ARRAY", LIST(pa.int32())),
    ("ARRAY", LIST(pa.int64(), 2)),
]
REFUSED: list[tuple[str, Any, Any]] = [
    ("VARCHAR", pa.large_string(), "a"),
    ("VARCHAR", pa.dictionary(pa.int32(), pa.string()), "a"),
    ("VARCHAR", pa.date32(), 1),
    ("VARCHAR", pa.int64(), 1),
    *[("INT32", kind(), 1) for kind in (pa.int64, pa.uint8, pa.uint32, pa.float32, pa.float64)],
    *[("INT64", kind(), 1) for kind in (pa.uint64, pa.float64)],
    ("INT16", pa.int32(), 1),
    ("INT8", pa.int16(), 1),
    ("INT64", pa.bool_(), True),
    ("FLOAT", pa.float16(), np.float16(1)),
    ("FLOAT", pa.bool_(), True),
    ("BOOL", pa.int8(), 1),
    ("FLOAT_VECTOR", pa.string(), "[1, 2]"),
    ("FLOAT_VECTOR", LIST(pa.float16()), [np.float16(1), np.float16(2)]),
    ("ARRAY", LIST(pa.float64()), [1.0]),
    ("JSON", pa.struct([("a", pa.int64())]), {"a": 1}),
    ("VARCHAR", pa.string_view(), "a"),
    ("FLOAT_VECTOR", pa.large_list(pa.float32()), [1, 2]),
    ("ARRAY", pa.large_list(pa.int64()), [1, 2]),
    ("JSON", pa.json_(pa.string()), "{}"),
    ("SPARSE_FLOAT_VECTOR", pa.struct([("a", pa.int64())]), {"a": 1}),
    *[
        ("SPARSE_FLOAT_VECTOR", pa.struct([("indices", LIST(i)), ("values", LIST(v))]), {"indices": [1], "values": [2]})
        for i, v in ((pa.int16(), pa.float32()), (pa.uint8(), pa.float32()), (pa.uint32(), pa.int64()))
    ],
    ("FLOAT_VECTOR", pa.null(), None),
]


@pytest.mark.parametrize(("kind", "arrow"), TAKEN, ids=str)
def test_a_column_that_widens(writer: Writer, kind: str, arrow: Any) -> None:
    """R82, R84, R87, R88, R89, R90, R107."""
    is_list = kind in ("ARRAY", "FLOAT_VECTOR")
    value: Any = [1, 2] if is_list else {"BOOL": True, "VARCHAR": "a"}.get(kind, 1)
    options = ARRAY if kind == "ARRAY" else {"dim": 2}
    assert writer.parquet(pa.array([value], arrow), one(kind, **options)) == [value]


@pytest.mark.parametrize(("kind", "arrow", "value"), REFUSED, ids=str)
def test_a_column_of_another_type(writer: Writer, kind: str, arrow: Any, value: Any) -> None:
    """R82, R85, R86, R87, R89, R90, R91, R92, R107, R108."""
    with pytest.raises(ImportFileError, match=r"a\.parquet: field 'x' of type .* does not accept a column of type"):
        writer.parquet(pa.array([value], arrow), one(kind, dim=2, **(ARRAY if kind == "ARRAY" else {})))


@pytest.mark.parametrize("kind", ["INT8", "DOUBLE", "BOOL", "VARCHAR", "JSON", "ARRAY", "FLOAT_VECTOR"])
def test_a_column_of_nulls_alone_has_no_type(writer: Writer, kind: str) -> None:
    """R108."""
    options = ARRAY if kind == "ARRAY" else {"dim": 2}
    assert writer.parquet(pa.nulls(2), one(kind, optional=True, **options)) == [None, None]


@pytest.mark.parametrize(("kind", "options"), [("FLOAT_VECTOR", {"dim": 2}), ("ARRAY", ARRAY)])
def test_a_list_of_a_fixed_size_is_for_newer_servers(writer: Writer, kind: str, options: Any) -> None:
    """R109."""
    path = writer.folder / "fixed.parquet"
    array = pa.array([[1, 2]], LIST(pa.int64(), 2))
    pq.write_table(pa.table({"id": pa.array([1], pa.int64()), "x": array}), path)
    assert read(path, one(kind, **options)) == [{"id": 1, "x": [1, 2]}]
    with pytest.raises(ImportFileError, match="does not accept a column of type fixed_size_list"):
        read(path, one(kind, **options), "2.5")


def test_the_index_that_pandas_writes_is_ignored(writer: Writer) -> None:
    """R42."""
    import pandas as pd

    path = writer.folder / "pandas.parquet"
    pd.DataFrame({"id": [1, 2]}, index=[7, 9]).to_parquet(path)
    assert pq.read_schema(path).names == ["id", "__index_level_0__"]
    for schema in (schema_of(), DYNAMIC):
        assert read(path, schema) == [{"id": 1}, {"id": 2}]


def test_what_pandas_writes_for_text_by_default_fails(writer: Writer) -> None:
    """R83."""
    import pandas as pd

    path = writer.folder / "pandas.parquet"
    pd.DataFrame({"id": [1], "x": ["a"]}).to_parquet(path)
    assert str(pq.read_schema(path).field("x").type) == "large_string", "pandas 3"
    with pytest.raises(ImportFileError, match=r"does not accept a column of type large_string; it accepts string$"):
        read(path, one("VARCHAR"))


def test_json_and_sparse_columns(writer: Writer) -> None:
    """R91, R92."""
    assert writer.parquet(pa.array(['{"a":1}', "[1]"], pa.string()), one("JSON")) == ['{"a": 1}', "[1]"]
    sparse = one("SPARSE_FLOAT_VECTOR")
    assert writer.parquet(pa.array(['{"1": 2}'], pa.string()), sparse) == [{1: 2.0}]
    struct = pa.struct([("indices", LIST(pa.uint32())), ("values", LIST(pa.float32()))])
    assert writer.parquet(pa.array([{"indices": [1], "values": [2.0]}], struct), sparse) == [{1: 2.0}]


@pytest.mark.parametrize(
    ("kind", "arrow", "values"),
    [
        ("FLOAT", pa.float64(), [1.0, 1e39]),
        ("DOUBLE", pa.float64(), [1.0, float("nan")]),
        ("FLOAT_VECTOR", LIST(pa.float32()), [[1.0, 2.0], [1.0]]),
        ("FLOAT_VECTOR", LIST(pa.float64()), [[1.0, 2.0], [1e39, 1.0]]),
        ("FLOAT_VECTOR", LIST(pa.float32()), [[1.0, 2.0], [1.0, None]]),
        ("FLOAT_VECTOR", LIST(pa.float32(), 2), [[1.0, 2.0], [1.0, float("inf")]]),
        ("JSON", pa.string(), ["{}", "x"]),
    ],
)
def test_a_bad_value_of_a_good_column_is_named(writer: Writer, kind: str, arrow: Any, values: list[Any]) -> None:
    with pytest.raises(ImportFileError, match=r"a\.parquet row 2: field 'x' "):
        writer.parquet(pa.array(values, arrow), one(kind, dim=2))


def test_null_vectors_of_a_nullable_field_are_null(writer: Writer) -> None:
    array = pa.array([[1.0, 2.0], None], LIST(pa.float32()))
    assert writer.parquet(array, one("FLOAT_VECTOR", dim=2, optional=True)) == [[1.0, 2.0], None]


# -- NumPy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("INT64", np.array([1], np.int32)),
        ("INT32", np.array([1], np.int64)),
        ("INT64", np.array([1], np.uint64)),
        ("FLOAT", np.array([1], np.float64)),
        ("DOUBLE", np.array([1], np.float32)),
        ("BOOL", np.array([1], np.int8)),
        ("FLOAT_VECTOR", np.array([[1, 2]])),
        ("FLOAT_VECTOR", np.array(["[1, 2]"])),
        ("FLOAT_VECTOR", np.array([1.0, 2.0], np.float32)),
        ("FLOAT_VECTOR", np.array([[1.0]], np.float32)),
        ("FLOAT_VECTOR", np.array([[1.0, 1e39]])),
        ("VARCHAR", np.array(["a"], object)),
        ("VARCHAR", np.array([1])),
        ("INT64", np.array([[1]])),
        ("INT64", np.array([1, 2])[:0]),
        ("INT64", np.array([1, 2])),
        ("ARRAY", np.array([[1, 2]])),
        ("DOUBLE", np.array([np.nan])),
    ],
    ids=str,
)
def test_dtypes_match_exactly(writer: Writer, kind: str, array: Any) -> None:
    """R94, R95, R96, R97."""
    paths = [writer.folder / "id.npy", writer.folder / "x.npy"]
    np.save(paths[0], np.array([1]))
    np.save(paths[1], array)
    with pytest.raises(ImportFileError, match=r"x\.npy|differ in rows"):
        list(read_rows(paths, one(kind, dim=2), {}))


@pytest.mark.parametrize(
    ("kind", "array", "expected"),
    [
        ("FLOAT_VECTOR", np.array([[1.0, 2.0]], np.float32), [1.0, 2.0]),
        ("FLOAT_VECTOR", np.array([[1.0, 2.0]], np.float64), [1.0, 2.0]),
        ("VARCHAR", np.array(["ä"]), "ä"),
        ("VARCHAR", np.array([b"a"]), "a"),
        ("VARCHAR", np.array([b"a\0b"]), "a"),
        ("VARCHAR", np.array([b""], "S3"), "\0\0\0"),
        ("VARCHAR", np.array(["a\0b"]), "ab"),
        ("VARCHAR", np.array([""], "U3"), ""),
        ("INT64", np.array([1], ">i8"), 1),
        ("JSON", np.array(['{"a": 1}']), '{"a": 1}'),
        ("BOOL", np.array([True]), True),
    ],
    ids=str,
)
def test_numpy_values(writer: Writer, kind: str, array: Any, expected: Any) -> None:
    """R93, R96, R97, R110."""
    assert writer.numpy(array, one(kind, dim=2)) == [{"id": 0, "x": expected}]


def test_vectors_in_fortran_order_fail(writer: Writer) -> None:
    """R111."""
    array = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    with pytest.raises(ImportFileError, match=r"x\.npy: field 'x' is in Fortran order, in which Milvus reads wrong"):
        writer.numpy(np.asfortranarray(array), one("FLOAT_VECTOR", dim=2))
    one_column = np.asfortranarray(array[:, :1])
    assert [row["x"] for row in writer.numpy(one_column, one("FLOAT_VECTOR", dim=1))] == [[1.0], [3.0]]


@pytest.mark.parametrize(("version", "is_read"), [((1, 0), True), ((2, 0), True), ((3, 0), False)])
def test_milvus_knows_two_file_formats(writer: Writer, version: tuple[int, int], is_read: bool) -> None:
    """R112."""
    path = writer.folder / "id.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.array([5]), version)
    if is_read:
        assert read(path, schema_of()) == [{"id": 5}]
        return
    with pytest.raises(ImportFileError, match=r"id\.npy has NumPy's file format 3, of which Milvus reads 1 and 2"):
        read(path, schema_of())


def test_a_meta_file_counts_and_a_missing_field_fails(writer: Writer) -> None:
    """R98, R100."""
    assert writer.numpy(np.array(['{"a": 1}']), DYNAMIC, "$meta") == [{"id": 0, "a": 1}]
    with pytest.raises(ImportFileError, match="value of field 'x' is missing"):
        writer.numpy(np.array([1]), one("INT64"), "y")


# -- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_a_file_is_not_held_as_a_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text = "x" * 1000
    with path.open("w") as file:
        file.write({"a.json": "[", "a.jsonl": "", "a.csv": "id,x\n"}[name])
        for number in range(20_000):
            row = f'{{"id": {number}, "x": "{text}"}}'
            file.write(
                {"a.json": f"{',' * (number > 0)}{row}", "a.jsonl": f"{row}\n", "a.csv": f"{number},{text}\n"}[name]
            )
        file.write("]" * (name == "a.json"))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows([path], one("VARCHAR"), {})) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20 < path.stat().st_size
    finally:
        tracemalloc.stop()
