"""The slug compiler: turns a Source into a Slug and a Release (devcenter: slug-compiler)."""
