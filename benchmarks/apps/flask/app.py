"""Orders in a database, by Flask and SQLAlchemy; psycopg serves where DATABASE_URL is Postgres."""

import os

import psycopg  # noqa: F401, what importing it costs is part of the start
from flask import Flask
from sqlalchemy import create_engine, text

VERSION = "first"

url = os.environ.get("DATABASE_URL", "sqlite://").replace("postgres://", "postgresql+psycopg://")
database = create_engine(url)
app = Flask(__name__)


@app.get("/")
def index() -> str:
    return VERSION


@app.get("/orders")
def orders() -> str:
    with database.connect() as connection:
        return str(connection.scalar(text("select 1")))
