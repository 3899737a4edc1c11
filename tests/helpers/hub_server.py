# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
A stand-in of the Hugging Face Hub for the real `huggingface_hub` client, over real HTTP on this machine: model repositories
with branches and commits, large files by the LFS protocol, tokens and private repositories, the metadata's validation, and
faults on demand.
"""

import base64
import hashlib
import json
import math
import re
import secrets
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


TOKEN = "hf_of_ada"
# A user, and the names that each token may write under.
TOKENS = {TOKEN: ("ada", "org"), "hf_of_bob": ("bob",)}
LARGE_SUFFIXES = (".bin", ".npz", ".parquet", ".pth", ".safetensors")

# Of the Hub's documentation of model cards; those that cards of this package could use.
LICENSES = {
    "apache-2.0",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "mit",
    "other",
    "unknown",
}
PIPELINE_TAGS = {"audio-classification", "automatic-speech-recognition", "feature-extraction"}
_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")


def card_errors(text: str) -> list[str]:
    """What the Hub has against the metadata at the top of a model card; an empty list if nothing."""
    match = re.match(r"---\n(.*?)\n---(?:\n|$)", text, flags=re.DOTALL)
    if match is None:
        return ["there is no metadata"]
    try:
        data = yaml.safe_load(match[1]) or {}
    except yaml.YAMLError as error:
        return [f"not YAML: {error}"]
    errors = []

    def check(condition: bool, message: str) -> None:
        if not condition:
            errors.append(message)

    def is_text(value) -> bool:
        return isinstance(value, str) and bool(value)

    if "license" in data:
        check(data["license"] in LICENSES, f'"license" must be one of {sorted(LICENSES)}, not {data["license"]!r}')
        check(data["license"] != "other" or is_text(data.get("license_name")), '"license_name" is required')
    if "pipeline_tag" in data:
        check(data["pipeline_tag"] in PIPELINE_TAGS, f'"pipeline_tag" must not be {data["pipeline_tag"]!r}')
    for name in ("tags", "datasets", "metrics", "base_model"):
        values = data.get(name, [])
        values = values if isinstance(values, list) else [values]
        check(all(is_text(value) for value in values), f'"{name}" must be text, not {values!r}')
        if name == "base_model":
            check(
                all(_REPO_ID.fullmatch(str(value)) for value in values), f'"base_model" must be org/name, not {values}'
            )
    emissions = data.get("co2_eq_emissions", {"emissions": 0})
    emissions = emissions.get("emissions") if isinstance(emissions, dict) else emissions
    check(isinstance(emissions, int | float), '"co2_eq_emissions.emissions" must be a number, in grams')
    for entry in data.get("model-index") or []:
        check(is_text(entry.get("name")), '"model-index[].name" is required')
        check(bool(entry.get("results")), '"model-index[].results" is required')
        for result in entry.get("results") or []:
            check(is_text(result.get("task", {}).get("type")), '"model-index[].results[].task.type" is required')
            for name in ("type", "name"):
                check(
                    is_text(result.get("dataset", {}).get(name)),
                    f'"model-index[].results[].dataset.{name}" is required',
                )
            check(bool(result.get("metrics")), '"model-index[].results[].metrics" is required')
            for metric in result.get("metrics") or []:
                check(is_text(metric.get("type")), '"model-index[].results[].metrics[].type" is required')
                value = metric.get("value")
                check(value is not None, '"model-index[].results[].metrics[].value" is required')
                # JSON, as which the Hub reads metadata, has no others.
                is_number = not isinstance(value, float) or math.isfinite(value)
                check(is_number, f'"model-index[].results[].metrics[].value" must not be {value}')
    return errors


@dataclass
class Repo:
    """A repository: the files of each commit, and the commit of each branch."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        sha = secrets.token_hex(20)
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Fault:
    """What goes wrong in the next `times` requests of a method whose path matches: a status, or a cut after some bytes."""

    method: str
    pattern: str
    status: int | None = None
    cut_after: int | None = None
    times: int = 1


class HubServer(ThreadingHTTPServer):
    """
    The server, at `address`, running from the start.

    Its `repos` and `faults` are there to be looked at and set; `requests` lists the (method, path, Range header) it got.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.reset()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large_files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str | None]] = []

    def fail(self, method: str, pattern: str, **how) -> Fault:
        """Makes requests fail, see [`Fault`]."""
        self.faults.append(Fault(method, pattern, **how))
        return self.faults[-1]

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a repository by name."""
        repo = self.repos[repo_id]
        return repo.commits[repo.find(revision)]

    def count(self, method: str, pattern: str) -> int:
        """How many requests of a method had a path that matches."""
        return sum(method == got and re.search(pattern, path) is not None for got, path, _ in self.requests)

    def handle_error(self, request, client_address) -> None:
        """Clients that went away, cut connections among them, are nobody's business."""


class _Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


def _etag(path: str, content: bytes) -> str:
    digest = hashlib.sha256 if path.endswith(LARGE_SUFFIXES) else hashlib.sha1
    return digest(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    ROUTES = (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("GET", r"/api/models/(?P<repo_id>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?", "info"),
        ("GET", r"/api/models/(?P<repo_id>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", "tree"),
        ("POST", r"/api/models/(?P<repo_id>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", r"/api/models/(?P<repo_id>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", r"/api/models/(?P<repo_id>[^/]+/[^/]+)/branch/(?P<branch>[^/]+)", "branch"),
        ("POST", r"/(?P<repo_id>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/lfs/(?P<oid>\w+)", "put"),
        ("POST", r"/lfs/(?P<oid>\w+)/verify", "verify"),
        ("GET", r"/(?P<repo_id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )

    def log_message(self, *args) -> None:
        pass

    def handle_request(self) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        path = parts.path
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if self.command != "HEAD" else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = b""
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.cut_after = None
        try:
            for fault in self.server.faults:
                if fault.method == self.command and re.search(fault.pattern, path) and fault.times > 0:
                    fault.times -= 1
                    self.cut_after = fault.cut_after
                    if fault.status is not None:
                        raise _Refusal(fault.status, f"the stand-in was told to answer {fault.status}")
                    break
            for method, pattern, name in self.ROUTES:
                match = re.fullmatch(pattern, path)
                if match and method == ("GET" if self.command == "HEAD" else self.command):
                    getattr(self, f"on_{name}")(**{k: v and unquote(v) for k, v in match.groupdict().items()})
                    return
            raise _Refusal(404, f"{self.command} {path} is unknown here")
        except _Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)} if refusal.code else {}
            self.answer(json.dumps({"error": str(refusal)}).encode(), refusal.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def answer(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.cut_after is None:
            self.wfile.write(content)
            return
        self.wfile.write(content[: self.cut_after])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def answer_json(self, value) -> None:
        self.answer(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    def names(self) -> tuple[str, ...]:
        """The names that the request's token may write under; refuses a token that is unknown."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise _Refusal(401, "Invalid credentials in Authorization header")
        return TOKENS.get(token, ())

    def repo(self, repo_id: str, write: bool = False) -> Repo:
        names, repo = self.names(), self.server.repos.get(repo_id)
        owned = repo_id.split("/")[0] in names
        if not names and (write or repo is None or repo.private):
            raise _Refusal(401, "Invalid username or password.", "RepoNotFound" if not write else None)
        if repo is None or (repo.private and not owned):
            raise _Refusal(404, "Repository not found", "RepoNotFound")
        if write and not owned:
            raise _Refusal(403, f"You have no right to write to {repo_id}")
        return repo

    def commit_of(self, repo: Repo, revision: str) -> str:
        sha = repo.find(revision)
        if sha is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def on_whoami(self) -> None:
        if not self.names():
            raise _Refusal(401, "Invalid username or password.")
        self.answer_json({"type": "user", "name": self.names()[0], "orgs": [{"name": n} for n in self.names()[1:]]})

    def on_create(self) -> None:
        wanted, names = json.loads(self.body), self.names()
        if not names:
            raise _Refusal(401, "Invalid username or password.")
        owner = wanted.get("organization") or names[0]
        repo_id = f"{owner}/{wanted['name']}"
        if owner not in names:
            raise _Refusal(403, f"You have no right to create a model under {owner}")
        created = {"url": f"{self.server.address}/{repo_id}", "name": repo_id, "id": repo_id}
        if repo_id in self.server.repos:
            self.answer(json.dumps({"error": "You already created this model repo", **created}).encode(), 409)
            return
        repo = self.server.repos[repo_id] = Repo(
            private=wanted.get("visibility") == "private" or bool(wanted.get("private"))
        )
        repo.commit("main", {".gitattributes": b""})
        self.answer_json(created)

    def on_validate(self) -> None:
        errors = card_errors(json.loads(self.body)["content"])
        found = [{"message": error} for error in errors]
        self.answer(json.dumps({"errors": found, "warnings": []}).encode(), 400 if errors else 200)

    def on_info(self, repo_id: str, revision: str | None) -> None:
        repo = self.repo(repo_id)
        sha = self.commit_of(repo, revision or "main")
        card = repo.commits[sha].get("README.md", b"").decode()
        match = re.match(r"---\n(.*?)\n---(?:\n|$)", card, flags=re.DOTALL)
        data = (yaml.safe_load(match[1]) if match else None) or {}
        self.answer_json(
            {
                "id": repo_id,
                "modelId": repo_id,
                "sha": sha,
                "private": repo.private,
                "tags": data.get("tags") or [],
                "pipeline_tag": data.get("pipeline_tag"),
                "cardData": data,
                "siblings": [{"rfilename": path} for path in sorted(repo.commits[sha])],
            }
        )

    def on_tree(self, repo_id: str, revision: str, folder: str | None) -> None:
        repo = self.repo(repo_id)
        files = repo.commits[self.commit_of(repo, revision)]
        wanted = PurePosixPath(folder or ".")
        self.answer_json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in sorted(files.items())
                if wanted in PurePosixPath(path).parents
            ]
        )

    def on_preupload(self, repo_id: str, revision: str) -> None:
        repo = self.repo(repo_id, write=True)
        files = repo.commits[self.commit_of(repo, revision)]
        self.answer_json(
            {
                "files": [
                    {
                        "path": wanted["path"],
                        "uploadMode": "lfs" if wanted["path"].endswith(LARGE_SUFFIXES) else "regular",
                        "shouldIgnore": False,
                        "oid": _etag(wanted["path"], files[wanted["path"]]) if wanted["path"] in files else None,
                    }
                    for wanted in json.loads(self.body)["files"]
                ]
            }
        )

    def on_batch(self, repo_id: str) -> None:
        self.repo(repo_id, write=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            href = f"{self.server.address}/lfs/{wanted['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            is_known = wanted["oid"] in self.server.large_files
            objects.append(wanted if is_known else {**wanted, "actions": actions})
        self.answer_json({"transfer": "basic", "objects": objects})

    def on_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refusal(400, "the content is not what its name says")
        self.server.large_files[oid] = self.body
        self.answer(b"")

    def on_verify(self, oid: str) -> None:
        size = json.loads(self.body)["size"]
        if len(self.server.large_files.get(oid, b"")) != size:
            raise _Refusal(404, "no such object")
        self.answer_json({})

    def on_commit(self, repo_id: str, revision: str) -> None:
        repo = self.repo(repo_id, write=True)
        files = dict(repo.commits[self.commit_of(repo, revision)])
        for line in self.body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.server.large_files:
                    raise _Refusal(400, f"{value['path']} was not uploaded")
                files[value["path"]] = self.server.large_files[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        if errors := card_errors(files["README.md"].decode()) if "README.md" in files else []:
            raise _Refusal(400, f"Invalid metadata in README.md: {errors}")
        sha = repo.commit(revision, files)
        self.answer_json(
            {"success": True, "commitOid": sha, "commitUrl": f"{self.server.address}/{repo_id}/commit/{sha}"}
        )

    def on_branch(self, repo_id: str, branch: str) -> None:
        repo = self.repo(repo_id, write=True)
        if branch in repo.branches:
            raise _Refusal(409, f"Reference already exists: {branch}")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repo.branches[branch] = self.commit_of(repo, start)
        self.answer_json({})

    def on_resolve(self, repo_id: str, revision: str, path: str) -> None:
        repo = self.repo(repo_id)
        sha = self.commit_of(repo, revision)
        if path not in repo.commits[sha]:
            raise _Refusal(404, f"Entry not found: {path}", "EntryNotFound")
        content = repo.commits[sha][path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_etag(path, content)}"', "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if span is None:
            self.answer(content, headers=headers)
            return
        start = int(span[1])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(content[start:], 206, headers)
