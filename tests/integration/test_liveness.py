"""Who is alive: a process's sessions are found by its name, and its death counts once."""

import os
import socket

import pytest
from sqlalchemy import make_url, text

import database
import settings

POD = "importer-of-users-for-the-people-department-7d9f8b6c54-x2vqz"
"""As long as Kubernetes has them."""


@pytest.mark.parametrize(
    ("host", "begins", "ends"),
    [
        ("host", "host", "host"),
        (POD, "importer-of", "-x2vqz"),
        ("worker-17.machines.a-company-with-a-long-name.example.com", "worker-17.", ".com"),
        ("bücher", "b-cher", "b-cher"),
        ("büro-" * 12, "b-ro-", "-ro-"),
    ],
    ids=["short", "a pod", "a machine with its domain", "not ASCII", "long and not ASCII"],
)
def test_a_processs_sessions_bear_its_whole_name(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, host: str, begins: str, ends: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    name = settings.executor_id()
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = database.make_engine(url, name)

    with engine.connect() as connection:
        assert connection.scalar(text("SHOW application_name")) == name
    engine.dispose()

    shown, pid, _ = name.rsplit("-", 2)
    assert (shown.startswith(begins), shown.endswith(ends)) == (True, True), name
    assert pid == str(os.getpid())
