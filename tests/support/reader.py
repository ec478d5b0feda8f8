#!/usr/bin/env python3
"""A second reader of lifeboat repositories, written from docs/format.md alone.

    reader.py list REPOSITORY      prints the backups as JSON
    reader.py verify REPOSITORY    checks every stored byte and prints what is wrong as JSON
    reader.py digest ARCHIVE       prints what a volume's archive holds, and its digest, as JSON

Standard library only; Zstandard is decoded by the stock `zstd`. Exits 0, or 13 where a backup or
an archive is damaged, or 10 where there is no repository.
"""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tarfile
from urllib.parse import unquote_to_bytes

ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[a-z0-9]{4}")
KEY = re.compile(r"[A-Za-z0-9_%][A-Za-z0-9._%-]*(/[A-Za-z0-9_%][A-Za-z0-9._%-]*)*")
NAMES = [
    (re.compile(r"postgres/[^/]+/db/[^/]+"), "postgres", ".dump"),
    (re.compile(r"postgres/[^/]+/globals"), "postgres", ".sql"),
    (re.compile(r"redis/[^/]+"), "redis", ".rdb"),
    (re.compile(r"volume/[^/]+"), "volume", ".tar"),
    (re.compile(r"bind/[^/]+"), "volume", ".tar"),
    (re.compile(r"files"), "files", ".tar"),
]
SUFFIXES = {"zstd": ".zst", "age": ".age"}
SELF = ("SHA256SUMS", "SHA256SUMS.minisig")
AGE = b"age-encryption.org/v1\n"
SMALL = 64 << 20


class Damaged(Exception):
    pass


def need(holds, message):
    if not holds:
        raise Damaged(message)


def encode(name):
    """A name as it stands in keys."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
    out = ""
    for position, byte in enumerate(name):
        hidden = position == 0 and byte in b".-"
        out += chr(byte) if byte in plain and not hidden else "%%%02X" % byte
    return out


def decode(text):
    """The name behind its encoded form, which has to be the one that `encode` makes."""
    name = unquote_to_bytes(text)
    need(name and encode(name) == text, f"{text!r} is not an encoded name")
    return name.decode()


def regular(path):
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        raise Damaged(f"{path}: missing") from None
    need(stat.S_ISREG(mode), f"{path}: not a regular file")


def read(path):
    regular(path)
    need(os.path.getsize(path) <= SMALL, f"{path}: too large")
    with open(path, "rb") as file:
        return file.read()


def sha256(path):
    regular(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse(data, what):
    try:
        return json.loads(data)
    except ValueError as error:
        raise Damaged(f"{what}: {error}") from None


def tree(root):
    """Size by key of every file below a folder; links and special files are damage."""
    need(stat.S_ISDIR(os.lstat(root).st_mode), f"{root}: not a folder")
    sizes, folders = {}, [""]
    while folders:
        below = folders.pop()
        for entry in os.scandir(os.path.join(root, below)):
            key = below + entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(key + "/")
            else:
                need(entry.is_file(follow_symlinks=False), f"{root}/{key}: a link")
                sizes[key] = entry.stat(follow_symlinks=False).st_size
    return sizes


def parse_sums(data):
    sums = {}
    for line in data.decode("ascii").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        need(match and KEY.fullmatch(match[2]), f"SHA256SUMS: {line!r}")
        need(match[2] not in sums and match[2] not in SELF, f"SHA256SUMS: {line!r}")
        sums[match[2]] = match[1]
    text = "".join(f"{sums[key]}  {key}\n" for key in sorted(sums))
    need(text.encode() == data, "SHA256SUMS: not in its own form")
    return sums


def is_size(value):
    return type(value) is int and 0 <= value < 1 << 64


def check_artifact(artifact, sums, sizes, folder):
    """The keys of an artifact's objects, checked against everything that speaks of them."""
    name = artifact["name"]
    found = [(kind, end) for form, kind, end in NAMES if form.fullmatch(name)]
    need(found and artifact["source"] == found[0][0], f"{name!r} is no artifact's name")
    for part in name.split("/")[1::2]:
        decode(part)
    base = name + found[0][1] + "".join(SUFFIXES[step] for step in artifact["encoding"])
    need(artifact["objects"], f"{name}: no objects")
    keys, total = [], 0
    for index, item in enumerate(artifact["objects"]):
        key = item["key"]
        need(key == (f"{base}.{index:04}" if index else base), f"{name}: key {key!r}")
        need(len(f"{folder}/{key}") <= 1024, f"{name}: a key too long")
        need(sums.get(key) == item["sha256"], f"{key}: two digests")
        need(is_size(item["size"]) and sizes.get(key) == item["size"], f"{key}: wrong size")
        total += item["size"]
        keys.append(key)
    need(is_size(artifact["raw_size"]), f"{name}: wrong size")
    need(total == artifact["stored_size"], f"{name}: objects do not add up")
    return keys


def check(root, stack, backup):
    """Checks one backup to its last byte."""
    folder = f"{encode(stack.encode())}/{backup}"
    path = os.path.join(root, folder)
    data = read(f"{path}.backup.json")
    need(data.endswith(b"}\n"), "commit: cut short, or added to")
    commit = parse(data, "commit")
    need((commit["stack"], commit["backup"]) == (stack, backup), "commit: another backup's")
    data = read(f"{path}/SHA256SUMS")
    need(hashlib.sha256(data).hexdigest() == commit["sha256sums"], "SHA256SUMS: not committed")
    sums, sizes = parse_sums(data), tree(path)
    for key in sums:
        need(key in sizes, f"{key}: missing")
    for key in sizes:
        need(key in sums or key in SELF, f"{key}: not listed")
    for key, digest in sums.items():
        need(sha256(f"{path}/{key}") == digest, f"{key}: wrong digest")
    manifest = parse(read(f"{path}/manifest.json"), "manifest.json")
    need((manifest["stack"], manifest["backup"]) == (stack, backup), "manifest: another's")
    need(commit["format"] == manifest["format"] == 1, "a format that is not the repository's")
    left, names = set(sums), []
    for artifact in manifest["artifacts"]:
        need(artifact["name"] not in names, f"{artifact['name']}: twice")
        names.append(artifact["name"])
        left -= set(check_artifact(artifact, sums, sizes, folder))
    left -= {"manifest.json", "RESTORE.md"}
    plain = {key.removesuffix(".age") for key in left}
    need(plain == {"facts.json.zst", "stack.json.zst"}, f"unexpected or missing: {left}")
    encrypted = {key.endswith(".age") for key in left}
    encrypted |= {"age" in artifact["encoding"] for artifact in manifest["artifacts"]}
    need(len(encrypted) == 1, "encrypted in parts")
    firsts = [artifact["objects"][0]["key"] for artifact in manifest["artifacts"]]
    for key in [*left, *firsts]:
        if key.endswith(".age"):
            with open(f"{path}/{key}", "rb") as file:
                need(file.read(len(AGE)) == AGE, f"{key}: not age's")
    for field in ("started", "finished", "trigger", "complete"):
        need(commit[field] == manifest[field], f"commit: {field} is not the manifest's")
    need(commit["artifacts"] == names, "commit: not the manifest's artifacts")
    for field in ("raw_size", "stored_size"):
        need(commit[field] == sum(a[field] for a in manifest["artifacts"]), f"commit: {field}")
    for key in left:
        if key.endswith(".zst"):
            decoded = subprocess.run(["zstd", "-dc", f"{path}/{key}"], capture_output=True)
            need(decoded.returncode == 0, f"{key}: {decoded.stderr}")
            parse(decoded.stdout, key)
    return {"artifacts": names, "stored_size": commit["stored_size"]}


def backups(root):
    """Stack and id of every commit, newest first."""
    for name in sorted(os.listdir(root)):
        if not os.path.isdir(os.path.join(root, name)):
            continue
        try:
            stack = decode(name)
        except (Damaged, ValueError):
            continue
        for file in sorted(os.listdir(os.path.join(root, name)), reverse=True):
            backup = file.removesuffix(".backup.json")
            if backup != file and ID.fullmatch(backup):
                yield stack, backup


def raw(text):
    """The bytes of a name or a value, as they stand in an archive."""
    return text.encode("utf-8", "surrogateescape")


def attributes(member):
    """Extended attributes by their names on a disk, in order; access control lists as text."""
    found = {}
    for key, value in member.pax_headers.items():
        if key in ("SCHILY.acl.access", "SCHILY.acl.default"):
            found[b"system.posix_acl_" + raw(key.rsplit(".")[-1])] = raw(value)
        elif key.startswith("SCHILY.xattr."):
            name = raw(key.removeprefix("SCHILY.xattr."))
            found[re.sub(b"%25|%3D", lambda code: unquote_to_bytes(code[0]), name)] = raw(value)
    return sorted(found.items())


def content(tar, member):
    """The SHA-256 of a file's bytes, holes read as zeros."""
    hasher = hashlib.sha256()
    with tar.extractfile(member) as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


def digest(archive):
    """What an archive holds, and the digest of its tree."""
    kinds = {
        tarfile.DIRTYPE: ("directories", "d"),
        tarfile.REGTYPE: ("files", "f"),
        tarfile.LNKTYPE: ("hard_links", "h"),
        tarfile.SYMTYPE: ("symlinks", "l"),
        tarfile.FIFOTYPE: ("fifos", "p"),
    }
    facts = dict.fromkeys((name for name, _ in kinds.values()), 0)
    hasher, total, last = hashlib.sha256(), 0, None
    with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            path = raw(member.name).removeprefix(b".").removeprefix(b"/")
            parts = path.split(b"/") if path else []
            need(last is None or last < parts, f"{member.name!r}: not in order")
            need(member.type in kinds, f"{member.name!r}: of type {member.type!r}")
            name, letter = kinds[member.type]
            facts[name] += 1
            last, size, what, more = parts, 0, "", attributes(member)
            mode, uid, gid = member.mode, member.uid, member.gid
            if letter == "f":
                size, what = member.size, content(tar, member)
                total += size
            elif letter == "l":
                what = raw(member.linkname).hex()
            elif letter == "h":
                what = raw(member.linkname).removeprefix(b"./").hex()
                mode = uid = gid = 0
                more = []
            record = f"{path.hex()} {letter} {mode:o} {uid} {gid} {size} {what}"
            record += "".join(f" {name.hex()}={value.hex()}" for name, value in more)
            hasher.update(f"{record}\n".encode())
    return {"digest": hasher.hexdigest(), **facts, "bytes": total}


def main(command, root):
    if command == "digest":
        try:
            print(json.dumps(digest(root)))
        except (Damaged, tarfile.TarError) as damage:
            print(json.dumps({"damaged": str(damage)}))
            return 13
        return 0
    marker = os.path.join(root, "lifeboat-repository.json")
    if not os.path.lexists(marker):
        print(json.dumps({"error": f"no repository at {root}"}))
        return 10
    need(parse(read(marker), "marker")["format"] == 1, "marker: a format that is not 1")
    report, code = [], 0
    for stack, backup in backups(root):
        entry = {"stack": stack, "id": backup}
        if command == "verify":
            try:
                entry.update(check(root, stack, backup))
            except Damaged as damage:
                entry["damaged"] = str(damage)
            except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
                entry["damaged"] = f"{type(error).__name__}: {error}"
            if "damaged" in entry:
                code = 13
        report.append(entry)
    print(json.dumps({"backups": report}))
    return code


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("list", "verify", "digest"):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
