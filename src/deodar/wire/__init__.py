"""JSON shapes of Heroku's Platform API v3: what comes in, what goes out, and from which noun."""
