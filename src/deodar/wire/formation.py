"""The shapes of a formation: process types, their quantities and sizes."""

from deodar.model.app import App
from deodar.model.formation import ProcessType
from deodar.wire.base import Named, Shape, derived_id, named, stamp


class Formation(Shape):
    id: str
    app: Named
    type: str
    command: str
    quantity: int
    size: str
    dyno_size: Named
    created_at: str
    updated_at: str


class SizeRef(Shape):
    name: str


class FormationUpdate(Shape):
    """`quantity` is a number or, as the CLI sends it, a text such as `"3"`, `"+1"` or `"-1"`."""

    quantity: int | str | None = None
    size: str | None = None
    dyno_size: SizeRef | str | None = None

    @property
    def wished_size(self) -> str | None:
        match self.dyno_size:
            case SizeRef(name=name):
                return name
            case str(name):
                return name
        return self.size


class TypedUpdate(FormationUpdate, kw_only=True):
    type: str


class FormationUpdates(Shape):
    updates: list[TypedUpdate]


def formation_id(app: App, type_: str) -> str:
    return derived_id("formation", app.id, type_)


def present_formation(process_type: ProcessType, app: App) -> Formation:
    return Formation(
        id=formation_id(app, process_type.type),
        app=Named(id=app.id, name=app.name),
        type=process_type.type,
        command=process_type.command,
        quantity=process_type.quantity,
        size=process_type.size,
        dyno_size=named("dyno-size", process_type.size),
        created_at=stamp(app.created_at),
        updated_at=stamp(app.updated_at),
    )
