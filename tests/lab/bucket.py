"""Makes the tests' bucket in each store: bucket.py S3_PORT AZURE_PORT GCS_PORT NAME."""

import base64
import datetime
import hashlib
import hmac
import sys
import urllib.error
import urllib.request

# Azurite's account and key, which are the same everywhere and no secret.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def put(url, headers=()):
    request = urllib.request.Request(url, method="PUT", headers={"Content-Length": "0", **dict(headers)})
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        # 409: it is there already.
        if error.code != 409:
            raise


def main(s3, azure, gcs, name):
    put(f"http://127.0.0.1:{s3}/{name}")
    put(f"http://127.0.0.1:{gcs}/{name}")
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
    lines = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    text = "PUT" + "\n" * 12 + f"{lines}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
    put(f"http://127.0.0.1:{azure}/{ACCOUNT}/{name}?restype=container", headers)


main(*sys.argv[1:])
