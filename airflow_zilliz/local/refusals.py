"""The refusals of requests."""

from __future__ import annotations


class Refusal(Exception):
    """An error response: a code and a message, on Milvus and Zilliz Cloud mostly under HTTP 200."""

    def __init__(self, code: int, message: str, *, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def import_failed(message: str) -> Refusal:
    """Return a refusal of the import itself, in Milvus's words."""
    return Refusal(2100, f"{message}: importing data failed")


def not_json(what: str) -> Refusal:
    """Return the refusal of a body that is not JSON, or has a wrong type for a text, a number or a list."""
    return Refusal(1801, f"can only accept json format request, error: {what}")


def missing(name: str) -> Refusal:
    """Return the refusal of a body that lacks a required field."""
    return Refusal(1802, f"missing required parameters, error: Key: '{name}' is required")


def database_not_found(database: str) -> Refusal:
    """Return the refusal of a missing database."""
    return Refusal(800, f"database not found[database={database}]")


def collection_not_found(database: str, collection: str) -> Refusal:
    """Return the refusal of a missing collection."""
    return Refusal(100, f"collection not found[database={database}][collection={collection}]")
