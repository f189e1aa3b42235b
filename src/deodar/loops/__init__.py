"""The loops that make wishes true. Each looks at the world afresh; they meet only in the store."""
