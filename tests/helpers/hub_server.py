"""A Hub in one process: as much of its HTTP as huggingface_hub needs to make, fill and read model repositories.

Regular files arrive base64-encoded within a commit, large ones (LFS) by PUT before it. Branches have no history;
everything is kept in memory and bound to the loopback address. Requests without a token are refused; one may only read.
"""

import base64
import hashlib
import json
import os
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

TOKEN, READER = "hf_test", "hf_reader"


class Hub:
    """State of the server: `repos[name][path] = bytes` is main, `branches[name, branch]` others; objects by SHA-256."""

    def __init__(self):
        self.repos = {}
        self.branches = {}
        self.private = set()
        self.damaged = set()  # paths that arrive with another last byte
        self.objects = {}
        self.url = None
        self.requests = []

    def files(self, name, revision):
        """Files of a branch or a commit, None where there is none."""
        branches = {branch: files for (repo, branch), files in self.branches.items() if repo == name}
        branches["main"] = self.repos[name]
        commits = {commit_id(files): files for files in branches.values()}
        return branches.get(revision or "main", commits.get(revision))


def commit_id(files):
    """Of a commit with these files."""
    listing = [(path, blob_id(content)) for path, content in sorted(files.items())]
    return hashlib.sha1(json.dumps(listing).encode()).hexdigest()


def visibility(wanted):
    """ "private" or "public", as older and newer clients ask for it."""
    return wanted.get("visibility") or ("private" if wanted.get("private") else "public")


def blob_id(content):
    """ETag of a file: git's blob id for a regular file, SHA-256 for an LFS one."""
    if is_lfs(content):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_lfs(content):
    """A safetensors file starts with the length of its header, so it holds zero bytes, which no text file does."""
    return b"\0" in content


@contextmanager
def serve():
    """Run a `Hub` in a thread for the length of a `with` block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (HubHandler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment(hub, cache, **settings):
    """Variables of a process whose Hub is this one: the client reads them when it is imported."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
    ours = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(cache)}
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**inherited, **ours, **quiet, **settings}


class HubHandler(BaseHTTPRequestHandler):
    """Answers one request; `ROUTES` below names the method for each."""

    protocol_version = "HTTP/1.1"

    def answer(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        every = {"Content-Length": str(len(body)), "Content-Type": "application/json", **(headers or {})}
        for key, value in every.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code):
        self.answer({"error": code}, status, {"X-Error-Code": code, "X-Error-Message": code})

    def handle_request(self):
        # The body must be read even where it is not used, or it would be taken for the next request.
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in (TOKEN, READER) and not path.startswith("/_objects/"):
            return self.refuse(401, "Unauthorized")
        if token == READER and self.command in ("POST", "PUT"):
            return self.refuse(403, "Forbidden")
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split():
                found = match.groupdict()
                if "repo" in found and found["repo"] not in self.hub.repos:
                    return self.refuse(404, "RepoNotFound")
                if "revision" in found:
                    found["files"] = self.hub.files(found["repo"], found.pop("revision"))
                    if found["files"] is None:
                        return self.refuse(404, "RevisionNotFound")
                return action(self, **found)
        return self.refuse(404, "no such endpoint")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, format, *args):
        """Silence: `hub.requests` keeps the log."""

    def whoami(self):
        self.answer({"type": "user", "name": "user", "fullname": "Test", "orgs": [], "auth": {}})

    def create(self):
        wanted = json.loads(self.body)
        repo = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
        known = repo in self.hub.repos
        if not known and visibility(wanted) == "private":
            self.hub.private.add(repo)
        self.hub.repos.setdefault(repo, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self.answer({"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo}, 409 if known else 200)

    def change_settings(self, repo):
        wanted = json.loads(self.body)
        change = self.hub.private.add if visibility(wanted) == "private" else self.hub.private.discard
        change(repo)
        self.answer({})

    def create_branch(self, repo, branch):
        known = (repo, branch) in self.hub.branches
        self.hub.branches.setdefault((repo, branch), dict(self.hub.repos[repo]))
        self.answer({}, 409 if known else 200)

    def validate_card(self):
        self.answer({"errors": [], "warnings": []})

    def preupload(self, repo, files):
        paths = [wanted["path"] for wanted in json.loads(self.body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
        self.answer({"files": [{"path": p, "uploadMode": modes[p], "shouldIgnore": False} for p in paths]})

    def lfs_batch(self, repo):
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/_objects/{wanted['oid']}", "header": {}}}}
            for wanted in json.loads(self.body)["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"})

    def put_object(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.refuse(400, "sha256 mismatch")
        self.hub.objects[oid] = self.body
        self.answer({})

    def commit(self, repo, files):
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        revision = commit_id(files)
        url = f"{self.hub.url}/{repo}/commit/{revision}"
        self.answer({"success": True, "commitOid": revision, "commitUrl": url})

    def model_info(self, repo, files):
        siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
        private = repo in self.hub.private
        self.answer({"id": repo, "modelId": repo, "sha": commit_id(files), "private": private, "siblings": siblings})

    def tree(self, repo, files):
        self.answer([self.entry(path, content) for path, content in files.items()])

    def paths_info(self, repo, files):
        self.answer([self.entry(path, files[path]) for path in json.loads(self.body)["paths"] if path in files])

    @staticmethod
    def entry(path, content):
        entry = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
        if is_lfs(content):
            entry["lfs"] = {"oid": blob_id(content), "size": len(content), "pointerSize": 134}
        return entry

    def resolve(self, repo, path, files):
        content = files.get(path)
        revision = {"X-Repo-Commit": commit_id(files)}
        if content is None:
            return self.answer({}, 404, {"X-Error-Code": "EntryNotFound", **revision})
        if path in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        tag = {"ETag": f'"{blob_id(content)}"', "Content-Type": "application/octet-stream"}
        self.answer(content, headers={**tag, **revision})


REPO, REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
ROUTES = (
    ("GET", "/api/whoami-v2", HubHandler.whoami),
    ("POST", "/api/repos/create", HubHandler.create),
    ("POST", "/api/validate-yaml", HubHandler.validate_card),
    ("PUT", f"/api/models/{REPO}/settings", HubHandler.change_settings),
    ("POST", f"/api/models/{REPO}/branch/(?P<branch>[^/]+)", HubHandler.create_branch),
    ("POST", f"/api/models/{REPO}/preupload/{REVISION}", HubHandler.preupload),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch", HubHandler.lfs_batch),
    ("PUT", "/_objects/(?P<oid>[0-9a-f]{64})", HubHandler.put_object),
    ("POST", f"/api/models/{REPO}/commit/{REVISION}", HubHandler.commit),
    ("GET", f"/api/models/{REPO}(?:/revision/{REVISION})?", HubHandler.model_info),
    ("GET", f"/api/models/{REPO}/tree/{REVISION}", HubHandler.tree),
    ("POST", f"/api/models/{REPO}/paths-info/{REVISION}", HubHandler.paths_info),
    ("GET HEAD", f"/{REPO}/resolve/{REVISION}/(?P<path>.+)", HubHandler.resolve),
)
