"""HAProxy, the router's data plane: `config` writes what it reads, `runtime` talks to it, `process` keeps it.

It goes on routing while our process is away; what it holds is a cache of the store, which
`loops/routing` makes and mends.
"""

from deodar.adapters.haproxy.process import Haproxy

__all__ = ["Haproxy"]
