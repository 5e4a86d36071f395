"""The request of the connection's Test button, and the verdict for the person who pressed it."""

from __future__ import annotations

from airflow_zilliz._protocol import constants
from airflow_zilliz._protocol.request import Exchange, Request
from airflow_zilliz._protocol.responses import Response, payload
from airflow_zilliz._protocol.target import database_header
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizError


def check(endpoint: Endpoint) -> Exchange[str]:
    """Request the shortest list of jobs, the call that waits need most, and return the verdict.

    :raises ZillizError: with a message for the person who filled in the form
    """
    target = endpoint.target
    needs_place = endpoint.is_cloud and not (target.cluster_id or target.project_id)
    if needs_place:
        request = Request(f"{constants.CLUSTERS}?pageSize=10&currentPage=1")
    else:
        request = Request(constants.LIST, {**target.ids(), "pageSize": 1, "currentPage": 1}, database_header(target))
    response = yield request
    try:
        data = payload(response)
    except ZillizError as err:
        raise _in_words(endpoint, response, err) from None
    where = endpoint.base_url + (f" (through the proxy {response.proxy})" if response.proxy else "")
    if not needs_place:
        return f"{where} responds to import calls{f' for {target}' if str(target) else ''}, and the key is accepted."
    count = data.get("count") if isinstance(data, dict) else None
    return (
        f"{where} accepts the key, which sees {count if isinstance(count, int) else 'its'} clusters. The connection "
        "names no cluster_id and no project_id with region_id, so each task has to."
    )


def _in_words(endpoint: Endpoint, response: Response, err: ZillizError) -> ZillizError:
    """Return the error with advice, if its code says more than its class."""
    code = getattr(err, "code", None)
    place = str(endpoint.target) or "the cluster"
    if code in constants.UNKNOWN_CLUSTER_CODES or code in constants.NO_CLUSTER_RIGHT_CODES:
        advice = f"The key was recognised, but {place} is unknown to it: check the id, and whether the key may use it"
    elif code in constants.WRONG_REGION_CODES:
        advice = f"{place} is not in the region of the request: check the endpoint and region_id"
    elif isinstance(err, ZillizAuthError) and response.status != 403:
        if endpoint.token:
            hint = "for Zilliz Cloud the API key alone, for Milvus login and password"
            advice = f"The key was refused: check it, and that it belongs to {endpoint.base_url} ({hint})"
        else:
            advice = "The server requires a key, and the connection has none: fill in the password"
    elif isinstance(err, ZillizAuthError):
        advice = f"The key is known, but has no right to imports of {place}"
    else:
        return err
    return ZillizApiError(f"{advice}. {err}")
