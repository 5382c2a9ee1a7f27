"""The migrations make what the models say, and take it away again."""

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, MetaData, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import models
from tests.support.databases import Sql
from tests.support.programs import PROJECT, PYTHON, clean_environment

BIN = Path(PYTHON).parent

RELATIONS = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
      AND relname <> 'alembic_version_pkc'
"""


def alembic(url: str, *arguments: str) -> str:
    done = subprocess.run(
        [BIN / "alembic", *arguments],
        cwd=PROJECT,
        env=clean_environment() | {"POSTGRES_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_up_checked_and_down_again(empty_postgres_url: str) -> None:
    sql = Sql(empty_postgres_url)

    alembic(sql.url, "upgrade", "head")
    assert sql.value("SELECT version_num FROM alembic_version") == models.REVISION
    assert "No new upgrade operations detected" in alembic(sql.url, "check")

    alembic(sql.url, "downgrade", "base")
    assert sql(RELATIONS) == []


def test_the_code_expects_the_newest_migration() -> None:
    scripts = ScriptDirectory.from_config(Config(PROJECT / "migrations" / "alembic.ini"))

    assert scripts.get_current_head() == models.REVISION


def test_the_tables_are_as_the_models(postgres_url: str, tmp_path: Path) -> None:
    generated = generate(postgres_url, tmp_path / "generated.py")

    assert described(generated.Base.metadata) == described(models.Base.metadata)
    assert classes(generated) == classes(models)


def generate(url: str, path: Path) -> ModuleType:
    """Models that sqlacodegen writes of what it finds in the database, views aside."""
    tables = ",".join(sorted(models.Base.metadata.tables))
    address = url.replace("postgresql://", "postgresql+psycopg://")
    options = ["--noviews", "--tables", tables, "--outfile", str(path)]
    subprocess.run([str(BIN / "sqlacodegen"), *options, address], check=True)
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def described(metadata: MetaData) -> Mapping[str, Any]:
    return {name: _described(table) for name, table in metadata.tables.items()}


def _described(table: Table) -> Mapping[str, Any]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return {
        # Columns with their types, nullability and defaults; constraints with their names.
        "ddl": sorted(
            line.strip().rstrip(",")
            for line in str(CreateTable(table).compile(dialect=dialect)).splitlines()
        ),
        "checks": [c for c in table.constraints if isinstance(c, CheckConstraint)],
        "comments": {None: table.comment, **{c.name: c.comment for c in table.columns}},
    }


def classes(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and name != "Base"
    }


@pytest.mark.parametrize("table", sorted(models.Base.metadata.tables))
def test_each_table_tells_what_it_is(sql: Sql, table: str) -> None:
    assert sql.value("SELECT obj_description(%s::regclass)", table)
