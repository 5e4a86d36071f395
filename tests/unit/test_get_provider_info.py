from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import airflow
import jsonschema
import pytest
from packaging.version import Version

from airflow_zilliz import __version__
from airflow_zilliz._transport.connection_fields import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_zilliz.get_provider_info import get_provider_info
from airflow_zilliz.hooks import ZillizHook

CORE = Path(airflow.__file__).parent
AIRFLOW = Version(metadata.version("apache-airflow"))


def test_the_entry_point_leads_here() -> None:
    (entry,) = [e for e in metadata.entry_points(group="apache_airflow_provider") if "zilliz" in e.value]
    assert entry.value == "airflow_zilliz.get_provider_info:get_provider_info"
    assert entry.load()() == get_provider_info()


def test_the_info_fits_what_airflow_reads_at_run_time() -> None:
    schema = json.loads((CORE / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.skipif(Version("3.2") > AIRFLOW, reason="fields in the provider info came with 3.2")
def test_the_form_fits_airflow_s_strict_schema() -> None:
    schema = json.loads((CORE / "provider.yaml.schema.json").read_text())
    properties = schema["properties"]["connection-types"]["items"]["properties"]
    jsonschema.validate(CONN_FIELDS, {**properties["conn-fields"], "definitions": schema.get("definitions", {})})
    jsonschema.validate(UI_FIELD_BEHAVIOUR, properties["ui-field-behaviour"])


def test_no_field_is_mandatory_and_none_has_a_default() -> None:
    for spec in CONN_FIELDS.values():
        assert "null" in spec["schema"]["type"]
        assert "default" not in spec["schema"]


def test_both_forms_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Field:
        def __init__(self, label: str, description: str, widget: object) -> None:
            self.label, self.description = label, description

    wtforms = type(sys)("wtforms")
    widgets = type(sys)("flask_appbuilder.fieldwidgets")
    wtforms.StringField = Field  # type: ignore[attr-defined] # a stand-in where wtforms is not installed
    widgets.BS3TextFieldWidget = object  # type: ignore[attr-defined] # likewise
    monkeypatch.setitem(sys.modules, "wtforms", wtforms)
    monkeypatch.setitem(sys.modules, "flask_appbuilder", type(sys)("flask_appbuilder"))
    monkeypatch.setitem(sys.modules, "flask_appbuilder.fieldwidgets", widgets)
    shown = {name: (f.label, f.description) for name, f in ZillizHook.get_connection_form_widgets().items()}
    assert shown == {name: (spec["label"], spec["description"]) for name, spec in CONN_FIELDS.items()}
    assert ZillizHook.get_ui_field_behaviour() == {
        "hidden_fields": UI_FIELD_BEHAVIOUR["hidden-fields"],
        "relabeling": UI_FIELD_BEHAVIOUR["relabeling"],
        "placeholders": UI_FIELD_BEHAVIOUR["placeholders"],
    }


def test_airflow_shows_the_form() -> None:
    """The provider manager is what both the old and the new UI ask."""
    if Version("3.2") > AIRFLOW:
        pytest.importorskip("flask_appbuilder", reason="before 3.2 the form needs the FAB provider, which 3.x lacks")
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert "zilliz" in manager.hooks
    widgets = {name: info for name, info in manager.connection_form_widgets.items() if "zilliz" in name}
    assert {name.removeprefix("extra__zilliz__") for name in widgets} == set(CONN_FIELDS)
    assert manager.field_behaviours["zilliz"]["relabeling"]["password"] == "API key or Milvus password"
    hook = manager.hooks["zilliz"]
    assert hook is not None
    assert hook.connection_type == "zilliz"


def test_every_module_that_is_named_is_there() -> None:
    info = get_provider_info()
    for kind in ("hooks", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                assert importlib.import_module(module)


def test_the_public_names() -> None:
    for module, names in {
        "hooks": ["ZillizHook"],
        "sensors": ["ZillizImportSensor"],
        "triggers": ["ZillizImportTrigger"],
        "api": ["ImportProgress", "FileProgress", "ImportState"],
        "exceptions": [
            "ZillizError",
            "ZillizApiError",
            "ZillizAuthError",
            "ZillizJobNotFound",
            "ZillizUnavailable",
            "ZillizImportFailed",
        ],
    }.items():
        for name in names:
            assert hasattr(importlib.import_module(f"airflow_zilliz.{module}"), name)


def test_asking_for_the_info_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import airflow_zilliz.get_provider_info as p; p.get_provider_info();"
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('airflow_zilliz')))"
    )
    added = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"'(airflow|requests|aiohttp)\b", added) == []


def test_the_sensor_s_import_is_cheap() -> None:
    bench = Path(__file__).parents[2] / "benchmarks" / "bench_import.py"
    result = subprocess.run([sys.executable, str(bench)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_changelog_knows_this_version() -> None:
    assert f"## {__version__}" in (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
