"""
A small Hub on this machine: what `huggingface_hub` needs of the Hub's API to create, commit, list and download model
repositories.

    with LoopbackHub() as hub:
        commit = hub.commit("name/repo", {"config.json": b"{}"})
        subprocess.run(..., env=hub.environment(home))        # HF_ENDPOINT and caches of its own

Repositories are lists of commits, each a mapping of paths to bytes, held in memory; every file is an ordinary one (no
LFS, no Xet). `requests` records what was asked; `break_download` makes trouble.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class HubError(Exception):
    """An answer that is an error, as the Hub words it."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Commit:
    """One state of a repository."""

    oid: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """Commits by their hash, and branches and tags by their name."""

    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def add(self, message: str, files: dict[str, bytes], branch: str = "main") -> Commit:
        content = "".join(f"{path}\0{git_oid(data)}\n" for path, data in sorted(files.items()))
        oid = hashlib.sha1(f"{len(self.commits)}{branch}{message}\n{content}".encode()).hexdigest()
        self.commits[oid] = Commit(oid, message, files)
        self.refs[branch] = oid
        return self.commits[oid]


class LoopbackHub:
    """
    The server, with its repositories; a context manager.

    Args:
        token: If given, every request must carry it.
    """

    def __init__(self, token: str | None = None):
        self.token = token
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []  # method and path, in order
        self.ranges: list[str] = []  # `Range` headers that downloads asked for
        self.break_download: tuple[str, int] | None = None  # the next download of this file ends after so many bytes
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Environment of a process that has this Hub and no other, an empty cache in `home`, and one thread."""
        return {
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
            **({"HF_TOKEN": self.token} if self.token else {}),
            **more,
        }

    def commit(
        self, repo_id: str, files: Mapping[str, bytes] | Path, message: str = "Upload", branch: str = "main"
    ) -> Commit:
        """Put files, or all files of a folder, into a repository (made if needed), beside what its branch has."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()
            }
        with self._lock:
            repository = self.repositories.setdefault(repo_id, Repository())
            parent = repository.refs.get(branch, repository.refs.get("main"))
            before = repository.commits[parent].files if parent else {}
            return repository.add(message, {**before, **files}, branch)

    def tag(self, repo_id: str, name: str, revision: str = "main") -> None:
        """Give a revision a name that stays where it is."""
        self.repositories[repo_id].refs[name] = self.repositories[repo_id].at(revision).oid

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a repository."""
        return self.repositories[repo_id].at(revision).files

    def downloads(self) -> list[str]:
        """Paths of the files whose bytes were asked for."""
        return [path for method, path in self.requests if method == "GET" and "/resolve/" in path]


def git_oid(data: bytes) -> str:
    """Hash of a file as git computes it."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """One connection: finds the route, and turns a `HubError` into the Hub's error headers."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def _answer(self, route: Any) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.hub.requests.append((self.command, unquote(url.path)))
        try:
            if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
                raise HubError(401, "RepoNotFound", "Repository not found")
            route([unquote(part) for part in url.path.strip("/").split("/")], parse_qs(url.query))
        except HubError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            self._send_json({"error": str(error)}, error.status, headers)

    def _repository(self, repo_id: str) -> Repository:
        if repo_id not in self.hub.repositories:
            raise HubError(401, "RepoNotFound", "Repository not found")
        return self.hub.repositories[repo_id]

    # ---------------------------------------------------------------------------------------------------------- reading

    def _get(self, parts: list[str], query: dict[str, list[str]]) -> None:
        match parts:
            case ["api", "whoami-v2"]:
                self._send_json({"type": "user", "name": "name", "orgs": []})
            case ["api", "models", owner, name]:
                self._send_info(f"{owner}/{name}", "main")
            case ["api", "models", owner, name, "revision", revision]:
                self._send_info(f"{owner}/{name}", revision)
            case ["api", "models", owner, name, "tree", revision, *folder]:
                self._send_tree(f"{owner}/{name}", revision, "/".join(folder), query.get("recursive") == ["true"])
            case [owner, name, "resolve", revision, *path]:
                self._send_file(f"{owner}/{name}", revision, "/".join(path))
            case _:
                raise HubError(404, "NotFound", f"No such route: {self.path}")

    def _send_info(self, repo_id: str, revision: str) -> None:
        repository = self._repository(repo_id)
        commit = repository.at(revision)
        self._send_json(
            {
                "_id": repo_id,
                "id": repo_id,
                "modelId": repo_id,
                "sha": commit.oid,
                "private": repository.private,
                "tags": [],
                "siblings": [{"rfilename": path} for path in commit.files],
            }
        )

    def _send_tree(self, repo_id: str, revision: str, folder: str, recursive: bool) -> None:
        files = self._repository(repo_id).at(revision).files
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, data in files.items():
            if not path.startswith(prefix):
                continue
            rest = path[len(prefix) :].split("/")
            for depth in range(1, len(rest)):
                parent = prefix + "/".join(rest[:depth])
                entries[parent] = {"type": "directory", "path": parent, "oid": git_oid(parent.encode()), "size": 0}
            entries[path] = {"type": "file", "path": path, "oid": git_oid(data), "size": len(data)}
        if folder and not entries:
            raise HubError(404, "EntryNotFound", f"{folder} does not exist on {revision!r}")
        shown = [entry for path, entry in entries.items() if recursive or "/" not in path[len(prefix) :]]
        self._send_json(shown)

    def _send_file(self, repo_id: str, revision: str, path: str) -> None:
        commit = self._repository(repo_id).at(revision)
        if path not in commit.files:
            raise HubError(404, "EntryNotFound", "Entry not found")
        data = commit.files[path]
        start = 0
        if asked := self.headers.get("Range"):
            self.hub.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        headers = {
            "X-Repo-Commit": commit.oid,
            "ETag": f'"{git_oid(data)}"',
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(data) - start),
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._write(path, data[start:])

    def _write(self, path: str, data: bytes) -> None:
        name, limit = self.hub.break_download or ("", 0)
        if name == path:
            self.hub.break_download = None
            data, self.close_connection = data[:limit], True
        with suppress(ConnectionError):
            self.wfile.write(data)

    # ---------------------------------------------------------------------------------------------------------- writing

    def _post(self, parts: list[str], query: dict[str, list[str]]) -> None:
        match parts:
            case ["api", "validate-yaml"]:
                self._send_json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._create_repository(json.loads(self.body))
            case ["api", "models", owner, name, "branch", branch]:
                self._create_branch(f"{owner}/{name}", branch)
            case ["api", "models", owner, name, "preupload", revision]:
                self._preupload(f"{owner}/{name}", revision)
            case ["api", "models", owner, name, "commit", revision]:
                self._commit(f"{owner}/{name}", revision)
            case _:
                raise HubError(404, "NotFound", f"No such route: {self.path}")

    def _create_repository(self, request: dict[str, Any]) -> None:
        repo_id = f"{request.get('organization') or 'name'}/{request['name']}"
        if repo_id in self.hub.repositories:
            self._send_json(
                {"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{repo_id}"}, 409
            )
            return
        self.hub.repositories[repo_id] = repository = Repository(private=bool(request.get("private")))
        repository.add("initial commit", {".gitattributes": b""})
        self._send_json({"url": f"{self.hub.endpoint}/{repo_id}", "id": repo_id})

    def _create_branch(self, repo_id: str, branch: str) -> None:
        repository = self._repository(repo_id)
        if branch in repository.refs:
            self._send_json({"error": "Reference already exists"}, 409)
            return
        repository.refs[branch] = repository.refs["main"]
        self._send_json({})

    def _preupload(self, repo_id: str, revision: str) -> None:
        files = self._repository(repo_id).at(revision).files
        asked = json.loads(self.body)["files"]
        self._send_json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "regular",
                        "shouldIgnore": False,
                        "oid": git_oid(files[file["path"]]) if file["path"] in files else None,
                    }
                    for file in asked
                ]
            }
        )

    def _commit(self, repo_id: str, branch: str) -> None:
        repository = self._repository(repo_id)
        files = dict(repository.at(branch).files)
        message = ""
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "header":
                    message = value["summary"]
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "deletedFile":
                    files.pop(value["path"])
                case "deletedFolder":
                    files = {path: data for path, data in files.items() if not path.startswith(value["path"])}
                case other:
                    raise HubError(400, "BadRequest", f"Unknown operation {other}")
        commit = repository.add(message, files, branch)
        url = f"{self.hub.endpoint}/{repo_id}/commit/{commit.oid}"
        self._send_json({"commitUrl": url, "commitOid": commit.oid, "hookOutput": "", "success": True})

    # -------------------------------------------------------------------------------------------------------- answering

    def _send_json(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
