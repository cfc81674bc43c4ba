"""A gRPC server that takes any upsert, and answers any scroll with the same points.

It does nothing with what comes, so that what a client takes to ask is seen alone.
``python benchmarks/null_qdrant.py DIMENSION`` prints its port and serves until its input ends.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import grpc
import numpy as np
from qdrant_client import grpc as messages

PAYLOAD = {"text": "some three hundred characters of text. " * 8, "group": 3}
_TAKEN = messages.PointsOperationResponse(
    result=messages.UpdateResult(operation_id=1, status=messages.UpdateStatus.Completed)
).SerializeToString()
_ENDLESS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@cache
def page(count: int, dimension: int, whole: bool = True) -> bytes:
    """A page of points with vectors and payloads, or of their ids alone."""
    vector = np.random.default_rng(0).standard_normal(dimension, dtype=np.float32).tolist()
    payload = {
        "text": messages.Value(string_value=PAYLOAD["text"]),
        "group": messages.Value(integer_value=PAYLOAD["group"]),
    }
    point = messages.RetrievedPoint(
        id=messages.PointId(num=1),
        payload=payload,
        vectors=messages.VectorsOutput(
            vector=messages.VectorOutput(dense=messages.DenseVector(data=vector))
        ),
    )
    if not whole:
        point = messages.RetrievedPoint(id=messages.PointId(num=1))
    response = messages.ScrollResponse(result=[point] * count)
    response.next_page_offset.num = 1
    return response.SerializeToString()


class Null(grpc.GenericRpcHandler):
    """Answers Upsert and Scroll."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    def service(self, details: Any) -> Any:
        if details.method.endswith("/Upsert"):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: _TAKEN)
        if details.method.endswith("/Scroll"):
            return grpc.unary_unary_rpc_method_handler(self._scroll)
        return None

    def _scroll(self, request: bytes, context: Any) -> bytes:
        asked = messages.ScrollPoints.FromString(request)
        return page(asked.limit, self._dimension, asked.with_payload.enable)


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(4), options=_ENDLESS)
    server.add_generic_rpc_handlers([Null(int(sys.argv[1]))])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)
