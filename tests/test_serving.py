"""`tlkit serve`: TensorFlow Serving's REST, uploads, batches, limits, and the stop."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from browser import Browser
from click.testing import CliRunner
from conftest import CLASSES
from PIL import Image

from tlkit.cli.main import main

MEGABYTES = 2


class Running:
    """A service in a process of its own."""

    def __init__(self, model: Path, *options: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tlkit", "serve", str(model), "--port", "0", *options],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                break
        else:
            raise AssertionError("".join(self.said))
        self.address = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Send SIGTERM, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.said += self.process.communicate(timeout=60)[0].splitlines(keepends=True)

    def upload(self, *contents: bytes, query: str = "", **extra) -> requests.Response:
        files = [("image", (f"{i}.png", content)) for i, content in enumerate(contents)]
        return requests.post(f"{self.address}/predict{query}", files=files, timeout=60, **extra)

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@pytest.fixture(scope="module")
def running(tiny_run):
    service = Running(tiny_run.folder, "--name", "shapes", "--max-megabytes", str(MEGABYTES))
    yield service
    if service.process.poll() is None:
        service.stop()
    assert service.process.returncode == 0, "".join(service.said)


@pytest.fixture(scope="module")
def files(image_folder) -> list[bytes]:
    return [file.read_bytes() for file in sorted(image_folder.rglob("*.png"))]


@pytest.fixture(scope="module")
def expected(tiny_run, files) -> list[dict]:
    return tiny_run.predict(files)


def alike(found: dict, wanted: dict) -> None:
    assert found["label"] == wanted["label"]
    assert found["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)


# Uploads


def test_what_is_uploaded_is_answered_as_predict_does(running, files, expected):
    answer = running.upload(*files[:5])
    assert answer.status_code == 200
    for i, row in enumerate(answer.json()):
        assert list(row) == ["path", "label", "score", "probabilities", "error"]
        assert (row["path"], row["error"]) == (f"{i}.png", None)
        alike(row, expected[i])


def test_what_the_model_has_no_maps_for_is_said(running, files):
    answer = running.upload(files[0], query="?maps=true")
    assert answer.status_code == 400
    assert "maps: the last feature map of 32 x 32 pixels is 1 x 1" in answer.json()["error"]


def test_a_damaged_image_stops_no_other(running, files, expected):
    answer = running.upload(files[0], files[0][:300], b"", files[1])
    assert answer.status_code == 200
    first, cut, empty, last = answer.json()
    alike(first, expected[0])
    alike(last, expected[1])
    assert cut["error"] == "truncated or corrupt PNG"
    assert cut["label"] is cut["probabilities"] is None
    assert empty["error"] == "empty file"
    alone = running.upload(files[0][:300])
    assert alone.status_code == 400
    assert alone.json()["error"] == "0.png: truncated or corrupt PNG"
    both = running.upload(b"", b"")
    assert both.json()["error"] == (
        "none of the 2 files could be used. The first, 0.png: empty file"
    )


@pytest.mark.parametrize(
    ("query", "body", "code", "words"),
    [
        ("?maps=yes", {}, 400, "maps: Allowed: true or false. Received: yes"),
        ("?map=true", {}, 400, "map: unknown. Allowed: maps, masks"),
        ("?masks=true", {}, 400, "masks: the task classification answers with no mask"),
        ("", {"data": b"x"}, 400, "expected one or more image files as multipart/form-data"),
        ("", {"files": {"a": (None, "x")}}, 400, "a: is no file. Allowed: image files alone"),
        (
            "",
            {"data": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "the form cannot be read",
        ),
        (
            "",
            {
                "data": b"--b--\r\n",
                "headers": {"content-type": "multipart/form-data; boundary=b"},
            },
            400,
            "no image file in the form",
        ),
        ("", {"files": [("i", ("a", b"x"))] * 65}, 400, "Too many files"),
        ("", {"data": b"x" * (MEGABYTES * 10**6 + 1)}, 413, "too large. Allowed: 2 MB"),
    ],
)
def test_what_no_upload_may_be(running, query, body, code, words):
    answer = requests.post(f"{running.address}/predict{query}", timeout=60, **body)
    assert answer.status_code == code, answer.text
    assert words in answer.json()["error"]


def test_one_corrupt_image_among_32_at_once(running, files, expected):
    contents = [files[i] for i in range(32)]
    contents[13] = contents[13][:400]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(running.upload, contents))
    assert [a.status_code for a in answers] == [400 if i == 13 else 200 for i in range(32)]
    for i, answer in enumerate(answers):
        if i != 13:
            alike(answer.json()[0], expected[i])


# TensorFlow Serving's REST


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def rest(running, body, path="shapes", method="predict") -> requests.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return requests.post(f"{running.address}/v1/models/{path}:{method}", content, timeout=60)


def test_clients_of_tensorflow_serving_are_answered(running, files, expected):
    for row in (b64(files[0]), {"image_bytes": b64(files[0])}):
        answer = rest(running, {"instances": [row, row]})
        assert answer.status_code == 200, answer.text
        for found in answer.json()["predictions"]:
            assert set(found) == {"probabilities", "label", "score"}
            wanted = list(expected[0]["probabilities"].values())
            assert found["probabilities"] == pytest.approx(wanted, abs=1e-5)
            assert found["label"] == expected[0]["label"]
    for column in ([b64(files[1])], {"image_bytes": [b64(files[1])]}):
        answer = rest(running, {"inputs": column}, "shapes/versions/1").json()["outputs"]
        assert answer["label"] == [expected[1]["label"]]
        assert np.shape(answer["probabilities"]) == (1, len(CLASSES))


def test_pixels_are_taken_too(running, files, expected):
    pixels = np.asarray(Image.open(io.BytesIO(files[0])))
    body = {"signature_name": "serve_pixels", "instances": [pixels.tolist()]}
    (found,) = rest(running, body).json()["predictions"]
    assert found["score"] == pytest.approx(expected[0]["score"], abs=1e-3)
    grey = np.full((1, 32, 32, 3), 127.5).tolist()
    answer = rest(running, {"signature_name": "serve_resized", "inputs": {"images": grey}})
    assert answer.json()["outputs"]["label"][0] in CLASSES


def test_status_and_metadata(running):
    one = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in ("shapes", "shapes/versions/1", "SHAPES".lower()):
        found = requests.get(f"{running.address}/v1/models/{path}", timeout=60)
        assert found.json() == {"model_version_status": [one]}
    found = requests.get(f"{running.address}/v1/models/shapes/metadata", timeout=60).json()
    assert found["model_spec"] == {"name": "shapes", "signature_name": "", "version": "1"}
    defined = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert defined["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    dims = defined["outputs"]["probabilities"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in dims] == ["-1", "3"]
    assert defined["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("method", "path", "code", "words"),
    [
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/half", 404, "Could not find any versions of model half"),
        ("GET", "/v1/models/shapes/versions/2", 404, "Could not find version 2 of model shapes"),
        ("GET", "/v1/models/shapes/labels/x", 400, "Unrecognized servable version label: x"),
        ("GET", "/v1/models/half/metadata", 404, "Servable not found for request: Latest(half)"),
        ("GET", f"/v1/models/shapes/versions/{9**40}", 400, "Failed to convert version: "),
        ("POST", "/v1/models/half:predict", 404, "Servable not found for request: Latest(half)"),
        (
            "POST",
            "/v1/models/shapes/versions/7:predict",
            404,
            "Servable not found for request: Specific(shapes, 7)",
        ),
        ("POST", "/v1/models/shapes/labels/x:predict", 400, "Unrecognized servable version label"),
        ("POST", "/v1/models/shapes:classify", 400, "Expected classification signature"),
        ("POST", "/v1/models/shapes", 400, "Malformed request: POST /v1/models/shapes"),
        ("GET", "/v1/models/shapes:predict", 400, "Malformed request: GET /v1/models/shapes:pred"),
        ("PUT", "/v1/x", 400, "Malformed request: PUT /v1/x"),
        ("GET", "/nothing", 404, "GET /nothing: is not served here"),
        ("GET", "/predict", 405, "GET /predict: is not asked for so"),
    ],
)
def test_addresses_that_there_are_not(running, method, path, code, words):
    answer = requests.request(method, running.address + path, data=b"{}", timeout=60)
    assert answer.status_code == code
    assert words in answer.json()["error"]


DEEP = b'{"instances": ' + b"[" * 100_000
PIXELS = {"signature_name": "serve_pixels"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error: "),
        (b"\xff\xfe", "JSON Parse error: "),
        (DEEP, "JSON Parse error: nested too deeply"),
        (b'{"instances": %s}' % (b"[" * 70 + b"]" * 70), "image_bytes: expected shape [-1], no"),
        (b"[]", "JSON Value: [] Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": [1]}, "expecting only one of 'inputs' or 'instances' keys"),
        ({"instances": 1}, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        (
            {"signature_name": "x", "instances": [1]},
            'Serving signature name: "x" not found in signature def',
        ),
        ({"signature_name": 1}, "'signature_name' key must be a string value."),
        ({"instances": [1.5]}, "JSON Value: 1.5 Type: Number is not of expected type: string"),
        ({"instances": [None]}, "JSON Value: null Type: Null is not of expected type: string"),
        ({"instances": [{"b64": "%"}]}, "Unable to base64 decode"),
        ({"instances": [{"image_bytes": {"b64": 1}}]}, "not formatted correctly for base64 data"),
        ({"instances": [{"other": "x"}]}, "keys must be equal to: image_bytes"),
        ({"instances": ["x", {"a": 1}]}, "Expecting value/list but got object at item 1"),
        ({"instances": [{"image_bytes": "x"}, "x"]}, "Expecting object but got list at item 1"),
        ({"inputs": {"other": 1}}, "Missing named input: image_bytes in 'inputs' object."),
        ({"inputs": "x"}, "image_bytes: expected shape [-1], no side 0, but got []"),
        ({"instances": [["x"], "x"]}, "found at incorrect level: 2"),
        ({"instances": [["x"], ["x", "y"]]}, "Encountered list at unexpected size: 2 at level: 1"),
        ({**PIXELS, "inputs": [[1], [2, 3]]}, "Encountered list at unexpected size: 2 at level: 1"),
        (
            {**PIXELS, "inputs": [300]},
            "JSON Value: 300 Type: Number is not of expected type: uint8",
        ),
        (
            {**PIXELS, "inputs": ["x"]},
            'JSON Value: "x" Type: String is not of expected type: uint8',
        ),
        ({**PIXELS, "inputs": [[[[1, 2]]]]}, "images: expected shape [-1,-1,-1,3], no side 0"),
        ({"signature_name": "serve_resized", "inputs": [1e300]}, "without loss of precision"),
        ({"instances": ["no image"]}, "image 0: not an image: starts with b'no image'"),
        ({"instances": ["x"] * 65}, "too many images in a request, at most 64"),
    ],
)
def test_bodies_that_are_refused_as_tensorflow_serving_refuses_them(running, body, words):
    answer = rest(running, body)
    assert answer.status_code in (400, 413)
    assert words in answer.json()["error"]


def test_ovmsclient_works_unchanged(running, files, expected):
    ovmsclient = pytest.importorskip("ovmsclient")
    client = ovmsclient.make_http_client(f"127.0.0.1:{running.port}")
    status = client.get_model_status(model_name="shapes", model_version=1)
    assert status[1]["state"] == "AVAILABLE"
    about = client.get_model_metadata(model_name="shapes", model_version=1)
    signature = about["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert "image_bytes" in signature["inputs"]
    found = client.predict({"image_bytes": [files[0]]}, model_name="shapes", model_version=1)
    wanted = list(expected[0]["probabilities"].values())
    assert found["probabilities"][0] == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
        client.get_model_status(model_name="half", model_version=1)


# What surrounds it


def test_what_is_asked_by_who_runs_it(running):
    get = lambda path: requests.get(running.address + path, timeout=60)  # noqa: E731
    assert get("/healthz").json() == {"status": "ok"}
    assert get("/readyz").json() == {"status": "ready"}
    text = get("/metrics").text
    assert 'tlkit_requests_total{code="200",route="readyz"}' in text
    assert "tlkit_batch_images_bucket" in text
    about = get("/about").json()
    assert (about["name"], about["kind"], about["maps"]) == ("shapes", "run", False)
    said = "".join(running.said)
    assert "serve     shapes (" in said
    assert f"limits    {MEGABYTES} MB a request (within 20 s), 64 images; 50 megapixels" in said


def test_every_answer_is_for_this_page_alone(running):
    for path in ("/", "/page.js", "/page.css", "/icon.svg", "/about", "/nothing"):
        headers = requests.get(running.address + path, timeout=60).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    page = requests.get(running.address, timeout=60).text
    assert not re.search(r"https?://|//\w|style=|onclick", page)


def test_an_answer_is_sent_at_once(running):
    """Header and body are two packets; the second did not wait for the first's acknowledgement."""
    with requests.Session() as session:
        seconds = []
        for _ in range(20):
            start = time.perf_counter()
            assert session.get(f"{running.address}/healthz", timeout=60).ok
            seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.03


def test_another_name_of_this_address_is_refused(running):
    for host in ("evil.example", "evil.example:8501", ""):
        answer = requests.get(running.address, headers={"host": host}, timeout=60)
        assert answer.status_code == 400
        assert "host: is not served here. Allowed: 127.0.0.1, localhost" in answer.json()["error"]
    assert requests.get(running.address, headers={"host": "LOCALHOST:1"}, timeout=60).ok


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header))


def test_what_would_take_memory_is_refused_by_its_header(running):
    answer = running.upload(png_header(30_000, 30_000))
    assert answer.status_code == 400
    assert "too large: 30000 x 30000 pixels, at most 178,956,970" in answer.json()["error"]
    answer = running.upload(png_header(8_000, 8_000))
    assert "too large: 8000 x 8000 pixels, at most 50,000,000" in answer.json()["error"]


def mutated(valid: bytes, source: random.Random) -> bytes:
    """Return bytes of a request, some of them changed, gone or doubled."""
    found = bytearray(valid)
    for _ in range(source.randrange(1, 8)):
        at = source.randrange(len(found))
        kind = source.randrange(4)
        if kind == 0:
            found[at] = source.randrange(256)
        elif kind == 1:
            del found[at : at + source.randrange(1, 40)]
        elif kind == 2:
            found[at:at] = found[at : at + source.randrange(1, 40)]
        else:
            found[at:at] = source.randbytes(source.randrange(1, 20))
        if not found:
            break
    return bytes(found)


def sent(running, request: bytes, seconds: float) -> int | None:
    """Send bytes as they are; return the code of the answer, if there is one in time."""
    with running.connected() as connection:
        connection.settimeout(seconds)
        try:
            connection.sendall(request)
            answer = connection.recv(4096)
        except (ConnectionError, TimeoutError):
            return None
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else None


@pytest.mark.parametrize("count", [100, pytest.param(2_000, marks=pytest.mark.full)])
def test_mutated_requests_break_nothing(running, files, expected, count):
    source = random.Random(0)
    body = json.dumps({"instances": [b64(files[0])]}).encode()
    form = (
        b'--b\r\nContent-Disposition: form-data; name="i"; filename="a"\r\n\r\n%s\r\n--b--\r\n'
        % files[0]
    )
    kinds = [
        (b"/v1/models/shapes:predict", b"application/json", body),
        (b"/predict", b"multipart/form-data; boundary=b", form),
    ]
    codes = set()
    for i in range(count):
        path, kind, content = kinds[i % 2]
        if i % 3:  # the content alone: a head that is broken ends it early
            content = mutated(content, source)
        request = (
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
            % (path, kind, len(content))
            + content
        )
        if i % 3:
            codes.add(sent(running, request, 60))
        else:  # the service may wait for more of it
            codes.add(sent(running, mutated(request, source), 0.1))
    assert not {code for code in codes if code and code >= 500 and code != 503}
    assert 400 in codes
    alike(running.upload(files[0]).json()[0], expected[0])


def test_a_body_ten_times_the_cap_is_let_by(running, files, expected):
    answer = requests.post(
        f"{running.address}/predict",
        data=(b"x" * 1_000_000 for _ in range(10 * MEGABYTES)),
        timeout=60,
    )
    assert answer.status_code == 413
    alike(running.upload(files[0]).json()[0], expected[0])


def test_slow_senders_hold_nobody_up(running, files, expected):
    slow = [running.connected() for _ in range(50)]
    for connection in slow:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\nx"
        )
    alike(running.upload(files[0]).json()[0], expected[0])
    for connection in slow:
        connection.close()


# The page


def test_a_browser_shows_the_class_of_an_image_that_is_dropped(running, image_folder, expected):
    if not (program := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium here")
    file = sorted(image_folder.rglob("*.png"))[0]
    with Browser(program) as browser:
        browser.open(running.address)
        browser.drop(file, "Drop")
        browser.wait("document.querySelector('article canvas, article.bad')")
        answer = browser.run("document.querySelector('article .answer').textContent")
        label = browser.run("document.querySelector('canvas').getAttribute('aria-label')")
        said = browser.run("document.querySelector('[role=status]').textContent")
        assert not browser.problems()
    assert answer.startswith(f"{expected[0]['label']}, ")
    assert label == f"The image, 40 by 48 pixels: {answer}."
    assert said == f"{file.name}: {answer}"


# The end


def test_what_was_asked_is_answered_before_the_end(running, files, expected):
    """The last test with this process."""
    service = running
    body = b'--b\r\nContent-Disposition: form-data; name="i"; filename="a"\r\n\r\n'
    body += files[0] + b"\r\n--b--\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
    head += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    with service.connected() as asking:
        asking.sendall(head + body[:100])
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        ready = requests.get(f"{service.address}/readyz", timeout=60)
        assert (ready.status_code, ready.json()) == (503, {"error": "is being stopped"})
        time.sleep(1.5)  # by now no connection is taken any more
        with pytest.raises(ConnectionRefusedError):
            service.connected()
        asking.sendall(body[100:])
        answer = b"".join(iter(lambda: asking.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    alike(json.loads(answer.partition(b"\r\n\r\n")[2])[0], expected[0])
    assert service.process.wait(60) == 0
    said = service.process.communicate()[0].splitlines()[-1]
    assert re.fullmatch(r"stopped   [\d,]+ images answered", said)


# The command


def refused(*arguments) -> str:
    done = CliRunner().invoke(main, ["serve", *map(str, arguments)])
    assert done.exit_code == 2, done.output
    return done.stderr


def test_what_cannot_be_served(tiny_run, tmp_path, monkeypatch):
    assert "run nowhere: is no folder. Allowed: a folder made by tlkit train or" in refused(
        "nowhere"
    )
    said = refused(tiny_run.folder, "--batch-size", 12)
    assert "--batch-size: must be a power of two. Received: 12" in said
    assert "--name: is no name of a model" in refused(tiny_run.folder, "--name", "a/b")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused(tiny_run.folder, "--port", taken.getsockname()[1])
    assert "cannot be bound: Address already in use. Allowed: an address of this machine" in said
    assert "--host not.an.address.invalid: " in refused(
        tiny_run.folder, "--host", "not.an.address.invalid"
    )
    monkeypatch.setattr("tlkit.cli.serve.EXTRA", ("starlette", "absent_package"))
    said = refused(tiny_run.folder)
    assert (
        "serve: needs absent_package, not installed here. Install: pip install 'tlkit[serve]'"
        in said
    )
