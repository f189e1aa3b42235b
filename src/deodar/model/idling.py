"""How an app sleeps, and what its policy says of that: when, how deep, its workers too or not.

Whether the time has come is the idling loop's to see; that it comes true, the manifold's and the
router's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from deodar.model import errors, tuning
from deodar.model.formation import ProcessType


class Depth(StrEnum):
    FROZEN = "frozen"  #: its processes stand still, in memory
    RECLAIMED = "reclaimed"  #: and what they remember is in swap, as far as it fits
    STOPPED = "stopped"  #: no process is left; it boots when it is asked for


class Bed(StrEnum):
    """How deep an app may sink."""

    SINK = "sink"  #: from one depth to the next, as time passes and memory gets short
    FREEZE = "freeze"  #: it is not stopped for its sleep, whatever happens to memory
    STOP = "stop"  #: it is stopped at once: no process of it is ever frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """That an app sleeps. Its absence is the wish that it be awake."""

    since: datetime
    depth: Depth
    workers: bool  #: they sleep, too

    def takes(self, process_type: str) -> bool:
        """Whether dynos of that type sleep with the app."""
        return self.workers or process_type == "web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which apps sleep when nobody says anything else, and after how long."""

    after: timedelta | None
    size: str | None = None  #: only those whose web dynos are of this size
    single: bool = False  #: only those with one web dyno

    def after_of(self, web: ProcessType) -> timedelta | None:
        """How long without a request such an app stays awake; None for ever."""
        wrong_size = self.size is not None and web.size != self.size
        return None if wrong_size or (self.single and web.quantity != 1) else self.after


#: the rules that have names; any other is a number of minutes
RULES: Mapping[str, Rule] = {
    "eco": Rule(after=timedelta(minutes=30), size="Eco"),  # devcenter: eco-dyno-hours
    "single": Rule(after=timedelta(hours=1), single=True),  # as Heroku had it until 2013
    "never": Rule(after=None),
}


def rule_of(name: str, text: str) -> Rule:
    """The rule that a setting of that name tells of. Raises InvalidParams."""
    if text in RULES:
        return RULES[text]
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= tuning.IDLE_AFTER.at_most:
        raise errors.InvalidParams(f"{name} must be {', '.join(RULES)} or a number of minutes.")
    return Rule(after=timedelta(minutes=minutes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds for apps that say nothing themselves."""

    rule: Rule = RULES["eco"]
    workers: bool = True
    bed: Bed = Bed.SINK
    reclaim_after: timedelta = timedelta(minutes=10)  #: asleep
    stop_after: timedelta = timedelta(hours=24)  #: asleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for one app."""

    after: timedelta | None  #: without a request; None: it never sleeps
    workers: bool
    bed: Bed


def policy(config: Mapping[str, str], web: ProcessType, defaults: Defaults) -> Policy:
    """What an app's config vars say, and else the platform's defaults."""
    own = config.get(tuning.IDLE_AFTER.name)
    after = defaults.rule.after_of(web) if own is None else tuning.IDLE_AFTER.parse(own)
    return Policy(
        after=after,
        workers=tuning.IDLE_WORKERS.of(config, default=defaults.workers),
        bed=Bed(tuning.IDLE_DEPTH.of(config, default=defaults.bed)),
    )
