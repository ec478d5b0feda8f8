"""The part of Google Cloud Storage's XML protocol that lifeboat uses, in memory, for tests.

No emulator that can be installed from a package registry speaks it. It enforces what lifeboat relies on: creation only
if absent (x-goog-if-generation-match: 0), parts of at least 5 MiB but for the last, completion with the parts' own tags,
pages of a listing. It looks at no signature and no token.
"""

import hashlib
import itertools
import re
import sys
import threading
import time
import urllib.parse
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

LEAST_PART = 5 << 20
PAGE = 1000


class Store:
    def __init__(self):
        self.lock = threading.Lock()
        self.buckets = {}  # name -> {key: (bytes, tag, generation, time)}
        self.uploads = {}  # id -> (bucket, key, {number: (bytes, tag)})
        self.numbers = itertools.count(1)


STORE = Store()


def tag(data):
    return '"%s"' % hashlib.md5(data).hexdigest()


def iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%03dZ" % (seconds % 1 * 1000)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Heads and bodies in one packet: else each answer waits for the client's acknowledgement.
    wbufsize = 1 << 16

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fault(self, status, code):
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self.answer(status, body.encode(), [("Content-Type", "application/xml")])

    def parse(self):
        path, _, query = self.path.partition("?")
        bucket, _, key = path.lstrip("/").partition("/")
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        return urllib.parse.unquote(bucket), urllib.parse.unquote(key), query

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_any(self):
        data = self.body()
        bucket, key, query = self.parse()
        with STORE.lock:
            if not key and self.command == "PUT":
                STORE.buckets.setdefault(bucket, {})
                return self.answer(200)
            objects = STORE.buckets.get(bucket)
            if objects is None:
                return self.fault(404, "NoSuchBucket")
            if not key:
                if self.command == "DELETE":
                    del STORE.buckets[bucket]
                    return self.answer(204)
                if "uploads" in query:
                    return self.list_uploads(bucket)
                return self.list_objects(bucket, objects, query)
            return self.object(bucket, objects, key, query, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def object(self, bucket, objects, key, query, data):
        if self.command == "POST" and "uploads" in query:
            upload = "upload-%d" % next(STORE.numbers)
            STORE.uploads[upload] = (bucket, key, {})
            body = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, body.encode())
        if "uploadId" in query:
            return self.part(objects, key, query, data)
        if self.command == "PUT":
            # The second is what S3 calls it: the benchmark uses this as a fast server of S3's protocol, unsigned.
            only_new = (self.headers.get("x-goog-if-generation-match"), self.headers.get("If-None-Match"))
            if ("0" in only_new or "*" in only_new) and key in objects:
                return self.fault(412, "PreconditionFailed")
            return self.stored(objects, key, data)
        if key not in objects:
            return self.fault(404, "NoSuchKey")
        if self.command == "DELETE":
            del objects[key]
            return self.answer(204)
        return self.read(objects[key])

    def stored(self, objects, key, data):
        objects[key] = (data, tag(data), next(STORE.numbers), time.time())
        return self.answer(200, b"", [("ETag", objects[key][1]), ("x-goog-generation", str(objects[key][2]))])

    def part(self, objects, key, query, data):
        upload = query["uploadId"]
        if upload not in STORE.uploads or STORE.uploads[upload][1] != key:
            return self.fault(404, "NoSuchUpload")
        parts = STORE.uploads[upload][2]
        if self.command == "DELETE":
            del STORE.uploads[upload]
            return self.answer(204)
        if self.command == "PUT":
            number = int(query["partNumber"])
            parts[number] = (data, tag(data))
            return self.answer(200, b"", [("ETag", parts[number][1])])
        text = data.decode()
        wanted = [
            (int(re.search(r"<PartNumber>(\d+)", one).group(1)), re.search(r"<ETag>(.*?)</ETag>", one).group(1))
            for one in re.findall(r"<Part>(.*?)</Part>", text, re.S)
        ]
        if not wanted or any(parts.get(number, (b"", ""))[1] != named for number, named in wanted):
            return self.fault(400, "InvalidPart")
        if any(len(parts[number][0]) < LEAST_PART for number, _ in wanted[:-1]):
            return self.fault(400, "EntityTooSmall")
        whole = b"".join(parts[number][0] for number, _ in wanted)
        del STORE.uploads[upload]
        objects[key] = (whole, tag(whole), next(STORE.numbers), time.time())
        body = f"<CompleteMultipartUploadResult><ETag>{objects[key][1]}</ETag></CompleteMultipartUploadResult>"
        return self.answer(200, body.encode(), [("x-goog-generation", str(objects[key][2]))])

    def read(self, stored):
        data, named, generation, when = stored
        headers = [
            ("ETag", named),
            ("x-goog-generation", str(generation)),
            ("Last-Modified", formatdate(when, usegmt=True)),
            ("Accept-Ranges", "bytes"),
        ]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            return self.answer(200, data, headers)
        first = int(asked.group(1))
        last = min(int(asked.group(2) or len(data) - 1), len(data) - 1)
        if first > last:
            return self.fault(416, "InvalidRange")
        headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
        return self.answer(206, data[first : last + 1], headers)

    def list_uploads(self, bucket):
        keys = [key for name, key, _ in STORE.uploads.values() if name == bucket]
        body = "".join(f"<Upload><Key>{escape(key)}</Key></Upload>" for key in keys)
        return self.answer(200, f"<ListMultipartUploadsResult>{body}</ListMultipartUploadsResult>".encode())

    def list_objects(self, bucket, objects, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        shown, folders, last = [], [], ""
        for key in sorted(objects):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            name = prefix + rest.split(delimiter)[0] + delimiter if delimiter and delimiter in rest else key
            if name <= after or (folders and folders[-1] == name):
                continue
            if len(shown) + len(folders) == int(query.get("max-keys", PAGE)):
                break
            last = name
            (folders if name != key else shown).append(name)
        else:
            last = ""
        body = ["<ListBucketResult>"]
        for key in shown:
            data, named, generation, when = objects[key]
            body.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><LastModified>{iso(when)}</LastModified>"
                f"<ETag>{named}</ETag><Generation>{generation}</Generation></Contents>"
            )
        body += [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders]
        if last:
            body.append(f"<NextContinuationToken>{escape(last)}</NextContinuationToken>")
        body.append("</ListBucketResult>")
        return self.answer(200, "".join(body).encode(), [("Content-Type", "application/xml")])


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
