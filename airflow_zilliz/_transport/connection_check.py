"""What the connection's Test button asks, and what it says to the person who pressed it."""

from __future__ import annotations

from airflow_zilliz._protocol import constants
from airflow_zilliz._protocol.request import Exchange, Request
from airflow_zilliz._protocol.responses import Response, payload
from airflow_zilliz._protocol.target import database_header
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizError


def check(endpoint: Endpoint) -> Exchange[str]:
    """Ask for the shortest list of jobs, the call that waiting needs most, and return what is to be said.

    :raises ZillizError: with a message for the person who filled in the form
    """
    target = endpoint.target
    needs_place = endpoint.is_cloud and not (target.cluster_id or target.project_id)
    if needs_place:
        request = Request(f"{constants.CLUSTERS}?pageSize=10&currentPage=1")
    else:
        request = Request(constants.LIST, {**target.ids(), "pageSize": 1, "currentPage": 1}, database_header(target))
    answer = yield request
    try:
        data = payload(answer)
    except ZillizError as err:
        raise _in_words(endpoint, answer, err) from None
    where = endpoint.base_url + (f" (through the proxy {answer.proxy})" if answer.proxy else "")
    if not needs_place:
        return f"{where} answers import calls{f' for {target}' if str(target) else ''}, and the key is accepted."
    count = data.get("count") if isinstance(data, dict) else None
    return (
        f"{where} accepts the key, which sees {count if isinstance(count, int) else 'its'} clusters. The connection "
        "names no cluster_id and no project_id with region_id, so each task has to."
    )


def _in_words(endpoint: Endpoint, answer: Response, err: ZillizError) -> ZillizError:
    """Return the error with what to do about it, where its code says more than its class."""
    code = getattr(err, "code", None)
    place = str(endpoint.target) or "the cluster"
    if code in constants.UNKNOWN_CLUSTER_CODES or code in constants.NO_CLUSTER_RIGHT_CODES:
        advice = f"The key was read, but {place} is unknown to it: check the id, and whether the key may use it"
    elif code in constants.WRONG_REGION_CODES:
        advice = f"{place} is not in the region that was asked: check the endpoint and region_id"
    elif isinstance(err, ZillizAuthError) and answer.status != 403:
        if endpoint.token:
            hint = "for Zilliz Cloud the API key alone, for Milvus login and password"
            advice = f"The key was refused: check it, and that it belongs to {endpoint.base_url} ({hint})"
        else:
            advice = "The server wants a key, and the connection has none: fill in the password"
    elif isinstance(err, ZillizAuthError):
        advice = f"The key is known, but has no right to imports of {place}"
    else:
        return err
    return ZillizApiError(f"{advice}. {err}")
