"""A server on loopback that speaks as much of W&B's protocol as `wandb sweep`, `agent` and `sync` and a run's client ask for.

Written from what the client of wandb 0.31 sends. It proposes at random, and keeps what it receives. It is an HTTP proxy too:
whatever host is asked for, it answers itself.
"""

import gzip
import json
import random
import re
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import yaml

ENTITY, PROJECT = "tester", "baa"


@dataclass
class Run:
    """What the client has sent of a run: its config, last summary, history, artifacts, and how it ended."""

    sweep: str | None = None
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    exit_code: int | None = None
    preempting: bool = False
    starts: int = 0


class Server:
    """One project of one user.

    Args:
        trials: proposals for each sweep.
        overrides: parameters of some proposals, by number.
        refused: HTTP status and message instead of the answer, by name of the operation; "" for all.
        silent: never answer.
    """

    def __init__(
        self,
        trials: int = 0,
        overrides: dict[int, dict] | None = None,
        refused: dict[str, tuple[int, str]] | None = None,
        silent: bool = False,
    ) -> None:
        self.trials = trials
        self.overrides = overrides or {}
        self.refused = refused or {}
        self.silent = silent
        self.hosts: set[str] = set()
        self.artifacts: list[dict] = []
        self.stopped: set[str] = set()
        self.sweeps: dict[str, dict] = {}
        self.agents: dict[str, dict] = {}
        self.assigned: dict[str, dict] = {}
        self.assigned_to: list[tuple[str, int | None]] = []
        self.runs: dict[str, Run] = {}
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        self.random = random.Random(0)
        self.url = ""

    def answer(self, query: str, variables: dict) -> tuple[int, dict]:
        """Return the HTTP status and the content of an answer."""
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = operation[1] if operation else query[:60]
        if refusal := self.refused.get(name, self.refused.get("")):
            return refusal[0], {"errors": [{"message": refusal[1]}], "data": None}
        return 200, {"data": self.data(name, variables)}

    def data(self, name: str, variables: dict) -> dict:
        with self.lock:
            method = getattr(self, "on_" + re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), None)
            if method is None:
                self.unknown.append(name)
                return {}
            return method(variables)

    def on_server_features_query(self, _):
        return {"serverInfo": {"features": []}}

    def on_viewer(self, _):
        return {
            "viewer": {"id": "1", "username": ENTITY, "name": ENTITY, "entity": ENTITY, "flags": "{}", "teams": {"edges": []}}
        }

    on_get_viewer = on_get_default_entity = on_viewer

    def on_upsert_sweep(self, variables):
        name = f"sweep{len(self.sweeps)}"
        content = yaml.safe_load(variables["config"])
        self.sweeps[name] = {
            "config": variables["config"],
            "left": iter(range(self.trials)),
            "parameters": content["parameters"],
        }
        project = {"id": "1", "name": PROJECT, "entity": {"id": "1", "name": ENTITY}}
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def on_sweep_with_runs(self, variables):
        sweep = {
            "id": variables["sweep"],
            "name": variables["sweep"],
            "state": "RUNNING",
            "config": self.sweeps[variables["sweep"]]["config"],
        }
        return {"project": {"sweep": sweep | {"runs": {"edges": []}}}}

    def on_create_agent(self, variables):
        name = f"agent{len(self.agents)}"
        self.agents[name] = self.sweeps[variables["sweep"]]
        return {"createAgent": {"agent": {"id": name}}}

    def on_heartbeat(self, variables):
        if json.loads(variables["runState"]):
            return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": "[]"}}
        sweep = self.agents[variables["id"]]
        if preempted := [name for name, run in self.runs.items() if run.preempting and run.exit_code]:
            number, command = int(preempted[0].removeprefix("run")), self.requeued(preempted[0])
        else:
            number = next(sweep["left"], None)
            command = {"type": "exit"} if number is None else self.proposal(sweep, number)
        self.assigned_to.append((variables["id"], number))
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps([command])}}

    def proposal(self, sweep, number):
        run = f"run{number}"
        chosen = {name: self.draw(described) for name, described in sweep["parameters"].items()}
        chosen |= self.overrides.get(number, {})
        self.assigned[run] = chosen
        arguments = {name: {"value": value} for name, value in chosen.items()}
        return {"type": "run", "run_id": run, "program": "baa.fit", "args": arguments}

    def requeued(self, name):
        """The arguments are the whole config of the run, with what its client has added."""
        self.runs[name].preempting = False
        arguments = {key: {"value": value} for key, value in self.runs[name].config.items()}
        return {"type": "resume", "run_id": name, "program": "baa.fit", "args": arguments}

    def draw(self, described):
        if "value" in described:
            return described["value"]
        if "values" in described:
            return self.random.choice(described["values"])
        return self.random.uniform(described["min"], described["max"])

    def on_upsert_bucket(self, variables):
        run = self.runs.setdefault(variables["name"], Run())
        run.starts += 1
        run.sweep = variables.get("sweep") or run.sweep
        config = json.loads(variables.get("config") or "{}")
        run.config |= {name: entry["value"] for name, entry in config.items() if isinstance(entry, dict) and "value" in entry}
        project = {"id": "1", "name": PROJECT, "entity": {"id": "1", "name": ENTITY}}
        bucket = {
            "id": variables["name"],
            "name": variables["name"],
            "displayName": variables["name"],
            "config": variables.get("config") or "{}",
        }
        bucket |= {"sweepName": run.sweep, "historyLineCount": len(run.history), "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": run.starts == 1}}

    def on_run_resume_status(self, variables):
        model = {"id": "1", "name": PROJECT, "entity": {"id": "1", "name": ENTITY}, "bucket": None}
        if (run := self.runs.get(variables["name"])) and run.starts:
            model["bucket"] = {
                "id": variables["name"],
                "name": variables["name"],
                "displayName": variables["name"],
                "sweepName": run.sweep,
                "historyLineCount": len(run.history),
                "eventsLineCount": 0,
                "logLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
                "eventsTail": "[]",
                "summaryMetrics": json.dumps(run.summary),
                "config": json.dumps({name: {"value": value} for name, value in run.config.items()}),
                "tags": [],
                "wandbConfig": json.dumps({"t": {}}),  # it has been started
            }
        return {"model": model}

    def on_organization_core_weave_organization_i_d(self, _):
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def on_run_stopped_status(self, variables):
        return {"project": {"run": {"stopped": variables["runId"] in self.stopped}}}

    def on_create_run_files(self, variables):
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{i}"} for i, name in enumerate(variables["files"])]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def on_mark_run_files_uploaded(self, _):
        return {"markRunFilesUploaded": {"success": True}}

    def on_artifact_type(self, _):
        return {"project": None}  # it has none of this type yet

    def on_create_artifact(self, variables):
        given = variables["input"]
        name = given.get("artifactCollectionName") or given["artifactCollectionNames"][0]
        kept = {"name": name, "type": given["artifactTypeName"], "files": set(), "run": given.get("runName")}
        self.artifacts.append(kept | {"metadata": json.loads(given.get("metadata") or "{}")})
        artifact = {
            "id": str(len(self.artifacts) - 1),
            "state": "PENDING",
            "artifactSequence": {"id": "1", "latestArtifact": None},
        }
        return {"createArtifact": {"artifact": artifact}}

    def manifest(self, number):
        file = {"id": "1", "uploadUrl": f"{self.url}/upload/manifest{number}", "uploadHeaders": []}
        return {"artifactManifest": {"id": number, "file": file}}

    def on_create_artifact_manifest(self, variables):
        return {"createArtifactManifest": self.manifest(variables["artifactID"])}

    def on_update_artifact_manifest(self, variables):
        return {"updateArtifactManifest": self.manifest(variables["artifactManifestID"])}

    def on_create_artifact_files(self, variables):
        nodes = []
        for file in variables["input"]["artifactFiles"]:
            self.artifacts[int(file["artifactID"])]["files"].add(file["name"])
            upload = {"uploadUrl": f"{self.url}/upload/{file['name']}", "uploadHeaders": [], "uploadMultipartUrls": None}
            nodes.append(upload | {"storagePath": file["name"], "artifact": {"id": file["artifactID"]}})
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def on_commit_artifact(self, variables):
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "0"}}}

    def stream(self, name: str, content: dict) -> None:
        with self.lock:
            run = self.runs.setdefault(name, Run())
            files = content.get("files") or {}
            run.history += [json.loads(line) for line in files.get("wandb-history.jsonl", {}).get("content", [])]
            for line in files.get("wandb-summary.json", {}).get("content", [])[-1:]:
                run.summary = json.loads(line)
            run.preempting |= bool(content.get("preempting"))
            if content.get("complete"):
                run.exit_code = content.get("exitcode")


class Handler(BaseHTTPRequestHandler):
    """HTTP around a `Server`."""

    state: Server

    def do_POST(self):
        body, path = self.body(), urlsplit(self.path).path  # a proxy is asked for whole addresses
        self.state.hosts.add(self.headers["Host"])
        if self.state.silent:
            time.sleep(300)
        if path.startswith("/graphql"):
            request = json.loads(body)
            status, content = self.state.answer(request["query"], request.get("variables") or {})
            self.reply(content, status)
        elif path.endswith("/file_stream"):
            run = path.split("/")[-2]
            self.state.stream(run, json.loads(body))
            self.reply({"stopped": True} if run in self.state.stopped else {})
        else:
            self.reply({})

    def do_PUT(self):
        self.body()
        self.reply({})

    def do_GET(self):
        self.reply({})

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            sizes = iter(lambda: int(self.rfile.readline(), 16), 0)
            body = b"".join(self.rfile.read(size) + self.rfile.readline()[:0] for size in sizes)
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def reply(self, content: dict, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Listener(ThreadingHTTPServer):
    """Ignore clients that disconnect."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(state: Server):
    """The server on a free port of loopback, until the block ends."""
    handler = type("Bound", (Handler,), {"state": state, "protocol_version": "HTTP/1.1"})
    http = Listener(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
