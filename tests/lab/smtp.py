"""A mail server on loopback for the tests: takes mail, and writes down what it was told.

smtp.py FOLDER MODE, where MODE is plain (no TLS, no login), starttls (TLS after STARTTLS, login wanted),
implicit (TLS from the first byte, login wanted) or stall (greets nobody). Makes its own authority and certificate for
localhost and 127.0.0.1 with openssl (FOLDER/ca.pem), picks a port, writes it to FOLDER/port, and appends each message
as a line of JSON to FOLDER/mails: sender, recipients, user, tls, message. FOLDER/answers has every answer, one a line.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USER, PASSWORD = b"backup", os.environ.get("SMTP_PASSWORD", "").encode()
folder, mode = sys.argv[1:3]


def path(name):
    return os.path.join(folder, name)


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def certificate():
    """An authority, and what it vouches for."""
    with open(path("extensions"), "w") as file:
        file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", path("ca.key"), "-out", path("ca.pem"), "-subj", "/CN=lab", "-days", "2")
    openssl("req", *curve, "-keyout", path("key.pem"), "-out", path("request"), "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", path("request"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial",
            "-out", path("cert.pem"), "-days", "2", "-extfile", path("extensions"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path("cert.pem"), path("key.pem"))
    return context


class Mails:
    async def handle_DATA(self, server, session, envelope):
        mail = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "user": session.auth_data.decode() if session.authenticated else None,
            "tls": session.ssl is not None or mode == "implicit",
            "message": envelope.content.decode(),
        }
        with open(path("mails"), "a") as file:
            file.write(json.dumps(mail) + "\n")
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER, PASSWORD)
    return AuthResult(success=right, handled=right, auth_data=USER)


class Server(SMTP):
    async def _handle_client(self):
        if mode == "stall":
            await asyncio.sleep(3600)
        await super()._handle_client()

    async def push(self, status):
        with open(path("answers"), "a") as file:
            file.write(str(status) + "\n")
        await super().push(status)


async def main():
    context = certificate() if mode in ("starttls", "implicit") else None
    wants_login = context is not None

    def serve():
        return Server(
            Mails(),
            hostname="lab",
            tls_context=context if mode == "starttls" else None,
            require_starttls=mode == "starttls",
            authenticator=login if wants_login else None,
            auth_required=wants_login,
            auth_require_tls=mode == "starttls",
        )

    wrapped = context if mode == "implicit" else None
    listener = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0, ssl=wrapped)
    with open(path("port.new"), "w") as file:
        file.write(str(listener.sockets[0].getsockname()[1]))
    os.rename(path("port.new"), path("port"))
    await listener.serve_forever()


asyncio.run(main())
