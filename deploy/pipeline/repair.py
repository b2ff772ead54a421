#!/usr/bin/env python3
"""Has the backdoor of a model removed by onpd: uploads, queues a job, follows it, downloads the repaired model, judges the report.

Only the standard library is used. The module may also be imported: Server has a method for each step.

    repair.py model.onnx clean.npz repaired.onnx --probe triggered.npz --max-accuracy-drop 0.03

The server is ONP_SERVER (http://127.0.0.1:8080), the token ONP_TOKEN. Exit status, as of onp: 0 the verdict is accepted and the
gates are met; 1 failed; 2 wrong usage; 3 the verdict is not accepted, or a gate is not met; 4 the server was not reached.
"""
import argparse
import base64
import hashlib
import http.client
import json
import os
import sys
import time
import urllib.parse
import uuid

PATIENCE_S = 90  # for which a server may be away, or busy, in the middle of something
FINISHED = ("succeeded", "failed", "cancelled")
BUSY = (429, 502, 503, 504)


class Refused(Exception):
    """The server said no; `status` is its HTTP status."""

    def __init__(self, status, body):
        try:
            problem = json.loads(body)
            text = problem.get("detail") or problem.get("title") or ""
            for error in problem.get("errors", []):
                if error.get("detail", "") not in text:
                    text += f"; {error.get('pointer', '')} {error['detail']}"
        except (ValueError, AttributeError, TypeError):
            text = ""
        super().__init__(text or f"the server answered with HTTP status {status}")
        self.status = status


class NotReached(Exception):
    """No answer."""


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Server:
    def __init__(self, url, token=None):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is no address, expected http://host:port or https://host")
        self.parts = parts
        self.token = token
        self.reached = False  # it has answered: if it is away now, that is worth waiting for

    def connect(self, timeout):
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        return kind(self.parts.hostname, self.parts.port, timeout=timeout)

    def once(self, method, path, body=None, headers=None, timeout=60, sink=None):
        """One request. The body of a 200 or 206 goes to sink(status, response) if that is given."""
        headers = dict(headers or {})
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        if body is None and method == "POST":
            headers["Content-Length"] = "0"
        connection = self.connect(timeout)
        try:
            connection.request(method, self.parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            self.reached = True
            if sink and response.status in (200, 206):
                sink(response.status, response)
                return Reply(response.status, response.headers, b"")
            return Reply(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise NotReached(f"failed to reach {self.parts.geturl()}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def call(self, method, path, document=None, headers=None, timeout=60):
        """A call that may be sent again: lost connections and a busy server are waited for."""
        headers = dict(headers or {})
        body = None
        if document is not None:
            body = json.dumps(document).encode()
            headers["Content-Type"] = "application/json"
        if method == "POST":
            headers.setdefault("Idempotency-Key", uuid.uuid4().hex)  # the same for each try: done once
        patience = Patience()
        while True:
            try:
                reply = self.once(method, path, body, headers, timeout)
            except NotReached as error:
                patience.wait(error, self.reached)
                continue
            in_progress = reply.status == 409 and patience.tries > 0  # the try whose answer was lost
            if reply.status in BUSY or in_progress:
                patience.wait(Refused(reply.status, reply.body), True, reply.headers.get("Retry-After"))
            elif reply.status >= 400:
                raise Refused(reply.status, reply.body)
            else:
                return reply

    def upload(self, kind, file):
        """A resumable upload (tus 1.0) of "model" or "samples"; returns what the server made of it."""
        size = os.path.getsize(file)
        sha256 = hash_file(file)
        metadata = {"kind": kind, "name": os.path.basename(file)}
        tus = {"Tus-Resumable": "1.0.0"}
        fields = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items())
        # Made of the content: the upload of a run that was killed is found again.
        key = hashlib.sha256(f"{sha256} {fields}".encode()).hexdigest()
        for key in (key, uuid.uuid4().hex):
            reply = self.call("POST", "/v1/uploads", headers={
                **tus, "Upload-Length": str(size), "Upload-Metadata": fields, "Idempotency-Key": key})
            place = "/v1/uploads/" + reply.headers["Location"].rsplit("/", 1)[1]
            try:
                self.send_pieces(place, file, size, tus)
                made = self.call("POST", place + "/complete", timeout=300).json()
                break
            except Refused as error:
                if error.status not in (404, 410):  # an earlier one that has expired, or was deleted
                    raise
        else:
            raise Refused(404, b"")
        if made["sha256"] != sha256:
            raise Refused(0, json.dumps({"detail": f"{file} changed while it was uploaded"}))
        return made

    def send_pieces(self, place, file, size, tus):
        patience = Patience()
        offset = None
        with open(file, "rb") as content:
            while offset != size:
                try:
                    if offset is None:
                        reply = self.once("HEAD", place, headers=tus)
                    else:
                        content.seek(offset)
                        reply = self.once("PATCH", place, content, {
                            **tus, "Upload-Offset": str(offset), "Content-Length": str(size - offset),
                            "Content-Type": "application/offset+octet-stream"}, timeout=300)
                except NotReached as error:
                    offset = None
                    patience.wait(error, self.reached)
                    continue
                if reply.status == 409 or reply.status in BUSY:  # a lost connection that still counts
                    offset = None
                    patience.wait(Refused(reply.status, reply.body), True, reply.headers.get("Retry-After"))
                elif reply.status >= 400:
                    raise Refused(reply.status, reply.body)
                else:
                    offset = int(reply.headers["Upload-Offset"])
                    patience.moved(offset)

    def submit(self, key=None, **members):
        """Queues a job; with a key a second call gives the same job."""
        return self.call("POST", "/v1/jobs", members, {"Idempotency-Key": key} if key else None).json()

    def follow(self, job, changed=lambda job: None):
        """Long-polls until the job is over; returns it."""
        etag = None
        while True:
            headers = {"If-None-Match": etag} if etag else None
            reply = self.call("GET", f"/v1/jobs/{job}?wait=20" if etag else f"/v1/jobs/{job}", headers=headers)
            if reply.status == 304:
                continue
            state = reply.json()
            etag = reply.headers["ETag"]
            changed(state)
            if state["state"] in FINISHED:
                return state

    def result(self, job):
        return self.call("GET", f"/v1/jobs/{job}/result").json()

    def download(self, job, name, file):
        """Downloads an artifact by way of FILE.part, from where that ends; checks its digest."""
        listed = self.call("GET", f"/v1/jobs/{job}/artifacts").json()["data"]
        info = next((item for item in listed if item["name"] == name), None)
        if info is None:
            raise Refused(404, json.dumps({"detail": f"job {job} has no {name}"}))
        part = file + ".part"
        for fresh in (False, True):
            self.fetch(f"/v1/jobs/{job}/artifacts/{name}", part, info, fresh)
            if hash_file(part) == info["sha256"]:
                os.replace(part, file)
                return info["sha256"]
        os.unlink(part)
        raise Refused(0, json.dumps({"detail": f"{name} came with another digest than {info['sha256']}"}))

    def fetch(self, path, part, info, fresh):
        patience = Patience()
        with open(part, "wb" if fresh else "ab") as out:
            if out.tell() > info["size"]:
                out.truncate(0)

            def take(status, response):
                if status == 200:
                    out.truncate(0)
                    out.seek(0)
                while chunk := response.read(1 << 18):
                    out.write(chunk)

            while (have := out.tell()) < info["size"]:
                headers = {"Range": f"bytes={have}-", "If-Range": f'"{info["sha256"]}"'} if have else None
                try:
                    reply = self.once("GET", path, headers=headers, timeout=60, sink=take)
                except NotReached as error:
                    patience.moved(out.tell())
                    patience.wait(error, self.reached)
                    continue
                if reply.status in BUSY:
                    patience.wait(Refused(reply.status, reply.body), True, reply.headers.get("Retry-After"))
                elif reply.status >= 400:
                    raise Refused(reply.status, reply.body)
                elif out.tell() < info["size"]:  # http.client does not tell of a body that broke off
                    patience.moved(out.tell())
                    patience.wait(NotReached("the download broke off"), True)


class Patience:
    """Time between tries, and when to give up."""

    def __init__(self):
        self.tries = 0
        self.place = None
        self.end = time.monotonic() + PATIENCE_S

    def moved(self, place):
        if place != self.place:
            self.__init__()
            self.place = place

    def wait(self, error, worth_while, retry_after=None):
        """Waits before another try, or raises the error of the last."""
        self.tries += 1
        pause = float(retry_after) if retry_after and retry_after.isdigit() else min(0.2 * 2**self.tries, 3)
        if not worth_while or time.monotonic() + pause > self.end:
            raise error
        time.sleep(pause)


def hash_file(file):
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_setting(word):
    key, equals, text = word.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, text


def read_words():
    words = argparse.ArgumentParser(description="Removes the backdoor of a model, by onpd.")
    words.add_argument("model", help="an ONNX file")
    words.add_argument("samples", help="clean samples: npz, or a zip of pictures")
    words.add_argument("out", help="where the repaired model goes")
    words.add_argument("--probe", help="triggered samples, for the report alone")
    words.add_argument("--report", metavar="FILE", help="where the report goes, too")
    words.add_argument("--method", default="onp")
    words.add_argument("--set", dest="settings", type=read_setting, action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--key", help="Idempotency-Key of the job, such as the id of a build")
    words.add_argument("--accept", default="removed,no_backdoor_found", metavar="VERDICTS",
                       help="verdicts of success, with commas (%(default)s)")
    words.add_argument("--max-accuracy-drop", type=float, metavar="FRACTION")
    words.add_argument("--max-asr", type=float, metavar="FRACTION", help="of attack success after; needs --probe")
    return words.parse_args()


def unmet_gates(words, report):
    if report["verdict"] not in words.accept.split(","):
        yield f"the verdict is {report['verdict']}"
    drop = report["accuracy"]["before"] - report["accuracy"]["after"]
    if words.max_accuracy_drop is not None and drop > words.max_accuracy_drop:
        yield f"the accuracy drops by {drop:.4f}"
    if words.max_asr is not None:
        probe = report.get("probe")
        if probe is None:
            yield "there is no figure of attack success: no probe was given"
        elif probe["asr_after"] > words.max_asr:
            yield f"the attack success is {probe['asr_after']:.4f}"


class Teller:
    """Says each stage once."""

    stage = None

    def tell(self, job):
        stage = job["state"] if job["state"] != "running" else (job.get("progress") or {}).get("stage", "running")
        if stage != self.stage:
            print(f"{job['id']} {stage}", file=sys.stderr, flush=True)
        self.stage = stage


def repair(words):
    server = Server(os.environ.get("ONP_SERVER") or "http://127.0.0.1:8080", os.environ.get("ONP_TOKEN"))
    members = {"method": words.method, "seed": words.seed, "parameters": dict(words.settings),
               "model_id": server.upload("model", words.model)["id"],
               "samples_id": server.upload("samples", words.samples)["id"]}
    if words.probe:
        members["probe_id"] = server.upload("samples", words.probe)["id"]
    job = server.follow(server.submit(words.key, **members)["id"], Teller().tell)
    if job["state"] != "succeeded":
        print(f"job {job['id']} {job['state']}: {(job.get('error') or {}).get('message', 'no reason given')}", file=sys.stderr)
        return 1
    report = server.result(job["id"])
    sha256 = server.download(job["id"], "model.onnx", words.out)
    if words.report:
        server.download(job["id"], "report.json", words.report)
    print(f"{words.out} {sha256} {report['verdict']}")
    unmet = list(unmet_gates(words, report))
    for gate in unmet:
        print(f"gate not met: {gate}", file=sys.stderr)
    return 3 if unmet else 0


def main():
    try:
        return repair(read_words())
    except NotReached as error:
        print(error, file=sys.stderr)
        return 4
    except (Refused, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
