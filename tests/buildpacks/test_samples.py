"""The samples, built twice and served from the run image; the second build fetches nothing."""

from pathlib import Path

import pytest

from tests.buildpacks.runner import Workshop

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.mark.parametrize(
    ("sample", "description", "web", "said_again"),
    [
        (
            "python-web-worker",
            "Python",
            "gunicorn app:app --bind 0.0.0.0:$PORT",
            "Using cached install",
        ),
        ("node-web", "Node.js", "npm start", "Restored node_modules: nothing in it has changed"),
        ("go-web", "Go", "bin/go-web", "./bin/go-web"),
        (
            "ruby-rack",
            "Ruby",
            "bundle exec rackup config.ru -o 0.0.0.0 -p ${PORT:-5000}",
            "Using the gems of the stack",
        ),
        ("static-site", "Static site", "python3 .heroku/static/serve.py", "files compressed"),
    ],
)
def test_a_sample_serves_its_page(
    shop: Workshop, sample: str, description: str, web: str, said_again: str
) -> None:
    shop.build(SAMPLES / sample)
    built = shop.build(SAMPLES / sample, offline=True)

    assert built.status == 0, built.output
    assert said_again in built.output
    assert (built.outcome.description, built.outcome.process_types["web"]) == (description, web)
    assert "static site on Deodar" in (page := shop.serve(built, "/")) or "Ahoy" in page


def test_a_static_site_is_served_with_types_caching_and_clean_addresses(shop: Workshop) -> None:
    built = shop.build(SAMPLES / "static-site")

    answers = {
        path: shop.serve(built, path, headers=True).splitlines()[0]
        for path in ("/about", "/old", "/nothing", "/.profile.d", "/../../etc/passwd")
    }
    style = shop.serve(built, "/style.css", headers=True)

    assert answers == {
        "/about": "HTTP/1.1 200 OK",
        "/old": "HTTP/1.1 301 Moved Permanently",
        "/nothing": "HTTP/1.1 404 Not Found",
        "/.profile.d": "HTTP/1.1 404 Not Found",
        "/../../etc/passwd": "HTTP/1.1 404 Not Found",
    }
    for header in (
        "Content-Type: text/css; charset=utf-8",
        "Cache-Control: public, max-age=0, must-revalidate",
        "X-Content-Type-Options: nosniff",
        "ETag: ",
    ):
        assert header in style
