"""A Hub in one process: as much of its HTTP as huggingface_hub needs to make, fill and read model repositories.

Regular files arrive base64-encoded within a commit, large ones (LFS) by PUT before it. One branch, `main`; everything
is kept in memory and bound to the loopback address. Requests without the token are refused.
"""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


class Hub:
    """State of the server: `repos[name][path] = bytes`, and uploaded objects by SHA-256."""

    def __init__(self):
        self.repos = {}
        self.objects = {}
        self.url = None
        self.requests = []

    def revision(self, name):
        listing = [(path, blob_id(content)) for path, content in sorted(self.repos[name].items())]
        return hashlib.sha1(json.dumps(listing).encode()).hexdigest()


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
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not path.startswith("/_objects/"):
            return self.refuse(401, "Unauthorized")
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split():
                found = match.groupdict()
                if "repo" in found and found["repo"] not in self.hub.repos:
                    return self.refuse(404, "RepoNotFound")
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
        self.hub.repos.setdefault(repo, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self.answer({"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo}, 409 if known else 200)

    def validate_card(self):
        self.answer({"errors": [], "warnings": []})

    def preupload(self, repo):
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

    def commit(self, repo):
        files = self.hub.repos[repo]
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        revision = self.hub.revision(repo)
        url = f"{self.hub.url}/{repo}/commit/{revision}"
        self.answer({"success": True, "commitOid": revision, "commitUrl": url})

    def model_info(self, repo):
        siblings = [{"rfilename": path, "size": len(content)} for path, content in self.hub.repos[repo].items()]
        revision = self.hub.revision(repo)
        self.answer({"id": repo, "modelId": repo, "sha": revision, "private": False, "siblings": siblings})

    def tree(self, repo):
        self.answer([self.entry(path, content) for path, content in self.hub.repos[repo].items()])

    def paths_info(self, repo):
        files = self.hub.repos[repo]
        self.answer([self.entry(path, files[path]) for path in json.loads(self.body)["paths"] if path in files])

    @staticmethod
    def entry(path, content):
        entry = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
        if is_lfs(content):
            entry["lfs"] = {"oid": blob_id(content), "size": len(content), "pointerSize": 134}
        return entry

    def resolve(self, repo, path):
        content = self.hub.repos[repo].get(path)
        revision = {"X-Repo-Commit": self.hub.revision(repo)}
        if content is None:
            return self.answer({}, 404, {"X-Error-Code": "EntryNotFound", **revision})
        tag = {"ETag": f'"{blob_id(content)}"', "Content-Type": "application/octet-stream"}
        self.answer(content, headers={**tag, **revision})


REPO, REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?:main|[0-9a-f]{40})"
ROUTES = (
    ("GET", "/api/whoami-v2", HubHandler.whoami),
    ("POST", "/api/repos/create", HubHandler.create),
    ("POST", "/api/validate-yaml", HubHandler.validate_card),
    ("POST", f"/api/models/{REPO}/preupload/main", HubHandler.preupload),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch", HubHandler.lfs_batch),
    ("PUT", "/_objects/(?P<oid>[0-9a-f]{64})", HubHandler.put_object),
    ("POST", f"/api/models/{REPO}/commit/main", HubHandler.commit),
    ("GET", f"/api/models/{REPO}(?:/revision/{REVISION})?", HubHandler.model_info),
    ("GET", f"/api/models/{REPO}/tree/{REVISION}", HubHandler.tree),
    ("POST", f"/api/models/{REPO}/paths-info/{REVISION}", HubHandler.paths_info),
    ("GET HEAD", f"/{REPO}/resolve/{REVISION}/(?P<path>.+)", HubHandler.resolve),
)
