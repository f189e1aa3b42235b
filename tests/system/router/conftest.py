"""One router for all tests of this folder."""

from tests.system.router.harness import router

__all__ = ["router"]
