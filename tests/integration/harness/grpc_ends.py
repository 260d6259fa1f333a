"""gRPC ends by grpcio, with messages that are plain bytes: no protoc, no generated code."""

import concurrent.futures

import grpc

from harness.limits import within
from ports import free_port

MESSAGES_MAX = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
THREADS_MAX = 128
KINDS = {"unary": grpc.unary_unary_rpc_method_handler,
         "server stream": grpc.unary_stream_rpc_method_handler,
         "client stream": grpc.stream_unary_rpc_method_handler,
         "bidirectional": grpc.stream_stream_rpc_method_handler}
UNARY, SERVER_STREAM, CLIENT_STREAM, BIDIRECTIONAL = KINDS


class GrpcOrigin(grpc.GenericRpcHandler):
    """Serves `function(request, context)` under a method's path, on a port of its own."""

    def __init__(self, credentials=None):
        self.credentials, self.methods = credentials, {}
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.server = None
        self.start()

    def start(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(THREADS_MAX)
        self.server = grpc.server(self.pool, handlers=[self],
                                  options=[*MESSAGES_MAX, ("grpc.so_reuseport", 0)])
        if self.credentials:
            bound = self.server.add_secure_port(self.address, self.credentials)
        else:
            bound = self.server.add_insecure_port(self.address)
        assert bound == self.port
        self.server.start()

    def method(self, kind, path, function):
        self.methods[path] = KINDS[kind](function)

    def service(self, details):
        return self.methods.get(details.method)

    def stop(self):
        if self.server is not None:
            self.server.stop(0).wait(within(10))
            self.pool.shutdown(wait=False)
        self.server = None


def open_channel(port, root_pem=None, name="example.test"):
    """A connection of its own to `name` through `port`; TLS where it is given a root."""
    options = [*MESSAGES_MAX, ("grpc.default_authority", name),
               ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0),
               ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
               ("grpc.max_reconnect_backoff_ms", 200), ("grpc.enable_retries", 0)]
    address = f"127.0.0.1:{port}"
    if root_pem is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(root_pem.encode()),
                               [*options, ("grpc.ssl_target_name_override", name)])
