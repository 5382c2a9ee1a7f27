"""The stand-in over real HTTP: the API's parameters, limits and headers, and each fault."""

import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.standin import Standin, faults
from tests.standin.query import FIELDS, NATIONALITIES, Query
from tests.standin.rate_limit import RateLimit
from tests.standin.users import Users

ROOT = Path(__file__).parents[2]

SHORT = 0.3
"""Seconds that these tests wait for what never comes."""

USERS = Users()

Answer = dict[str, Any]


@pytest.fixture
def api() -> Iterator[Standin]:
    with Standin(users=USERS) as standin:
        yield standin


def get(api: Standin, **parameters: object) -> requests.Response:
    texts = {name: str(value) for name, value in parameters.items()}
    return requests.get(api.url, params=texts, timeout=10)


def answer(api: Standin, **parameters: object) -> Answer:
    response = get(api, **parameters)
    assert response.status_code == 200
    decoded: Answer = response.json()
    return decoded


def expected(**changes: Any) -> Answer:
    decoded: Answer = json.loads(USERS.page(replace(Query("s", 2, 3), **changes)).encode())
    return decoded


def test_a_page(api: Standin) -> None:
    response = get(api, seed="s", page=2, results=3)
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.json() == expected()
    assert response.json()["info"] == {"seed": "s", "results": 3, "page": 2, "version": "1.4"}


@pytest.mark.parametrize(
    ("asked", "info"),
    [
        ({"results": 5_000}, {"results": 5_000}),
        ({"results": 5_001}, {"results": 1}),
        ({"results": 0}, {"results": 1}),
        ({"results": -1}, {"results": 1}),
        ({"results": "many"}, {"results": 1}),
        ({"page": 10_000}, {"page": 10_000}),
        ({"page": 10_001}, {"page": 1}),
        ({"page": -1}, {"page": 1}),
        ({"page": "last"}, {"page": 1}),
    ],
)
def test_silent_fallbacks_are_told_in_info(
    api: Standin, asked: dict[str, object], info: dict[str, int]
) -> None:
    got = answer(api, **({"seed": "s", "page": 2, "results": 3} | asked))
    assert got["info"] == expected()["info"] | info
    assert len(got["results"]) == got["info"]["results"]


def test_an_unknown_nationality_is_all_of_them(api: Standin) -> None:
    got = answer(api, nat="XX", results=500)
    assert {user["nat"] for user in got["results"]} == set(NATIONALITIES)


def test_nationalities(api: Standin) -> None:
    got = answer(api, nat="de,ir", results=50)
    assert {user["nat"] for user in got["results"]} == {"DE", "IR"}


def test_without_a_seed_info_tells_the_one_used(api: Standin) -> None:
    first = answer(api, results=2)
    assert answer(api, results=2)["results"] != first["results"]
    assert answer(api, results=2, seed=first["info"]["seed"]) == first


def test_a_seed_of_any_characters(api: Standin) -> None:
    seed = 'a "quoted" سلام & more'
    assert answer(api, seed=seed)["info"]["seed"] == seed


def test_inc_exc_and_noinfo(api: Standin) -> None:
    assert list(answer(api, inc="nat,name")["results"][0]) == ["name", "nat"]
    assert set(answer(api, exc="login")["results"][0]) == set(FIELDS) - {"login"}
    assert set(answer(api, noinfo="")) == {"results"}


@pytest.mark.parametrize("path", ["/api/", "/api/1.4/", "/api/1.4"])
def test_addresses(api: Standin, path: str) -> None:
    host = urlsplit(api.url).netloc
    assert requests.get(f"http://{host}{path}", timeout=10).status_code == 200


def test_an_unknown_version_is_404_in_text(api: Standin) -> None:
    response = requests.get(api.url.replace("1.4", "9.9"), timeout=10)
    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("text/")


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_gzip_when_asked_for(api: Standin, encoding: str) -> None:
    response = requests.get(
        api.url,
        params={"seed": "s", "page": "2", "results": "3"},
        headers={"Accept-Encoding": encoding},
        stream=True,
        timeout=10,
    )
    body = response.raw.read(decode_content=False)
    assert response.headers.get("Content-Encoding", "identity") == encoding
    assert json.loads(gzip.decompress(body) if encoding == "gzip" else body) == expected()


def test_connections_are_kept_alive(api: Standin) -> None:
    connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=10)
    ports = set()
    for page in (1, 2, 3):
        connection.request("GET", f"/api/?page={page}")
        ports.add(connection.sock.getsockname()[1])
        assert connection.getresponse().read()
    assert len(ports) == 1


def test_requests_are_recorded(api: Standin) -> None:
    answer(api, seed="s", page=1)
    get(api, seed="s", page=2)
    assert [request.parameters["page"] for request in api.requests] == ["1", "2"]
    assert api.requests[0].path == "/api/1.4/"


def test_rate_limit() -> None:
    with Standin(users=USERS, rate_limit=RateLimit(20)) as api:
        assert [get(api, results=10).status_code for _ in range(3)] == [200, 200, 429]
        refused = get(api, results=10)
    assert set(refused.json()) == {"error"}
    assert "Retry-After" not in refused.headers


def test_the_published_limit_is_the_default(api: Standin) -> None:
    statuses = [get(api, results=5_000, seed="s", exc="login").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 200, 429]


def test_stopped_it_refuses_and_started_again_it_has_the_same_address(api: Standin) -> None:
    api.stop()
    with pytest.raises(requests.ConnectionError, match="refused"):
        get(api)
    api.start()
    assert get(api).status_code == 200


def test_stopping_breaks_what_hangs(api: Standin) -> None:
    api.script(faults.HangAfterHeader())
    with requests.get(api.url, stream=True, timeout=10) as response:
        api.stop()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            assert response.content


def test_faults_come_in_order_and_end(api: Standin) -> None:
    api.script(faults.HtmlError(502), times=2)
    api.script(faults.JsonError(500))
    assert [get(api).status_code for _ in range(4)] == [502, 502, 500, 200]


def test_faults_of_some_pages(api: Standin) -> None:
    api.script(faults.HtmlError(502), pages=[2, 3], times=None)
    assert [get(api, page=page).status_code for page in (1, 2, 3, 2)] == [200, 502, 502, 502]
    api.clear_script()
    assert get(api, page=2).status_code == 200


def test_hang(api: Standin) -> None:
    api.script(faults.Hang())
    with pytest.raises(requests.ReadTimeout):
        requests.get(api.url, timeout=SHORT)


def test_hang_after_header(api: Standin) -> None:
    api.script(faults.HangAfterHeader())
    with requests.get(api.url, timeout=SHORT, stream=True) as response:
        assert response.status_code == 200
        with pytest.raises(requests.ConnectionError, match="timed out"):
            assert response.content


def test_close_in_body(api: Standin) -> None:
    api.script(faults.CloseInBody())
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        get(api, results=100)


@pytest.mark.parametrize("status", [500, 502, 503])
def test_html_error(api: Standin, status: int) -> None:
    api.script(faults.HtmlError(status))
    response = get(api)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("status", [200, 500])
def test_json_error(api: Standin, status: int) -> None:
    api.script(faults.JsonError(status))
    response = get(api)
    assert response.status_code == status
    assert set(response.json()) == {"error"}


@pytest.mark.parametrize("retry_after", [None, 7])
def test_too_many_requests(api: Standin, retry_after: int | None) -> None:
    api.script(faults.TooManyRequests(retry_after))
    response = get(api)
    assert response.status_code == 429
    assert response.headers.get("Retry-After") == (str(retry_after) if retry_after else None)


def test_invalid_json(api: Standin) -> None:
    api.script(faults.InvalidJson())
    with pytest.raises(requests.JSONDecodeError):
        get(api).json()


def test_wrong_page(api: Standin) -> None:
    api.script(faults.WrongPage())
    assert answer(api, seed="s", page=2, results=3) == expected(page=3)


def test_wrong_seed(api: Standin) -> None:
    api.script(faults.WrongSeed("other"))
    assert answer(api, seed="s", page=2, results=3) == expected(seed="other")


def test_one_user(api: Standin) -> None:
    api.script(faults.OneUser())
    assert answer(api, seed="s", page=2, results=3) == expected(results=1)


def test_more_users(api: Standin) -> None:
    api.script(faults.MoreUsers(2))
    got = answer(api, seed="s", page=2, results=3)
    assert got["results"] == expected(results=5)["results"]
    assert got["info"] == expected()["info"]


def test_endless_body(api: Standin) -> None:
    api.script(faults.EndlessBody())
    with requests.get(api.url, stream=True, timeout=10) as response:
        assert len(response.raw.read(20_000_000)) == 20_000_000


def test_gzip_bomb(api: Standin) -> None:
    api.script(faults.GzipBomb(megabytes=100))
    response = get(api)
    assert int(response.headers["Content-Length"]) < 200_000
    assert len(response.content) > 100 * 1024 * 1024


def test_slow_body(api: Standin) -> None:
    api.script(faults.SlowBody(seconds=0.5, pieces=5))
    began = time.monotonic()
    assert answer(api, seed="s", page=2, results=3) == expected()
    assert time.monotonic() - began >= 0.5


def test_replaced_users(api: Standin) -> None:
    api.script(faults.ReplaceUsers({0: '{"broken":true}', 2: "17"}))
    got = answer(api, seed="s", page=2, results=3)
    assert got["results"] == [{"broken": True}, expected()["results"][1], 17]
    assert got["info"] == expected()["info"]


def test_command_line_serves_until_sigterm() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.standin",
        "--rate-limit",
        "0",
        "--fault",
        "status-502:2",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        try:
            statuses = [requests.get(url, timeout=10).status_code for _ in range(3)]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert statuses == [502, 502, 200]
    address = urlsplit(url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), 1)


@pytest.mark.parametrize("fault", ["no-such", "hang:often"])
def test_command_line_refuses_unknown_faults(fault: str) -> None:
    command = [sys.executable, "-m", "tests.standin", "--fault", fault]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("standin", ["tests.standin", "examples.bookshop.standin"])
def test_command_line_says_that_its_port_is_taken(standin: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", standin, "--port", str(taken.getsockname()[1])]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert "Address already in use; name another" in done.stderr
    assert "Traceback" not in done.stderr
