"""A slow way to a server of S3's protocol, and the plain way of sending something there."""

import http.client
import os
import re
import socket
import threading
import time
import urllib.parse
import xml.etree.ElementTree as xml

LATENCY = 0.030  # seconds that each answer is late
RATE = 20_000_000  # bytes that one connection takes a second
PART = 5 << 20

# Not moto, which takes 54 MB/s and half a minute to put a gigabyte together.
ENDPOINT = os.environ.get("LIFEBOAT_LAB_GCS", "http://127.0.0.1:15753")
BUCKET = "lifeboat-tests"


class Shaper:
    """Between a client and the server: every connection has its own rate, every answer comes late."""

    def __init__(self):
        self.upstream = urllib.parse.urlsplit(ENDPOINT)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection((self.upstream.hostname, self.upstream.port))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.up, args=(client, server), daemon=True).start()
            threading.Thread(target=self.down, args=(server, client), daemon=True).start()

    @staticmethod
    def up(source, sink):
        due = time.monotonic()
        try:
            while data := source.recv(128 * 1024):
                # No credit for idle time: a connection is never faster than its rate.
                due = max(due, time.monotonic()) + len(data) / RATE
                time.sleep(max(0, due - time.monotonic()))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    @staticmethod
    def down(source, sink):
        try:
            while data := source.recv(128 * 1024):
                time.sleep(LATENCY)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def request(connection, method, path, body=b""):
    connection.request(method, path, body, {"Content-Length": str(len(body))})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
    return answer, text


def one_stream(url, file, key):
    """Sends a file as parts of 5 MiB, one after another over one connection; says how long it took."""
    begun = time.monotonic()
    at = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port)
    path = f"/{BUCKET}/{key}"
    _, text = request(connection, "POST", f"{path}?uploads")
    upload = re.search(rb"<UploadId>(.*?)</UploadId>", text).group(1).decode()
    tags = []
    with open(file, "rb") as source:
        while part := source.read(PART):
            number = len(tags) + 1
            answer, _ = request(connection, "PUT", f"{path}?partNumber={number}&uploadId={upload}", part)
            tags.append(answer.headers["ETag"])
    parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in enumerate(tags, 1))
    whole = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    request(connection, "POST", f"{path}?uploadId={upload}", whole)
    return time.monotonic() - begun


def remove(prefix):
    """Removes everything below a prefix, straight at the server."""
    at = urllib.parse.urlsplit(ENDPOINT)
    connection = http.client.HTTPConnection(at.hostname, at.port)
    _, text = request(connection, "GET", f"/{BUCKET}?list-type=2&prefix={prefix}")
    for found in xml.fromstring(text).iter("Key"):
        request(connection, "DELETE", f"/{BUCKET}/{urllib.parse.quote(found.text)}")
