"""A real server of the V2 protocol over gRPC, with the messages of Triton's own client: it answers with the sum.

A request for another model, or of another shape, is refused as real servers refuse it; the queue of version 9 is full.
"""

from __future__ import annotations

import argparse
import time
from concurrent import futures
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Sums(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # it comes without types
    def __init__(self, service_ms: float) -> None:
        self.service_s = service_ms / 1e3

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 (the protocol's name)
        if request.model_name != "sums":
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_name}")
        if request.model_version == "9":
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        [tensor] = request.inputs
        values = np.frombuffer(request.raw_input_contents[0], dtype="<f4")
        if tensor.datatype != "FP32" or list(tensor.shape) != [1, 4] or len(values) != 4:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the shape is [1, 4]")
        time.sleep(self.service_s)
        answer = service_pb2.ModelInferResponse(model_name="sums")
        answer.outputs.add(name="sum", datatype="FP32", shape=[1])
        answer.raw_output_contents.append(np.float32(values.sum()).tobytes())
        return answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--service-ms", type=float, default=5.0)
    options = parser.parse_args()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Sums(options.service_ms), server)
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
