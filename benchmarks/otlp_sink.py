"""A collector that takes spans and keeps none, so that tracing has somebody to send to.

python -m benchmarks.otlp_sink: prints its address, then, once stopped, how many requests came.
"""

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink(ThreadingHTTPServer):
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Sink
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Nothing: the count tells."""


def main() -> None:
    with Sink(("127.0.0.1", 0), Handler) as sink:
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{sink.server_address[1]}", flush=True)
        stopped.wait()
        sink.shutdown()
        print(json.dumps({"requests": sink.requests}), flush=True)


if __name__ == "__main__":
    main()
