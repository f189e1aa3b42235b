"""Scales: wishes for how many dynos of which size. Starting and stopping them is the manifold's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deodar.model import errors, formation
from deodar.model.app import App
from deodar.model.formation import ProcessType
from deodar.model.release import PHASE
from deodar.store import formations, idling
from deodar.store.db import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be different about one process type; None leaves it as it is."""

    type: str
    quantity: int | str | None = None  #: `3`, `"3"`, `"+1"` or `"-1"`
    size: str | None = None


async def scale(tx: Tx, app: App, wishes: Sequence[Wish]) -> list[ProcessType]:
    """The app's whole formation with all of `wishes` in it, or none of them.

    Raises NotFound for a process type that the app does not have, and InvalidParams.
    """
    present = await formations.of_app(tx, app.id)
    wished = {each.type: each for each in present}
    for wish in wishes:
        wished[wish.type] = apply(wish, find(wished.values(), wish.type))
    result = list(wished.values())
    if result != present:
        await formations.replace(tx, app.id, result)
        await idling.wake(tx, app.id)
        tx.ring(app.id)
    return result


def apply(wish: Wish, present: ProcessType) -> ProcessType:
    """Raises InvalidParams."""
    changed = present
    if wish.quantity is not None:
        quantity = formation.wished_quantity(present.quantity, wish.quantity)
        if present.type == PHASE and quantity != 0:
            raise errors.InvalidParams(
                "Cannot scale the release process type: it runs once before each release. "
                "Run it again with `heroku releases:retry`."
            )
        changed = replace(changed, quantity=quantity)
    if wish.size is not None:
        changed = replace(changed, size=formation.size_of(wish.size).name)
    return changed


def describe(types: Sequence[ProcessType]) -> str:
    """`Scaled to web@3:Basic worker@2:Basic`."""
    return "Scaled to " + " ".join(f"{each.type}@{each.quantity}:{each.size}" for each in types)


def find(types: Iterable[ProcessType], name: str) -> ProcessType:
    """Raises NotFound."""
    for each in types:
        if each.type == name:
            return each
    raise errors.NotFound("process_type", f"Couldn't find that process type ({name}).")
