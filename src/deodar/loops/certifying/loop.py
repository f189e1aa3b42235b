"""Takes the steps that `plan` gives for one app: asks the authority, and keeps what it answers.

An order and its key are in the store before the authority is told to look, so that any process can go
on with it; the router's part, answering the authority, is the routing loop's.
"""

import random

import structlog

from deodar.actions import acm
from deodar.adapters import certificates
from deodar.adapters.acme import Authority, Issued, Later
from deodar.kit.clock import Clock
from deodar.loops.certifying import plan
from deodar.loops.certifying.plan import Advance, Ask, Note, Step
from deodar.model import errors
from deodar.model.certificate import AcmeAccount, Order
from deodar.model.log import LogLine
from deodar.model.route import Domain
from deodar.store import acme, apps, domains
from deodar.store.db import Database
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")


class Certifying:
    """Certifies domains; `reconcile` is driven by kit.loop with an app's id as the key."""

    def __init__(
        self, *, db: Database, authority: Authority, logs: Logs, clock: Clock, dice: random.Random
    ) -> None:
        self._db = db
        self._authority = authority
        self._logs = logs
        self._clock = clock
        self._dice = dice

    async def keys(self) -> list[str]:
        """Apps that have ACM on."""
        async with self._db.read() as tx:
            return [app.id for app in await apps.every(tx) if app.acm]

    async def reconcile(self, app_id: str) -> float | None:
        async with self._db.read() as tx:
            app = await apps.find(tx, app_id)
            if app is None or not app.acm:
                return None
            named = await domains.of_app(tx, app_id)
            orders = await acme.orders_of(tx, app_id)
        later: dict[str, float] = {}
        for step in plan.plan(named, orders, self._clock()):
            pause = await self._act(step)
            if pause is not None:
                later[step.domain.id] = pause
        async with self._db.read() as tx:
            named = await domains.of_app(tx, app_id)
        return plan.next_look(named, later, self._clock())

    async def _act(self, step: Step) -> float | None:
        """Takes one step; answers the seconds until it is worth another, if the clock decides that."""
        try:
            match step:
                case Ask(domain):
                    await self._ask(domain)
                case Advance(domain, order):
                    return await self._advance(domain, order)
                case Note(domain, found):
                    async with self._db.write() as tx:
                        await acm.noted(tx, domain, found, now=self._clock())
        except errors.StoreFailed:
            raise  # ours, and no reason to give up an order
        except (errors.Unavailable, errors.InvalidParams) as error:
            # Told to the app's owner, who can often mend it: a name that does not lead here yet.
            await self._fail(step.domain, error.message)
        return None

    async def _ask(self, domain: Domain) -> None:
        account = await self._account()
        order = await self._authority.order(
            account,
            domain.hostname,
            key=certificates.new_key(),
            domain_id=domain.id,
            app_id=domain.app_id,
            now=self._clock(),
        )
        async with self._db.write() as tx:
            kept = await acm.ordered(tx, order, now=self._clock())
        if kept:
            log.info("certificate.ordered", app=domain.app_id, host=domain.hostname)

    async def _advance(self, domain: Domain, order: Order) -> float | None:
        match await self._authority.advance(await self._account(), order):
            case Later(seconds):
                return seconds
            case Issued(chain):
                found = certificates.read(chain, order.key, now=self._clock())
                async with self._db.write() as tx:
                    kept = await acm.issued(tx, order, found, dice=self._dice, now=self._clock())
                if kept:
                    self._tell(domain, f"Certificate issued for {domain.hostname}")
                    log.info("certificate.issued", app=domain.app_id, host=domain.hostname)
        return None

    async def _fail(self, domain: Domain, reason: str) -> None:
        now = self._clock()
        async with self._db.write() as tx:
            found = plan.failed(domain.acm, reason, now)
            if not await acm.noted(tx, domain, found, now=now):
                return
        self._tell(domain, f"Cannot get a certificate for {domain.hostname}: {reason}")
        log.warning("certificate.failed", app=domain.app_id, host=domain.hostname, reason=reason)

    async def _account(self) -> AcmeAccount:
        """Ours at the authority; made the first time. Its key is kept before the authority sees it."""
        directory = self._authority.directory
        async with self._db.write() as tx:
            account = await acme.account(tx, directory)
            if account is None:
                account = AcmeAccount(directory=directory, key=certificates.new_key(), url=None)
                await acme.save_account(tx, account)
        if account.url is not None:
            return account
        url = await self._authority.register(account)
        account = AcmeAccount(directory=directory, key=account.key, url=url)
        async with self._db.write() as tx:
            await acme.save_account(tx, account)
        return account

    def _tell(self, domain: Domain, text: str) -> None:
        line = LogLine(at=self._clock(), source="app", dyno="api", text=text)
        self._logs.append(domain.app_id, [line])
